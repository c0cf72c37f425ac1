"""The experiments of a plan as tables: planned runs, or stored runs of the same recipe."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from analysis.tables.content import RowRuns
from analysis.tables.endpoint_records import Endpoint
from analysis.tables.measurements import Row
from analysis.tables.table import Table, table_name
from analysis.tables.table_files import recorded_runs_of, refuse_other_file
from core.config import Finetune, Probe, StageConfig, identity_fields
from core.runtime.errors import UserError
from core.text.charset import make_charset
from experiments.planning.data_roots import size_deviation
from experiments.planning.endpoints import (
    DEFAULT_ENDPOINT,
    FINE_TUNED,
    RECOGNIZER_MEASURES,
    measures_of,
)
from experiments.planning.plan import FILE, Cell, Plan, PlannedRun
from experiments.planning.registry import registry
from results.records import StoredTraining, read_record
from results.reported import find_row, reported_table
from results.store import Run, Store

RecordedRuns = Mapping[int, RowRuns]  # seed -> runs


def tables_of(plan: Plan, store: Store, *, recorded: bool) -> list[Table]:
    """One table for each experiment of a plan, those of the paper first and in its order.

    Tables with numbers of others come next, and those without reported numbers last.

    plan: with the runs of each row.
    store: the results folder.
    recorded: if a planned evaluation is absent, use the runs that the stored table names, provided
    that they followed the same recipe. This shows a results folder whose data are absent here, or
    whose fonts, versions or precision differ from those here.
    """
    tables = []
    for name, experiment in plan.experiments.items():
        stored_rows = _stored_rows(plan, name, store) if recorded else {}
        rows = [
            _row(plan, name, number, stored_rows.get(variant.name, {}), store)
            for number, variant in enumerate(experiment.variants)
        ]
        tables.append(
            Table(
                name=name,
                title=experiment.title,
                scale=plan.scale,
                scale_description=plan.description,
                paper_table=experiment.table,
                rows=rows,
                store=store,
                overrides=plan.overrides,
                substitute_synthetic=plan.substitute_synthetic,
                endpoints=_endpoints(plan, name),
                primary=plan.primary.get(name, DEFAULT_ENDPOINT),
                file=plan.files.get(name),
            )
        )
    return sorted(tables, key=_order)


def _order(table: Table) -> tuple[int, str]:
    if table.paper_table is None:
        return 2, ""
    return 0 if reported_table(table.paper_table).is_of_paper else 1, table.paper_table


def _endpoints(plan: Plan, experiment: str) -> tuple[Endpoint, ...]:
    """The endpoints of an experiment: those of fine-tuning, then those of its probes."""
    endpoints = [Endpoint(FINE_TUNED, measure) for measure in RECOGNIZER_MEASURES]
    cells = [cell for cell in plan.cells if cell.experiment == experiment]
    for name, run in {n: r for cell in cells for n, r in cell.probes.items()}.items():
        config = plan.runs[run].config
        assert isinstance(config, Probe)
        endpoints += [Endpoint(name, measure) for measure in measures_of(config.head.kind)]
    return tuple(endpoints)


def _table_name(plan: Plan, experiment: str) -> str:
    return table_name(experiment, plan.scale, plan.overrides)


def _stored_rows(plan: Plan, experiment: str, store: Store) -> dict[str, dict[int, RowRuns]]:
    """Row -> seed -> the runs that the stored table of an experiment names."""
    file = plan.files.get(experiment)
    return recorded_runs_of(store, _table_name(plan, experiment), file)


def refuse_tables_of_other_files(plan: Plan, store: Store) -> None:
    """Raise UserError if a table of the plan would replace that of another experiment file."""
    for name, file in plan.files.items():
        refuse_other_file(store, _table_name(plan, name), file)


def recorded_tables(
    make_plan: Callable[[dict[str, list[int]] | None], Plan], store: Store
) -> tuple[Plan, list[Table]]:
    """A plan and its tables, with the seeds that the stored tables have.

    make_plan: returns the plan for the seeds of each experiment, or, for None, the plan with its
    default seeds.
    """
    plan = make_plan(None)
    if seeds := recorded_seeds(plan, store):
        plan = make_plan(seeds)
    return plan, tables_of(plan, store, recorded=True)


def recorded_seeds(plan: Plan, store: Store) -> dict[str, list[int]]:
    """Experiment -> the seeds of the plan and of its stored table.

    Empty if no stored table has a seed that the plan does not have.
    """
    seeds_of: dict[str, list[int]] = {}
    has_more = False
    for name in plan.experiments:
        planned = {cell.seed for cell in plan.cells if cell.experiment == name}
        rows = _stored_rows(plan, name, store).values()
        stored = {seed for runs in rows for seed in runs}
        seeds_of[name] = sorted(planned | stored)
        has_more = has_more or not stored <= planned
    return seeds_of if has_more else {}


def with_complete(plan: Plan, wider: Plan, store: Store) -> Plan:
    """A plan with the complete cells of `wider`, a plan with more seeds."""
    planned = {(cell.experiment, cell.variant, cell.seed) for cell in plan.cells}
    cells = tuple(
        cell
        for cell in wider.cells
        if (cell.experiment, cell.variant, cell.seed) in planned
        or _is_complete(store, cell.evaluate)
    )
    unplanned = wider.experiments.keys() - plan.experiments.keys()
    return replace(wider.excluding(unplanned), cells=cells)


def _row(plan: Plan, experiment: str, number: int, stored: RecordedRuns, store: Store) -> Row:
    """A row of an experiment with its runs.

    number: of the variant.
    stored: the runs that the stored table names for the row; {} if there are none.
    """
    settings = plan.experiments[experiment]
    variant = settings.variants[number]
    cells = plan.cells_of(experiment, number)
    runs: dict[int, RowRuns] = {}
    deviations: list[str] = []
    for cell in cells:
        if cell.transfer:
            continue
        transfers = tuple(
            other.evaluate for other in cells if other.seed == cell.seed and other.transfer
        )
        planned = RowRuns(cell.evaluate, cell.trainings, cell.teacher, transfers, dict(cell.probes))
        runs[cell.seed] = _choose_runs(plan, planned, stored.get(cell.seed), store)
        if runs[cell.seed].evaluate == cell.evaluate:
            deviations += _data_deviations_of_plan(plan, cell)
        elif not plan.substitute_synthetic:
            for run in runs[cell.seed].trainings:
                deviations += _data_deviations_of_record(store.run(run))
        for run in cell.trainings:
            deviations += _charset_deviations(plan.runs[run].config)
    return Row(
        name=variant.name,
        reported_row=find_row(settings.table, variant.reported) if settings.table else None,
        compare_with=settings.compared_rows(number),
        evaluations={seed: chosen.evaluate for seed, chosen in runs.items()},
        trainings={seed: chosen.trainings for seed, chosen in runs.items()},
        teachers={seed: chosen.teacher for seed, chosen in runs.items()},
        transfers={seed: chosen.transfers for seed, chosen in runs.items()},
        probes={seed: chosen.probes for seed, chosen in runs.items()},
        teacher_images=cells[0].teacher_images,
        encoder_file=cells[0].encoder_file,
        from_records=any(
            runs[cell.seed].evaluate != cell.evaluate for cell in cells if not cell.transfer
        ),
        deviations=tuple(dict.fromkeys(deviations)),
    )


def _choose_runs(plan: Plan, planned: RowRuns, stored: RowRuns | None, store: Store) -> RowRuns:
    """`stored` if only these runs are complete and have the same recipe, otherwise `planned`."""
    if stored is None or _is_complete(store, planned.evaluate):
        return planned
    return stored if _same_recipe(plan, planned, stored, store) else planned


def _is_complete(store: Store, run: str) -> bool:
    try:
        return store.run(run).state().name == "complete"
    except UserError:  # damaged; the table names the damage
        return True


# Deviations from the paper's data


def _data_deviations_of_plan(plan: Plan, cell: Cell) -> list[str]:
    """How the training data of planned runs differ from the paper's; absent data are skipped."""
    deviations = []
    for run in cell.trainings:
        for roots in _training_data(plan.runs[run]):
            deviations += _size_deviations(
                (root.name, root.images) for root in roots if not root.unmet
            )
    return deviations


