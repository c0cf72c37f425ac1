"""Files as the released codes write them, with the golden weights, and their import."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from golden_weights import golden_image, golden_state, load_golden, normal
from torch import Tensor

from core.checkpoints.load import read_recognizer
from core.config import PretrainModel, visible_count
from core.lmim import LMIM
from core.model.masking import visible_from_noise
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.model.vit import position_table
from core.runtime import pickle_io, safetensors_io

Files = dict[str, Path]
Change = Callable[[dict[str, Any]], object]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "lmim": {"mask_ratio": 0.8},
    "recognizer": {"nb_classes": 97, "max_len": 25},
    "maerec": {},
}


def write_released_files(folder: Path) -> Files:
    """Write `lmim.pth`, `recognizer.pth` and `maerec.pth`."""
    states = {
        kind: golden_state(load_golden(kind)["names"]) | _tables(kind)
        for kind in ("lmim", "recognizer")
    }
    states["maerec"] = {
        name.removeprefix("model_maeenc."): value
        for name, value in states["lmim"].items()
        if "maeenc." in name
    }
    states["maerec"] |= {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_embed.weight": torch.zeros(32, 48),
    }
    files = {}
    for kind, state in states.items():
        files[kind] = folder / f"{kind}.pth"
        args = argparse.Namespace(**ARGUMENTS[kind])
        content = {"model": state, "optimizer": {}, "epoch": 9, "scaler": {}, "args": args}
        torch.save(content, files[kind])
    return files


def _tables(kind: str) -> dict[str, Tensor]:
    """The tables that released files hold besides trained weights."""
    table = position_table(48, 256, 16)
    if kind == "recognizer":
        return {
            "encoder.pos_embed": table,
            "pos_embed": table,
            "decoder.position_enc.position_table": torch.zeros(1, 200, 64),
        }
    return {
        "model_maeenc.pos_embed": table,
        "model_maeenc_momentum.pos_embed": table,
        "decoder_pos_embed": position_table(64, 256, 16),
    }


def altered(path: Path, out: Path, change: Change) -> Path:
    """Write a file whose content `change` has altered."""
    content = pickle_io.load_pickle(path)
    change(content)
    torch.save(content, out)
    return out


def drop(part: str) -> Change:
    """The change that removes all weights whose name contains `part`."""

    def change(content: dict[str, Any]) -> None:
        for name in [name for name in content["model"] if part in name]:
            del content["model"][name]

    return change


def put(name: str, *shape: int) -> Change:
    """The change that sets a weight to zeros of a shape."""

    def change(content: dict[str, Any]) -> None:
        content["model"][name] = torch.zeros(*shape)

    return change


def import_file(
    capsys: pytest.CaptureFixture[str], path: Path, out: Path, *options: str
) -> dict[str, Any]:
    """The JSON report of `run.py import`."""
    code, text, err = call(capsys, "import", path, out, "--json", *options)
    assert code == 0, err
    report: dict[str, Any] = json.loads(text)
    return report


def assert_golden_pretraining(path: Path) -> None:
    """The weights give the golden losses."""
    weights, metadata = safetensors_io.load(path)
    model = LMIM(PretrainModel.model_validate(metadata["config"])).eval()
    safetensors_io.load_into(model, weights, "", path)
    golden = load_golden("lmim")
    visible = visible_from_noise(normal("noise", [3, 256]), visible_count(256, 0.8))
    images = golden_image("image", [3, 3, 32, 128])
    output = model(images, golden_image("guidance_view", [3, 3, 32, 128]), visible)
    assert output.loss.item() == pytest.approx(golden["loss"], rel=1e-4)
    assert output.reconstruction.item() == pytest.approx(golden["recon"], rel=1e-4)
    assert output.alignment.item() == pytest.approx(golden["align"], rel=1e-4)


def assert_golden_recognition(path: Path) -> None:
    """The weights give the golden loss and the golden tokens."""
    config, weights = read_recognizer(path)
    model = Recognizer(config).eval()
    golden = load_golden("recognizer")
    safetensors_io.load_into(model, weights, "", path)
    images = golden_image("image", [4, 3, 32, 128])
    tokens, lengths = model.charset.encode(golden["words"], golden["max_len"])
    loss = sequence_cross_entropy(model(images, tokens, lengths), tokens, lengths)
    assert loss.item() == pytest.approx(golden["loss"], rel=1e-4)
    assert model.greedy_decode(images)[0].tolist() == golden["greedy_ids"]
