"""Which runs fill the rows of a stored table, from its JSON (`tables/NAME.SCALE.json`)."""

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from core.runtime.errors import UserError
from results.records import Stored
from results.store import Store


class StoredRowRuns(Stored):
    """The runs of a row at one seed.

    evaluate: id of the evaluation.
    trainings: ids of the training runs.
    teacher: id of the teacher's run, `file:PATH`, or empty.
    transfers: ids of the evaluations of further fine-tunings.
    probes: name -> id.
    """

    evaluate: str
    trainings: tuple[str, ...]
    teacher: str = ""
    transfers: tuple[str, ...] = ()
    probes: dict[str, str] = Field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """The ids of all runs."""
        names = {self.evaluate, *self.trainings, self.teacher, *self.transfers}
        return {name for name in names | set(self.probes.values()) if _is_run(name)}


def _is_run(name: str) -> bool:
    return bool(name) and not name.startswith("file:")


class _Row(Stored):
    name: str
    # absent from rows that only the paper has
    runs: dict[int, StoredRowRuns] = Field(default_factory=dict)


class _Table(Stored):
    rows: tuple[_Row, ...]


_Tables = TypeAdapter(Annotated[tuple[_Table, ...], Field(min_length=1, max_length=1)])


def table_runs(store: Store, experiment: str, scale: str) -> dict[str, dict[int, set[str]]]:
    """Row -> seed -> ids of its runs; empty without a stored table.

    store: the results folder.
    experiment: the name of the experiment's file.
    scale: the name of the scale.

    Raises UserError if the file is damaged."""
    path = store.table(f"{experiment}.{scale}.json")
    if not path.is_file():
        return {}
    try:
        (table,) = _Tables.validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: not a table of this suite; move it aside") from error
    return {
        row.name: {seed: runs.ids for seed, runs in row.runs.items()}
        for row in table.rows
        if row.runs
    }
