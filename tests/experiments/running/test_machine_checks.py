"""`run.py doctor` on simulated machines: levels and what is needed at all."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import REPOSITORY

from core.runtime.errors import UserError
from experiments.running import machine_checks
from experiments.running.findings import Finding, ask, can_run

INTEL = "model name\t: Some Xeon\nflags\t\t: sse4_2 avx2 avx512f amx_tile amx_bf16\n"
OLD = "model name\t: Some Core 2\nflags\t\t: sse4_2\n"
ARM = "Features\t: fp asimd\n"
COMMIT = "0123456789abcdef"


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("python", "level", "prevents"),
    [((3, 10), "problem", True), ((3, 11), "ok", False), ((3, 13), "problem", False)],
)
def test_only_a_python_that_is_too_old_prevents_runs(
    python: tuple[int, int], level: str, prevents: bool
) -> None:
    finding = only(list(machine_checks.check_python(python)))
    assert (finding.level, finding.prevents_runs) == (level, prevents)


def test_versions_of_a_requirements_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# A comment\ntorch==2.13.0\npsycopg[binary]==3.3.9\n-r other.txt\n")
    assert machine_checks.required_versions(file) == {"torch": "2.13.0", "psycopg": "3.3.9"}


@pytest.mark.parametrize(
    ("installed", "levels", "prevents"),
    [
        ({"torch": "2.13.0", "optuna": "5.0.0"}, ["ok"], False),
        ({"torch": "2.13.0", "optuna": ""}, ["missing"], False),
        ({"torch": "", "optuna": "5.0.0"}, ["missing"], True),
        ({"torch": "2.14.1", "optuna": "5.0.0"}, ["problem"], False),
        ({"torch": "2.14.1", "optuna": ""}, ["missing", "problem"], False),
    ],
)
def test_packages_that_are_absent_or_of_other_versions_are_found(
    installed: dict[str, str],
    levels: list[str],
    prevents: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("torch==2.13.0\noptuna==5.0.0\n")
    monkeypatch.setattr(machine_checks, "installed_version", installed.__getitem__)
    findings = list(machine_checks.check_packages(file))
    assert [finding.level for finding in findings] == levels
    assert can_run(findings) != prevents


def test_the_build_of_a_package_is_no_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "version", lambda name: "2.13.0+cpu")
    assert machine_checks.installed_version("torch") == "2.13.0"


def test_every_needed_package_is_in_the_requirements() -> None:
    wanted = machine_checks.required_versions(REPOSITORY / "requirements.txt")
    assert wanted.keys() >= machine_checks.NEEDED_PACKAGES


@pytest.mark.parametrize(
    ("cpuinfo", "level", "instruction"),
    [(INTEL, "ok", "amx_tile"), (OLD, "problem", "sse4_2"), (ARM, "ok", "asimd")],
)
def test_the_widest_instructions_come_first(
    cpuinfo: str, level: str, instruction: str, tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    finding = only(list(machine_checks.check_processor(file)))
    assert finding.level == level
    assert finding.found.split(", ")[1] == instruction


def test_a_system_without_cpuinfo_has_a_processor(tmp_path: Path) -> None:
    assert only(list(machine_checks.check_processor(tmp_path / "absent"))).level == "ok"


@pytest.mark.parametrize(("memory", "level"), [(1e9, "problem"), (32e9, "ok")])
def test_little_memory_is_a_problem(
    memory: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "experiments.running.capacity.device_memory_bytes", lambda device: int(memory)
    )
    assert only(list(machine_checks.check_memory())).level == level


@pytest.mark.parametrize(("free", "level"), [(1e9, "problem"), (99e9, "ok")])
def test_a_full_disk_is_a_problem(
    free: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    finding = only(list(machine_checks.check_disk(tmp_path / "not" / "yet")))
    assert (finding.level, finding.prevents_runs) == (level, False)


def test_a_results_folder_that_is_read_only_prevents_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert only(list(machine_checks.check_disk(tmp_path / "new"))).prevents_runs


def test_an_absent_latin_font_prevents_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_font(package: str, name: str, size: int) -> None:
        raise UserError(f"the font package {package} is not installed")

    assert only(list(machine_checks.check_latin_fonts())).level == "ok"
    monkeypatch.setattr("core.synthetic.fonts.font", no_font)
    finding = only(list(machine_checks.check_latin_fonts()))
    assert finding.prevents_runs
    assert finding.found.startswith("0 of ")


def test_an_absent_chinese_font_prevents_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_font(characters: str) -> None:
        raise UserError("no font with Chinese characters")

    monkeypatch.setattr("core.synthetic.cjk_fonts.cjk_faces", no_font)
    finding = only(list(machine_checks.check_chinese_fonts()))
    assert (finding.level, finding.prevents_runs) == ("missing", False)


def test_data_sets_are_counted_where_lmim_data_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LMIM_SHARED", "LMIM_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert only(list(machine_checks.check_data())).level == "missing"
    monkeypatch.setenv("LMIM_DATA", str(tmp_path / "absent"))
    assert only(list(machine_checks.check_data())).level == "problem"
    monkeypatch.setenv("LMIM_DATA", str(tmp_path))
    (tmp_path / "Union14M-U" / "book32_lmdb").mkdir(parents=True)
    finding = only(list(machine_checks.check_data()))
    assert finding.level == "ok"
    assert "book32" in finding.meaning


@pytest.mark.parametrize(
    ("commands", "output", "code", "level"),
    [
        ((), "", 0, "missing"),
        (("sbatch", "sinfo"), "", 0, "problem"),
        (("sbatch", "sinfo", "squeue", "sacct"), "gpu\ncpu\n", 0, "ok"),
        (("sbatch", "sinfo", "squeue", "sacct"), "", 0, "problem"),
        (("sbatch", "sinfo", "squeue", "sacct"), "gpu\n", 1, "problem"),
    ],
)
def test_slurm_is_ok_only_if_it_names_partitions(
    commands: tuple[str, ...],
    output: str,
    code: int,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = SimpleNamespace(stdout=output, stderr="", returncode=code)
    monkeypatch.setattr("shutil.which", lambda name: name if name in commands else None)
    monkeypatch.setattr("subprocess.run", lambda *_, **options: answer)
    assert only(list(machine_checks.check_slurm())).level == level


def test_a_slurm_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired("sinfo", timeout)

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", hang)
    assert only(list(machine_checks.check_slurm())).level == "problem"


@pytest.mark.parametrize(
    ("commit", "clean", "level"),
    [(None, None, "missing"), (COMMIT, True, "ok"), (COMMIT, False, "problem")],
)
def test_the_commit_and_changes_are_named(
    commit: str | None, clean: bool | None, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "commit", lambda: {"commit": commit, "clean": clean})
    assert only(list(machine_checks.check_code())).level == level


@pytest.mark.parametrize("error", [OSError("no such device"), ImportError("no pydantic")])
def test_a_check_that_fails_says_why(error: Exception) -> None:
    def check() -> list[Finding]:
        raise error

    finding = only(ask("subject", check))
    assert (finding.subject, finding.level, finding.prevents_runs) == ("subject", "problem", False)
    assert str(error) in finding.found


def test_an_error_without_a_message_is_named() -> None:
    def check() -> list[Finding]:
        raise ValueError

    assert "ValueError" in only(ask("subject", check)).found
