"""Boxes of characters in the ids and records of runs: only of the probes that read them."""

from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from plans import plan_of

from core.data.character_boxes import Box, boxes_key, encode_boxes
from core.data.lmdb_folder import new_lmdb
from experiments.planning.plan import PlannedRun
from results.records import StoredRoot

FIRST: Box = (0, 0, 9, 9)
SECOND: Box = (5, 0, 9, 9)
EXPERIMENT = """
title: one method
variants:
  - name: mim
    method: MIM
"""


def _words(folder: Path, box: Box | None) -> str:
    """Two words. box: of every character; None: the words have no boxes."""
    root = write_lmdb(folder, [(jpeg(1), "ab"), (jpeg(2), "cd")])
    if box is not None:
        with new_lmdb(folder) as environment, environment.begin(write=True) as transaction:
            for number in (1, 2):
                transaction.put(boxes_key(number), encode_boxes((box, box)))
    return root


def _runs(folder: Path, root: str, head: str) -> tuple[PlannedRun, dict[str, PlannedRun]]:
    """The probe of a plan that trains, evaluates and probes on a root, and its other runs."""
    file = folder / "one.yaml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    words = {"roots": [root]}
    settings = {
        "probes.words": {"head": {"kind": head}, "subsets": {"words": words}},
        "evaluate.subsets": {"words": words},
    }
    plan = plan_of(folder, file, overrides=settings)
    (probe,) = [run for run in plan.runs.values() if run.stage == "probe"]
    return probe, {name: run for name, run in plan.runs.items() if run is not probe}


@pytest.fixture
def roots(tmp_path: Path) -> list[str]:
    """Roots that differ only in their boxes: none, and two sets of boxes."""
    boxes = {"none": None, "first": FIRST, "second": SECOND}
    return [_words(tmp_path / name, box) for name, box in boxes.items()]


def test_roots_that_differ_in_boxes_give_different_probes_of_characters(
    roots: list[str], tmp_path: Path
) -> None:
    probes = [_runs(tmp_path, root, "characters")[0] for root in roots]
    assert len({probe.id for probe in probes}) == 3
    stored = [StoredRoot.model_validate(probe.as_json()["data"]["words"][0]) for probe in probes]
    assert len({root.fingerprint for root in stored}) == 1
    assert len({root.content for root in stored}) == 3
    assert stored[0].content == stored[0].fingerprint


def test_runs_that_do_not_read_boxes_are_the_same_with_other_boxes(
    roots: list[str], tmp_path: Path
) -> None:
    probes, others = zip(*(_runs(tmp_path, root, "ctc_linear") for root in roots), strict=True)
    assert len({probe.id for probe in probes}) == 1
    assert others[0].keys() == others[1].keys() == others[2].keys()
    for run in [*probes, *others[1].values()]:
        roots_of_run = [root for group in run.as_json()["data"].values() for root in group]
        assert not any("boxes" in root for root in roots_of_run)
