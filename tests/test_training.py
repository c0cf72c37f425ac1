"""Properties of the loop: schedules, accumulation, precision, interruption, divergence."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STAGE
from torch import nn

from core.config import Encoder, Finetune, Optimizer, TextDecoder, peak_lr, steps
from core.data.batches import Batch
from core.data.word_images import Selection
from core.runtime.errors import UserError
from core.runtime.safetensors_io import load, load_into, load_pickle, save
from core.training.loop import Interrupted, Losses, NonFiniteLoss, RunContext, Training
from core.training.optim import layer_scale, learning_rate, parameter_groups

OPTIMISER = Optimizer(base_lr=0.1, batch=8, epochs=4, warmup_epochs=1)


class LineTask:
    """A regression through the ordinary loop."""

    def __init__(self, blow_up_at: int = -1) -> None:
        torch.manual_seed(0)
        self.model = self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.blow_up_at = blow_up_at

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        factor = math.nan if step == self.blow_up_at else 1.0

        def losses(part: slice) -> Losses:
            x = batch.images[part].float()
            return {"loss": factor * (self.model(x) - x.sum(1, keepdim=True)).square().mean()}

        return losses

    def validate(self) -> dict[str, float]:
        return {"validated": 1}


def batches(start: int, stop: int) -> Iterator[Batch]:
    for step in range(start, stop):
        images = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        yield Batch(images, list(range(8)), [""] * 8, [], list(range(8)), 8)


def start(
    folder: Path, context: RunContext, task: LineTask | None = None, config: Optimizer = OPTIMISER
) -> Training:
    stage = Finetune(encoder=Encoder(), decoder=TextDecoder(), **(STAGE | {"optimizer": config}))
    return Training(
        task or LineTask(), stage, [Selection(0, 40, np.empty(0, dtype=int))], folder, context
    )


def train(folder: Path, context: RunContext, config: Optimizer = OPTIMISER) -> Training:
    training = start(folder, context, config=config)
    training.run(batches(training.step, training.total))
    return training


def weights(training: Training) -> torch.Tensor:
    return torch.cat(
        [parameter.detach().flatten() for parameter in training.task.model.parameters()]
    )


def test_peak_learning_rates_of_the_paper() -> None:
    assert peak_lr(1.5e-4, 512) == pytest.approx(3e-4)
    assert peak_lr(1e-4, 512) == pytest.approx(2e-4)


def test_the_schedule_warms_up_from_zero_and_ends_at_its_final_rate() -> None:
    config = OPTIMISER.model_copy(update={"final_lr": 1e-6})
    peak = peak_lr(config.base_lr, config.batch)
    assert learning_rate(config, 0) == 0
    assert learning_rate(config, 0.5) == pytest.approx(peak / 2)
    assert learning_rate(config, 1) == pytest.approx(peak)
    assert learning_rate(config, 2.5) == pytest.approx((peak + 1e-6) / 2)
    assert learning_rate(config, 4) == pytest.approx(1e-6)


def test_layer_decay_is_the_released_one() -> None:
    scales = {
        name: layer_scale(name, 12, 0.75)
        for name in ("encoder.patch_embed.weight", "encoder.cls_token")
    }
    assert set(scales.values()) == {0.75**13}
    assert layer_scale("encoder.blocks.0.attn.qkv.weight", 12, 0.75) == 0.75**12
    assert layer_scale("encoder.blocks.11.norm1.bias", 12, 0.75) == 0.75
    assert {
        layer_scale(name, 12, 0.75)
        for name in ("encoder.norm.weight", "bridge.0.weight", "layers.3.norms.0.bias")
    } == {1.0}


def test_biases_and_norms_do_not_decay() -> None:
    groups = parameter_groups(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), OPTIMISER, 1)
    assert {(len(group["params"]), group["weight_decay"]) for group in groups} == {
        (1, 0.05),
        (3, 0.0),
    }


def test_steps_leave_out_a_last_smaller_batch() -> None:
    assert steps(1000, 64, 2) == (15, 30)
    assert steps(10, 64, 3) == (1, 3)


def test_accumulated_gradients_equal_one_large_batch(tmp_path: Path, context: RunContext) -> None:
    whole = train(tmp_path / "whole", context)
    parts = train(tmp_path / "parts", replace(context, micro_batch=3))
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path, context: RunContext) -> None:
    whole = train(tmp_path / "whole", context)
    stops = iter([False] * 6 + [True])
    with pytest.raises(Interrupted, match="step 7 of 20"):
        train(tmp_path / "cut", replace(context, should_stop=lambda: next(stops)))
    resumed = train(tmp_path / "cut", context)
    assert torch.equal(weights(resumed), weights(whole))
    assert (resumed.step, resumed.images) == (whole.step, whole.images) == (20, 160)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_metrics_are_json_lines_with_losses_rate_and_images(
    tmp_path: Path, context: RunContext
) -> None:
    train(tmp_path, context)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["step"] == 10 and "loss" in line)
    assert first.keys() == {"step", "loss", "learning_rate", "images"}
    assert first["images"] == 88
    assert [line["step"] for line in lines if "validated" in line] == [4, 9, 14, 19]
    assert list((tmp_path / "tensorboard").iterdir())


def test_clipping_bounds_the_step(tmp_path: Path, context: RunContext) -> None:
    clipped = train(
        tmp_path / "a", context, OPTIMISER.model_copy(update={"clip": 1e-9, "weight_decay": 0.0})
    )
    free = train(tmp_path / "b", context, OPTIMISER.model_copy(update={"weight_decay": 0.0}))
    assert not torch.equal(weights(clipped), weights(free))


def test_a_non_finite_loss_stops_before_it_spoils_the_weights(
    tmp_path: Path, context: RunContext
) -> None:
    training = start(tmp_path, context, LineTask(blow_up_at=5))
    with pytest.raises(
        NonFiniteLoss, match="loss is nan at step 5: training diverged; lower the learning rate"
    ):
        training.run(batches(0, 20))
    assert torch.isfinite(weights(training)).all()


def test_a_batch_without_a_readable_image_changes_nothing(
    tmp_path: Path, context: RunContext
) -> None:
    training = start(tmp_path, context)
    before = weights(training)
    with pytest.raises(UserError, match="none of the 2 images could be decoded"):
        training.run([Batch(torch.empty(0), [], [], [7, 9], [], 2)])
    assert torch.equal(weights(training), before)
    assert (training.step, training.images, training.unreadable) == (1, 0, {7, 9})


def test_a_wreck_is_never_saved(tmp_path: Path, context: RunContext) -> None:
    training = start(tmp_path, context)
    training.latest = {"loss": torch.tensor(math.nan)}
    with pytest.raises(NonFiniteLoss):
        training.save()
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_other_code_is_refused(tmp_path: Path, context: RunContext) -> None:
    start(tmp_path, context).save()
    task = LineTask()
    task.model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1))
    with pytest.raises(
        UserError, match="does not fit this model; another version of the code wrote it; delete it"
    ):
        start(tmp_path, context, task)


def test_an_encoder_made_with_another_position_table_is_refused(tmp_path: Path) -> None:
    from core.model.vit import VisionTransformer
    from core.training.loop import exported_tensors

    path = tmp_path / "model.safetensors"
    released, grid = (
        nn.ModuleDict(
            {"encoder": VisionTransformer(Encoder(width=16, depth=1, heads=2, positions=kind))}
        )
        for kind in ("released", "grid")
    )
    save(path, exported_tensors(released), {})
    load_into(released["encoder"], load(path)[0], "encoder.", path)
    with pytest.raises(
        UserError, match=r"encoder\.positions is another table; set encoder\.positions"
    ):
        load_into(grid["encoder"], load(path)[0], "encoder.", path)


def test_checkpoints_of_another_shape_are_refused_with_the_first_offender(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(
        path,
        {"encoder.0.weight": torch.zeros(3, 3), "encoder.0.bias": torch.zeros(3)},
        {"stage": "pretrain"},
    )
    found = load(path)[0]
    load_into(nn.Sequential(nn.Linear(3, 3)), found, "encoder.", path)
    with pytest.raises(UserError, match=r"encoder\.0\.weight has shape \[3, 3\], not \[5, 3\]"):
        load_into(nn.Sequential(nn.Linear(3, 5)), found, "encoder.", path)
    with pytest.raises(
        UserError, match=r"2 of 4 weights matched \(first missing: encoder\.1\.weight\)"
    ):
        load_into(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), found, "encoder.", path)
    with pytest.raises(UserError, match=r"encoder\.0\.bias has no place in this model"):
        load_into(nn.Sequential(nn.Linear(3, 3, bias=False)), found, "encoder.", path)


def test_broken_checkpoints_are_refused_and_nothing_in_them_runs(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="not a readable safetensors"):
        load(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="without executing code"):
        load_pickle(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.safetensors")
