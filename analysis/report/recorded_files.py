"""Finds the experiment files and the scale of the tables that a results folder holds."""

import re
from collections.abc import Sequence
from pathlib import Path

from core.runtime.errors import UserError
from experiments.planning.schema import read_experiment
from results.provenance import REPOSITORY, display_path
from results.reported import reported_table

TABLE_FILE = re.compile(r"(?P<experiment>[^.]+)\.(?P<scale>[^.]+)\.json")
DEFAULT_SCALE = "mini"


def recorded_tables_in(results: Path) -> list[tuple[str, str]]:
    """(experiment, scale) of all tables in a results folder, but those made with `--set`."""
    matches = (TABLE_FILE.fullmatch(path.name) for path in sorted(results.glob("tables/*.json")))
    return [(match["experiment"], match["scale"]) for match in matches if match]


def recorded_files(results: Path, scale: str | None) -> tuple[list[Path], str]:
    """The experiment files whose tables a results folder holds, and their scale.

    scale: None if the folder has tables of one scale only. Raises UserError if there are no such
    tables, or tables of several scales."""
    files = {path.stem: path for path in sorted((REPOSITORY / "experiments").glob("*.yaml"))}
    tables = [(name, of_table) for name, of_table in recorded_tables_in(results) if name in files]
    chosen = scale or recorded_scale(results, [name for name, _ in tables]) or DEFAULT_SCALE
    recorded = [files[name] for name, of_table in tables if of_table == chosen]
    if recorded:
        return recorded, chosen
    message = f"{display_path(results)}: holds no table of scale {chosen}"
    if tables:
        message += f"; there are tables of {', '.join(sorted({name for _, name in tables}))}"
    if any(results.glob("tables/*.set-*.json")):
        message += "; tables made with --set are left out"
    raise UserError(f"{message}; run an experiment first, or name its FILE")


def recorded_scale(results: Path, experiments: Sequence[str]) -> str | None:
    """The scale of a results folder's tables of some experiments; None if there are none.

    Raises UserError if they have several scales."""
    tables = recorded_tables_in(results)
    scales = sorted({scale for experiment, scale in tables if experiment in experiments})
    if len(scales) > 1:
        raise UserError(
            f"{display_path(results)}: holds tables of the scales {', '.join(scales)}; "
            "choose one with --scale"
        )
    return scales[0] if scales else None


def paper_files() -> list[Path]:
    """The experiment files that reproduce a table of the paper."""
    files = sorted((REPOSITORY / "experiments").glob("*.yaml"))
    tables = {path: read_experiment(path).table for path in files}
    return [path for path, table in tables.items() if table and reported_table(table).is_of_paper]
