"""Properties of the baselines and of what goes beyond the paper: SeqCLR, an MAE trained on, the released augmentation."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE
from torch import Tensor

from core.checkpoints.released import export_released
from core.config import (
    Alignment,
    Contrast,
    ContrastivePretrain,
    Encoder,
    Finetune,
    Guidance,
    Mask,
    Pretrain,
    ReconstructionDecoder,
    TextDecoder,
)
from core.data.batches import Batch
from core.data.word_images import resize_image
from core.model.cost import pretrain_cost
from core.model.masking import density_mask, hidden_patches
from core.model.seqclr import SeqCLR, nt_xent, window_features
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from core.training.finetune import FinetuneTask
from core.training.finetune import make_model as make_recognizer
from core.training.parameters import exported_tensors
from core.training.pretrain import ContrastTask, make_model
from core.training.run_context import RunContext
from core.views import augmentation, geometry
from core.views.guidance import STRENGTHS, sample_view

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))


def mae_config(**changes: Any) -> Pretrain:
    decoder = ReconstructionDecoder(order="SA-FFN", width=32, heads=2, feedforward=32, dropout=0)
    settings = {
        "decoder": decoder,
        "mask": Mask(ratio=0.75),
        "guidance": None,
        "alignment": None,
        "target": {"kind": "pixel"},
    }
    return Pretrain(**({"encoder": ENCODER, **STAGE, **settings} | changes))


def lmim_config(**changes: Any) -> Pretrain:
    decoder = ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0)
    branches = {"guidance": Guidance(), "alignment": Alignment(), "target": {"kind": "mae_feature"}}
    return mae_config(**({"decoder": decoder, **branches} | changes))


def seqclr_config(**changes: Any) -> ContrastivePretrain:
    return ContrastivePretrain(
        **({"encoder": ENCODER, "contrast": Contrast(projection=16), **STAGE} | changes)
    )


def batch(images: int) -> Batch:
    pixels = torch.randint(0, 256, (images, 3, 32, 128), dtype=torch.uint8, generator=generator(5))
    return Batch(pixels, list(range(images)), ["ab"] * images, [], list(range(images)), images)


# SeqCLR


def test_windows_average_rows_and_pool_columns() -> None:
    rows, columns = 2, 6
    features = torch.zeros(1, 1 + rows * columns, 1)
    features[0, 0] = 1000  # [cls] stays out
    features[0, 1:, 0] = torch.arange(12.0)
    windows = window_features(features, (rows, columns), 3)
    assert windows.shape == (1, 3, 1)
    assert windows.flatten().tolist() == [
        3.5,
        5.5,
        7.5,
    ]  # mean over both rows of columns 0-1, 2-3, 4-5


def test_nt_xent_is_its_closed_form() -> None:
    first, second = (
        torch.randn(3, 4, generator=generator(0)),
        torch.randn(3, 4, generator=generator(1)),
    )
    views = [vector / vector.norm() for vector in [*first, *second]]
    expected = 0.0
    for one in range(6):
        others = {
            other: math.exp(float(views[one] @ views[other]) / 0.1)
            for other in range(6)
            if other != one
        }
        expected -= math.log(others[(one + 3) % 6] / sum(others.values())) / 6
    assert nt_xent(first, second, 0.1).item() == pytest.approx(expected, rel=1e-5)
    assert nt_xent(3 * first, second, 0.1).item() == pytest.approx(expected, rel=1e-5), (
        "lengths do not count"
    )
    with pytest.raises(ValueError, match="two views of at least two instances"):
        nt_xent(first[:1], second[:1], 0.1)


def test_nt_xent_keeps_its_digits_under_autocast() -> None:
    """Similarities near one another, divided by a small temperature, need more than bf16 has."""
    views = torch.ones(256, 16) + 0.01 * torch.randn(256, 16, generator=generator(0))
    other = views + 0.001 * torch.randn(256, 16, generator=generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = nt_xent(views, other, 0.1)
    assert mixed.item() == pytest.approx(nt_xent(views, other, 0.1).item(), rel=1e-6)


def test_nt_xent_is_lower_the_better_views_match() -> None:
    views = torch.randn(40, 16, generator=generator(0))
    near, far = (
        views + noise * torch.randn(40, 16, generator=generator(1)) for noise in (0.1, 3.0)
    )
    assert nt_xent(views, near, 0.1) < nt_xent(views, far, 0.1)
    assert nt_xent(views, views.roll(1, 0), 0.1) > math.log(79), (
        "worse than chance where all views are swapped"
    )


def test_steady_views_keep_every_window_in_its_place() -> None:
    """A point moves by less than a quarter of one of five windows (25.6 pixels), 99 times in 100; under medium much further."""
    ramp = torch.arange(128.0).expand(256, 3, 32, 128).contiguous()

    def moved(strength: str) -> Tensor:
        view = sample_view(STRENGTHS[strength], 256, (32, 128), generator=generator(0))
        return (
            (geometry.apply_warp(ramp, view.matrix, view.shifts) - ramp)[:, 0]
            .abs()
            .flatten()[::7]
            .quantile(0.99)
        )

    assert moved("steady") < 25.6 / 4 + 0.5
    assert moved("medium") > 1.5 * moved("steady")


def test_seqclr_learns_to_tell_windows_apart(context: RunContext) -> None:
    words = Rendered(train=16, validation=1, vocabulary=300)
    pixels = torch.stack(
        [
            resize_image(synthetic.render(words, "train", number)[0], (32, 128))
            for number in range(16)
        ]
    )
    task = ContrastTask(seqclr_config(), context)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    seen, matched = [], []
    for step in range(60):
        losses = task.prepare_batch(
            Batch(pixels, list(range(16)), [""] * 16, [], list(range(16)), 16), step
        )(slice(0, 16))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(losses["loss"].item())
        matched.append(losses["matched"].item())
    chance = math.log(2 * 16 * 5 - 1)
    assert sum(seen[-5:]) / 5 < 0.8 * chance
    assert sum(matched[-5:]) / 5 > 5 / 80, "five times as often as by chance"


def test_a_batchs_views_are_equal_again_and_differ_from_one_another(context: RunContext) -> None:
    task = ContrastTask(seqclr_config(), context)
    losses = [task.prepare_batch(batch(4), step)(slice(0, 4))["loss"].item() for step in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_seqclr_refuses_batches_in_parts(context: RunContext) -> None:
    with pytest.raises(UserError, match="run it without --micro-batch"):
        ContrastTask(seqclr_config(), replace(context, micro_batch=4))


def test_more_windows_than_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"contrast\.windows 17 is more than the 16 columns"):
        seqclr_config(contrast=Contrast(windows=17))


def test_seqclrs_encoder_is_finetuned_and_its_file_is_no_lmim(tmp_path: Path) -> None:
    config, path = seqclr_config(), tmp_path / "model.safetensors"
    model = SeqCLR(config.encoder, config.contrast)
    safetensors_io.save(
        path,
        exported_tensors(model),
        {"stage": "pretrain", "config": config.model_dump(mode="json")},
    )
    recognizer = make_recognizer(
        Finetune(encoder=ENCODER, decoder=TextDecoder(width=32, heads=2, layers=1), **STAGE), path
    )
    assert torch.equal(recognizer.encoder.patch_embed.weight, model.encoder.patch_embed.weight)
    with pytest.raises(UserError, match="holds no complete LMIM"):
        export_released(path, tmp_path / "out.pth")


def test_costs_count_both_of_seqclrs_views() -> None:
    parameters, flops = pretrain_cost(seqclr_config())
    assert parameters == sum(
        one.numel() for one in SeqCLR(ENCODER, Contrast(projection=16)).parameters()
    )
    wide = pretrain_cost(seqclr_config(encoder=ENCODER.model_copy(update={"depth": 4})))[1]
    assert 1.8 < wide / flops < 2.1


# An MAE trained on, LMIM begun with the teacher's weights, a teacher with another position table


def save_mae(path: Path, **changes: Any) -> Any:
    config = mae_config(seed=7, **changes)
    model = make_model(config, None)
    safetensors_io.save(
        path,
        exported_tensors(model),
        {"stage": "pretrain", "config": config.model_dump(mode="json")},
    )
    return model


def test_a_run_begun_with_the_teacher_has_its_weights_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path)
    begun, anew = (make_model(mae_config(start=start), path) for start in ("teacher", "random"))
    for name, value in begun.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name]), name
    assert not torch.equal(anew.encoder.patch_embed.weight, teacher.encoder.patch_embed.weight)
    with pytest.raises(UserError, match="needs a teacher"):
        make_model(mae_config(start="teacher"), None)


def test_lmim_begun_with_the_teacher_has_its_encoder_and_a_decoder_of_its_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path)
    begun = make_model(lmim_config(start="teacher"), path)
    assert torch.equal(begun.encoder.patch_embed.weight, teacher.encoder.patch_embed.weight)
    assert not torch.equal(begun.decoder.mask_token, teacher.decoder.mask_token)
    assert torch.equal(begun.target.encoder.patch_embed.weight, teacher.encoder.patch_embed.weight)


@pytest.mark.parametrize(("own", "theirs"), [("grid", "released"), ("released", "grid")])
def test_a_teacher_keeps_its_own_position_table(tmp_path: Path, own: str, theirs: str) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path, encoder=ENCODER.model_copy(update={"positions": theirs})).eval()
    student = make_model(lmim_config(encoder=ENCODER.model_copy(update={"positions": own})), path)
    assert not torch.equal(student.encoder.positions, teacher.encoder.positions)
    images = torch.rand(2, 3, 32, 128)
    features = torch.nn.functional.layer_norm(teacher.encoder(images)[:, 1:], (32,))
    torch.testing.assert_close(student.target.eval()(images), features)


# Masks that follow the density of strokes


@pytest.mark.parametrize("focus", [1, 4, 30, 1000])
def test_the_hidden_share_grows_with_density_at_every_focus(focus: float) -> None:
    density = torch.tensor([[0.4, 0.7, 1.1, 1.8]]).expand(500, -1)
    visible = density_mask(density, 8, 0.7, focus, generator=generator(0))
    share = hidden_patches(visible, 32).view(500, 8, 4).float().mean((0, 1))
    assert share.diff().min() >= 0
    assert share[1] > share[0] + 0.1


# Augmentation as the released code draws it


def test_draws_of_the_run_are_the_same_at_every_step_and_others_are_not() -> None:
    images = torch.rand(64, 3, 32, 128, generator=generator(0))
    draws = augmentation.sample_augmentation(1, (32, 128), generator=generator(1))
    draws = replace(
        draws,
        deviation=torch.zeros(1),
        sigma=torch.zeros(1),
        factor=torch.zeros(1, dtype=torch.long),
    )
    warped = geometry.apply_warp(images, draws.matrix.expand(64, -1, -1))
    for step in range(2):
        seen = augmentation.augment(
            images, torch.arange(64), 64, draws, generator=generator(2, step)
        )
        as_drawn = (seen - warped).flatten(1).abs().amax(1) < 1e-3
        unchanged = (seen - images).flatten(1).abs().amax(1) < 1e-3
        assert 0.2 < as_drawn.float().mean() < 0.55, (
            "geometry half of the time, of which a quarter is coloured"
        )
        assert 0.2 < unchanged.float().mean() < 0.55
    free = augmentation.augment(images, torch.arange(64), 64, generator=generator(2, 0))
    assert ((free - warped).flatten(1).abs().amax(1) > 1e-3).all()


def test_images_take_the_draws_of_the_run_in_turn() -> None:
    draws = augmentation.sample_augmentation(3, (32, 128), generator=generator(0))
    turn = draws.of(torch.arange(7) % 3)
    assert torch.equal(turn.matrix[4], draws.matrix[1])
    assert torch.equal(turn.factor, draws.factor[torch.tensor([0, 1, 2, 0, 1, 2, 0])])


def test_a_run_keeps_its_draws_over_steps_and_restarts(context: RunContext) -> None:
    decoder = TextDecoder(width=32, heads=2, layers=1, dropout=0)
    config = Finetune(encoder=ENCODER, decoder=decoder, augmentation_draws=8, **STAGE)
    tasks = [FinetuneTask(config, make_recognizer(config, None), None, context) for _ in range(2)]
    assert all(task.draws is not None and len(task.draws.sigma) == 8 for task in tasks)
    losses = [task.prepare_batch(batch(4), 3)(slice(0, 4))["loss"].item() for task in tasks]
    assert losses[0] == losses[1]
