"""Standard output and standard error: JSON, encodings, closed streams, progress."""

import io
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY, run_command
from conftest import call
from plans import TABLE1

from experiments.cli import output
from experiments.cli.output import prepare_streams, print_json, progress_bar

PLAN = [sys.executable, "run.py", "plan", TABLE1, "--scale", "smoke"]
SHORT = ("--scale", "smoke", "--seeds", "0")
ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]
MASK = "マスク"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")


def written(text: io.TextIOWrapper) -> bytes:
    text.flush()
    assert isinstance(text.buffer, io.BytesIO)
    return text.buffer.getvalue()


# JSON


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_not_finite_are_null_in_json(
    number: float, capsys: pytest.CaptureFixture[str]
) -> None:
    print_json({"a": number, "b": [number, (1, number)], "c": {"d": number}})
    expected = {"a": None, "b": [None, [1, None]], "c": {"d": None}}
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
@pytest.mark.parametrize("text", [MASK, "é", "😀", "a\udce9b"])
def test_json_is_valid_in_every_encoding(
    text: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    prepare_streams()
    print_json({"text": text})
    assert json.loads(written(out).decode(encoding)) == {"text": text}


# Encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_character_that_a_stream_lacks_is_printed_as_an_escape(
    name: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = stream(encoding)
    monkeypatch.setattr(sys, name, text)
    prepare_streams()
    print(MASK, file=text)
    assert written(text) == b"\\u30de\\u30b9\\u30af\n"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda variables: "-".join(variables.values()))
def test_commands_print_in_every_locale(encoding: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / f"{MASK}.yaml"
    file.write_text(f"title: {MASK}\nvariants:\n  - {{name: {MASK}, method: scratch}}\n", "utf-8")
    environment = os.environ | encoding
    command = [sys.executable, "run.py"]
    options = ("--scale", "smoke", "--results", tmp_path / "results")
    for words, code in (
        (("--help",), 0),
        (("plan", "--help"), 0),
        (("plan", file, *options), 0),
        (("plan", file, *options, "--json"), 0),
        (("status", file, *options), 0),
        (("watch", file, *options), 0),
        (("compare", file, *options), 0),
        (("compare", file, *options, "--json"), 0),
        (("plan", tmp_path / f"{MASK}{MASK}.yaml", *options), 2),
        (("score", tmp_path / f"{MASK}.csv"), 2),
    ):
        done = run_command([*command, *words], env=environment)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        if "--json" in words:
            assert MASK in json.dumps(json.loads(done.stdout), ensure_ascii=False)


# Closed streams


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    prepare_streams()
    assert getattr(sys, name).name == os.devnull


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -n 0"])
def test_a_command_whose_output_is_closed_succeeds(closed: str, tmp_path: Path) -> None:
    words = " ".join([*map(str, PLAN), "--results", str(tmp_path / "results")])
    done = run_command(["bash", "-o", "pipefail", "-c", f"{words} {closed}"], cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_full_standard_output_is_one_sentence(tmp_path: Path) -> None:
    words = " ".join([*map(str, PLAN), "--results", str(tmp_path / "results")])
    done = run_command(["bash", "-c", f"{words} > /dev/full"], cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output or ")
    assert len(done.stderr.splitlines()) == 1


# Progress


def test_a_progress_bar_prints_nothing_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("checking", 3) as show:
        show(1)
        show(2, 3)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "REPORT_SECONDS", 0.0)
    with progress_bar("hashing", 2000) as show:
        show(1000)
    assert capsys.readouterr() == ("", "hashing: 1,000 of 2,000\n")


def test_a_line_has_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier call has done is not counted as fast work."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress_bar("reading", 1000) as show:
        for seconds, done in ((0, 400), (31, 410), (62, 980), (93, 1000)):
            clock[0] = seconds
            show(done)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 410 of 1,000, about 30 min left",
        "reading: 980 of 1,000, less than a minute left",
        "reading: 1,000 of 1,000",
    ]


# Folders


@pytest.mark.parametrize("command", ["run", "plan", "status", "compare", "cancel"])
def test_results_that_are_a_dangling_link_are_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    code, out, err = call(capsys, command, TABLE1, *SHORT, "--results", link)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--results" in err
    assert str(tmp_path / "nowhere") in err
