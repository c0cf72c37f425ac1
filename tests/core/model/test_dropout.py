"""Dropout seeded by an image's position in its batch."""

import pytest
import torch

from core.model.kernels.dropout import (
    Dropout,
    DropoutSeedSource,
    keep_mask,
    position_seeded_dropout,
)


def test_a_keep_mask_has_its_share_and_no_correlation() -> None:
    keep = keep_mask((400, 1001), 0.1, torch.Generator().manual_seed(0)).double()
    assert keep.mean().item() == pytest.approx(0.9, abs=4 * (0.09 / keep.numel()) ** 0.5)
    centered = keep - keep.mean()
    for step in (1, 2, 3, 4):  # four values come from one random number
        correlation = (centered[:, step:] * centered[:, :-step]).mean() / centered.var()
        assert abs(correlation) < 4 / keep.numel() ** 0.5


def test_two_dropouts_of_a_pass_draw_differently() -> None:
    model = torch.nn.Sequential(Dropout(0.5), Dropout(0.5))
    values = torch.ones(32, 7)
    with position_seeded_dropout(model, 3, range(32), 32):
        first = model[0](values)
        second = model[1](values)
    assert not torch.equal(first, second)


def test_a_pass_leaves_no_seeds_behind_not_even_after_an_error() -> None:
    model = torch.nn.Sequential(Dropout(0.5))
    seeds_in_the_pass = []

    def fail_in_a_pass() -> None:
        with position_seeded_dropout(model, 3, range(32), 32):
            seeds_in_the_pass.append(model[0].seed_source)
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_a_pass()
    assert seeds_in_the_pass != [None]
    assert model[0].seed_source is None


def test_two_models_can_be_seeded_at_the_same_time() -> None:
    values = torch.ones(32, 7)
    first, second = Dropout(0.5), Dropout(0.5)
    with position_seeded_dropout(first, 3, range(32), 32):
        expected = first(values)
    with (
        position_seeded_dropout(first, 3, range(32), 32),
        position_seeded_dropout(second, 4, range(32), 32),
    ):
        other = second(values)
        assert torch.equal(first(values), expected)
    assert not torch.equal(other, expected)


def test_seeds_for_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="31 images"):
        DropoutSeedSource(3, range(32), 32).next_seeds(31)


def test_evaluation_mode_drops_nothing_and_uses_no_seed() -> None:
    drop = Dropout(0.5).eval()
    values = torch.ones(32, 7)
    with position_seeded_dropout(drop, 3, range(32), 32):
        assert torch.equal(drop(values), values)
        assert drop.seed_source is not None
        assert drop.seed_source.dropouts == 0
