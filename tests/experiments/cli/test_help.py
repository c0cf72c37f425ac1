"""The help of every command is readable, and builds quickly."""

import argparse
import re
from pathlib import Path

import pytest
from command_probe import leaf_parsers, options_of
from commands import REPOSITORY

import run

PARSERS = dict(leaf_parsers(run.make_parser()))
SCREEN_LINES = 24


@pytest.mark.parametrize("command", PARSERS)
def test_the_help_fits_a_screen_or_is_in_groups(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = PARSERS[command].format_help()
    assert max(map(len, text.splitlines())) <= 100
    groups = re.findall(r"^\S.*:$", text, re.MULTILINE)
    own_groups = set(groups) - {"positional arguments:", "options:"}
    assert len(text.splitlines()) <= SCREEN_LINES or len(own_groups) >= 2


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_and_command_has_a_help_text(command: str) -> None:
    assert PARSERS[command].description
    for name, action in options_of(PARSERS[command]).items():
        assert action.help, name
        assert action.help != argparse.SUPPRESS, name


def test_the_help_of_run_py_names_every_command() -> None:
    assert run.__doc__
    words = set(re.findall(r"[\w-]+", run.__doc__))
    assert words >= set(run.COMMANDS)
    assert {name.split()[0] for name in PARSERS} == set(run.COMMANDS)


def test_run_py_is_short() -> None:
    lines = (REPOSITORY / "run.py").read_text().splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100


def test_only_the_command_line_knows_argparse() -> None:
    """Below it, options travel as PlanOptions, ComputeOptions and plain values."""
    known = {
        "analysis/commands",
        "analysis/bench",
        "analysis/report",  # readme_pictures.py is a script
        "experiments/cli",
        "core/checkpoints",  # the released files contain argparse's Namespace
        "core/runtime",  # the unpickler of such files
        "experiments",  # catalogue.py is a script of maintainers
        "results",  # compact.py and release.py are too
    }
    folders = {
        str(path.parent.relative_to(REPOSITORY))
        for package in ("core", "results", "experiments", "sweeps", "analysis")
        for path in Path(REPOSITORY, package).rglob("*.py")
        if "import argparse" in path.read_text(encoding="utf-8")
    }
    assert folders <= known
