"""The metrics of a training by step, as JSON lines and for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path

from core.runtime.artifacts import METRICS, TENSORBOARD
from core.runtime.files import write_text


class MetricLog:
    """Writes `metrics.jsonl` and the TensorBoard files of a run's folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log to continue at `step`; entries of this step and later ones are removed."""
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        if path.exists():
            write_text(path, entries_before(path.read_text(), step))
        self.file = path.open("a")
        self.board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values at a step; no entry if there are none."""
        if not values:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        self.board.close()


def entries_before(text: str, step: int) -> str:
    """The complete JSON lines of steps before `step`. A line cut by a crash is dropped."""
    lines = text.splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("}\n")]
    return "".join(line for line in complete if json.loads(line)["step"] < step)
