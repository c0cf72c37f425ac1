"""Weights in files: what fits a module, and files that are refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core.config import Encoder
from core.model.vit import VisionTransformer
from core.runtime.errors import UserError
from core.runtime.pickle_io import load_pickle
from core.runtime.safetensors_io import load, load_into, save
from core.training.parameters import exported_tensors


def encoder(positions: str) -> nn.ModuleDict:
    config = Encoder(width=16, depth=1, heads=2).model_copy(update={"positions": positions})
    return nn.ModuleDict({"encoder": VisionTransformer(config)})


def test_an_encoder_with_another_position_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    released = encoder("released")
    save(path, exported_tensors(released), {})
    stored = load(path)[0]
    load_into(released["encoder"], stored, "encoder.", path)
    with pytest.raises(UserError, match=r"encoder\.positions"):
        load_into(encoder("grid")["encoder"], stored, "encoder.", path)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (nn.Sequential(nn.Linear(3, 5)), r"encoder\.0\.weight has shape \[3, 3\], not \[5, 3\]"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
            r"2 of 4 weights matched \(first missing: encoder\.1\.weight\)",
        ),
        (nn.Sequential(nn.Linear(3, 3, bias=False)), r"encoder\.0\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_name(
    module: nn.Module, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"encoder.0.weight": torch.zeros(3, 3), "encoder.0.bias": torch.zeros(3)}
    save(path, tensors, {"stage": "pretrain"})
    stored = load(path)[0]
    load_into(nn.Sequential(nn.Linear(3, 3)), stored, "encoder.", path)
    with pytest.raises(UserError, match=problem):
        load_into(module, stored, "encoder.", path)


class Harmful:
    """A pickle that creates a file if it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_no_code_in_a_file_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (tmp_path / "harmful.pth").write_bytes(pickle.dumps(Harmful(mark)))
    with pytest.raises(UserError, match="without executing code"):
        load_pickle(tmp_path / "harmful.pth")
    assert not mark.exists()


@pytest.mark.parametrize("content", [None, b"\x10\0\0\0"])
def test_a_missing_or_damaged_file_is_refused_by_name(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(path)
