"""`run.py doctor` prints every finding, never crashes, and works without any package."""

import json
import sys
from pathlib import Path

import pytest
from commands import run_command
from conftest import call

from experiments.running import machine_checks, torch_checks
from experiments.running.findings import Finding
from experiments.running.torch_facts import NoTorch

FINE = Finding("a", "ok", "here", "It works.")
ABSENT = Finding("b", "missing", "not here", "Nothing runs without it.", needed=True)
UNUSED = Finding("c", "problem", "slow", "Another one is faster.")


def simulate(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    """A machine on which the checks find these."""
    monkeypatch.setattr(
        machine_checks,
        "machine_checks",
        lambda results: {found.subject: lambda found=found: [found] for found in findings},
    )
    monkeypatch.setattr(torch_checks.TorchChecks, "checks", lambda self: {})


@pytest.mark.parametrize(("finding", "code"), [(FINE, 0), (UNUSED, 0), (ABSENT, 1)])
def test_the_exit_code_is_1_only_if_something_needed_is_missing(
    finding: Finding,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulate(monkeypatch, FINE, finding)
    assert call(capsys, "doctor")[0] == code
    assert call(capsys, "doctor", "--json")[0] == code


def test_json_has_the_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(monkeypatch, FINE, ABSENT)
    report = json.loads(call(capsys, "doctor", "--json")[1])
    assert not report["can_run"]
    assert [Finding(**finding) for finding in report["findings"]] == [FINE, ABSENT]


def test_lines_fit_the_screen_and_begin_with_the_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = Finding("d", "ok", "word " * 40, "A sentence.")
    simulate(monkeypatch, FINE, long, UNUSED)
    monkeypatch.setenv("COLUMNS", "60")
    lines = call(capsys, "doctor")[1].splitlines()
    assert max(map(len, lines)) <= 60
    levels = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert levels[:3] == ["ok", "ok", "problem"]


def test_a_machine_on_which_every_check_fails_gets_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(results: Path | None = None) -> list[Finding]:
        raise RuntimeError("broken machine")

    names = list(machine_checks.machine_checks(Path("results")))
    monkeypatch.setattr(
        machine_checks, "machine_checks", lambda results: dict.fromkeys(names, broken)
    )
    monkeypatch.setattr(torch_checks, "find_torch_facts", lambda: (_ for _ in ()).throw(NoTorch()))
    code, out, _ = call(capsys, "doctor", "--json")
    findings = json.loads(out)["findings"]
    assert code == 1
    assert {finding["subject"] for finding in findings} >= set(names)
    assert {finding["level"] for finding in findings} == {"problem", "missing"}


def test_it_works_where_no_package_is_installed(tmp_path: Path) -> None:
    """-S: without site-packages, as in a fresh virtual environment."""
    command = [sys.executable, "-S", "run.py", "doctor", "--json", "--results", tmp_path]
    done = run_command(command)
    assert done.returncode == 1, done.stderr
    findings = {
        finding["subject"]: finding for finding in reversed(json.loads(done.stdout)["findings"])
    }
    assert findings["packages"]["level"] == "missing"
    assert findings["disk"]["level"] == "ok"
