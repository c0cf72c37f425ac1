"""A plan's experiments as tables: which runs fill each row, planned here or recorded in the results folder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from analysis.tables.measurements import Row, recorded_runs
from analysis.tables.table import Table, table_name
from core.config import Finetune, StageConfig, identity
from core.runtime.errors import UserError
from core.text.charset import make_charset
from experiments.planning.data_roots import different_size
from experiments.planning.plan import Cell, Plan, PlannedRun
from experiments.planning.registry import registry
from results.records import StoredTraining, read_record
from results.reported import find_row
from results.store import Run, Store


def tables_of(plan: Plan, store: Store, *, recorded: bool) -> list[Table]:
    """One table for each experiment of a plan, the paper's first and in its order.

    recorded: where a planned evaluation is not there, the runs that made the table earlier stand for it if they followed the
    same recipe. So a results folder can be read where its data are not, or where fonts, versions or precision are others."""
    tables = []
    for name, experiment in plan.experiments.items():
        noted = (
            recorded_runs(store, table_name(name, plan.scale, plan.overrides)) if recorded else {}
        )
        rows = []
        for number, variant in enumerate(experiment.variants):
            reported_row = (
                find_row(experiment.table, variant.reported) if experiment.table else None
            )
            found = _runs(plan, plan.cells_of(name, number), noted.get(variant.name, {}), store)
            rows.append(Row(variant.name, reported_row, experiment.others(number), **found))
        about = (experiment.title, plan.scale, plan.about, experiment.table)
        tables.append(Table(name, *about, rows, store, plan.overrides, plan.stand_ins))
    return sorted(tables, key=lambda table: table.reported or "tables of our own")


def recorded_tables(
    make: Callable[[dict[str, list[int]] | None], Plan], store: Store
) -> tuple[Plan, list[Table]]:
    """A plan and its tables as they are recorded. make: the plan of its own seeds (None), or of those given by experiment,
    for which it is asked where others are recorded."""
    plan = make(None)
    if seeds := recorded_seeds(plan, store):
        plan = make(seeds)
    return plan, tables_of(plan, store, recorded=True)


def recorded_seeds(plan: Plan, store: Store) -> dict[str, list[int]]:
    """Experiment -> the plan's seeds, with those of its table as it was made; {} where there are no others."""
    found, more = {}, False
    for name in plan.experiments:
        planned = {cell.seed for cell in plan.cells if cell.experiment == name}
        rows = recorded_runs(store, table_name(name, plan.scale, plan.overrides)).values()
        found[name] = sorted({*planned, *(int(seed) for runs in rows for seed in runs)})
        more = more or len(found[name]) > len(planned)
    return found if more else {}


def with_complete(plan: Plan, wider: Plan, store: Store) -> Plan:
    """A plan with the complete cells of a wider one, of more seeds."""
    asked = {(cell.experiment, cell.variant, cell.seed) for cell in plan.cells}
    kept = [
        cell
        for cell in wider.cells
        if (cell.experiment, cell.variant, cell.seed) in asked or _is_complete(store, cell.evaluate)
    ]
    return replace(wider.without(wider.experiments.keys() - plan.experiments.keys()), cells=kept)


