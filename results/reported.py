"""Every number the paper prints, from `results/reported.yaml`, checked against a closed schema."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml

REPORTED = Path(__file__).with_name("reported.yaml")
METRICS = {
    "union14m_benchmark": "waics",
    "common": "waics",
    "chinese": "chinese",
}  # benchmark -> protocol of core.text.protocols
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]


class ReportedRow(FrozenModel):
    """One printed row: what it is, its accuracies in percent (None where the paper has none), the averages as printed.

    `ours`: the paper's authors trained it. `recomputed`: they recomputed it from others' results. `default`: their choice."""

    guidance: bool | None = None
    alignment: bool | None = None
    augmentation: str | None = None
    decoder: str | None = None
    target: str | None = None
    mask: str | None = None
    ratio: float | None = None
    method: str | None = None
    source: str | None = None
    pretrained: bool | None = None
    pretrain: str | None = None
    finetune: str | None = None
    epochs: int | None = None
    labels: str | None = None
    values: tuple[Percent | None, ...]
    avg: Percent | None = None
    w_avg: Percent | None = None
    recomputed: bool = False
    params_m: float | None = None
    ours: bool = False
    default: bool = False
    note: str = ""

    def name(self) -> str:
        """What the row is called where no row of an experiment stands for it."""
        if self.method is None:
            keys = ("guidance", "alignment", "augmentation", "decoder", "target", "mask", "ratio")
            return ", ".join(
                f"{key} {getattr(self, key)}" for key in keys if getattr(self, key) is not None
            )
        trained = "" if self.finetune is None else f" on {self.finetune}"
        more = ["pre-trained"] if self.pretrained else []
        more += [f"{self.epochs} epochs"] if self.epochs else []
        more += [f"{self.labels} labels"] if self.labels else []
        return f"{self.method}{trained}{''.join(f', {part}' for part in more)} ({self.source})"


class ReportedTable(FrozenModel):
    """One table of the paper. `recipe`: ablation, where all rows are the authors' own."""

    title: str
    benchmark: str
    recipe: Literal["ablation"] | None = None
    rows: Annotated[tuple[ReportedRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_default(self) -> "ReportedTable":
        if sum(row.default for row in self.rows) > 1:
            raise ValueError("more than one row is the default")
        return self

    def own(self, number: int) -> bool:
        """Whether the paper's authors trained row `number`."""
        return self.recipe == "ablation" or self.rows[number].ours


class Misprint(FrozenModel):
    """A row whose printed Avg is not the mean of its printed values."""

    table: str
    method: str
    source: str
    printed: Percent
    mean: Percent


class Beside(FrozenModel):
    """A result of others under another harness, shown below a table."""

    table: str
    method: str
    avg: Percent


class Reported(FrozenModel):
    """The whole file."""

    subsets: dict[str, tuple[str, ...]]
    protocol_notes: dict[str, Any]
    tables: dict[str, ReportedTable]
    misprints: tuple[Misprint, ...]
    beside: tuple[Beside, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Reported":
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
        for name in (*(one.table for one in self.misprints), *(one.table for one in self.beside)):
            if name not in self.tables:
                raise ValueError(f"{name}: no table of that name")
        return self


def read_reported(path: Path) -> Reported:
    """The numbers in a file. Raises UserError if it is none, or does not follow the schema."""
    try:
        return Reported.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = error.errors()[0]
        told = (*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, "))
        raise UserError(f"{path}: {'.'.join(told[:-1])}: {told[-1]}") from error


@cache
def reported() -> Reported:
    """The numbers of `results/reported.yaml`."""
    return read_reported(REPORTED)


def reported_table(name: str) -> ReportedTable:
    """A table by its name. Raises UserError if there is none of that name."""
    if name not in reported().tables:
        raise UserError(
            f"table {name!r}: results/reported.yaml has none of that name; choose from {', '.join(reported().tables)}"
        )
    return reported().tables[name]


def find_row(table: str, keys: Mapping[str, Any]) -> int | None:
    """The number of the row that has all `keys` (null: that says nothing of a key); None if `keys` is empty.

    Raises UserError unless it is exactly one."""
    rows = reported_table(table).rows
    if not keys:
        return None
    if unknown := keys.keys() - ReportedRow.model_fields.keys():
        raise UserError(f"reported: {min(unknown)}: no row of results/reported.yaml has such a key")
    found = [
        number
        for number, row in enumerate(rows)
        if all(getattr(row, key) == value for key, value in keys.items())
    ]
    if len(found) != 1:
        many = (
            f"{len(found)} rows of {table} in results/reported.yaml have all of these; say more"
            if found
            else ""
        )
        raise UserError(
            f"reported {dict(keys)}: {many or f'no row of {table} in results/reported.yaml has all of these'}"
        )
    return found[0]


def reported_values(table: str, number: int) -> dict[str, float]:
    """Subset, `Avg` and `W-Avg` -> accuracy in percent, of what the row has."""
    row = reported_table(table).rows[number]
    columns = (*reported().subsets[reported_table(table).benchmark], "Avg", "W-Avg")
    values = zip(columns, (*row.values, row.avg, row.w_avg), strict=True)
    return {name: value for name, value in values if value is not None}
