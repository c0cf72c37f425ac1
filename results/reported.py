"""The numbers that papers report: `results/reported.yaml`, checked against a closed schema."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.number_types import Integer, Number
from core.runtime.validation import first_problem
from core.runtime.yaml import read_yaml

REPORTED = Path(__file__).with_name("reported.yaml")
METRICS = {  # benchmark -> protocol of core.text.protocols
    "union14m_benchmark": "waics",
    "common": "waics",
    "chinese": "chinese",
    "extended": "waics",
}
SETTINGS = ("guidance", "alignment", "augmentation", "decoder", "target", "mask", "ratio")
Percent = Annotated[Number, Field(ge=0, le=100)]
Note = str | dict[str, Integer]


class ReportedRow(FrozenModel):
    """One row of a table of the paper.

    guidance to labels: what distinguishes the row; a row has the keys that apply to its table.
    values: accuracy of each subset in percent; None where the paper has no number.
    avg, w_avg: the averages as printed.
    recomputed: the paper's authors computed the row from others' results.
    params_m: parameters in millions.
    ours: the paper's authors trained the model.
    default: the row with the authors' choice.
    note: a remark.
    """

    guidance: bool | None = None
    alignment: bool | None = None
    augmentation: str | None = None
    decoder: str | None = None
    target: str | None = None
    mask: str | None = None
    ratio: Number | None = None
    method: str | None = None
    source: str | None = None
    pretrained: bool | None = None
    pretrain: str | None = None
    finetune: str | None = None
    epochs: Integer | None = None
    labels: str | None = None
    values: tuple[Percent | None, ...]
    avg: Percent | None = None
    w_avg: Percent | None = None
    recomputed: bool = False
    params_m: Number | None = None
    ours: bool = False
    default: bool = False
    note: str = ""

    def name(self) -> str:
        """A name for the row, for tables in which no row of an experiment reproduces it."""
        if self.method is None:
            values = {key: getattr(self, key) for key in SETTINGS}
            return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
        details = ["pre-trained"] if self.pretrained else []
        details += [f"{self.epochs} epochs"] if self.epochs else []
        details += [f"{self.labels} labels"] if self.labels else []
        data = "" if self.finetune is None else f" on {self.finetune}"
        return f"{', '.join([f'{self.method}{data}', *details])} ({self.source})"


class ReportedTable(FrozenModel):
    """One table of the paper, or of numbers of others.

    title: its title.
    benchmark: a benchmark of `subsets`, whose subsets are the columns.
    recipe: `ablation` if the paper's authors trained all rows.
    protocol: of a table of others: who evaluated, and how. Empty for a table of the paper.
    rows: the rows in the paper's order.
    """

    title: str
    benchmark: str
    recipe: Literal["ablation"] | None = None
    protocol: str = ""
    rows: Annotated[tuple[ReportedRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_one_default(self) -> "ReportedTable":
        if sum(row.default for row in self.rows) > 1:
            raise ValueError("more than one row is the default")
        return self

    @property
    def is_of_paper(self) -> bool:
        """Whether this is a table of the LMIM paper."""
        return not self.protocol

    def is_authors_row(self, number: int) -> bool:
        """Whether the paper's authors trained row `number`."""
        return self.recipe == "ablation" or self.rows[number].ours


class Misprint(FrozenModel):
    """A row whose printed Avg is not the mean of its printed values."""

    table: str
    method: str
    source: str
    printed: Percent
    mean: Percent


class ExternalResult(FrozenModel):
    """A result of another paper under another evaluation, shown below a table.

    table: below which it is shown.
    source: who reports it.
    protocol: label version and sizes of IC13 and IC15, as far as the source states them.
    values: accuracy of each subset in percent; None if they are not known here.
    avg: the mean over subsets.
    """

    table: str
    method: str
    source: str
    protocol: str
    values: tuple[Percent, ...] | None = None
    avg: Percent


class Reported(FrozenModel):
    """The content of `reported.yaml`.

    subsets: benchmark -> its subsets, the columns of its tables.
    protocol_notes: remarks on protocols and sizes of benchmarks.
    tables: name -> table.
    misprints: rows whose printed average is wrong.
    external_results: results of other papers.
    """

    subsets: dict[str, tuple[str, ...]]
    protocol_notes: dict[str, dict[str, Note]]
    tables: dict[str, ReportedTable]
    misprints: tuple[Misprint, ...]
    external_results: tuple[ExternalResult, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> "Reported":
        for name, table in self.tables.items():
            if table.benchmark not in self.subsets or table.benchmark not in METRICS:
                raise ValueError(
                    f"{name}: benchmark {table.benchmark!r} has no subsets here, or no protocol"
                )
            columns = len(self.subsets[table.benchmark])
            for row in table.rows:
                if len(row.values) != columns:
                    raise ValueError(
                        f"{name}: {row.name()}: {len(row.values)} values for {columns} columns"
                    )
        for result in self.external_results:
            if result.values is None or result.table not in self.tables:
                continue
            columns = len(self.subsets[self.tables[result.table].benchmark])
            if len(result.values) != columns:
                raise ValueError(
                    f"external_results: {result.method} in {result.table}: "
                    f"{len(result.values)} values for {columns} columns"
                )
        used = [misprint.table for misprint in self.misprints]
        used += [result.table for result in self.external_results]
        for name in used:
            if name not in self.tables:
                raise ValueError(f"{name}: no table of that name")
        return self


def read_reported(path: Path) -> Reported:
    """The content of a file of reported numbers. Raises UserError with file and key."""
    try:
        return Reported.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from error


@cache
def reported() -> Reported:
    """The content of `results/reported.yaml`."""
    return read_reported(REPORTED)


def reported_table(name: str) -> ReportedTable:
    """A table by its name. Raises UserError with the known names."""
    tables = reported().tables
    if name not in tables:
        raise UserError(
            f"unknown table {name!r}: not in results/reported.yaml; choose from {', '.join(tables)}"
        )
    return tables[name]


def find_row(table: str, keys: Mapping[str, str | bool | float | None]) -> int | None:
    """The number of the row that has all values of `keys`; None if `keys` is empty.

    table: the name of the table.
    keys: key -> value of the row; None means that the row has no such key.

    Raises UserError unless exactly one row has all values.
    """
    rows = reported_table(table).rows
    if not keys:
        return None
    if unknown := keys.keys() - ReportedRow.model_fields.keys():
        raise UserError(f"reported: {min(unknown)}: no row of results/reported.yaml has such a key")
    matches = [
        number
        for number, row in enumerate(rows)
        if all(_is_same(getattr(row, key), value) for key, value in keys.items())
    ]
    source = f"reported {dict(keys)}"
    if not matches:
        raise UserError(f"{source}: no row of {table} in results/reported.yaml has all of these")
    if len(matches) > 1:
        raise UserError(
            f"{source}: {len(matches)} rows of {table} in results/reported.yaml have all of these; "
            "name more keys"
        )
    return matches[0]


def _is_same(reported: object, given: object) -> bool:
    """Whether two values are equal. A truth value is never a number, although 1 == True."""
    return isinstance(reported, bool) == isinstance(given, bool) and reported == given


def reported_values(table: str, number: int) -> dict[str, float]:
    """The numbers of a row: subset, `Avg` and `W-Avg` -> accuracy in percent."""
    reported_rows = reported_table(table)
    row = reported_rows.rows[number]
    columns = (*reported().subsets[reported_rows.benchmark], "Avg", "W-Avg")
    values = (*row.values, row.avg, row.w_avg)
    return {name: value for name, value in zip(columns, values, strict=True) if value is not None}