def _runs(plan: Plan, cells: list[Cell], noted: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """A row's runs by seed, as `Row` has them."""
    evaluations, trainings, teachers, elsewhere = {}, {}, {}, False
    deviations: list[str] = []
    for cell in cells:
        runs, other = (cell.evaluate, cell.trainings, cell.teacher), noted.get(str(cell.seed))
        if (
            other
            and not _is_complete(store, cell.evaluate)
            and _same_recipe(plan, cell, other, store)
        ):
            runs, elsewhere = (other["evaluate"], tuple(other["trainings"]), other["teacher"]), True
        evaluations[cell.seed], trainings[cell.seed], teachers[cell.seed] = runs
        if runs[0] == cell.evaluate:
            deviations += [
                text for run in cell.trainings for text in _unlike_planned(plan.runs[run])
            ]
        elif not plan.stand_ins:
            deviations += [text for run in runs[1] for text in _unlike_recorded(store.run(run))]
        deviations += [
            text for run in cell.trainings if (text := _unlike_charset(plan.runs[run].config))
        ]
    return {
        "evaluations": evaluations,
        "trainings": trainings,
        "teachers": teachers,
        "teacher_images": cells[0].teacher_images,
        "encoder_file": cells[0].encoder_file,
        "elsewhere": elsewhere,
        "deviations": tuple(dict.fromkeys(deviations)),
    }


def _is_complete(store: Store, run: str) -> bool:
    try:
        return store.run(run).state().name == "complete"
    except UserError:  # damaged; the table says so
        return True


def _unlike_planned(run: PlannedRun) -> list[str]:
    """How the data sets that a run would train on differ from the paper's, as far as they are here."""
    roles = [roots for role, roots in run.data.items() if role != "validation"]
    return [
        text
        for roots in roles
        for text in _different([(root.name, root.images) for root in roots if not root.missing])
    ]


def _unlike_recorded(run: Run) -> list[str]:
    """How the data sets that a run was trained on differ from the paper's."""
    roles = [
        roots
        for role, roots in read_record(run, StoredTraining).data.items()
        if role != "validation"
    ]
    if not roles or not all(root.root for roots in roles for root in roots):
        return ["the record does not name what was read"]
    return [
        text for roots in roles for text in _different([(root.root, root.images) for root in roots])
    ]


def _different(roots: Iterable[tuple[str, int]]) -> list[str]:
    """What is to be said of the sizes of data sets, each of one or more LMDBs: (name, images)."""
    images: dict[str, int] = {}
    for name, count in roots:
        images[name] = images.get(name, 0) + count
    return [text for name, count in images.items() if (text := different_size(name, count))]


def _unlike_charset(config: StageConfig) -> str:
    """How a recognizer's charset differs in size from that of its data, or nothing."""
    if not isinstance(config, Finetune):
        return ""
    expected = max(
        (registry()[root].characters or 0 for root in config.data.roots if root in registry()),
        default=0,
    )
    has = len(make_charset(config.charset).characters)
    return (
        f"the charset has {has:,} characters, not {expected:,}"
        if expected and has != expected
        else ""
    )


def _same_recipe(plan: Plan, cell: Cell, noted: Mapping[str, Any], store: Store) -> bool:
    """Whether noted runs are complete and were told what the planned ones are: configs, names of data, files.

    The precision may be another; a charset whose file is not here is taken for the same."""
    planned = (cell.evaluate, *cell.trainings, *_runs_alone(cell.teacher))
    there = (noted["evaluate"], *noted["trainings"], *_runs_alone(noted["teacher"]))
    if len(planned) != len(there):
        return False
    for run, theirs in zip(map(plan.runs.__getitem__, planned), there, strict=True):
        apart: Any = {"precision": True} | ({"charset": True} if run.lacks else {})
        try:
            record = store.run(theirs).record()
            if run.stage != "evaluate":
                read_record(store.run(theirs), StoredTraining)
            config, files = (
                type(run.config).model_validate(record["config"]),
                _files(record["inputs"]),
            )
        except (UserError, ValidationError, KeyError, TypeError, AttributeError):
            return False
        if identity(run.config, exclude=apart) != identity(
            config, exclude=apart
        ) or files != _files(run.inputs):
            return False
    return True


def _runs_alone(teacher: str) -> list[str]:
    return [teacher] if teacher and not teacher.startswith("file:") else []


def _files(inputs: Mapping[str, str]) -> dict[str, str]:
    """Role -> checkpoint, of the inputs that are files; and of the others that they are there."""
    return {role: name if name.startswith("file:") else "a run" for role, name in inputs.items()}