def _training_data(run: PlannedRun) -> list[Any]:
    return [roots for role, roots in run.data.items() if role != "validation"]


def _data_deviations_of_record(run: Run) -> list[str]:
    """How the training data of a stored run differ from the paper's."""
    data = read_record(run, StoredTraining).data
    training_data = [roots for role, roots in data.items() if role != "validation"]
    if not training_data or not all(root.root for roots in training_data for root in roots):
        return ["the record does not name its data"]
    return [
        deviation
        for roots in training_data
        for deviation in _size_deviations((root.root, root.images) for root in roots)
    ]


def _size_deviations(roots: Iterable[tuple[str, int]]) -> list[str]:
    """How the sizes of data sets differ from the paper's.

    roots: (name, images) of each LMDB; those of one data set have the same name.
    """
    images: dict[str, int] = {}
    for name, count in roots:
        images[name] = images.get(name, 0) + count
    deviations = (size_deviation(name, count) for name, count in images.items())
    return [deviation for deviation in deviations if deviation]


def _charset_deviations(config: StageConfig) -> list[str]:
    """How the size of a recognizer's charset differs from the number of characters in its data."""
    if not isinstance(config, Finetune):
        return []
    known = (registry()[root].characters for root in config.data.roots if root in registry())
    expected = max((count or 0 for count in known), default=0)
    characters = len(make_charset(config.charset).characters)
    if not expected or characters == expected:
        return []
    return [f"the charset has {characters:,} characters, not {expected:,}"]


