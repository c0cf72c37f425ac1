"""Pre-training that starts with a teacher's weights, and features of a teacher as the target."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE
from torch.nn import functional

from core.config import Alignment, Encoder, Guidance, Mask, Pretrain, ReconstructionDecoder
from core.lmim import LMIM
from core.model.targets import FrozenFeatures
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.training.parameters import exported_tensors
from core.training.pretrain import make_model

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))


def mae_config(**changes: Any) -> Pretrain:
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": ReconstructionDecoder(
            order="SA-FFN", width=32, heads=2, feedforward=32, dropout=0
        ),
        "mask": Mask(ratio=0.75),
        "guidance": None,
        "alignment": None,
        "target": {"kind": "pixel"},
    }
    return Pretrain(**(STAGE | settings | changes))


def lmim_config(**changes: Any) -> Pretrain:
    settings: dict[str, Any] = {
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0),
        "guidance": Guidance(),
        "alignment": Alignment(),
        "target": {"kind": "mae_feature"},
    }
    return mae_config(**(settings | changes))


def save_mae(path: Path, **changes: Any) -> LMIM:
    config = mae_config(seed=7, **changes)
    model = make_model(config, None)
    metadata = {"stage": "pretrain", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, exported_tensors(model), metadata)
    return model


def test_an_mae_that_starts_with_a_teacher_has_all_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path)
    started = make_model(mae_config(start="teacher"), path)
    for name, value in started.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name]), name


def test_a_random_start_ignores_the_teacher(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path)
    model = make_model(mae_config(start="random"), path)
    assert not torch.equal(model.encoder.patch_embed.weight, teacher.encoder.patch_embed.weight)


def test_a_start_with_a_teacher_needs_its_file() -> None:
    with pytest.raises(UserError, match="needs a teacher"):
        make_model(mae_config(start="teacher"), None)


def test_lmim_takes_only_the_encoder_of_an_mae(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    teacher = save_mae(path)
    model = make_model(lmim_config(start="teacher"), path)
    assert isinstance(model.target, FrozenFeatures)
    weight = teacher.encoder.patch_embed.weight
    assert torch.equal(model.encoder.patch_embed.weight, weight)
    assert torch.equal(model.target.encoder.patch_embed.weight, weight)
    assert not torch.equal(model.decoder.mask_token, teacher.decoder.mask_token)


@pytest.mark.parametrize(
    ("student_kind", "teacher_kind"), [("grid", "released"), ("released", "grid")]
)
def test_a_teacher_keeps_its_position_table(
    tmp_path: Path, student_kind: str, teacher_kind: str
) -> None:
    path = tmp_path / "model.safetensors"
    teacher_encoder = ENCODER.model_copy(update={"positions": teacher_kind})
    teacher = save_mae(path, encoder=teacher_encoder).eval()
    student_encoder = ENCODER.model_copy(update={"positions": student_kind})
    student = make_model(lmim_config(encoder=student_encoder), path)
    assert not torch.equal(student.encoder.positions, teacher.encoder.positions)
    images = torch.rand(2, 3, 32, 128)
    features = functional.layer_norm(teacher.encoder(images)[:, 1:], (32,))
    torch.testing.assert_close(student.target.eval()(images), features)
