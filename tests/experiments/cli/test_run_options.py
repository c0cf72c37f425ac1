"""`run`: options that contradict each other or have no effect, and the options they become."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_probe import Probe
from conftest import call
from plans import TABLE1

import run
from analysis.commands.run_command import _print_tables
from core.runtime.errors import UserError
from experiments.cli.conversion import PlanOptions, compute_options
from experiments.running.options import ComputeOptions

REFUSED = [
    ("--jobs 2 --launcher slurm", "--jobs"),
    ("--gpus all --launcher slurm", "--gpus"),
    ("--processes 2 --launcher slurm", "--processes"),
    ("--processes 1 --launcher slurm", "--processes"),
    ("--cluster c.yaml", "--cluster goes with --launcher slurm"),
    ("--no-wait", "--no-wait goes with --launcher slurm"),
    ("--workers 2", "--workers is for sweeps"),
    ("--storage sqlite://", "--storage is for sweeps"),
    ("--gpus 0,1 --device cpu", "--device cpu"),
    ("--gpus 0,1 --device cuda:1", "--device cuda:1"),
    ("--gpus 0,1 --jobs 3", "2 GPUs"),
    ("--compile --device cpu", "--compile has an effect on CUDA only"),
    ("--compile", "--compile has an effect on CUDA only"),
]
REFUSED_OF_A_SWEEP = ["--jobs 2", "--gpus 0", "--gpus all", "--processes 2", "--processes 1"]


def parsed(words: str) -> Any:
    return run.make_parser().parse_args(["run", "x.yaml", *words.split()])


def converted(words: str, *, is_sweep: bool = False) -> ComputeOptions:
    return compute_options(parsed(words), is_sweep=is_sweep)


@pytest.fixture(autouse=True)
def _without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device and GPU can be used; `auto` is the CPU."""
    monkeypatch.setattr("experiments.planning.device.find_gpus", lambda wanted: (0, 1, 2))
    monkeypatch.setattr(
        "experiments.planning.device.find_device", lambda name: name.replace("auto", "cpu")
    )


@pytest.mark.parametrize(("words", "part"), REFUSED)
def test_an_option_without_effect_on_experiments_is_refused(words: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        converted(words)


@pytest.mark.parametrize("launcher", ["local", "slurm"])
@pytest.mark.parametrize("words", REFUSED_OF_A_SWEEP)
def test_an_option_without_effect_on_a_sweep_is_refused(words: str, launcher: str) -> None:
    with pytest.raises(UserError, match=words.split()[0]):
        converted(f"{words} --launcher {launcher}", is_sweep=True)


@pytest.mark.parametrize("command", ["plan", "status", "watch", "cancel"])
def test_storage_is_for_sweeps_in_every_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, command, TABLE1, "--storage", "sqlite://")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--storage is for sweeps" in err


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "gpus", None),
        ("--gpus all", "gpus", "all"),
        ("--gpus 2,0 --device cuda", "gpus", (2, 0)),
        ("--gpus 0,1 --jobs 2", "jobs", 2),
        ("", "processes", 1),
        ("--processes 64", "processes", 64),
        ("--checkpoint-minutes 0.5", "checkpoint_seconds", 30),
        ("", "checkpoint_seconds", 60),
        ("--launcher slurm", "checkpoint_seconds", 600),
        ("--launcher slurm --no-wait", "wait", False),
        ("--launcher slurm --compile", "compile", True),
        ("--compile --device cuda", "compile", True),
        ("--dry-run", "dry_run", True),
        ("--readers 3", "num_workers", 3),
    ],
)
def test_options_become_compute_options(words: str, name: str, value: object) -> None:
    assert getattr(converted(words), name) == value


def test_the_jobs_of_a_sweep_are_its_workers() -> None:
    assert converted("--workers 3", is_sweep=True).jobs == 3


def test_settings_of_the_command_line_become_overrides() -> None:
    words = "--set pretrain.mask.ratio=0.7 --precision bf16 --seeds 3,1 --results r"
    options = PlanOptions.from_arguments(parsed(words))
    assert options.overrides == {"pretrain.mask.ratio": 0.7, "precision": "bf16"}
    assert (options.seeds, options.results, options.storage) == ((3, 1), Path("r"), None)


def test_json_and_another_format_contradict_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for form in ("md", "csv", "json"):
        code, out, err = call(capsys, "compare", TABLE1, "--json", "--format", form)
        assert (code, out) == (2, "")
        assert "not allowed with" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_tables_are_written_before_they_are_printed(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenPipe(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    written: list[str] = []
    table: Any = SimpleNamespace(
        measured=[True], content={"rows": []}, write=lambda: written.append("x")
    )
    monkeypatch.setattr("analysis.tables.render.markdown", str)
    monkeypatch.setattr(sys, "stdout", BrokenPipe())
    with pytest.raises(BrokenPipeError):
        _print_tables([table], as_json=as_json)
    assert written == ["x"]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(tmp_path_factory.mktemp("probe"))


@pytest.mark.parametrize("option", [(), ("--dry-run",)])
@pytest.mark.parametrize("launcher", ["local", "slurm"])
@pytest.mark.parametrize("kind", ["experiment", "sweep"])
def test_run_prints_nothing_but_json_on_standard_output(
    kind: str,
    launcher: str,
    option: tuple[str, ...],
    probe: Probe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probe.install(monkeypatch)
    file = probe.experiment if kind == "experiment" else probe.sweep
    words = [file, "--results", probe.folder / "results", "--launcher", launcher, *option]
    code, out, err = call(capsys, *words, "--scale", "smoke", "--json")
    assert code in (0, 1)
    content = json.loads(out)
    assert content == [] if kind == "experiment" else content["trials"] == []
    assert err
