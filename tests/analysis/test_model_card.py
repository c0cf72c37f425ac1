"""Model cards: what they state, what they leave open, and whether their lines of Python work."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call, jpeg
from published import published_with_weights

from analysis.cards.comparison import PaperComparison, compare_with_paper
from analysis.cards.lineage import find_card_runs
from analysis.cards.model_card import model_card
from core.runtime.errors import UserError
from core.runtime.yaml import parse_yaml
from core.text.protocols import PROTOCOLS
from experiments.planning.recipe import method_layer, read_recipe, read_stage
from experiments.planning.schema import file_layer
from results.provenance import REPOSITORY
from results.store import Store

MINI = REPOSITORY / "results/published/mini"
FORMER_MINI = REPOSITORY / "results/published/former_mini"
REAL_WORDS = REPOSITORY / "results/published/real_words"
SIZES = {name: PROTOCOLS["waics"].sizes[name] for name in ("iiit5k", "svt")}
Capture = pytest.CaptureFixture[str]


def card_of(results: Path, run: str, license_id: str | None = None) -> str:
    return model_card(find_card_runs(Store(results), run), license_id, None)


def front_matter(card: str) -> dict[str, Any]:
    _, text, _ = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    content = parse_yaml(text, "card")
    assert isinstance(content, dict)
    return content


def first_run(results: Path, stage: str) -> str:
    return sorted(path.name for path in (results / "runs").glob(f"{stage}-*"))[0]


def section(card: str, heading: str) -> str:
    return card.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


# Records of the paper's recipe, with numbers that no run measured


def paper_records(folder: Path) -> Store:
    """A results folder with a recognizer of the paper's recipe, evaluated on two test sets."""
    store = Store(folder)
    base = [file_layer("base", "lmim")]
    mim = [*base, method_layer("MIM", read_recipe(base), "base", "base")]
    pretrain = read_stage("pretrain", read_recipe(base), "fp32", 0, base)
    teacher = read_stage("pretrain", read_recipe(mim), "fp32", 0, mim)
    finetune = read_stage("finetune", read_recipe(base), "fp32", 0, base)
    unlabeled = {"train": [("union14m_u_book32", 2_500_000), ("union14m_u_openvino", 2_500_000)]}
    labeled = {"train": [("union14m_l", 3_230_742)]}
    evaluation = {
        "subsets": {name: {"roots": [name]} for name in SIZES},
        "protocol": "waics",
        "precision": "fp32",
    }
    write(store, "pretrain-0", teacher.model_dump(mode="json"), {}, unlabeled)
    write(
        store, "pretrain-1", pretrain.model_dump(mode="json"), {"teacher": "pretrain-0"}, unlabeled
    )
    write(store, "finetune-1", finetune.model_dump(mode="json"), {"encoder": "pretrain-1"}, labeled)
    write(
        store,
        "evaluate-1",
        evaluation,
        {"recognizer": "finetune-1"},
        {name: [(name, size)] for name, size in SIZES.items()},
        {
            "counts": {
                name: {"correct": size // 2, "images": size} for name, size in SIZES.items()
            },
            "dropped": {},
            "protocol": "waics",
            "protocol_statement": "as the paper's",
        },
    )
    return store


def write(
    store: Store,
    run: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    data: Mapping[str, list[tuple[str, int]]],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Write the record of a run. data: role -> (name, images) of its roots."""
    folder = store.run(run).folder
    folder.mkdir(parents=True)
    record = {
        "id": run,
        "stage": run.partition("-")[0],
        "config": config,
        "inputs": inputs,
        "data": {
            role: [{"root": name, "fingerprint": f"f{name}", "images": n} for name, n in roots]
            for role, roots in data.items()
        },
        "metrics": metrics or {},
        "code": {"commit": None, "clean": None},
    }
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def change_record(store: Store, run: str, *keys: str | int, value: object) -> None:
    """Set a value in a record. keys: the path to it."""
    path = store.run(run).folder / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    part = record
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(record), encoding="utf-8")


def comparison(store: Store) -> PaperComparison:
    return compare_with_paper(find_card_runs(store, "finetune-1"))


def unmet(store: Store) -> set[str]:
    return {check.question for check in comparison(store).checks if check.answer != "yes"}


def test_the_papers_recipe_may_be_compared(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    assert unmet(store) == set()
    assert comparison(store).answer == "Yes"
    images = comparison(store).checks[0]
    assert "2 of the paper's 6 sets" in images.why


@pytest.mark.parametrize(
    ("run", "keys", "value", "question", "answer"),
    [
        ("evaluate-1", ("data", "svt", 0, "images"), 600, "same test images?", "No"),
        ("evaluate-1", ("data", "svt", 0, "root"), "synthetic:svt", "same test images?", "No"),
        ("evaluate-1", ("config", "protocol"), "case_sensitive", "same scoring?", "No"),
        ("finetune-1", ("data", "train", 0, "root"), "/data/mine", "same training data?", "not"),
        ("finetune-1", ("data", "train", 0, "images"), 5, "same training data?", "not"),
        ("pretrain-1", ("config", "optimizer", "batch"), 64, "same recipe?", "not"),
        ("pretrain-0", ("config", "optimizer", "epochs"), 3, "same recipe?", "not"),
        ("pretrain-1", ("config", "mask", "ratio"), 0.5, "same recipe?", "not"),
    ],
)
def test_each_deviation_from_the_paper_is_the_reason(
    run: str,
    keys: tuple[str | int, ...],
    value: object,
    question: str,
    answer: str,
    tmp_path: Path,
) -> None:
    store = paper_records(tmp_path)
    change_record(store, run, *keys, value=value)
    assert unmet(store) == {question}
    expected = "No" if answer == "No" else "No, not as a re-run of the paper"
    assert comparison(store).answer == expected


@pytest.mark.parametrize(
    ("key", "value"), [("ratio", 0.6), ("kind", "block")], ids=["ratio", "kind"]
)
def test_a_setting_of_another_row_of_the_paper_is_no_deviation(
    key: str, value: object, tmp_path: Path
) -> None:
    store = paper_records(tmp_path)
    change_record(store, "pretrain-1", "config", "mask", key, value=value)
    assert comparison(store).answer == "Yes"
    assert key in section(card_of(tmp_path, "finetune-1"), "Recipe")


def test_an_absent_pretraining_leaves_the_recipe_open(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    shutil.rmtree(store.run("pretrain-1").folder)
    answers = {check.question: check.answer for check in comparison(store).checks}
    assert answers["same recipe?"] == answers["same training data?"] == "unknown"
    card = card_of(tmp_path, "finetune-1")
    assert "The method is unknown" in section(card, "What it is")
    assert "not in the results folder" in section(card, "Training data")


def test_what_a_record_lacks_is_said_to_be_missing(tmp_path: Path) -> None:
    paper_records(tmp_path)
    rows = section(card_of(tmp_path, "finetune-1"), "How it was computed").splitlines()
    missing = {row.split("|")[1].strip() for row in rows if row.count("not recorded") == 3}
    assert missing >= {"commit", "duration", "hardware", "versions", "started", "steps"}


def test_names_of_test_sets_cannot_break_the_tables(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    name = "a|b`*<b>"
    path = store.run("evaluate-1").folder / "record.json"
    path.write_text(path.read_text().replace('"svt"', json.dumps(name)), encoding="utf-8")
    card = card_of(tmp_path, "finetune-1")
    (row,) = (line for line in card.splitlines() if line.startswith("| ``a"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    names = [one["dataset"]["name"] for one in front_matter(card)["model-index"][0]["results"]]
    assert any(one.startswith(name) for one in names)


# Cards of published runs


def test_a_card_of_rendered_words_may_not_be_compared() -> None:
    card = card_of(MINI, first_run(MINI, "evaluate"))
    answer = section(card, "May I compare its numbers with the paper's?").strip()
    assert answer.startswith("**No.**")
    assert "rendered" in section(card, "Limits")


def test_a_small_model_on_the_papers_test_is_no_rerun() -> None:
    runs = find_card_runs(Store(REAL_WORDS), first_run(REAL_WORDS, "evaluate"))
    assert compare_with_paper(runs).answer == "No, not as a re-run of the paper"


def test_the_card_of_one_seed_says_what_its_interval_covers() -> None:
    results = section(card_of(MINI, first_run(MINI, "evaluate")), "Results")
    assert "test images only" in results
    assert "one seed" in results
    assert "2 other seeds of the same recipe" in results


def test_intervals_take_the_words_of_a_photograph_as_a_cluster(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    run = store.run("evaluate-1")
    before = section(card_of(tmp_path, "finetune-1"), "Results")
    run.write_predictions([])
    correct = {name: [True] * (size // 2) for name, size in SIZES.items()}
    for name, size in SIZES.items():
        correct[name] += [False] * (size - size // 2)
    run.write_correct(correct)
    run.write_photos({"svt": [f"photo {word // 10}" for word in range(SIZES["svt"])]})
    after = section(card_of(tmp_path, "finetune-1"), "Results")
    assert f"clusters: svt {SIZES['svt']} words of 65 photographs" in after
    assert "intervals of `iiit5k` treat images as independent" in after
    assert "clusters" not in before
    widths = {text: interval_width(text, "svt") for text in (before, after)}
    assert widths[after] > 2 * widths[before]
    assert interval_width(before, "iiit5k") == interval_width(after, "iiit5k")


def interval_width(text: str, subset: str) -> float:
    """The width of a test set's interval in a card's section, in points."""
    ends = re.findall(rf"`{subset}` \|.*?\| ([\d.]+) to ([\d.]+) \|", text)[0]
    return float(ends[1]) - float(ends[0])


def test_front_matter_has_what_hubs_read() -> None:
    run = first_run(MINI, "evaluate")
    content = front_matter(card_of(MINI, run))
    assert content["license"] == "unknown"
    assert content["datasets"] == ["rendered-words"]
    assert content["metrics"] == ["accuracy"]
    results = content["model-index"][0]["results"]
    counts = Store(MINI).run(run).record()["metrics"]["counts"]
    values = {one["dataset"]["split"]: one["metrics"][0]["value"] for one in results}
    assert values == {
        name: pytest.approx(100 * one["correct"] / one["images"], abs=0.01)
        for name, one in counts.items()
    }
    assert front_matter(card_of(MINI, run, "cc-by-4.0"))["license"] == "cc-by-4.0"


def test_a_card_lists_probes_and_all_differences_from_the_paper() -> None:
    card = card_of(MINI, first_run(MINI, "evaluate"))
    assert "### Probes of the frozen encoder" in card
    recipe = section(card, "Recipe")
    assert "| fine-tuning | `max_length` | `12` | `25` |" in recipe
    assert recipe.count("<details>") == 3


def test_a_card_names_no_folder_and_no_host_of_the_machine() -> None:
    for results in (MINI, FORMER_MINI, REAL_WORDS):
        for stage in ("pretrain", "finetune", "evaluate"):
            run = first_run(results, stage)
            record = Store(results).run(run).record()
            card = card_of(results, run)
            assert f"host {record['hardware']['host']}" not in card
            for roots in record["data"].values():
                for root in roots:
                    assert str(Path(root.get("path", "/nowhere/a/b")).parent) not in card


def test_a_pretraining_has_no_accuracy_and_names_its_recognizers() -> None:
    card = card_of(FORMER_MINI, "pretrain-1204b2f24b6b")
    assert "model-index" not in front_matter(card)
    assert "finetune-" in section(card, "Results")


def test_an_evaluation_shows_only_itself(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    shutil.copytree(store.run("evaluate-1").folder, store.run("evaluate-2").folder)
    assert len(find_card_runs(store, "finetune-1").evaluations) == 2
    (only,) = find_card_runs(store, "evaluate-2").evaluations
    assert only.id == "evaluate-2"


@pytest.mark.parametrize("run", ["finetune-0", "../runs/finetune-1", "", "probe-1", "evaluate-3"])
def test_a_run_without_a_card_is_named(run: str, tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    probe = {"encoder": {}, "head": {"kind": "ctc_linear"}}
    write(store, "probe-1", probe, {"encoder": "pretrain-1"}, {})
    write(store, "evaluate-3", {}, {"recognizer": "file:/x.pth"}, {})
    with pytest.raises(UserError):
        find_card_runs(store, run)


def test_an_unfinished_run_has_no_card(tmp_path: Path) -> None:
    store = paper_records(tmp_path)
    (store.run("finetune-1").folder / "record.json").unlink()
    with pytest.raises(UserError, match="planned"):
        find_card_runs(store, "finetune-1")


# Commands


@pytest.mark.parametrize("run", ["finetune-90cdb03b9856", "pretrain-7adf1ecf9239"])
def test_the_lines_of_python_work(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    hub = tmp_path / "my model"
    code, out, _ = call(capsys, "export", run, "--hub", hub, "--results", published_with_weights())
    assert code == 0
    assert {Path(line).name for line in out.splitlines()} == {path.name for path in hub.iterdir()}
    card = (hub / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (tmp_path / "word.png").write_bytes(jpeg(9))
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(lines, names)
    if run.startswith("finetune"):
        assert printed.getvalue().split()[-1] == str(names["confidence"])
    else:
        assert names["features"].shape[-1] == names["model"].config.width
        assert torch.isfinite(names["features"]).all()


def test_the_lines_of_a_runs_own_card_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = card_of(published_with_weights(), "finetune-90cdb03b9856")
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (tmp_path / "word.png").write_bytes(jpeg(9))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(lines, names)
    assert 0 < names["confidence"] <= 1


@pytest.mark.parametrize(
    "words",
    [
        "finetune-90cdb03b9856",
        "finetune-90cdb03b9856 out.pth --hub hub",
        "finetune-90cdb03b9856 out.pth --license mit",
        "finetune-90cdb03b9856 --hub full",
        "finetune-90cdb03b9856 --hub hub --license 'My License'",
        "finetune-00 --hub hub",
        "file.safetensors --hub hub",
    ],
)
def test_a_wrong_export_writes_nothing(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("")
    (tmp_path / "file.safetensors").write_text("")
    results = ("--results", published_with_weights())
    code, out, err = call(capsys, "export", *words.split(), *results)
    assert (code, out) == (2, "")
    assert err.count("error: ") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.safetensors", "full", "note"]


def test_weights_that_are_not_kept_are_named(tmp_path: Path, capsys: Capture) -> None:
    run = first_run(MINI, "finetune")
    code, _, err = call(capsys, "export", run, "--hub", tmp_path / "hub", "--results", MINI)
    assert code == 2
    assert run in err
    assert not (tmp_path / "hub").exists()
    assert "not kept" in section(card_of(MINI, run), "How to load it")


@pytest.mark.slow
def test_the_card_of_a_run_at_scale_smoke(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, capsys: Capture
) -> None:
    results = finished[0]
    run = first_run(results, "finetune")
    out = tmp_path / "card.md"
    assert call(capsys, "card", run, "--results", results, "--out", out)[0] == 0
    card = out.read_text(encoding="utf-8")
    record = Store(results).run(run).record()
    evaluation = Store(results).run(first_run(results, "evaluate")).record()
    for count in evaluation["metrics"]["counts"].values():
        assert f"| {count['correct']:,} | {count['images']:,} |" in card
    for root in record["data"]["train"]:
        assert root["fingerprint"] in card
    assert f"{record['metrics']['parameters']:,}" in section(card, "What it is")
    assert record["code"]["commit"] in section(card, "How it was computed")
    assert section(card, "May I compare its numbers with the paper's?").strip().startswith("**No.")
    assert front_matter(card)["datasets"] == ["rendered-words"]
    hub = tmp_path / "hub"
    assert call(capsys, "export", run, "--hub", hub, "--results", results)[0] == 0
    assert (hub / "README.md").read_text(encoding="utf-8").count("\n# LMIM") == 1
