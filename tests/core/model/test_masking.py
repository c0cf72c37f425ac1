"""Masks: counts, shapes, dependence on seed and position, and the density of strokes."""

from itertools import groupby
from typing import get_args

import pytest
import torch

from core.config import Encoder, Mask, hidden_count, letter_columns, visible_count
from core.model.masking import (
    block_mask,
    column_pairs_mask,
    density_mask,
    hidden_patches,
    random_mask,
    sample_visible,
    seeded_blocks_mask,
    span_mask,
    stroke_density,
)
from core.runtime.seeds import generator

KINDS = get_args(Mask.model_fields["kind"].annotation)
GRIDS = [(8, 32), (2, 32), (2, 8)]  # of scales paper, smoke and mini


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9])
def test_a_mask_hides_the_same_number_of_patches_in_every_image(kind: str, ratio: float) -> None:
    images = torch.rand(16, 3, 32, 128)
    positions = torch.arange(16)
    mask = Mask(kind=kind, ratio=ratio)
    visible = sample_visible(mask, Encoder(), images, positions, 16, generator=generator(0))
    assert visible.shape == (16, visible_count(256, ratio))
    assert all(len(set(row)) == len(row) for row in visible.tolist())
    assert (hidden_patches(visible, 256).sum(1) == 256 - visible.shape[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_of_an_image_follows_from_its_position_alone(kind: str) -> None:
    images = torch.rand(16, 3, 32, 128)
    positions = torch.arange(16)
    mask = Mask(kind=kind, ratio=0.8)
    whole = sample_visible(mask, Encoder(), images, positions, 16, generator=generator(0))
    part = sample_visible(mask, Encoder(), images[5:9], positions[5:9], 16, generator=generator(0))
    assert torch.equal(part, whole[5:9])


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_follows_its_generator_and_differs_between_images(kind: str) -> None:
    images = torch.rand(16, 3, 32, 128)
    first, again, other = (
        sample_visible(
            Mask(kind=kind), Encoder(), images, torch.arange(16), 16, generator=generator(seed)
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(sorted(row)) for row in first.tolist()}) > 12


def test_masks_of_all_kinds_hide_equal_shares_on_the_grids_of_the_scales() -> None:
    for rows, columns in GRIDS:
        encoder = Encoder(
            image=(4 * rows, 4 * columns), width=96, depth=3, heads=4, positions="grid"
        )
        images = torch.rand(8, 3, *encoder.image)
        for kind in KINDS:
            visible = sample_visible(
                Mask(kind=kind), encoder, images, torch.arange(8), 8, generator=generator(0)
            )
            hidden = hidden_patches(visible, rows * columns).sum(1)
            assert (hidden == hidden_count(rows * columns, 0.8)).all(), (kind, rows, columns)


def as_grid(visible: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(B, rows, columns) bool, true where a patch is hidden."""
    return hidden_patches(visible, grid[0] * grid[1]).view(-1, *grid)


def runs_of_hidden(columns: list[bool]) -> list[int]:
    """Lengths of the runs of hidden columns."""
    return [len(list(run)) for hidden, run in groupby(columns) if hidden]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.8])
def test_spans_are_whole_columns_of_at_least_a_letter(grid: tuple[int, int], ratio: float) -> None:
    hidden = as_grid(span_mask(200, grid, ratio, 0.2, generator=generator(0)), grid)
    whole, rest = divmod(hidden_count(grid[0] * grid[1], ratio), grid[0])
    assert (hidden.all(1).sum(1) == whole).all()
    assert (hidden.any(1).sum(1) == whole + (rest > 0)).all()
    least = letter_columns(0.2, grid[1])
    runs = [runs_of_hidden(columns) for columns in hidden.all(1).tolist()]
    assert min(min(run) for run in runs) >= least
    assert max(map(len, runs)) <= whole // least


def test_all_numbers_and_places_of_spans_occur() -> None:
    hidden = as_grid(span_mask(4000, (1, 6), 0.5, 0.1, generator=generator(0)), (1, 6))[:, 0]
    runs = [tuple(runs_of_hidden(columns)) for columns in hidden.tolist()]
    assert set(runs) == {(3,), (2, 1), (1, 2), (1, 1, 1)}
    shares = [sum(len(run) == number for run in runs) / 4000 for number in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    starts = hidden[torch.tensor([run == (3,) for run in runs])].int().argmax(1)
    assert torch.bincount(starts).tolist() == pytest.approx([1000 / 3] * 4, abs=80)


def test_wider_spans_are_fewer() -> None:
    def mean_number(width: float) -> float:
        hidden = as_grid(span_mask(300, (8, 32), 0.75, width, generator=generator(0)), (8, 32))
        return sum(len(runs_of_hidden(row)) for row in hidden.all(1).tolist()) / 300

    assert mean_number(0.05) > mean_number(0.2) + 1
    assert mean_number(0.75) == 1


@pytest.mark.parametrize("grid", GRIDS)
def test_column_pairs_are_hidden_whole_but_for_one(grid: tuple[int, int]) -> None:
    rows, columns = grid
    hidden = as_grid(column_pairs_mask(200, grid, 0.75, generator=generator(0)), grid)
    in_pairs = hidden.view(200, rows, columns // 2, 2).sum((1, 3))
    assert set(in_pairs.flatten().tolist()) == {0, 2 * rows}
    assert (in_pairs > 0).float().mean() == 0.75
    assert (in_pairs > 0).float().mean(0).sub(0.75).abs().max() < 0.15
    cut = as_grid(column_pairs_mask(200, grid, 0.78, generator=generator(0)), grid)
    cut_pairs = cut.view(200, rows, columns // 2, 2).sum((1, 3))
    assert (((cut_pairs > 0) & (cut_pairs < 2 * rows)).sum(1) == 1).all()


def test_masks_of_columns_are_refused_where_no_columns_fit() -> None:
    with pytest.raises(ValueError, match="31 columns"):
        column_pairs_mask(1, (8, 31), 0.8, generator=generator(0))
    with pytest.raises(ValueError, match=r"3 hidden columns .* 6"):
        span_mask(1, (8, 32), 0.1, 0.2, generator=generator(0))


def components(hidden: torch.Tensor) -> int:
    """Number of groups of hidden patches that touch at an edge, of a (rows, columns) grid."""
    left = {(row, column) for row, column in hidden.nonzero().tolist()}
    count = 0
    while left:
        count += 1
        border = [left.pop()]
        while border:
            row, column = border.pop()
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            touching = left.intersection(around)
            left -= touching
            border.extend(touching)
    return count


def hidden_half(**options: object) -> torch.Tensor:
    """(60, 8, 32) bool: masks of noise at ratio 0.5."""
    mask = Mask.model_validate({"ratio": 0.5, **options})
    images = torch.rand(60, 3, 32, 128, generator=generator(2))
    visible = sample_visible(mask, Encoder(), images, torch.arange(60), 60, generator=generator(0))
    return as_grid(visible, (8, 32))


def test_contiguous_masks_hide_fewer_parts_than_random_ones() -> None:
    def mean_components(**options: object) -> float:
        return sum(map(components, hidden_half(**options))) / 60

    assert mean_components(kind="random") > 20
    assert mean_components(kind="span") <= 3
    assert mean_components(kind="column_pairs") < 8
    # 128 patches are about three letters of 6 x 8 patches: at most three blocks
    assert mean_components(kind="seeded_blocks") <= 3


def test_neighbors_are_hidden_together_the_more_the_larger_the_share_of_blocks() -> None:
    def together(**options: object) -> float:
        hidden = hidden_half(**options)
        return (hidden[:, :, 1:] & hidden[:, :, :-1]).float().mean().item()

    random = together(kind="random")
    half = together(kind="seeded_blocks", block_share=0.25)
    assert random + 0.05 < half < together(kind="seeded_blocks", block_share=0.5) - 0.05


@pytest.mark.parametrize("grid", GRIDS)
def test_blocks_are_connected_and_as_many_as_letters_fill_their_share(
    grid: tuple[int, int],
) -> None:
    rows, columns = grid
    mask = Mask(kind="seeded_blocks", ratio=0.5)
    visible = seeded_blocks_mask(torch.ones(100, columns), rows, mask, generator=generator(0))
    letters = round(0.5 * columns / letter_columns(0.2, columns))
    assert max(map(components, as_grid(visible, grid))) == letters


def test_the_paper_leaves_51_of_256_patches_visible() -> None:
    assert visible_count(256, 0.8) == 51


def test_masks_follow_their_generator_and_differ_between_images() -> None:
    first = random_mask(4, 64, 0.75, generator=generator(1))
    assert torch.equal(first, random_mask(4, 64, 0.75, generator=generator(1)))
    assert not torch.equal(first, random_mask(4, 64, 0.75, generator=generator(2)))
    assert not torch.equal(first[0], first[1])


def test_block_masks_hide_neighbors_more_often_than_random_ones() -> None:
    def hidden_neighbors(visible: torch.Tensor) -> float:
        hidden = hidden_patches(visible, 256).view(-1, 8, 32)
        return (hidden[:, :, 1:] & hidden[:, :, :-1]).float().mean().item()

    blocks = hidden_neighbors(block_mask(64, (8, 32), 0.6, generator=generator(0)))
    independent = hidden_neighbors(random_mask(64, 256, 0.6, generator=generator(0)))
    assert blocks > independent + 0.1


def word_in_the_left_half() -> torch.Tensor:
    """(64, 3, 32, 128) images with strokes on the left and almost nothing on the right."""
    images = torch.full((64, 3, 32, 128), 200.0)
    images[..., :64:4] = 20
    return images + torch.rand(images.shape, generator=generator(1))


def test_density_follows_the_strokes_and_is_1_in_a_uniform_image() -> None:
    density = stroke_density(word_in_the_left_half(), (4, 4))
    torch.testing.assert_close(density.mean(1), torch.ones(64))
    assert (density[:, 1:15].min() > 1.5) & (density[:, 17:].max() < 0.1)
    assert torch.equal(stroke_density(torch.full((2, 3, 32, 128), 7.0), (4, 4)), torch.ones(2, 32))


def test_density_masks_hide_strokes_more_often_than_background() -> None:
    images = word_in_the_left_half()

    def hidden_share(mask: Mask) -> tuple[float, float]:
        visible = sample_visible(
            mask, Encoder(), images, torch.arange(len(images)), len(images), generator=generator(0)
        )
        hidden = hidden_patches(visible, 256).view(-1, 8, 32).float()
        return hidden[..., :16].mean().item(), hidden[..., 16:].mean().item()

    left, right = hidden_share(Mask(kind="density", ratio=0.6))
    assert left > 0.95
    assert 0.05 < right < 0.3
    weaker = hidden_share(Mask(kind="density", ratio=0.6, focus=0.5))
    assert right < weaker[1] < weaker[0] < left
    even = hidden_share(Mask(kind="density", ratio=0.6, focus=0))
    assert even == pytest.approx((0.6, 0.6), abs=0.02)


def test_seeded_blocks_lie_on_strokes_more_often_than_chance() -> None:
    images = word_in_the_left_half()

    def hidden_in_the_left_half(**options: object) -> float:
        mask = Mask.model_validate({"kind": "seeded_blocks", "ratio": 0.5, **options})
        visible = sample_visible(
            mask, Encoder(), images, torch.arange(64), 64, generator=generator(0)
        )
        return as_grid(visible, (8, 32))[..., :16].float().mean().item()

    on_strokes = hidden_in_the_left_half(block_share=0.3)
    assert on_strokes > 0.6
    assert hidden_in_the_left_half(block_share=0.49) > on_strokes
    anywhere = hidden_in_the_left_half(block_share=0.3, focus=0)
    assert anywhere == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("focus", [1, 4, 30, 1000])
def test_the_hidden_share_grows_with_density_at_every_focus(focus: float) -> None:
    density = torch.tensor([[0.4, 0.7, 1.1, 1.8]]).expand(500, -1)
    visible = density_mask(density, 8, 0.7, focus, generator=generator(0))
    share = hidden_patches(visible, 32).view(500, 8, 4).float().mean((0, 1))
    assert share.diff().min() >= 0
    assert share[1] > share[0] + 0.1
