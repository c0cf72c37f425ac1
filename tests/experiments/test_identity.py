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
NEED_REAL_IMAGES = {"common_benchmarks"}


@pytest.mark.parametrize("scale", IDS)
def test_planned_runs_have_the_ids_of_version_0_1(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set(IDS[scale])
    if not os.environ.get("LMIM_SHARED"):
        names -= NEED_REAL_IMAGES
    monkeypatch.delenv("LMIM_DATA", raising=False)
    # Version 0.1 did not look for IC15 below LMIM_SHARED.
    monkeypatch.setenv("LMIM_ROOT_IC15", str(tmp_path / "absent"))
    for name in names:
        plan = plan_of(tmp_path, HERE / f"{name}.yaml", scale=scale)
        planned = sorted(run.id for run in plan.runs.values() if run.stage != "probe")
        assert planned == IDS[scale][name], name
