"""Plans of experiment files, for tests."""

from pathlib import Path
from typing import Any

from experiments.planning.plan import Cell, Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE
from results.store import Store

CATALOGUE = sorted(HERE.glob("*.yaml"))  # the experiment files of the suite
TABLE1 = HERE / "ablation_alignment.yaml"


def plan_of(results: Path, *files: Path, scale: str | None = "smoke", **options: Any) -> Plan:
    """The plan of experiment files (Table 1 if none is named).

    options: those of `make_plan`; by default fp32, no overrides, the files' own seeds."""
    settings: dict[str, Any] = {"precision": lambda: "fp32", "overrides": {}, "seeds": None}
    return make_plan(files or (TABLE1,), scale, Store(results), **(settings | options))


def cells_of(plan: Plan, experiment: str, row: str) -> list[Cell]:
    """The cells of a row, by the names of its experiment and of itself."""
    names = [variant.name for variant in plan.experiments[experiment].variants]
    return plan.cells_of(experiment, names.index(row))