# Stored runs of the same recipe


def _same_recipe(plan: Plan, planned: RowRuns, stored: RowRuns, store: Store) -> bool:
    """Whether stored runs are complete and have the planned configs, names of data and files.

    The precision may differ. A charset whose file is absent counts as equal.
    """
    planned_ids = _run_ids(planned)
    stored_ids = _run_ids(stored)
    if len(planned_ids) != len(stored_ids):
        return False
    pairs = list(zip(planned_ids, stored_ids, strict=True))
    pairs += zip(planned.transfers, stored.transfers, strict=False)  # the stored row may have fewer
    pairs += [
        (run, stored.probes[name]) for name, run in planned.probes.items() if name in stored.probes
    ]
    return all(_same_config(plan.runs[ours], store.run(theirs)) for ours, theirs in pairs)


def _run_ids(runs: RowRuns) -> list[str]:
    teacher = [runs.teacher] if runs.teacher and not runs.teacher.startswith(FILE) else []
    return [runs.evaluate, *runs.trainings, *teacher]


def _same_config(planned: PlannedRun, stored: Run) -> bool:
    ignored: Any = {"precision": True}
    if planned.unmet:
        ignored |= {"charset": True}
    try:
        record = stored.record()
        if planned.stage in ("pretrain", "finetune"):
            read_record(stored, StoredTraining)
        config = type(planned.config).model_validate(record["config"])
        files = _files(record["inputs"])
    except (UserError, ValidationError, KeyError, TypeError, AttributeError):
        return False
    same_fields = identity_fields(planned.config, exclude=ignored) == identity_fields(
        config, exclude=ignored
    )
    return same_fields and files == _files(planned.inputs)


def _files(inputs: Mapping[str, str]) -> dict[str, str]:
    """Role -> `file:PATH`, or `a run` for an input that is a run."""
    return {role: name if name.startswith(FILE) else "a run" for role, name in inputs.items()}
