"""The experiment file that a stored table is of. Tables of files of one name would mix.

A table's JSON records the path of its experiment file, relative to the results folder, so that a
project and its results can be moved together. Tables of earlier versions record none.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.tables.content import RowRuns
from core.runtime.errors import UserError
from results.store import Store


def recorded_path(store: Store, file: Path) -> str:
    """The path of an experiment file as a table's JSON records it."""
    return Path(os.path.relpath(file.resolve(), store.root.resolve())).as_posix()


def other_file(store: Store, table: str, file: Path) -> Path | None:
    """The experiment file that a stored table is of, if it is another one that still exists.

    Args:
        store: The results folder.
        table: The name of the table's files, without suffix.
        file: The experiment file.
    """
    try:
        (content,) = json.loads(store.table(f"{table}.json").read_text(encoding="utf-8"))
        recorded = (store.root.resolve() / content["file"]).resolve()
        differs = recorded.is_file() and not (file.exists() and recorded.samefile(file))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # no table yet, one of an earlier version, or a damaged one
    return recorded if differs else None


def refuse_other_file(store: Store, table: str, file: Path) -> None:
    """Raise UserError if a table would be written over that of another experiment file.

    The arguments are those of `other_file`.
    """
    if other := other_file(store, table, file):
        raise UserError(
            f"{file}: its table {store.table(table)}.md is that of another file with this name, "
            f"{other}; rename one of them, or choose another folder with --results"
        )


def recorded_runs_of(store: Store, table: str, file: Path | None) -> dict[str, dict[int, RowRuns]]:
    """Row -> seed -> the runs that a stored table names; {} for a table of another file.

    Args:
        store: The results folder.
        table: The name of the table's files, without suffix.
        file: The experiment file; None if it is not known.
    """
    if file is not None and other_file(store, table, file):
        return {}
    return recorded_runs(store, table)


def recorded_runs(store: Store, table: str) -> dict[str, dict[int, RowRuns]]:
    """Row -> seed -> the runs that a stored table names.

    Empty if the table was never written or is damaged.
    """
    try:
        (content,) = json.loads(store.table(f"{table}.json").read_text(encoding="utf-8"))
        rows = content["known_runs"].items()
        return {
            name: {int(seed): _row_runs(runs) for seed, runs in seeds.items()}
            for name, seeds in rows
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _row_runs(runs: Mapping[str, Any]) -> RowRuns:
    """The runs of a row at one seed, from a table's JSON."""
    return RowRuns(
        str(runs["evaluate"]),
        tuple(map(str, runs["trainings"])),
        str(runs["teacher"]),
        tuple(map(str, runs.get("transfers", ()))),
        {str(name): str(run) for name, run in runs.get("probes", {}).items()},
    )
