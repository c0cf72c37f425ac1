"""The values of claims, from results folders, JSON files and the code of tests."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.tables.content import MeasuredRow, PairedComparison
from analysis.tables.early_start import early_start, reading_curves
from analysis.tables.endpoint_records import EndpointRecords
from analysis.tables.endpoints import (
    ComparedRows,
    endpoint_difference,
    endpoint_table,
    interval_level,
    measured_endpoints,
)
from analysis.tables.measurements import Row
from analysis.tables.planned import tables_of
from analysis.tables.table import Table
from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from experiments.planning.planner import Precision, make_plan
from results.claims import (
    ACCURACY,
    DifferenceCheck,
    EarlyStartCheck,
    EndpointCheck,
    ExperimentRun,
    Step,
    TableCheck,
    TestCheck,
)
from results.provenance import REPOSITORY
from results.store import Store

PUBLISHED = REPOSITORY / "results/published"
PUBLISHED_PRECISION = "bf16"  # of published runs whose scale says auto
PRETRAINING = "pretrain"


class NoValueError(Exception):
    """Results do not hold the value of a claim. The message says what is missing."""


@dataclass(frozen=True)
class Found:
    """A value; of a difference also its interval and verdict."""

    value: float
    low: float | None = None
    high: float | None = None
    verdict: str = ""


@dataclass
class TableValues:
    """The values of one experiment in one results folder. Each record is loaded once."""

    table: Table
    seeds: tuple[int, ...]

    @cached_property
    def _endpoints(self) -> list[EndpointRecords]:
        table = self.table
        return measured_endpoints(table.endpoints, table.primary, table.rows, table.store)

    def find(self, check: TableCheck) -> Found:
        """The value that a check names. Raises NoValueError, and UserError for an unknown row."""
        self._row(check.row)
        if isinstance(check, EndpointCheck):
            return self._row_value(check)
        if isinstance(check, DifferenceCheck):
            self._row(check.other)
            return self._difference(check)
        if isinstance(check, EarlyStartCheck):
            return self._reading_seeds(check.row)
        return self._logged(check.row, check.quantity)

    def _row(self, name: str) -> Row:
        rows = {row.name: row for row in self.table.rows}
        if name not in rows:
            known = ", ".join(map(repr, rows))  # names may have commas
            raise UserError(f"{self.table.name}: no row {name!r}; its rows: {known}")
        return rows[name]

    def _records(self, endpoint: str) -> EndpointRecords:
        names = [records.endpoint.name for records in self._endpoints]
        if endpoint not in names:
            known = ", ".join([ACCURACY, *names])
            raise NoValueError(f"no endpoint {endpoint!r} in {self._place}; it has {known}")
        return self._endpoints[names.index(endpoint)]

    @property
    def _place(self) -> str:
        return f"{self.table.name} in {self.table.store.root.name}"

    def _check_seeds(self, seeds: Sequence[int], *rows: str) -> None:
        if tuple(sorted(seeds)) != self.seeds:
            names = " and ".join(rows)
            raise NoValueError(f"{len(seeds)} of {len(self.seeds)} seeds of {names}")

    def _row_value(self, check: EndpointCheck) -> Found:
        if check.endpoint == ACCURACY:
            row = next(row for row in self.table.content.rows if row.name == check.row)
            if not isinstance(row, MeasuredRow):
                raise NoValueError(f"no complete run of {check.row} in {self._place}")
            self._check_seeds(row.seeds, check.row)
            return Found(row.measured[ACCURACY].accuracy)
        records = self._records(check.endpoint)
        self._check_seeds(records.seeds(check.row), check.row)
        table = endpoint_table(records, (), primary=True, exploratory=0)
        if table is None or check.row not in table.rows:
            raise NoValueError(f"no value of {check.row} in {self._place}")
        return Found(table.rows[check.row].value)

    def _difference(self, check: DifferenceCheck) -> Found:
        if check.endpoint == ACCURACY:
            return self._difference_of_accuracy(check)
        records = self._records(check.endpoint)
        self._check_seeds(records.seeds(check.row, check.other), check.row, check.other)
        primary = check.endpoint == self.table.primary
        names = [one.endpoint.name for one in self._endpoints]
        level = interval_level(
            primary=primary, exploratory=sum(name != self.table.primary for name in names)
        )
        pair = ComparedRows(check.row, check.other, self._reported(check.row, check.other))
        difference = endpoint_difference(records, pair, level)
        if difference.value is None:
            raise NoValueError(difference.why or difference.verdict)
        return Found(difference.value, difference.low, difference.high, difference.verdict)

    def _difference_of_accuracy(self, check: DifferenceCheck) -> Found:
        for pair in self.table.content.comparisons:
            if (pair.row, pair.other) == (check.row, check.other):
                if not isinstance(pair, PairedComparison):
                    raise NoValueError("; ".join(pair.why) or pair.verdict)
                self._check_seeds(pair.seeds, check.row, check.other)
                average = pair.average
                return Found(average.accuracy, average.low, average.high, pair.verdict)
        raise UserError(
            f"{self.table.name}: {check.row!r} is not compared with {check.other!r}; "
            "name a pair that the experiment declares"
        )

    def _reported(self, row: str, other: str) -> float | None:
        """The difference of the paper's Avg, as tables have it; None if there is none."""
        names = [one.name for one in self.table.rows]
        numbers = [
            self.table.reported_accuracies(names.index(name)).get(ACCURACY) for name in (row, other)
        ]
        first, second = numbers
        return None if first is None or second is None else round(first - second, 4)

    def _reading_seeds(self, row: str) -> Found:
        curves = reading_curves(self.table).get(row, [])
        self._check_seeds([curve.seed for curve in curves], row)
        start = early_start(row, curves)
        return Found(float(sum(step is not None for step in start.by_seed.values())))

    def _logged(self, name: str, quantity: str) -> Found:
        values = {}
        for seed, trainings in self._row(name).trainings.items():
            runs = [run for run in trainings if run.startswith(PRETRAINING)]
            path = self.table.store.run(runs[-1]).folder / METRICS if runs else None
            if path is not None and path.is_file():
                values[seed] = _last_logged(path, quantity)
        self._check_seeds(tuple(values), name)
        return Found(round(sum(values.values()) / len(values), 6))


