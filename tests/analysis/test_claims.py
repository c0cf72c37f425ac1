"""Claims: the published results have their values, and another value is reported as outside."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from claims_files import claims_of
from conftest import call

from analysis.claims.check import Outcome, check_published, judge
from analysis.claims.text import claims_html
from analysis.claims.values import PUBLISHED, Found, NoValueError, number_at
from analysis.report import build
from analysis.report.notebooks import Section
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml, read_yaml
from results.claims import (
    CLAIMS,
    Claim,
    Claims,
    ExperimentRun,
    JsonCheck,
    Step,
    TestCheck,
    read_claims,
)
from results.provenance import REPOSITORY
from results.store import Store

SECONDS = 60  # of one core, for all claims
CHARSET_TEST = {
    "kind": "test",
    "file": "tests/core/text/test_charset.py",
    "tests": ["test_the_ascii_charset_is_the_released_one"],
}
GROUPS = "results/published/same_recipe/groups_of_3.json"
COST = {"minutes": 1, "clock": "one core", "memory_gb": 1, "disk_gb": 0}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Id -> outcome of the suite's own claims."""
    started = time.process_time()
    found = {outcome.claim.id: outcome for outcome in check_published(read_claims().claims)}
    assert time.process_time() - started < SECONDS
    return found


