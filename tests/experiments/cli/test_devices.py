"""Devices that cannot compute are refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from plans import TABLE1

from core.runtime.errors import UserError
from experiments.planning.device import find_device, find_gpus


@pytest.mark.parametrize("name", ["meta", "foo", "cuda:99", "cuda:x"])
def test_a_device_without_values_is_not_usable(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: not usable here"):
        find_device(name)


def test_the_cpu_is_usable_without_a_check() -> None:
    assert find_device("cpu") == "cpu"


@pytest.mark.parametrize("option", ["--device cuda:99", "--device cuda:98 --dry-run"])
def test_a_missing_gpu_is_refused_before_a_run_starts(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    code, out, err = call(capsys, TABLE1, "--scale", "smoke", "--results", results, *option.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--device" in err
    assert not results.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("gpus", ["0", "0,1", "all"])
def test_gpus_of_a_machine_without_gpus_are_refused(
    gpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    code, out, err = call(
        capsys, TABLE1, "--scale", "smoke", "--results", results, "--gpus", gpus, "--dry-run"
    )
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: --gpus")
    assert not results.exists()


@pytest.mark.parametrize(
    ("wanted", "ids"), [("all", (0, 1, 2, 3)), ((3, 1), (3, 1)), ((0,), (0,)), ((4,), None)]
)
def test_gpus_are_those_that_pytorch_sees(
    wanted: Any, ids: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("experiments.planning.device.DRIVERS", ("/dev/null",))
    if ids is not None:
        assert find_gpus(wanted) == ids
        return
    with pytest.raises(UserError, match="no GPU 4 on this machine, only 0 to 3"):
        find_gpus(wanted)
