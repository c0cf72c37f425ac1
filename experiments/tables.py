"""A plan's experiments as tables: which runs fill each row, planned here or recorded in the results folder."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from analysis.load import Row, recorded_runs
from analysis.tables import Table, table_name
from core.config import Evaluate, StageConfig, identity
from core.errors import UserError
from experiments.plan import PATHS, Cell, Plan
from results.reported import find_row
from results.store import Store


def tables_of(plan: Plan, store: Store, *, recorded: bool) -> list[Table]:
    """One table for each experiment of a plan.

    recorded: where a planned evaluation is not there, the runs that made the table earlier stand for it if they followed the
    same recipe. So a results folder can be read where its data are not, or other fonts, versions, precision."""
    tables = []
    for name, experiment in plan.experiments.items():
        noted = recorded_runs(store, table_name(name, plan.scale, plan.overrides)) if recorded else {}
        rows = []
        for number, variant in enumerate(experiment.variants):
            twin = find_row(experiment.table, variant.reported) if experiment.table else None
            found = _runs(plan, plan.cells_of(name, number), noted.get(variant.name, {}), store)
            rows.append(Row(variant.name, twin, experiment.others(number), **found))
        about = (experiment.title, plan.scale, plan.about, experiment.table)
        tables.append(Table(name, *about, rows, store, plan.overrides, plan.stand_ins))
    return tables


def recorded_seeds(plan: Plan, store: Store) -> list[int]:
    """The seeds of these tables as they were made, with those that the experiments name; [] where there are no others."""
    named = {seed for experiment in plan.experiments.values() for seed in experiment.seeds}
    tables = (recorded_runs(store, table_name(name, plan.scale, plan.overrides)) for name in plan.experiments)
    recorded = {int(seed) for rows in tables for runs in rows.values() for seed in runs}
    return sorted(named | recorded) if recorded - named else []


def _runs(plan: Plan, cells: list[Cell], noted: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """A row's runs by seed, as `Row` has them."""
    evaluations, trainings, teachers, elsewhere = {}, {}, {}, False
    for cell in cells:
        runs, other = (cell.evaluate, cell.trainings, cell.teacher), noted.get(str(cell.seed))
        if other and store.run(cell.evaluate).state().name != "complete" and _same_recipe(plan, cell, other, store):
            runs, elsewhere = (other["evaluate"], tuple(other["trainings"]), other["teacher"]), True
        evaluations[cell.seed], trainings[cell.seed], teachers[cell.seed] = runs
    trained = [run for cell in cells for run in cell.trainings]
    unlike = dict.fromkeys(root.unlike for run in trained for roots in plan.runs[run].data.values() for root in roots)
    return {
        "evaluations": evaluations,
        "trainings": trainings,
        "teachers": teachers,
        "teacher_images": cells[0].teacher_images,
        "encoder_file": cells[0].encoder_file,
        "elsewhere": elsewhere,
        "unlike": tuple(filter(None, unlike)),
    }


def _same_recipe(plan: Plan, cell: Cell, noted: Mapping[str, Any], store: Store) -> bool:
    """Whether noted runs are complete and were told the same as the planned ones, data, charset and precision apart."""
    planned, there = (cell.evaluate, *cell.trainings), (noted["evaluate"], *noted["trainings"])
    if len(planned) != len(there):
        return False
    for ours, theirs in zip(planned, there, strict=True):
        config = plan.runs[ours].config
        try:
            other = type(config).model_validate(store.run(theirs).record()["config"])
        except (UserError, ValidationError, KeyError):
            return False
        if _recipe(config) != _recipe(other):
            return False
    return True


def _recipe(config: StageConfig) -> tuple[dict[str, Any], list[str]]:
    """What a config says besides data, charset and precision; names of its subsets."""
    subsets = list(config.subsets) if isinstance(config, Evaluate) else []
    return identity(config, exclude=PATHS | {"charset": True, "precision": True}), subsets
