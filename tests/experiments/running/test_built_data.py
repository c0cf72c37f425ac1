"""Data sets that a run makes of words and a file of boxes: plans, the folder, what is missing."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import call, jpeg, write_lmdb
from plans import plan_of
from whole_runs import run_experiment

from analysis.cards.lineage import RecordedRoot
from analysis.report.subset_images import SubsetImages
from core.data.lmdb_folder import boxes_fingerprint, fingerprint
from core.data.word_images import WordImages
from core.data_tools.add_boxes import add_boxes, expected_boxes_fingerprint
from core.runtime.errors import UserError
from core.training.run_context import RunContext
from experiments.cli.named_roots import NoRootError, find_named_roots
from experiments.planning.data_roots import Root, recorded_folder
from experiments.planning.plan import PlannedRun
from experiments.planning.registry import can_be_built, data_set_name
from experiments.planning.schema import HERE
from experiments.running import ensure_data as making
from experiments.running.capacity import bytes_to_write
from experiments.running.ensure_data import ensure_data
from results.store import Store

# A word of an image of 50 x 20 pixels has two characters.
BOXES = [[1, 1, 20, 20], [21, 1, 20, 20]]
EXAMPLE = HERE / "examples" / "iiit5k_characters.yaml"
TEST_SETS = {"subset": {"roots": ["iiit5k_boxes"]}}


@dataclass(frozen=True)
class Given:
    """The made data of a test.

    words: split -> LMDB folder. file: of boxes. results: an empty results folder."""

    words: dict[str, str]
    file: Path
    results: Path


def _line(split: str, index: int) -> str:
    photo = f"photo {index // 4}"
    return json.dumps(
        {"split": split, "index": index, "photo": photo, "characters": "ab", "boxes": BOXES}
    )


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Words of both splits where variables say, and their boxes below LMIM_DATA."""
    for variable in ("LMIM_SHARED", "LMIM_DATA_FILE"):
        monkeypatch.delenv(variable, raising=False)
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("LMIM_DATA", str(data))
    sizes = {"train": 40, "test": 12}
    words = {
        split: write_lmdb(tmp_path / split, [(jpeg(3 * n), "ab") for n in range(size)])
        for split, size in sizes.items()
    }
    monkeypatch.setenv("LMIM_ROOT_IIIT5K_TRAIN", words["train"])
    monkeypatch.setenv("LMIM_ROOT_IIIT5K", words["test"])
    file = data / "iiit5k_characters.jsonl"
    lines = [_line(split, n) for split, size in sizes.items() for n in range(1, size + 1)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return Given(words, file, tmp_path / "results")


def _run_of(given: Given, stage: str, file: Path = EXAMPLE, **overrides: Any) -> PlannedRun:
    """The first run of a stage in the plan of an experiment. overrides: `__` for dots of keys."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    plan = plan_of(given.results, file, overrides=settings, seeds=[0])
    return next(run for run in plan.runs.values() if run.stage == stage)


def _root(given: Given, role: str = "train") -> Root:
    (root,) = _run_of(given, "probe").data[role]
    return root


def test_a_plan_takes_the_words_and_the_boxes_and_writes_nothing(given: Given) -> None:
    run = _run_of(given, "probe")
    assert run.unmet_requirements() == []
    for split, role in (("train", "train"), ("test", "iiit5k")):
        (root,) = run.data[role]
        assert (root.fingerprint, root.images) == fingerprint(given.words[split])
        assert root.boxes == expected_boxes_fingerprint(given.words[split], given.file, split)
        assert root.is_absent
        assert Path(root.path).is_relative_to(given.results)
    assert not given.results.exists()


def test_the_made_folder_has_the_planned_fingerprints(given: Given, context: RunContext) -> None:
    root = _root(given)
    ensure_data(root, context)
    assert not root.is_absent
    assert fingerprint(root.path) == (root.fingerprint, root.images)
    assert boxes_fingerprint(root.path) == root.boxes
    assert _root(given) == root
    assert data_set_name(root.path) is None


def test_a_folder_made_by_hand_goes_first_and_gives_the_same_id(given: Given) -> None:
    planned = _run_of(given, "probe")
    by_hand = given.file.parent / "iiit5k_train_boxes"
    add_boxes(given.words["train"], given.file, "train", by_hand)
    found = _run_of(given, "probe")
    assert found.data["train"][0].path == str(by_hand)
    assert found.data["train"][0].made_from is None
    assert found.id == planned.id


def test_an_evaluation_has_the_id_of_that_on_the_plain_words(given: Given) -> None:
    ids = {
        _run_of(given, "evaluate", evaluate__subsets={"iiit5k": {"roots": [name]}}).id
        for name in ("iiit5k", "iiit5k_boxes")
    }
    assert len(ids) == 1


def test_other_boxes_are_another_probe_and_another_folder(given: Given) -> None:
    before = _run_of(given, "probe")
    other = given.file.with_name("other.jsonl")
    other.write_text(given.file.read_text().replace("[1, 1, 20", "[2, 1, 19"))
    data = given.file.parent / "second"
    data.mkdir()
    other.rename(data / given.file.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMIM_DATA", str(data))
        after = _run_of(given, "probe")
    assert after.id != before.id
    assert after.data["train"][0].path != before.data["train"][0].path


def test_several_processes_make_the_folder_once(
    given: Given, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def counted(root: str, file: Path, split: str, out: Path) -> None:
        calls.append(out)
        add_boxes(root, file, split, out)

    monkeypatch.setattr(making, "add_boxes", counted)
    root = _root(given)
    leftover = Path(root.path).parent / ".train.killed"
    leftover.mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure_data(root, context), range(4)))
    ensure_data(root, context)
    assert calls == [Path(root.path)]
    assert {path.name for path in Path(root.path).parent.iterdir()} == {".lock", "train"}


def test_the_copy_counts_as_space_until_it_is_made(given: Given, context: RunContext) -> None:
    run = _run_of(given, "probe")
    store = Store(given.results)
    before = bytes_to_write([run], store)
    root = _root(given)
    size = (Path(given.words["train"]) / "data.mdb").stat().st_size + given.file.stat().st_size
    ensure_data(root, context)
    assert before - bytes_to_write([run], store) == size


def _without_file(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    given.file.unlink()


def _without_words(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMIM_ROOT_IIIT5K", str(given.results / "nowhere"))


def _with_wrong_folder(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMIM_ROOT_IIIT5K_BOXES", str(given.results / "nowhere"))


@pytest.mark.parametrize(
    ("remove", "parts"),
    [
        (_without_file, ("iiit5k_boxes", "iiit5k_characters.jsonl", "LMIM_SHARED is not set")),
        (_without_words, ("iiit5k_boxes", "LMIM_ROOT_IIIT5K", "nowhere", "https://")),
        (_with_wrong_folder, ("iiit5k_boxes", "LMIM_ROOT_IIIT5K_BOXES", "nowhere")),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    remove: Callable[[Given, pytest.MonkeyPatch], None],
    parts: tuple[str, ...],
    given: Given,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove(given, monkeypatch)
    run = _run_of(given, "evaluate", evaluate__subsets=TEST_SETS)
    (sentence,) = run.unmet_requirements()
    assert all(part in sentence for part in parts), sentence
    assert not can_be_built("iiit5k_boxes")
    with pytest.raises(NoRootError) as error:
        find_named_roots("iiit5k_boxes")
    assert str(error.value) == sentence


def test_boxes_that_do_not_fit_are_an_unmet_requirement(given: Given) -> None:
    given.file.write_text(given.file.read_text().replace('"ab"', '"xy"'))
    (first, *_) = _run_of(given, "probe").unmet_requirements()
    assert "no boxes fit" in first
    with pytest.raises(UserError, match="no boxes fit"):
        expected_boxes_fingerprint(given.words["test"], given.file, "test")


def test_words_in_several_folders_are_refused(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_lmdb(tmp_path / "several" / name, [(jpeg(1), "ab")])
    monkeypatch.setenv("LMIM_ROOT_IIIT5K", str(tmp_path / "several"))
    (sentence,) = _run_of(given, "evaluate", evaluate__subsets=TEST_SETS).unmet_requirements()
    assert "2 LMDB folders" in sentence


def test_commands_on_folders_say_how_to_make_one(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "data", "check", "iiit5k_boxes")
    assert code == 1
    assert "run.py data build" in err
    assert str(given.file) in err
    _, out, _ = call(capsys, "data", "check", "--json")
    report = json.loads(out)
    assert [root["name"] for root in report["roots"]] == ["iiit5k_train", "iiit5k"]
    assert not any("_boxes" in sentence for sentence in report["missing"])


def test_images_are_those_of_the_words_until_the_folder_is_made(
    given: Given, context: RunContext
) -> None:
    root = _root(given, "iiit5k")
    before = SubsetImages((root,))[3]
    entry = root.as_json()
    store = Store(given.results)
    assert recorded_folder(entry, store) == given.words["test"]
    ensure_data(root, context)
    after = SubsetImages((root,))[3]
    assert before is not None
    assert after is not None
    assert before.tobytes() == after.tobytes()
    assert recorded_folder(entry, store) == root.path
    assert recorded_folder(entry | {"fingerprint": "other"}, store) == root.path


@pytest.mark.parametrize(
    ("name", "data_set"),
    [("iiit5k_boxes", "iiit5k"), ("iiit5k_train_boxes", "iiit5k_train"), ("mine", "mine")],
)
def test_cards_name_the_data_set_of_the_words(name: str, data_set: str) -> None:
    assert RecordedRoot(name, "", 0).data_set == data_set


@pytest.mark.parametrize(("split", "name"), [("train", "iiit5k_train"), ("test", "iiit5k")])
def test_real_sets_can_be_made_of_the_shared_folder(
    split: str,
    name: str,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: RunContext,
) -> None:
    for variable in ("LMIM_DATA", "LMIM_DATA_FILE"):
        monkeypatch.delenv(variable, raising=False)
    words = shared / "str" / f"iiit5k_{split}"
    given = Given({}, shared / "iiit5k_characters.jsonl", tmp_path / "results")
    root = _root(given, "train" if split == "train" else "iiit5k")
    assert (root.fingerprint, root.images) == fingerprint(str(words))
    estimate = (words / "data.mdb").stat().st_size + given.file.stat().st_size
    ensure_data(root, context)
    assert boxes_fingerprint(root.path) == root.boxes
    assert WordImages([root.path]).photo(0)
    assert 0.9 * estimate < (Path(root.path) / "data.mdb").stat().st_size <= estimate
    assert data_set_name(str(words)) == name


@pytest.mark.slow
def test_a_run_makes_the_data_and_stores_photos(given: Given) -> None:
    settings = {
        "pretrain.data.roots": '["iiit5k_train"]',
        "finetune.data.roots": '["iiit5k_train"]',
        "finetune.validation": "null",
        "evaluate.subsets": '{"iiit5k": {"roots": ["iiit5k_boxes"]}}',
        "pretrain.optimizer.epochs": "1",
        "finetune.optimizer.epochs": "1",
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = run_experiment(EXAMPLE, given.results, "--seeds", "0", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(given.results.glob("data/boxes-*/train/data.mdb"))) == 1
    assert len(list(given.results.glob("data/boxes-*/test/data.mdb"))) == 1
    for stage in ("evaluate", "probe"):
        paths = sorted(given.results.glob(f"runs/{stage}-*/photos.json"))
        assert len(paths) == 2, stage
        for path in paths:
            stored = json.loads(path.read_text())["iiit5k"]
            names = [stored["photos"][number] for number in stored["of_words"]]
            assert names == [f"photo {index // 4}" for index in range(1, 13)]
