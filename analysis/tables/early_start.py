"""When a recognizer starts to read: the steps until half of the validation words are read.

The logs of fine-tuning have the accuracy on the validation words: at the ends of epochs, and every
`finetune.validate_every` steps. A seed whose accuracy stays below the half never reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from analysis.tables.content import PercentEstimate
from analysis.tables.intervals import wilson
from analysis.tables.table import Table
from analysis.tables.text_grid import ABSENT, TextGrid
from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from results.records import StoredTraining, read_record
from results.store import Run

READING = 0.5  # a recognizer reads if it recognizes this share of the validation words
RULE = (
    "Steps until the recognizer reads half of the validation words, at the first validation at "
    "which it does. The median counts seeds that never read as later than all others; the range is "
    "that of the seeds that read. The interval of `never` is Wilson's and covers seeds"
)


@dataclass(frozen=True)
class ReadingCurve:
    """The accuracy of one fine-tuning on the validation words.

    run, seed: of the fine-tuning.
    steps: done at each validation, ascending.
    accuracies: shares of the validation words, (validations,).
    images_per_step: mean over the training.
    """

    run: str
    seed: int
    steps: tuple[int, ...]
    accuracies: tuple[float, ...]
    images_per_step: float

    @property
    def start(self) -> int | None:
        """The steps until half of the words are read; None if they never are."""
        pairs = zip(self.steps, self.accuracies, strict=True)
        return next((step for step, accuracy in pairs if accuracy >= READING), None)


@dataclass(frozen=True, kw_only=True)
class EarlyStart:
    """When the recognizers of one row start to read.

    row: its name.
    by_seed: seed -> steps, or None if it never reads.
    median: steps, over all seeds; None if half of them or more never read.
    first, last: steps of the first and the last seed that reads; None if none does.
    median_images: as `median`, in images.
    last_step: steps of the whole training.
    never: the share of the seeds that never read, with Wilson's interval.
    """

    row: str
    by_seed: Mapping[int, int | None]
    median: float | None
    first: int | None
    last: int | None
    median_images: float | None
    last_step: int
    never: PercentEstimate


def reading_curve(run: Run, seed: int) -> ReadingCurve | None:
    """The curve of a complete fine-tuning; None if its log has no validation.

    Raises UserError if its log or its record cannot be read."""
    path = run.folder / METRICS
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        points = [
            (entry["step"] + 1, entry["validation_correct"] / entry["validation_images"])
            for entry in entries
            if "validation_correct" in entry
        ]
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run it again") from error
    if not points:
        return None
    metrics = read_record(run, StoredTraining).metrics
    steps, accuracies = zip(*points, strict=True)
    return ReadingCurve(run.folder.name, seed, steps, accuracies, metrics.images_seen / max(steps))


def reading_curves(table: Table) -> dict[str, list[ReadingCurve]]:
    """Row -> the curves of its complete fine-tunings, by seed.

    Raises UserError if there is none."""
    curves: dict[str, list[ReadingCurve]] = {}
    for row in table.rows:
        for seed, trainings in sorted(row.trainings.items()):
            runs = [table.store.run(name) for name in trainings if name.startswith("finetune")]
            complete = [run for run in runs if run.state().name == "complete"]
            found = [curve for run in complete if (curve := reading_curve(run, seed))]
            curves.setdefault(row.name, []).extend(found)
    if not any(curves.values()):
        raise UserError(
            f"{table.name}: no complete fine-tuning with validations; set finetune.validation and "
            "finetune.validate_every, and run it"
        )
    return {row: of_row for row, of_row in curves.items() if of_row}


def early_start(row: str, curves: Sequence[ReadingCurve]) -> EarlyStart:
    """When the recognizers of a row start to read. curves: one for each seed, at least one."""
    starts = [curve.start for curve in curves]
    read = [start for start in starts if start is not None]
    middle = median(inf if start is None else start for start in starts)
    images = middle * sum(curve.images_per_step for curve in curves) / len(curves)
    never = wilson(starts.count(None), len(starts))
    return EarlyStart(
        row=row,
        by_seed={curve.seed: curve.start for curve in curves},
        median=None if middle == inf else middle,
        first=min(read, default=None),
        last=max(read, default=None),
        median_images=None if middle == inf else round(images),
        last_step=max(curve.steps[-1] for curve in curves),
        never=PercentEstimate.of(never),
    )


HEAD = ["row", "seeds", "median steps", "images", "range of steps", "never", "95 % interval"]


def early_start_grid(starts: Sequence[EarlyStart]) -> TextGrid:
    """The rows as a grid of text."""
    return TextGrid(HEAD, [_cells(start) for start in starts])


def _cells(start: EarlyStart) -> list[str]:
    later = f"over {start.last_step:,}"
    images = ABSENT if start.median_images is None else f"{start.median_images:,}"
    never = sum(step is None for step in start.by_seed.values())
    return [
        start.row,
        f"{len(start.by_seed)}",
        later if start.median is None else f"{start.median:,.0f}",
        images,
        ABSENT if start.first is None else f"{start.first:,} to {start.last:,}",
        f"{never} of {len(start.by_seed)}",
        f"{start.never.low:.0f} to {start.never.high:.0f} %",
    ]
