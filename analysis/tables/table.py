"""A table of an experiment: reported and measured accuracies, differences, intervals, verdicts.

`Table.content` is the whole content; `analysis/tables/render.py` prints it as Markdown, CSV,
LaTeX, HTML or JSON.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.tables.comparability import deviations_from_paper
from analysis.tables.comparisons import compare_rows, compared_pairs
from analysis.tables.content import (
    AVERAGES,
    Comparison,
    ExperimentRow,
    MeasuredRow,
    PercentEstimate,
    RowRuns,
    SubsetAccuracy,
    TableContent,
    TableRow,
)
from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.endpoints import ENDPOINT_RULE, ComparedRows, Endpoint, endpoint_tables
from analysis.tables.footnotes import notes
from analysis.tables.intervals import Estimate, average_weights, bootstrap, mean_accuracy, wilson
from analysis.tables.measurements import MeasuredEvaluation, Row, TableRecords, recorded_runs
from analysis.tables.render import FORMATS
from analysis.tables.table_files import recorded_path, refuse_other_file
from analysis.tables.training_cost import training_cost
from analysis.tables.verdicts import DIFFERENCE_RULE, ROW_RULE, row_verdict
from core.runtime.files import write_text
from experiments.planning.endpoints import DEFAULT_ENDPOINT
from results.reported import reported, reported_table, reported_values
from results.store import Store


@dataclass
class Table:
    """The rows of one experiment at one scale.

    name, title: of the experiment file.
    scale, scale_description: of the scale profile.
    paper_table: a table of results/reported.yaml, or None.
    rows: with their runs.
    store: the results folder.
    overrides: settings of the command line. Such a table has its own file and no verdicts on rows.
    substitute_synthetic: synthetic words replace the paper's data.
    endpoints: that its runs can have.
    primary: the name of the primary one.
    file: the experiment file, if there is one.
    """

    name: str
    title: str
    scale: str
    scale_description: str
    paper_table: str | None
    rows: Sequence[Row]
    store: Store
    overrides: Mapping[str, object] = field(default_factory=dict)
    substitute_synthetic: bool = False
    endpoints: Sequence[Endpoint] = ()
    primary: str = DEFAULT_ENDPOINT
    file: Path | None = None

    @cached_property
    def records(self) -> TableRecords:
        """The complete runs of the rows."""
        return TableRecords(self.rows, self.store)

    @property
    def measured(self) -> list[dict[int, MeasuredEvaluation]]:
        """For each row: seed -> complete evaluation."""
        return self.records.measured

    @cached_property
    def columns(self) -> list[str]:
        """The subsets of the paper's table in its order, then the other evaluated subsets."""
        return list(dict.fromkeys([*self.paper_columns(), *self.records.subsets]))

    @property
    def label(self) -> str:
        """`Table N` of the paper, or the experiment's name."""
        return self.paper_table.replace("table", "Table ") if self.paper_table else self.name

    @cached_property
    def content(self) -> TableContent:
        """The whole content of the table."""
        rules = [ROW_RULE] if self.paper_table else []
        rules += [DIFFERENCE_RULE] if compared_pairs(self.records) else []
        endpoints = self._endpoint_tables()
        rules += [ENDPOINT_RULE] if endpoints else []
        return TableContent(
            experiment=self.name,
            title=self.title,
            paper_table=self.paper_table,
            scale=self.scale,
            scale_description=self.scale_description,
            overrides=dict(self.overrides),
            columns=tuple(self.columns),
            rows=tuple(self._rows()),
            comparisons=tuple(self._comparisons()),
            rules=tuple(rules),
            notes=notes(self),
            endpoints=endpoints,
        )

    def _endpoint_tables(self) -> tuple[EndpointTable, ...]:
        compared = [
            ComparedRows(
                self.rows[number].name,
                self.rows[other].name,
                self._reported_difference(number, other),
            )
            for number, other in compared_pairs(self.records)
        ]
        return endpoint_tables(self.endpoints, self.primary, self.rows, compared, self.store)

    # Rows

    def _rows(self) -> list[TableRow]:
        """The paper's rows in its order, then the rows that the paper does not have."""
        number_of = {
            row.reported_row: number
            for number, row in enumerate(self.rows)
            if row.reported_row is not None
        }
        rows: list[TableRow] = []
        if self.paper_table:
            for reported_row in range(len(reported_table(self.paper_table).rows)):
                if reported_row in number_of:
                    rows.append(self._row(number_of[reported_row]))
                else:
                    rows.append(_paper_row(self.paper_table, reported_row))
        new = (number for number, row in enumerate(self.rows) if row.reported_row is None)
        return rows + [self._row(number) for number in new]

    def _row(self, number: int) -> ExperimentRow:
        row = self.rows[number]
        measured = self.measured[number]
        reported = self._reported(number)
        verdict, why = self._verdict(number)
        plain = ExperimentRow(
            name=row.name,
            ours=bool(reported),
            reported=reported,
            verdict=verdict,
            why=tuple(why),
            seeds=tuple(measured),
            missing_seeds=tuple(seed for seed in row.evaluations if seed not in measured),
        )
        if not measured:
            return plain
        accuracies = self._accuracies(number)
        return MeasuredRow(
            **vars(plain),
            measured=accuracies,
            training_cost=training_cost(self.records, number, plain.seeds),
            difference={
                name: round(accuracies[name].accuracy - reported[name], 4)
                for name in self._columns_in_common(number)
            },
            runs={seed: row.runs(seed) for seed in measured},
        )

    def _accuracies(self, number: int) -> dict[str, PercentEstimate]:
        """Subset, `Avg` and `W-Avg` -> accuracy of a measured row."""
        accuracies: dict[str, PercentEstimate] = {}
        for name, estimate in self._estimates[number].items():
            percent = PercentEstimate.of(estimate)
            if name not in AVERAGES:
                counts = [run.counts[name] for run in self.measured[number].values()]
                correct = sum(count for count, _ in counts)
                images = sum(count for _, count in counts)
                percent = SubsetAccuracy(**vars(percent), correct=correct, images=images)
            accuracies[name] = percent
        return accuracies

    def _columns_in_common(self, number: int) -> list[str]:
        """The columns in which a measured row and the paper's row have the same meaning."""
        reported = self._reported(number)
        columns = [name for name in self._estimates[number] if name in reported]
        if tuple(self._averaged_subsets(number)) == self.paper_columns():
            return columns
        return [name for name in columns if name not in AVERAGES]  # averages over other subsets

    def _reported(self, number: int) -> dict[str, float]:
        """The accuracies that the paper reports for row `number`; {} if none."""
        reported_row = self.rows[number].reported_row
        if self.paper_table is None or reported_row is None:
            return {}
        return reported_values(self.paper_table, reported_row)

    def paper_columns(self) -> tuple[str, ...]:
        """The subsets of the paper's table; () if there is no such table."""
        if self.paper_table is None:
            return ()
        return reported().subsets[reported_table(self.paper_table).benchmark]

    def _averaged_subsets(self, *numbers: int) -> list[str]:
        """The subsets averaged in Avg: the paper's if these rows have all of them, else all."""
        subsets = self.records.subsets_of(*numbers)
        paper = self.paper_columns()
        return list(paper) if paper and set(paper) <= set(subsets) else subsets

    @cached_property
    def _estimates(self) -> list[dict[str, Estimate]]:
        """For each row: subset, `Avg` and `W-Avg` -> accuracy, mean over its seeds."""
        return [
            self._estimates_of(number) if measured else {}
            for number, measured in enumerate(self.measured)
        ]

    def _estimates_of(self, number: int) -> dict[str, Estimate]:
        measured = self.measured[number]
        averaged = self._averaged_subsets(number)
        evaluated = self.records.subsets_of(number)
        subsets = [name for name in self.columns if name in evaluated]
        first = next(iter(measured.values()))
        images = [first.counts[name][1] for name in averaged]
        weightings = [average_weights(images, pooled=pooled) for pooled in (False, True)]
        if len(measured) == 1:
            correct = [first.counts[name][0] for name in averaged]
            estimates = [wilson(*first.counts[name]) for name in subsets]
            estimates += [mean_accuracy(correct, images, weights) for weights in weightings]
        else:
            values = [self.records.values(number, name, list(measured)) for name in subsets]
            unit_weights = np.eye(len(subsets))
            positions = [subsets.index(name) for name in averaged]
            of_all_subsets = [unit_weights[positions].T @ weights for weights in weightings]
            estimates = bootstrap(values, *unit_weights, *of_all_subsets, paired=False)
        return dict(zip((*subsets, *AVERAGES), estimates, strict=True))

    # Verdicts

    def _verdict(self, number: int) -> tuple[str, list[str]]:
        """The verdict on a row, and the reasons for it."""
        if not self.measured[number]:
            return "missing", self.records.why_missing(number)
        reported = self._reported(number)
        if "Avg" not in reported:
            missing_part = "row" if self.paper_table else "table"
            return "", [f"the paper has no such {missing_part}"]
        if why := deviations_from_paper(self, number):
            return "not comparable", why
        verdict, covered = row_verdict(self._estimates[number]["Avg"], reported["Avg"])
        return verdict, [covered]

    # Differences

    def _comparisons(self) -> list[Comparison]:
        return [self._comparison(*pair) for pair in compared_pairs(self.records)]

    def _comparison(self, number: int, other: int) -> Comparison:
        subsets = self._averaged_subsets(number, other)
        other_subsets = bool(subsets) and tuple(subsets) != self.paper_columns()
        return compare_rows(
            self.records,
            number,
            other,
            subsets,
            None if other_subsets else self._reported_difference(number, other),
            judge_size=self.paper_table is not None
            and not deviations_from_paper(self, number)
            and not deviations_from_paper(self, other),
            fewer_subsets=any(
                set(self._averaged_subsets(row)) - set(subsets) for row in (number, other)
            ),
        )

    def _reported_difference(self, number: int, other: int) -> float | None:
        """The difference between two rows' reported Avg; None if the paper has none."""
        first = self._reported(number).get("Avg")
        second = self._reported(other).get("Avg")
        return None if first is None or second is None else round(first - second, 4)

    # Files

    def file_name(self) -> str:
        """The name of the table's files, without suffix."""
        return table_name(self.name, self.scale, self.overrides)

    def write(self) -> None:
        """Write the table as Markdown, CSV and JSON into the results folder.

        The JSON also names the experiment file, and the complete runs of other seeds that an
        earlier table named. Raises UserError if the earlier table is of another file.
        """
        content = replace(self.content, known_runs=self._known_runs())
        if self.file is not None:
            refuse_other_file(self.store, self.file_name(), self.file)
            content = replace(content, file=recorded_path(self.store, self.file))
        for suffix in ("md", "csv", "json"):
            path = self.store.table(f"{self.file_name()}.{suffix}")
            write_text(path, FORMATS[suffix]([content]))

    def _known_runs(self) -> dict[str, dict[int, RowRuns]]:
        """Row -> seed -> complete runs, of this table and of the stored one."""
        known = recorded_runs(self.store, self.file_name())
        for row, measured in zip(self.rows, self.measured, strict=True):
            known.setdefault(row.name, {}).update({seed: row.runs(seed) for seed in measured})
        return {
            name: {
                seed: runs
                for seed, runs in seeds.items()
                if self.store.run(runs.evaluate).state().name == "complete"
            }
            for name, seeds in known.items()
        }


def _paper_row(paper_table: str, number: int) -> TableRow:
    """A row of the paper without a row of the experiment."""
    table = reported_table(paper_table)
    row = table.rows[number]
    ours = table.is_authors_row(number)
    return TableRow(
        name=row.name(),
        ours=ours,
        reported=reported_values(paper_table, number),
        verdict="missing" if ours else "",
        why=("no row of this experiment reproduces it" if ours else f"quoted from {row.source}",),
    )


def table_name(experiment: str, scale: str, overrides: Mapping[str, object]) -> str:
    """`EXPERIMENT.SCALE`, or `EXPERIMENT.SCALE.set-HASH` with settings of the command line."""
    if not overrides:
        return f"{experiment}.{scale}"
    settings = json.dumps(overrides, sort_keys=True, default=str).encode()
    return f"{experiment}.{scale}.set-{hashlib.sha256(settings).hexdigest()[:6]}"
