"""Repairs of the alignment loss in LMIM: gradients, weights, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE
from torch import Tensor

from core.checkpoints.export import export_released
from core.config import (
    Alignment,
    Encoder,
    Guidance,
    Mask,
    Optimizer,
    Pretrain,
    ReconstructionDecoder,
)
from core.lmim import LMIM, LMIMOutput
from core.model.alignment_repair import BatchPlace, gather_batch
from core.model.masking import random_mask
from core.runtime import safetensors_io
from core.runtime.distributed import ProcessGroup
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.training.parameters import exported_tensors
from core.training.pretrain import PretrainTask, make_model
from core.training.run_context import RunContext

ENCODER = Encoder(width=32, depth=1, heads=2, patch=(16, 8), positions="grid")
OF_ONE_IMAGE = ("normalized", "ema")
OF_THE_BATCH = ("predictor", "vicreg", "sigreg", "uniformity", "infonce")
REPAIRS = (*OF_ONE_IMAGE, *OF_THE_BATCH)
COUNT = 6


def repaired(kind: str | None = None, **changes: Any) -> Pretrain:
    """A small LMIM with a repair; None: the paper's loss."""
    repair = None if kind is None else {"kind": kind}
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0),
        "mask": Mask(ratio=0.75),
        "guidance": Guidance(),
        "alignment": Alignment.model_validate({"repair": repair}),
        "target": {"kind": "pixel"},
    }
    return Pretrain(**(STAGE | settings | changes))


def forward(model: LMIM) -> LMIMOutput:
    """The model on random images with random guidance views."""
    images, views = (
        torch.rand(COUNT, 3, 32, 128, generator=generator(number)) for number in (1, 2)
    )
    visible = random_mask(COUNT, ENCODER.patches, 0.75, generator=generator(0))
    output = model(images, views, visible)
    assert isinstance(output, LMIMOutput)
    return output


@pytest.mark.parametrize("kind", REPAIRS)
def test_a_repair_trains_the_branches_that_it_does_not_detach(kind: str) -> None:
    output = forward(make_model(repaired(kind), None))
    assert output.alignment is not None
    branches = (output.features, output.guidance_features)
    gradients = torch.autograd.grad(output.alignment, branches, allow_unused=True)  # type: ignore[arg-type]
    reached = [gradient is not None for gradient in gradients]
    assert reached == [True, kind != "ema"]
    for gradient in gradients:
        if gradient is not None:
            assert gradient[:, 0].abs().sum() > 0
            assert gradient[:, 1:].abs().sum() == 0


@pytest.mark.parametrize("kind", REPAIRS)
def test_a_repair_leaves_initial_weights_and_exported_encoder_as_they_are(kind: str) -> None:
    plain = exported_tensors(make_model(repaired(), None))
    tensors = exported_tensors(make_model(repaired(kind), None))
    extra = tensors.keys() - plain.keys()
    assert all(torch.equal(tensors[name], plain[name]) for name in plain)
    assert bool(extra) == (kind in ("predictor", "vicreg"))
    assert all(name.startswith("repair.head.") for name in extra)


@pytest.mark.parametrize("kind", ["ema", "vicreg"])
def test_a_repaired_model_is_exported_without_its_repair(kind: str, tmp_path: Path) -> None:
    written = {}
    for name, config in {"plain": repaired(), "repaired": repaired(kind)}.items():
        path = tmp_path / f"{name}.safetensors"
        metadata = {"stage": "pretrain", "config": config.model_dump(mode="json")}
        safetensors_io.save(path, exported_tensors(make_model(config, None)), metadata)
        written[name] = export_released(path, tmp_path / f"{name}.pth").weights
    assert written["repaired"] == written["plain"]


@pytest.mark.parametrize("kind", OF_THE_BATCH)
def test_a_loss_over_the_batch_refuses_micro_batches(kind: str, context: RunContext) -> None:
    config = repaired(kind)
    with pytest.raises(UserError, match=f"{kind} .*--micro-batch"):
        PretrainTask(config, make_model(config, None), replace(context, micro_batch=4))


@pytest.mark.parametrize("kind", OF_ONE_IMAGE)
def test_a_loss_of_single_images_accepts_micro_batches(kind: str, context: RunContext) -> None:
    config = repaired(kind)
    PretrainTask(config, make_model(config, None), replace(context, micro_batch=4))


@pytest.mark.parametrize("kind", OF_THE_BATCH)
def test_a_loss_over_the_batch_refuses_batches_of_one_image(kind: str) -> None:
    with pytest.raises(ValueError, match=f"repair {kind} compares images: optimizer.batch"):
        repaired(kind, optimizer=Optimizer(base_lr=1e-3, batch=1))


@pytest.mark.parametrize("kind", ["predictor", "ema"])
@pytest.mark.parametrize("stopped", ["guidance", "masked"])
def test_a_repair_with_a_stop_gradient_refuses_another(kind: str, stopped: str) -> None:
    with pytest.raises(ValueError, match="leave stop_gradient out"):
        Alignment.model_validate({"repair": {"kind": kind}, "stop_gradient": stopped})


class TwoProcesses(ProcessGroup):
    """Another process has the second and the last image of a batch of four, as rows of 5 and 7."""

    def all_gather_rows(self, rows: Tensor, positions: Tensor, size: int) -> Tensor:
        gathered = super().all_gather_rows(rows, positions, size)
        assert not gathered[[1, 3]].any()
        gathered[1] = torch.tensor([5.0, 5.0, 1.0])
        gathered[3] = torch.tensor([7.0, 7.0, 1.0])
        return gathered


@pytest.mark.parametrize(("position", "expected"), [(0, [2.0, 5.0, 7.0]), (-1, [5.0, 7.0])])
def test_rows_of_all_processes_are_gathered_without_dummies(
    position: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runtime.distributed._AllReduceSum.apply", lambda rows: rows)
    rows = torch.full((1, 2), 2.0, requires_grad=True)
    place = BatchPlace(torch.tensor([position]), 4, generator(0), TwoProcesses(size=2))
    gathered = gather_batch(rows, place)
    assert gathered[:, 0].tolist() == gathered[:, 1].tolist() == expected
    assert gathered.requires_grad  # so that a process with a dummy joins the backward pass


def test_a_batch_with_a_single_readable_image_is_refused() -> None:
    place = BatchPlace(torch.tensor([3]), 4, generator(0))
    with pytest.raises(UserError, match="fewer than two readable images"):
        gather_batch(torch.zeros(1, 2), place)
