"""Run ids stay the same from version to version, so that computed runs stay valid."""

import json
import os
from pathlib import Path

import pytest
from commands import REPOSITORY
from plans import plan_of

from experiments.planning.schema import HERE

# The ids of version 0.1, by scale and experiment file. Not listed: synthetic Chinese words, whose
# ids depend on the font file of the system. Version 0.1 had no probes.
IDS: dict[str, dict[str, list[str]]] = json.loads(
    (REPOSITORY / "tests" / "data" / "run_ids.json").read_text()
)
NEED_REAL_IMAGES = {"real_words", "common_benchmarks"}


@pytest.mark.parametrize("scale", IDS)
def test_planned_runs_have_the_ids_of_version_0_1(
    scale: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set(IDS[scale])
    if not os.environ.get("LMIM_SHARED"):
        names -= NEED_REAL_IMAGES
    if scale == "real":
        request.getfixturevalue("shared")
    monkeypatch.delenv("LMIM_DATA", raising=False)
    for name in names:
        plan = plan_of(tmp_path, HERE / f"{name}.yaml", scale=scale)
        planned = sorted(run.id for run in plan.runs.values() if run.stage != "probe")
        assert planned == IDS[scale][name], name
