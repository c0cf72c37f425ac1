"""Run folders: states, locks, records. Everything the suite writes lies below one results folder.

RESULTS/runs/STAGE-ID/   config.json state.json record.json predictions.csv correct.json validation.json, weights, losses
RESULTS/data/FINGERPRINT/SPLIT/   rendered words
RESULTS/tables/          tables, as Markdown, CSV and JSON
"""

import csv
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.runtime.artefacts import MODEL
from core.runtime.errors import UserError
from core.runtime.files import atomic_path, try_lock, write_text

StateName = Literal["planned", "queued", "running", "preempted", "failed", "lost", "complete"]
PREDICTION_COLUMNS = ("subset", "index", "label", "prediction", "confidence", "readable")


@dataclass(frozen=True)
class State:
    """What a run is doing, as written by the process that computes it."""

    name: StateName = "planned"
    message: str = ""
    user_error: bool = False  # failed by something that the user can mend
    process: str = ""  # host and process number
    updated: float = 0.0  # seconds since 1970
    done: int = 0
    total: int = 0
    unit: str = ""
    images_per_second: float = 0.0
    seconds_left: float = 0.0


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    def lock(self) -> Any:
        """Context manager: whether this process may compute the run now."""
        return try_lock(self.folder / ".lock")

    def held(self) -> bool:
        """Whether a process computes the run now, as far as locks reach (one machine, or a file system that shares them)."""
        with try_lock(self.folder / ".lock", shared=True) as free:
            return not free

    def state(self) -> State:
        """The run's state. A run that says it is running while nobody holds its lock was killed: it is preempted."""
        state = self.told()
        if state.name == "running" and not self.held():
            message = f"{state.process} is gone; the same command goes on from the last checkpoint"
            return replace(state, name="preempted", message=message)
        return state

    def told(self) -> State:
        """The state as the run's process wrote it at last.

        A record without a state was published: it is complete, although its weights may not be there."""
        path = self.folder / "state.json"
        try:
            return State(**json.loads(path.read_text()))
        except FileNotFoundError:
            return State("complete" if (self.folder / "record.json").exists() else "planned")
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: not a state file of this suite; delete it and run again"
            ) from error

    def set_state(self, name: StateName, **values: Any) -> None:
        """Write the state; atomically, with time and process."""
        process = f"{socket.gethostname()}:{os.getpid()}"
        state = State(name=name, process=process, updated=time.time(), **values)
        write_text(self.folder / "state.json", json.dumps(asdict(state)))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `name` in the run's folder, atomically."""
        write_text(self.folder / name, json.dumps(content, indent=1, ensure_ascii=False))

    def record(self) -> dict[str, Any]:
        """The record of a complete run. Raises UserError if there is none."""
        try:
            return json.loads((self.folder / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.folder}: no readable record.json; delete the folder and run again"
            ) from error

    def write_predictions(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """One row per test image, in the order of PREDICTION_COLUMNS."""
        with (
            atomic_path(self.folder / "predictions.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(PREDICTION_COLUMNS)
            writer.writerows(rows)

    def write_correct(self, correct: Mapping[str, Sequence[bool]]) -> None:
        """Which images of each subset were read right, in the order of `predictions.csv`: 4 to a hexadecimal digit.

        A short cut for tables, good for the predictions as they are now."""
        self.write_json(
            "correct.json", {"predictions": self._predictions_hash(), "subsets": _pack(correct)}
        )

    def correct(self) -> dict[str, np.ndarray] | None:
        """Subset -> (images,) 0 or 1; None where they were not stored, or of other predictions."""
        try:
            stored = json.loads((self.folder / "correct.json").read_text())
            if stored["predictions"] != self._predictions_hash():
                return None
            return _unpack(stored["subsets"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_validation(self, correct: Mapping[str, Sequence[bool]]) -> None:
        """Which images of each validation root a fine-tuned recognizer reads right, in their order."""
        self.write_json("validation.json", _pack(correct))

    def validation(self) -> dict[str, np.ndarray] | None:
        """Validation root -> (images,) 0 or 1; None where they were not stored."""
        try:
            return _unpack(
                json.loads((self.folder / "validation.json").read_text(encoding="utf-8"))
            )
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _predictions_hash(self) -> str:
        with (self.folder / "predictions.csv").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def predictions(self) -> list[tuple[str, ...]]:
        """The columns of `predictions.csv`, as text, in the order of PREDICTION_COLUMNS. Raises UserError if there are none."""
        try:
            with (self.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
                head, *rows = csv.reader(file)
            if tuple(head) != PREDICTION_COLUMNS:
                raise ValueError(f"its columns are {', '.join(head)}")
            if not rows or {len(row) for row in rows} != {len(head)}:
                raise ValueError("it is cut short")
        except (OSError, ValueError, csv.Error) as error:
            reason = f"no readable predictions.csv ({error})"
            raise UserError(f"{self.folder}: {reason}; delete the folder and run again") from error
        return list(zip(*rows, strict=True))


def _pack(correct: Mapping[str, Sequence[bool]]) -> dict[str, list[Any]]:
    """Name -> how many, and the bits, 4 to a hexadecimal digit."""
    return {name: [len(one), np.packbits(one).tobytes().hex()] for name, one in correct.items()}


def _unpack(packed: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    bits = {
        name: np.frombuffer(bytes.fromhex(digits), np.uint8) for name, (_, digits) in packed.items()
    }
    return {
        name: np.unpackbits(bits[name], count=count).astype(np.int8)
        for name, (count, _) in packed.items()
    }


@dataclass(frozen=True)
class Store:
    """A results folder."""

    root: Path

    def __post_init__(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--results {self.root}: a file, not a folder; name a folder")

    def check_writable(self) -> None:
        """Raise UserError unless files can be made here."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable.{os.getpid()}"
            write_text(probe, "")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{self.root}: cannot write here ({reason}); choose another folder with --results"
            ) from error

    def run(self, run_id: str) -> Run:
        return Run(self.root / "runs" / run_id)

    def weights(self, name: str) -> Path:
        """The weights that an input stands for: `file:PATH`, or the model of the run of that name."""
        return (
            Path(name.removeprefix("file:"))
            if name.startswith("file:")
            else self.run(name).folder / MODEL
        )

    def data(self, fingerprint: str) -> Path:
        """Where the rendered data set of that fingerprint lies."""
        return self.root / "data" / fingerprint

    def table(self, name: str) -> Path:
        return self.root / "tables" / name
