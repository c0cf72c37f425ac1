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

from analysis.tables.comparability import deviations_from_paper
from analysis.tables.comparisons import compare_rows, compared_pairs
from analysis.tables.content import RowComparison, RowRuns, TableContent
from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.endpoint_records import Endpoint
from analysis.tables.endpoints import (
    ComparedRows,
    endpoint_notes,
    endpoint_rule,
    endpoint_tables,
)
from analysis.tables.footnotes import notes
from analysis.tables.measurements import MeasuredEvaluation, Row, TableRecords
from analysis.tables.render import FORMATS
from analysis.tables.table_files import recorded_path, recorded_runs, refuse_other_file
from analysis.tables.table_rows import table_rows
from analysis.tables.text_reference_notes import text_reference_notes
from analysis.tables.verdicts import ROW_RULE, difference_rule
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
        if pairs := compared_pairs(self.records):
            rules.append(difference_rule(max(len(self.records.seeds_of(*pair)) for pair in pairs)))
        endpoints = self._endpoint_tables()
        rules += [endpoint_rule(endpoints)] if endpoints else []
        return TableContent(
            experiment=self.name,
            title=self.title,
            paper_table=self.paper_table,
            scale=self.scale,
            scale_description=self.scale_description,
            overrides=dict(self.overrides),
            columns=tuple(self.columns),
            rows=tuple(table_rows(self)),
            comparisons=tuple(self._comparisons()),
            rules=tuple(rules),
            notes=(
                *notes(self),
                *endpoint_notes(endpoints),
                *text_reference_notes(self.endpoints, self.rows, self.store),
            ),
            endpoints=endpoints,
            protocol=self._protocol(),
            photographs=self.records.photographs,
        )

    def _protocol(self) -> str:
        """The protocols of the measured rows, with the sizes of IC13 and IC15 if they are there."""
        evaluations = [evaluation for row in self.measured for evaluation in row.values()]
        names = {
            evaluation.protocol + (", released labels" if evaluation.labels == "released" else "")
            for evaluation in evaluations
        }
        sizes = {
            f"{subset.upper()}-{evaluation.counts[subset][1]}"
            for subset in ("ic13", "ic15")
            for evaluation in evaluations
            if subset in evaluation.counts
        }
        return ", ".join([*sorted(names), *sorted(sizes)])

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

    # The paper's numbers

    def reported_accuracies(self, number: int) -> dict[str, float]:
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

    def averaged_subsets(self, *numbers: int) -> list[str]:
        """The subsets averaged in Avg: the paper's if these rows have all of them, else all."""
        subsets = self.records.subsets_of(*numbers)
        paper = self.paper_columns()
        return list(paper) if paper and set(paper) <= set(subsets) else subsets

    # Differences

    def _comparisons(self) -> list[RowComparison]:
        return [self._comparison(*pair) for pair in compared_pairs(self.records)]

    def _comparison(self, number: int, other: int) -> RowComparison:
        subsets = self.averaged_subsets(number, other)
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
                set(self.averaged_subsets(row)) - set(subsets) for row in (number, other)
            ),
        )

    def _reported_difference(self, number: int, other: int) -> float | None:
        """The difference between two rows' reported Avg; None if the paper has none."""
        first = self.reported_accuracies(number).get("Avg")
        second = self.reported_accuracies(other).get("Avg")
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


def table_name(experiment: str, scale: str, overrides: Mapping[str, object]) -> str:
    """`EXPERIMENT.SCALE`, or `EXPERIMENT.SCALE.set-HASH` with settings of the command line."""
    if not overrides:
        return f"{experiment}.{scale}"
    settings = json.dumps(overrides, sort_keys=True, default=str).encode()
    return f"{experiment}.{scale}.set-{hashlib.sha256(settings).hexdigest()[:6]}"
