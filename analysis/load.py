"""Records -> what a table needs. Reads the results folder and the reported numbers; never trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from core.metrics import PROTOCOLS, Reading, is_correct
from results.store import Store

REPORTED = Path(__file__).resolve().parent.parent / "results" / "reported.yaml"


@dataclass(frozen=True)
class Row:
    """One row of a table: its name, what identifies its reported twin, and by seed the runs whose counts fill it."""

    name: str
    reported: Mapping[str, Any]
    evaluations: Mapping[int, str]  # seed -> evaluate run
    trainings: Mapping[int, tuple[str, ...]]  # seed -> the training runs below it


@dataclass(frozen=True)
class Measured:
    """One evaluation: counts per subset, which images were right, and what was dropped on the way."""

    run: str
    counts: dict[str, tuple[int, int]]  # subset -> (correct, images)
    correct: dict[str, np.ndarray]  # subset -> (images,) 0 or 1, in the order of the images
    dropped: dict[str, dict[str, int]]
    protocol: str
    statement: str
    commit: str


@cache
def _reported() -> dict[str, Any]:
    return yaml.safe_load(REPORTED.read_text(encoding="utf-8"))


def reported_subsets(table: str) -> list[str]:
    """Names of a reported table's columns."""
    content = _reported()
    return list(content["subsets"][content["tables"][table]["benchmark"]])


def reported_row(table: str, keys: Mapping[str, Any]) -> dict[str, float]:
    """The reported accuracies (percent) of the row that has all `keys`, with `Avg` and, where printed, `W-Avg`; {} if none."""
    for row in _reported()["tables"][table]["rows"]:
        if keys and all(row.get(key) == value for key, value in keys.items()):
            values = dict(zip(reported_subsets(table), row["values"], strict=True))
            averages = {"Avg": row.get("avg"), "W-Avg": row.get("w_avg")}
            return {name: value for name, value in (values | averages).items() if value is not None}
    return {}


def load_evaluation(store: Store, run_id: str) -> Measured | None:
    """A complete evaluation, or None."""
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = run.record()
    metrics = record["metrics"]
    protocol = PROTOCOLS[metrics["protocol"]]
    correct: dict[str, list[int]] = {name: [] for name in metrics["counts"]}
    for row in run.predictions():
        reading = Reading(int(row["index"]), row["label"], row["prediction"], float(row["confidence"]), row["readable"] == "1")
        correct[row["subset"]].append(int(is_correct(reading, protocol)))
    return Measured(
        run=run_id,
        counts={name: (value["correct"], value["images"]) for name, value in metrics["counts"].items()},
        correct={name: np.array(values) for name, values in correct.items()},
        dropped=metrics["dropped"],
        protocol=metrics["protocol"],
        statement=metrics["protocol_statement"],
        commit=(record["code"]["commit"] or "unknown")[:10] + ("" if record["code"]["clean"] else " with uncommitted changes"),
    )


def load_dropped(store: Store, run_id: str) -> dict[str, int]:
    """What a training run left out, by reason; {} unless it is complete."""
    run = store.run(run_id)
    return run.record()["metrics"]["dropped"] if run.state().name == "complete" else {}
