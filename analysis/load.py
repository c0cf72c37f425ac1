"""Records -> what a table needs. Reads the results folder; never trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.metrics import PROTOCOLS, Reading, is_correct
from results.store import Store


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


def load_evaluation(store: Store, run_id: str) -> Measured | None:
    """A complete evaluation, or None."""
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = run.record()
    metrics = record["metrics"]
    protocol = PROTOCOLS[metrics["protocol"]]
    changes = " with uncommitted changes" if record["code"]["clean"] is False else ""
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
        commit=(record["code"]["commit"] or "unknown")[:10] + changes,
    )


def load_dropped(store: Store, run_id: str) -> dict[str, int]:
    """What a training run left out, by reason; {} unless it is complete."""
    run = store.run(run_id)
    return run.record()["metrics"]["dropped"] if run.state().name == "complete" else {}