def _last_logged(path: Path, quantity: str) -> float:
    """The last value of a quantity in a log. Raises NoValueError if it has none."""
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return float([entry[quantity] for entry in entries if quantity in entry][-1])
    except (ValueError, TypeError, IndexError) as error:
        raise NoValueError(f"{path.parent.name}/{path.name} has no {quantity}") from error


def table_values(
    run: ExperimentRun, scale: str, store: Store, precision: Precision | None = None
) -> TableValues:
    """The values of an experiment in a results folder. Raises UserError.

    run: the experiment file and the seeds.
    scale: the scale.
    store: the results folder.
    precision: returns what `auto` means; None: that of the published runs.
    """
    plan = make_plan(
        [REPOSITORY / run.experiment],
        scale,
        store,
        precision=precision or (lambda: PUBLISHED_PRECISION),
        overrides={},
        seeds=run.seeds,
    )
    (table,) = tables_of(plan, store, recorded=True)
    return TableValues(table, tuple(sorted(run.seeds)))


# JSON files


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises NoValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NoValueError(f"{path.name}: {error.strerror}") from error
    except ValueError as error:
        raise NoValueError(f"{path.name}: not JSON ({error})") from error


def number_at(content: Any, steps: Sequence[Step]) -> float:
    """The number at the end of some steps (`JsonCheck`). Raises NoValueError at the failed step."""
    value = content
    for step in steps:
        try:
            if isinstance(step, dict):
                value = next(item for item in value if _has(item, step))
            else:
                value = value[step]
        except (KeyError, IndexError, TypeError, StopIteration) as error:
            raise NoValueError(f"no {step!r} in it") from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoValueError(f"{steps[-1]!r} is no number")
    return float(value)


def _has(item: Any, wanted: dict[str, str | int]) -> bool:
    return isinstance(item, dict) and all(item.get(key) == wanted[key] for key in wanted)


# Tests


def find_tests(check: TestCheck) -> None:
    """Check that a file has these tests, without running them. Raises NoValueError."""
    path = REPOSITORY / check.file
    if not path.is_file():
        raise NoValueError(f"{check.file}: no such file")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
    for name in check.tests:
        if name not in functions:
            raise NoValueError(f"{check.file} has no test {name}")
