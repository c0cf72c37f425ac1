"""A plan of one row that uses a checkpoint."""

from pathlib import Path

from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.run_cost import run_cost
from results.store import Store

SIZES = {  # of the files that `released_files` writes
    "encoder.width": 48,
    "encoder.depth": 3,
    "encoder.heads": 3,
    "encoder.patch": [4, 4],
    "encoder.positions": "released",
}


def plan_with(key: str, checkpoint: Path, folder: Path) -> Plan:
    """Plan a row whose setting `key` names a checkpoint, as the command `plan` does.

    folder: gets the experiment's file and the results. Raises UserError for a file that does not
    fit."""
    experiment = folder / "experiment.yaml"
    experiment.write_text(f"title: t\nvariants: [{{name: a, set: {{{key}: {checkpoint}}}}}]\n")
    sizes = {} if key == "init.recognizer" else SIZES
    plan = make_plan(
        [experiment],
        "smoke",
        Store(folder / "results"),
        precision=lambda: "fp32",
        overrides=sizes,
        seeds=None,
    )
    for run in plan.runs.values():
        run_cost(run, plan)
    return plan
