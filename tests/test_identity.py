"""Runs keep their ids from version to version, so that what was computed stays valid."""

import json
import os
from pathlib import Path

import pytest

from experiments.planning.planner import make_plan
from results.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
IDS: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "data" / "run_ids.json").read_text()
)


@pytest.mark.parametrize("scale", IDS)
def test_planned_runs_keep_their_ids(
    scale: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """data/run_ids.json: the ids of version 0.1 by scale and experiment file.

    Left out: rendered Chinese words, whose ids name the font file of the system; real images where they are not at hand."""
    names = set(IDS[scale])
    if not os.environ.get("LMIM_SHARED"):
        names -= {"real_words", "common_benchmarks"}
    if scale == "real":
        request.getfixturevalue("shared")
    monkeypatch.delenv("LMIM_DATA", raising=False)
    store = Store(tmp_path)
    for name in names:
        file = REPOSITORY / "experiments" / f"{name}.yaml"
        plan = make_plan([file], scale, store, precision=lambda: "fp32", overrides={}, seeds=None)
        assert sorted(plan.runs) == IDS[scale][name], name
