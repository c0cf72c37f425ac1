"""Every number the paper prints, from `results/reported.yaml`."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError

REPORTED = Path(__file__).with_name("reported.yaml")


@cache
def _reported() -> dict[str, Any]:
    return yaml.safe_load(REPORTED.read_text(encoding="utf-8"))


def reported_subsets(table: str) -> list[str]:
    """Names of a reported table's columns. Raises UserError if there is no such table."""
    content = _reported()
    if table not in content["tables"]:
        names = ", ".join(content["tables"])
        raise UserError(f"table {table!r}: results/reported.yaml has none of that name; choose from {names}")
    return list(content["subsets"][content["tables"][table]["benchmark"]])


def reported_row(table: str, keys: Mapping[str, Any]) -> dict[str, float]:
    """The reported accuracies (percent) of the row that has all `keys`, with `Avg` and, where printed, `W-Avg`.

    {} if `keys` is empty. Raises UserError if no row has them all."""
    subsets = reported_subsets(table)
    rows = [row for row in _reported()["tables"][table]["rows"] if all(row.get(key) == value for key, value in keys.items())]
    if not keys:
        return {}
    if not rows:
        raise UserError(f"reported {dict(keys)}: no row of {table} in results/reported.yaml has all of these")
    values = dict(zip(subsets, rows[0]["values"], strict=True)) | {"Avg": rows[0].get("avg"), "W-Avg": rows[0].get("w_avg")}
    return {name: value for name, value in values.items() if value is not None}