@pytest.mark.parametrize("claim_id", [claim.id for claim in read_claims().claims])
def test_a_claim_is_within_tolerance_or_names_its_tests(
    claim_id: str, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[claim_id]
    is_test = outcome.claim.check.kind == "test"
    assert outcome.state == ("needs --run" if is_test else "within"), outcome.why


def test_experiments_and_files_of_claims_exist() -> None:
    for claim in read_claims().claims:
        if isinstance(claim.reproduce, ExperimentRun):
            assert (REPOSITORY / claim.reproduce.experiment).is_file(), claim.id


def published_folder(claim: Claim) -> str:
    """The folder of results/published that a claim's value comes from; "" for tests."""
    check = claim.check
    if isinstance(check, JsonCheck):
        return Path(check.file).parts[2]
    return "" if isinstance(check, TestCheck) else check.results


def test_every_published_folder_has_a_claim_and_is_listed() -> None:
    folders = sorted(path.name for path in PUBLISHED.iterdir() if path.is_dir())
    with_claims = {published_folder(claim) for claim in read_claims().claims}
    assert [name for name in folders if name not in with_claims] == []
    guide = (PUBLISHED.parent / "README.md").read_text(encoding="utf-8")
    assert [
        name for name in folders if f"| [{name}](published/{name}/README.md) |" not in guide
    ] == []


def test_the_section_of_the_report_names_every_claim(outcomes: dict[str, Outcome]) -> None:
    html = claims_html(list(outcomes.values()))
    assert html.count("<tr class") == len(outcomes)
    assert all(f"<td>{claim_id}</td>" in html for claim_id in outcomes)


def test_the_report_has_the_claims_as_first_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = read_claims(write_claims(tmp_path, json_claim(id="C7")))
    section = Section("tables", "Tables", "<p>other</p>")
    monkeypatch.setattr(build, "read_claims", lambda: claims)
    monkeypatch.setattr(build, "execute_notebooks", lambda *_: [section])
    page = tmp_path / "report.html"
    build.write_report(Store(tmp_path), [], [], None, page, 1, 1, lambda *_: None)
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', text) == ["claims", "tables", "runs"]
    assert "<td>C7</td>" in text


def write_claims(folder: Path, *claims: dict[str, Any]) -> Path:
    """A claims file."""
    path = folder / "claims.yaml"
    path.write_text(dump_yaml({"claims": list(claims)}), encoding="utf-8")
    return path


def published_claim(claim_id: str) -> dict[str, Any]:
    """A claim of the suite as its file has it."""
    claim: dict[str, Any]
    (claim,) = [one for one in read_yaml(CLAIMS)["claims"] if one["id"] == claim_id]
    return claim


def json_claim(**changes: Any) -> dict[str, Any]:
    """A claim on a share of false differences, which takes no time."""
    claim = published_claim("C15")
    assert claim["check"]["file"] == GROUPS
    return claim | changes


def test_a_changed_expected_value_is_outside_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_claims(tmp_path, json_claim(id="C1"), json_claim(id="C2", expected=5.6))
    code, out, _ = call(capsys, "claims", "--file", file)
    assert code == 1
    assert [line.split()[1] for line in out.splitlines()[:2]] == ["within", "outside"]
    code, out, _ = call(capsys, "claims", "C1", "--file", file, "--json")
    assert code == 0
    (content,) = json.loads(out)
    assert (content["state"], content["found"]["value"]) == ("within", 5.5)


@pytest.mark.parametrize(
    ("key", "value"), [("value", -0.5), ("low", -2.1), ("high", 1.4), ("verdict", "holds")]
)
def test_every_part_of_a_published_difference_is_compared(
    key: str, value: object, outcomes: dict[str, Outcome]
) -> None:
    found = outcomes["C10"].found
    assert found is not None
    claim = published_claim("C10")
    assert judge(Claim.model_validate(claim), found).state == "within"
    claim["expected"][key] = value
    assert judge(Claim.model_validate(claim), found).state == "outside"


def test_a_rerun_has_its_own_tolerance_and_its_interval_is_not_compared() -> None:
    claim = Claim.model_validate(published_claim("C10"))
    other = Found(1.0, low=-5, high=7, verdict="undecided")
    assert judge(claim, other).state == "outside"
    assert judge(claim, other, rerun=True).state == "within"
    decided = Found(1.0, low=0.5, high=1.5, verdict="holds")
    assert judge(claim, decided, rerun=True).state == "outside"
    assert judge(claim, Found(2.0, verdict="undecided"), rerun=True).state == "outside"


def test_missing_seeds_tests_and_files_are_outside(tmp_path: Path) -> None:
    more_seeds = published_claim("C6") | {"id": "C1"}
    more_seeds["reproduce"]["seeds"] = [0, 1, 2, 3]
    no_test = {"id": "C2", "claim": "a", "check": CHARSET_TEST | {"tests": ["test_a"]}}
    no_file = {"id": "C3", "claim": "a", "check": CHARSET_TEST | {"file": "tests/none.py"}}
    no_json = json_claim(id="C4", check={"kind": "json", "file": "none.json", "key": ["a"]})
    claims = [more_seeds, no_test | {"cost": COST}, no_file | {"cost": COST}, no_json]
    found = check_published(Claims.model_validate({"claims": claims}).claims)
    assert [outcome.state for outcome in found] == ["outside"] * 4
    assert "3 of 4 seeds" in found[0].why


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "X1"}, "X1.id"),
        ({"id": "C2"}, "C2: two claims"),
        ({"cost": None}, "C1.cost"),
        ({"cost": COST | {"minutes": 0}}, "C1.cost.minutes"),
        ({"cost": {"minutes": 1}}, "C1.cost.clock"),
        ({"tolerance": None}, "C1: tolerance"),
        ({"expected": "5.5"}, "C1.expected"),
        ({"expected": None}, "C1: expected"),
        ({"check": CHARSET_TEST}, "C1: a test needs no expected"),
        ({"check": {"kind": "guess"}}, "C1.check"),
        ({"extra": 1}, "C1.extra"),
        ({"reproduce": {"commands": ["rm -rf x"]}}, "run.py"),
        ({"reproduce": {"experiment": "a.yaml", "seeds": [0]}}, "C1: reproduce"),
    ],
)
def test_a_malformed_claim_is_an_error_with_file_id_and_key(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    file = write_claims(tmp_path, json_claim(id="C1") | change, json_claim(id="C2"))
    with pytest.raises(UserError) as error:
        read_claims(file)
    assert str(file) in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "claims: 3", "claims: [3]", "claims: []", "a: 1"])
