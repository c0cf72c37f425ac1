"""Checkpoints of other precisions, in the layouts of other frameworks, with values beside them."""

import argparse
import collections
import datetime
import json
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import call
from released_files import Files, import_file, write_released_files
from torch import Tensor

from core.checkpoints.released import read_released
from core.model.vit import is_table_of

Capture = pytest.CaptureFixture[str]
State = dict[str, Tensor]
KINDS = ("lmim", "recognizer", "maerec")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=False)  # this test wrote the file
    return content


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def assert_same_weights(path: Path, expected: Path) -> None:
    first = read_released(path).weights
    second = read_released(expected).weights
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_precision_are_imported_as_fp32(
    kind: str, dtype: torch.dtype, files: Files, tmp_path: Path
) -> None:
    content = content_of(files[kind])
    state = {name: value.to(dtype) for name, value in content["model"].items()}
    imported = read_released(written(tmp_path / "x.pth", content | {"model": state}))
    assert all(value.dtype == torch.float32 for value in imported.weights.values())
    encoder: Any = getattr(imported.config, "encoder", imported.config)
    assert is_table_of(encoder, imported.weights["encoder.positions"])
    assert encoder.positions == "released"


def test_weights_of_mixed_precisions_are_imported_as_fp32(files: Files, tmp_path: Path) -> None:
    content = content_of(files["lmim"])
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for number, (name, value) in enumerate(list(content["model"].items())):
        content["model"][name] = value.to(types[number % len(types)])
    imported = read_released(written(tmp_path / "x.pth", content))
    assert {value.dtype for value in imported.weights.values()} == {torch.float32}


def test_integer_buffers_are_ignored_and_reported(files: Files, tmp_path: Path) -> None:
    content = content_of(files["lmim"])
    content["model"] |= {"num_batches_tracked": torch.tensor(3), "version": 2}
    imported = read_released(written(tmp_path / "x.pth", content))
    assert imported.ignored["version"] == "not a tensor"
    assert "num_batches_tracked" in imported.ignored


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64])
def test_weights_that_are_not_floating_point_are_refused(
    dtype: torch.dtype, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    content = content_of(files["lmim"])
    content["model"]["mask_token"] = content["model"]["mask_token"].to(dtype)
    path = written(tmp_path / "x.pth", content)
    code, _, err = call(capsys, "import", path, tmp_path / "out.safetensors")
    assert code == 2
    assert "mask_token" in err
    assert str(dtype).removeprefix("torch.") in err


def with_prefix(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda state: {"model": with_prefix("_orig_mod.", state)}, "model"),
        (lambda state: {"model": with_prefix("module.module.", state)}, "model"),
        (lambda state: {"model": with_prefix("_orig_mod.module.", state)}, "model"),
        (lambda state: {"state_dict": with_prefix("module.", state)}, "state_dict"),
        (lambda state: {"state_dict": with_prefix("model.", state)}, "state_dict.model"),
        (lambda state: {"model": {"state_dict": state}, "epoch": 3}, "model.state_dict"),
        (lambda state: {"student": state, "teacher": {}}, "student"),
        (lambda state: {"model": None, "teacher": with_prefix("module.", state)}, "teacher"),
        (lambda state: {"model_ema": state, "rng": torch.zeros(3)}, "model_ema"),
        (lambda state: {"run": {"ema": {"shadow": state}}}, "run.ema.shadow"),
        (lambda state: {"model": collections.OrderedDict(state)}, "model"),
        (lambda state: state, "(top level)"),
    ],
)
def test_nested_and_wrapped_state_dicts_are_found_and_named(
    wrap: Any, key: str, kind: str, files: Files, tmp_path: Path
) -> None:
    content = wrap(content_of(files[kind])["model"])
    path = written(tmp_path / "x.pth", content)
    assert_same_weights(path, files[kind])
    assert read_released(path).source.state == key


def test_a_compiled_part_of_a_model_is_found(files: Files, tmp_path: Path) -> None:
    state = content_of(files["lmim"])["model"]
    renamed = {
        name.replace("model_maeenc.", "model_maeenc._orig_mod."): state[name] for name in state
    }
    assert_same_weights(written(tmp_path / "x.pth", {"model": renamed}), files["lmim"])


def shifted(state: State) -> State:
    changed = dict(state)
    changed["mask_token"] = changed["mask_token"] + 1
    return changed


@pytest.mark.parametrize(
    ("keys", "preferred"),
    [
        (("teacher", "student"), "student"),
        (("model_ema", "model"), "model"),
        (("ema", "state_dict"), "state_dict"),
    ],
)
def test_a_file_with_two_models_names_the_one_taken_and_lets_one_choose(
    keys: tuple[str, str], preferred: str, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    state = content_of(files["lmim"])["model"]
    path = written(tmp_path / "x.pth", {keys[0]: shifted(state), keys[1]: state})
    out = tmp_path / "out.safetensors"
    report = import_file(capsys, path, out)
    assert (report["state"], report["other_states"]) == (preferred, [keys[0]])
    _, text, _ = call(capsys, "import", path, out)
    assert keys[0] in text
    assert "--state" in text
    assert import_file(capsys, path, out, "--state", keys[0])["state"] == keys[0]
    chosen = read_released(path, None, keys[0]).weights["decoder.mask_token"]
    assert torch.equal(chosen, shifted(state)["mask_token"])


def test_an_unknown_state_dict_is_refused_with_those_in_the_file(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.safetensors"
    code, _, err = call(capsys, "import", files["lmim"], out, "--state", "model_ema")
    assert code == 2
    assert "--state model_ema" in err
    assert err.rstrip().endswith("model")


def test_two_names_that_become_equal_are_refused(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    state = content_of(files["lmim"])["model"]
    both = state | with_prefix("module.", state)
    path = written(tmp_path / "x.pth", {"model": both})
    code, _, err = call(capsys, "import", path, tmp_path / "out.safetensors")
    assert code == 2
    assert "twice" in err


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("x"),
        np.zeros((2, 3), np.float32),
        np.array(["a", "b"]),
        pathlib.Path("/x/y"),
        pathlib.PureWindowsPath("c:/x"),
        datetime.datetime(2024, 5, 6),
        {1, 2},
        torch.float16,
        argparse.Namespace(out=pathlib.Path("/x"), lr=np.float32(0.1), max_len=np.int64(25)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("old_format", [False, True])
def test_harmless_values_beside_the_weights_do_not_stop_an_import(
    value: object, old_format: bool, files: Files, tmp_path: Path
) -> None:
    content = content_of(files["recognizer"]) | {"best": value, "args": value, "epoch": value}
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert_same_weights(path, files["recognizer"])
    json.dumps(read_released(path).metadata())


class Settings:
    """A class of a training framework."""


@pytest.mark.parametrize("value", [Settings(), torch.nn.Linear(1, 1), collections.deque("a")])
def test_an_object_that_needs_code_is_refused_with_its_class_and_a_remedy(
    value: object, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    path = written(tmp_path / "x.pth", content_of(files["lmim"]) | {"settings": value})
    code, _, err = call(capsys, "import", path, tmp_path / "out.safetensors")
    assert code == 2
    assert type(value).__name__ in err
    assert "torch.save" in err
