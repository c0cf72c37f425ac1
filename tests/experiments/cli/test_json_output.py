"""With `--json`, standard output is JSON and nothing else; errors are on standard error."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from command_probe import Probe, leaf_parsers, options_of
from commands import run_command
from conftest import call, jpeg, write_lmdb

import run
from core.runtime.yaml import dump_yaml

COMMANDS = [
    name for name, parser in leaf_parsers(run.make_parser()) if "--json" in options_of(parser)
]
INPUTS = {  # command -> its arguments; names of the probe's files
    "run": "row.yaml --scale smoke --dry-run",
    "plan": "row.yaml --scale smoke",
    "status": "row.yaml --scale smoke",
    "compare": "row.yaml --scale smoke",
    "claims": "--file claims.yaml",
    "false-differences": "row.yaml --scale smoke",
    "early-start": "row.yaml --scale smoke --out pictures",
    "sweep-report": "tiny.yaml",
    "score": "predictions.txt",
    "import": "a.pth b.safetensors",
    "show": "finetune-1",
    "bundle": "row.yaml runs.zip --scale smoke",
    "unbundle": "runs.zip",
    "predict": "photo.jpg --model a",
    "peer": "ppocrv6 lmdb --out peer",
    "doctor": "",
    "bench": "limits",
    "data build": "labels.tsv out",
    "data check": "lmdb",
    "data overlap": "lmdb lmdb --out filter.tsv",
    "data suspects": "lmdb --predictions read.csv",
}
MISTAKES = [
    "run nowhere.yaml",
    "plan nowhere.yaml",
    "status row.yaml --scale huge",
    "compare row.yaml --set nonsense",
    "compare tiny.yaml",
    "claims C99",
    "claims --run C99",
    "sweep-report row.yaml",
    "score nowhere.csv",
    "import nowhere.pth out.safetensors",
    "import a.pth out.zip",
    "show nothing",
    "bundle row.yaml runs.tar",
    "bundle row.yaml runs.zip --scale smoke",
    "unbundle nowhere.zip",
    "predict nowhere.png --model nothing",
    "bench nothing",
    "data build nowhere out",
    "data overlap nowhere nowhere",
    "data suspects nowhere --predictions read.csv",
    "peer ppocrv6 nowhere --out peer",
]
TINY = {
    "synthetic.train": 64,
    "synthetic.validation": 8,
    "synthetic.test": 2,
    "finetune.optimizer.epochs": 1,
}
MASK = "マスク"


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(tmp_path_factory.mktemp("probe"))


@pytest.mark.parametrize("command", COMMANDS)
def test_standard_output_is_json_only(
    command: str,
    probe: Probe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(probe.folder)
    probe.install(monkeypatch)
    code, out, _ = call(capsys, *command.split(), *INPUTS[command].split(), "--json")
    assert code in (0, 1)
    json.loads(out, parse_constant=pytest.fail)


@pytest.mark.parametrize("words", MISTAKES)
def test_an_error_leaves_standard_output_empty(
    words: str, probe: Probe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(probe.folder)
    code, out, err = call(capsys, *words.split(), "--json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_confidences_that_are_no_numbers_are_null_and_an_error(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probe.install(monkeypatch)
    monkeypatch.setattr(
        "core.training.predict.predict", lambda *_: [("a.png", "0", math.nan), ("b.png", "b", 0.5)]
    )
    code, out, err = call(capsys, "predict", "a.png", "--model", "m", "--json")
    assert code == 1
    assert [word["confidence"] for word in json.loads(out)] == [None, 0.5]
    assert [line.split(":")[0] for line in err.splitlines()] == ["a.png"]


def test_a_command_without_json_refuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "watch", "x.yaml", "--json")
    assert (code, out) == (2, "")
    assert "--json" in err


@pytest.mark.slow
def test_pipes_get_json_and_no_blank_lines(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "lmdb", [(jpeg(1), "a"), (b"broken", "b")])
    command = [sys.executable, "run.py", "data"]
    for words in (("check", root), ("overlap", root, root, "--out", tmp_path / "filter.tsv")):
        done = run_command([*command, *words, "--processes", 1, "--json"])
        json.loads(done.stdout)
        assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_run_in_a_narrow_encoding_prints_json_and_writes_its_table(
    encoding: str, tmp_path: Path
) -> None:
    file = tmp_path / "names.yaml"
    rows = {"title": "t", "variants": [{"name": MASK, "method": "scratch"}]}
    file.write_text(dump_yaml(rows), encoding="utf-8")
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    options = ["--scale", "smoke", "--results", tmp_path / "results", "--jobs", 1, *settings]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "run.py", file, *options]
    done = run_command([*command, "--json"], env=environment)
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)
    assert [row["name"] for row in table["rows"] if row.get("seeds")] == [MASK]
    assert "" not in done.stderr.splitlines()
    (written,) = (tmp_path / "results" / "tables").glob("*.md")
    assert MASK in written.read_text(encoding="utf-8")
    again = run_command(command, env=environment, check=True)
    assert "\\u30de" in again.stdout