def test_a_file_without_claims_is_an_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(text)
    code, out, err = call(capsys, "claims", "--file", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", ["C99", "--run C99", "C1 --run C1", "C1 --results x", "--jobs 2", "--device cpu"]
)
def test_unknown_ids_and_options_without_effect_are_refused(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "claims", *words.split())
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("row", "nowhere"), ("results", "nowhere"), ("experiment", "nowhere.yaml")],
)
def test_a_claim_with_an_unknown_row_folder_or_file_is_outside_others_are_checked(
    field: str, value: str
) -> None:
    claim = published_claim("C6")
    claim["reproduce" if field == "experiment" else "check"][field] = value
    content = {"claims": [claim, json_claim(id="C7")]}
    wrong, right = check_published(Claims.model_validate(content).claims)
    assert (wrong.state, wrong.found, right.state) == ("outside", None, "within")
    assert value in wrong.why


def test_a_key_of_json_leads_to_a_number_or_names_the_failed_step() -> None:
    content = {"a": [{"b": "x", "c": 1}, {"b": "y", "c": 2}], "d": True}
    assert number_at(content, ("a", {"b": "y"}, "c")) == 2
    assert number_at(content, ("a", 0, "c")) == 1
    wrong: list[tuple[Step, ...]] = [
        ("a", {"b": "z"}, "c"),
        ("a", 5),
        ("e",),
        ("d",),
        ("a", 0, "b"),
        ("a", "b"),
    ]
    for steps in wrong:
        with pytest.raises(NoValueError):
            number_at(content, steps)


@pytest.mark.slow
def test_run_computes_one_row_from_nothing_and_resumes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = tmp_path / "two_rows.yaml"
    rows = [{"name": "scratch", "method": "scratch"}, {"name": "LMIM"}]
    settings = {"synthetic.train": 64, "synthetic.validation": 8, "synthetic.test": 2}
    epochs = {"finetune.optimizer.epochs": 1, "control": None}
    content = {"title": "t", "seeds": [0], "set": settings | epochs, "variants": rows}
    experiment.write_text(dump_yaml(content))
    file = tmp_path / "claims.yaml"
    claims = claims_of(experiment, 50, row="scratch")
    claims["claims"][1]["tolerance"]["rerun"] = 0.001
    claims["claims"][1]["reproduce"]["seeds"] = [0]
    file.write_text(dump_yaml(claims))
    results = tmp_path / "results"
    words = ["claims", "--file", str(file), "--results", str(results), "--device", "cpu"]
    code, out, _ = call(capfd, *words, "--run", "C1")
    assert (code, out.split()[:2]) == (0, ["C1", "within"])
    runs = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/record.json")}
    assert {path.parent.name.split("-")[0] for path in runs} == {"finetune", "evaluate"}
    code, out, _ = call(capfd, *words, "--run", "C2", "--json")
    assert (code, [one["state"] for one in json.loads(out)]) == (1, ["outside"])
    again = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/record.json")}
    assert again == runs, "nothing is computed twice"


@pytest.mark.slow
def test_run_executes_commands_and_tests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    predictions = tmp_path / "predictions.txt"
    predictions.write_text("1 [ab] [ab]\n2 [ac] [ab]\n")
    scored = json_claim(
        id="C1",
        check={"kind": "json", "file": GROUPS, "key": ["accuracy"]},
        expected=50,
        reproduce={"commands": [f"python run.py score {predictions} --json"]},
    )
    failing = scored | {
        "id": "C2",
        "reproduce": {"commands": ["python run.py score {results}/nowhere.txt --json"]},
    }
    passing = {"id": "C3", "claim": "a", "check": CHARSET_TEST, "cost": COST}
    unknown = passing | {"id": "C4", "check": CHARSET_TEST | {"tests": ["test_nothing"]}}
    file = write_claims(tmp_path, scored, failing, passing, unknown)
    results = tmp_path / "results"

    def states(claim_id: str) -> tuple[int, list[str]]:
        code, out, _ = call(
            capfd, "claims", "--file", file, "--run", claim_id, "--results", results, "--json"
        )
        return code, [one["state"] for one in json.loads(out or "[]")]

    assert states("C1") == (0, ["within"])
    assert states("C2") == (2, [])
    assert states("C3") == (0, ["within"])
    code, found = states("C4")
    assert (code not in (0, 2), found) == (True, [])
