"""Probes of a recipe: one run for each row's encoder, with the row's words and charset."""

from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from core.config import Probe
from core.runtime.errors import UserError

EXPERIMENT = """
title: two methods
variants:
  - name: scratch
    method: scratch
  - name: mim
    method: MIM
  - name: supervised
    method: scratch
    set:
      probes.characters.of: recognizer
"""
CHARACTERS: dict[str, Any] = {"probes": {"characters": {"head": {"kind": "characters"}}}}
BOXES = {"synthetic.boxes": True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path


def write_mim(folder: Path) -> Path:
    path = folder / "mim.yaml"
    path.write_text("title: t\nvariants:\n  - name: mim\n    method: MIM\n", encoding="utf-8")
    return path


def test_each_row_has_a_probe_of_its_encoder(tmp_path: Path, file: Path) -> None:
    plan = plan_of(tmp_path, file, overrides=CHARACTERS | BOXES)
    scratch, mim, supervised = plan.cells
    inputs = [plan.runs[cell.probes["characters"]].inputs for cell in plan.cells]
    assert inputs[0] == {}
    assert inputs[1] == {"encoder": mim.trainings[0]}
    assert inputs[2] == {"encoder": supervised.trainings[-1]}
    assert scratch.trainings == supervised.trainings
    position = list(plan.runs).index
    for run in plan.runs.values():
        assert all(position(name) < position(run.id) for name in run.inputs.values())


def test_a_probe_uses_the_words_and_the_charset_of_the_row(tmp_path: Path, file: Path) -> None:
    overrides = CHARACTERS | BOXES | {"finetune.charset": "abc", "finetune.max_length": 9}
    plan = plan_of(tmp_path, file, overrides=overrides)
    run = plan.runs[plan.cells[1].probes["characters"]]
    assert isinstance(run.config, Probe)
    assert (run.config.charset, run.config.max_length) == ("abc", 9)
    assert list(run.data) == ["train", *run.config.subsets]
    assert run.data["train"][0].name == "synthetic:train"


def test_a_probe_can_name_other_words_and_fewer_of_them(tmp_path: Path, file: Path) -> None:
    changes = {
        "probes.characters.images": 10,
        "probes.characters.data": {"roots": ["synthetic:validation"]},
        "probes.characters.subsets": {"general": {"roots": ["synthetic:general"]}},
    }
    plan = plan_of(tmp_path, file, overrides=CHARACTERS | BOXES | changes)
    run = plan.runs[plan.cells[1].probes["characters"]]
    assert list(run.data) == ["train", "general"]
    assert run.images() == 10 + run.data["general"][0].images


def test_probes_do_not_change_the_other_runs(tmp_path: Path) -> None:
    file = write_mim(tmp_path)
    plain = plan_of(tmp_path, file, overrides=BOXES)
    probed = plan_of(tmp_path, file, overrides=CHARACTERS | BOXES)
    assert plain.runs.keys() < probed.runs.keys()
    added = probed.runs.keys() - plain.runs.keys()
    assert {probed.runs[name].stage for name in added} == {"probe"}


def test_a_probe_can_be_turned_off(tmp_path: Path) -> None:
    file = write_mim(tmp_path)
    plan = plan_of(tmp_path, file, overrides=CHARACTERS | BOXES | {"probes.characters": None})
    assert not any(run.stage == "probe" for run in plan.runs.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes.characters.of": "decoder"}, "of: 'decoder' is not encoder or recognizer"),
        ({"probes.characters.head": {"kind": "linear"}}, "probes.characters.head"),
        ({"probes.characters.seed": 3}, "probes.characters.seed"),
        ({"probes.characters.images": 0}, "probes.characters.images"),
        ({"probes.characters.data": {"roots": ["synthetic:none"]}}, "none"),
        ({"probes.characters.data": {"roots": ["nowhere"]}}, "nowhere"),
        ({"probes.other.images": 3}, "probes.other.head"),
    ],
)
def test_a_mistake_in_a_probe_is_named_with_its_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_mim(tmp_path)
    with pytest.raises(UserError, match=message):
        plan_of(tmp_path, path, overrides=CHARACTERS | BOXES | changes)
