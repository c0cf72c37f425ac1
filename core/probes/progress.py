"""Progress of a probe, and whether it is asked to stop."""

import time

from core.training.run_context import Interrupted, RunContext, RunProgress


class ProbeProgress:
    """Reports the progress of one part of a probe about once a second."""

    def __init__(self, context: RunContext, total: int, unit: str, note: str) -> None:
        """context: how the run is computed. total: of `unit` (images, steps). note: of the part."""
        self.context = context
        self.total = total
        self.unit = unit
        self.note = note
        self.done = 0
        self.images = 0
        self.started = time.monotonic()
        self.last_report = self.started

    def advance(self, done: int, images: int) -> None:
        """Count `done` units and `images`; report them. Raises Interrupted."""
        self.done += done
        self.images += images
        if self.context.process_group.is_main and self.context.should_stop():
            raise Interrupted(f"stopped while computing {self.note}; the probe restarts")
        now = time.monotonic()
        if now - self.last_report < 1 and self.done < self.total:
            return
        self.last_report = now
        seconds = max(now - self.started, 1e-9)
        seconds_left = (self.total - self.done) * seconds / max(self.done, 1)
        self.context.on_progress(
            RunProgress(
                self.done, self.total, self.unit, self.images / seconds, seconds_left, self.note
            )
        )
