"""The time that a measurement may take, and what it left out to keep to that time.

The measurements of a command share `TOTAL_MINUTES` in proportion to their minutes in
`commands.MEASUREMENTS`. Time that one measurement does not use is left to the next ones. A slow
measurement has fewer repetitions, or leaves a part out. Each of these cuts is a sentence of the
report.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOTAL_MINUTES = 18.0  # below 20: a repetition that has begun is completed


@dataclass
class TimeBudget:
    """The time of one measurement. Without arguments it is unlimited.

    end: the reading of `time.monotonic` at which the measurement should be over. All processes of
        a machine have the same clock.
    cuts: a text for each part that was left out or shortened.
    """

    end: float = math.inf
    cuts: list[str] = field(default_factory=list)

    def remaining(self) -> float:
        """Seconds until the end; negative after it."""
        return self.end - time.monotonic()

    def allows(self, seconds: float) -> bool:
        """Whether work of this duration would end in time."""
        return seconds <= self.remaining()

    def allows_or_cut(self, part: str, seconds: float) -> bool:
        """Whether a part would end in time. If not, it is noted as left out.

        part: its name in the report.
        seconds: the expected time.
        """
        if self.allows(seconds):
            return True
        left = duration(max(self.remaining(), 0))
        self.cut(part, f"it would take about {duration(seconds)} and {left} are left")
        return False

    def cut(self, part: str, reason: str) -> None:
        """Note that a part of the measurement is left out."""
        self.cuts.append(f"{part}: left out, because {reason}")

    def note_repetitions(self, case: str, done: int, planned: int, seconds: float) -> None:
        """Note that a case has fewer repetitions than planned, if that is so.

        case: its name in the report.
        done, planned: numbers of repetitions.
        seconds: the time of one repetition.
        """
        if done < planned:
            self.cuts.append(
                f"{case}: {done} of {planned} repetitions fit in the time of this measurement, "
                f"because one takes {duration(seconds)}"
            )


def duration(seconds: float) -> str:
    """Seconds as text, from 90 s on in minutes."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def schedule(names: Sequence[str], minutes: Mapping[str, float]) -> list[float]:
    """For each measurement the seconds from the start of the command until its end.

    names: the chosen measurements, in their order.
    minutes: name -> share of the total time.
    """
    total = sum(minutes[name] for name in names)
    elapsed = 0.0
    ends = []
    for name in names:
        elapsed += minutes[name]
        ends.append(60 * TOTAL_MINUTES * elapsed / total)
    return ends
