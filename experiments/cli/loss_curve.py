"""The curve of the loss that `watch` shows for a run."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from experiments.cli.jobs import tail

MAX_LOG_LINES = 600  # last lines of a log that make a curve
LEVELS = "▁▂▃▄▅▆▇█"  # characters of a curve, from the lowest value to the highest
CURVE_WIDTH = 12  # characters of a curve


def sparkline(values: Sequence[float], width: int) -> str:
    """(N,) values -> at most `width` characters, from the lowest value to the highest.

    Each character is the mean of an equal part of the values."""
    if not values:
        return ""
    count = min(width, len(values))
    borders = [len(values) * part // count for part in range(count + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(borders)]
    lowest = min(means)
    span = max(means) - lowest or 1.0
    levels = [round((len(LEVELS) - 1) * (mean - lowest) / span) for mean in means]
    return "".join(LEVELS[level] for level in levels)


@dataclass(frozen=True)
class LossCurve:
    """The end of a run's log.

    losses: of the last logged steps.
    validation: the last accuracy on the validation images (mean over roots); None: not logged."""

    losses: tuple[float, ...] = ()
    validation: float | None = None

    @classmethod
    def read(cls, path: Path) -> "LossCurve":
        """The curve of a metrics.jsonl. Lines that are damaged or cut short are skipped."""
        losses: list[float] = []
        validation = None
        for text in tail(path, MAX_LOG_LINES):
            try:
                entry = json.loads(text)
                loss = entry.get("loss", math.nan)
                if math.isfinite(loss):
                    losses.append(loss)
                if "validation_avg" in entry:
                    validation = float(entry["validation_avg"])
            except (ValueError, TypeError, AttributeError):
                continue
        return cls(tuple(losses), validation)

    def text(self) -> str:
        """Curve, last loss and validation accuracy; "" before the first loss."""
        if not self.losses:
            return ""
        text = f"{sparkline(self.losses, CURVE_WIDTH):{CURVE_WIDTH}}  {self.losses[-1]:<6.4g}"
        if self.validation is not None:
            text += f"  {100 * self.validation:.1f} % correct"
        return text.rstrip()


class LossCurves:
    """Curves by log file; a log is read again only after it has changed."""

    def __init__(self) -> None:
        self.stored: dict[Path, tuple[tuple[int, int], LossCurve]] = {}

    def curve(self, path: Path) -> LossCurve:
        """The curve of a metrics.jsonl; an empty one if the file does not exist."""
        try:
            status = path.stat()
        except OSError:
            return LossCurve()
        version = (status.st_mtime_ns, status.st_size)
        if path not in self.stored or self.stored[path][0] != version:
            self.stored[path] = (version, LossCurve.read(path))
        return self.stored[path][1]
