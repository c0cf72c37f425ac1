"""The results folder: states, locks, records and predictions of runs.

RESULTS/runs/STAGE-ID/           one run: config.json, state.json, record.json, weights, losses, ...
RESULTS/data/FINGERPRINT/SPLIT/  rendered words; boxes-FINGERPRINT: words with boxes
RESULTS/decoded/                 pixels of word images (`core.data.decoded_cache`)
RESULTS/targets/                 features of teachers (`core.training.target_cache`)
RESULTS/tables/                  tables as Markdown, CSV and JSON
RESULTS/jobs/                    submissions to a cluster, with the output of their jobs

`results/README.md` lists the files and the fields of record.json.
"""

import csv
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.runtime.artifacts import MODEL
from core.runtime.errors import UserError
from core.runtime.files import (
    FULL_DISK_ERRORS,
    overwrite_text,
    try_lock,
    write_csv,
    write_text,
)
from core.runtime.former_keys import current_root
from results.prediction_files import (
    NLL_COLUMN,
    PREDICTION_COLUMNS,
    WORDS,
    is_split,
    read_rows,
)

StateName = Literal["planned", "queued", "running", "preempted", "failed", "lost", "complete"]
MOVE_FOLDER = "move the run's folder aside and run again"
Correct = NDArray[np.int8]  # (images,) 1 where the recognized text is correct


@dataclass(frozen=True)
class State:
    """What a run is doing: the content of state.json, written by the process that computes it.

    `done` of `total` are counted in `unit`s (steps, images)."""

    name: StateName = "planned"
    message: str = ""
    user_error: bool = False  # the run failed for a reason that the user can fix
    process: str = ""  # HOST:PID
    updated: float = 0.0  # seconds since 1970
    done: int = 0
    total: int = 0
    unit: str = ""
    images_per_second: float = 0.0
    seconds_left: float = 0.0
    device: str = ""  # that computes it, e.g. cuda:2; "" if it is unknown


def process_name(number: int) -> str:
    """HOST:PID of a process of this machine, as a state names it. number: the process number."""
    return f"{socket.gethostname()}:{number}"


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    def lock(self) -> AbstractContextManager[bool]:
        """Try to lock the run; yields whether this process may compute it now."""
        return try_lock(self.folder / ".lock")

    def is_locked(self) -> bool:
        """Whether a process computes the run now.

        Locks are visible on one machine, and between machines if the file system shares them."""
        with try_lock(self.folder / ".lock", shared=True) as free:
            return not free

    def state(self) -> State:
        """The run's state; "preempted" if it was running and its process is gone.

        Raises UserError if state.json is damaged."""
        state = self.last_written_state()
        if state.name == "running" and not self.is_locked():
            message = (
                f"process {state.process} ended; "
                "run the same command again to resume from the last checkpoint"
            )
            return replace(state, name="preempted", message=message)
        return state

    def last_written_state(self) -> State:
        """The content of state.json, whether or not its process still exists.

        A run with a record and without a state was published: it is complete, and its weights may
        be absent. Raises UserError if state.json is damaged."""
        path = self.folder / "state.json"
        try:
            return State(**json.loads(path.read_text()))
        except FileNotFoundError:
            return State("complete" if (self.folder / "record.json").exists() else "planned")
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: not a state file of this suite; move it aside and run again"
            ) from error

    def set_state(self, name: StateName, **values: Any) -> None:
        """Write state.json with the time and this process: atomically, except on a full disk."""
        process = process_name(os.getpid())
        state = State(name=name, process=process, updated=time.time(), **values)
        path = self.folder / "state.json"
        text = json.dumps(asdict(state))
        try:
            write_text(path, text)
        except OSError as error:
            if error.errno not in FULL_DISK_ERRORS or not path.exists():
                raise
            overwrite_text(path, text)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `name` in the run's folder, atomically."""
        write_text(self.folder / name, json.dumps(content, indent=1, ensure_ascii=False))

    def record(self) -> dict[str, Any]:
        """The content of record.json. Raises UserError if it is absent or not a JSON object."""
        try:
            content = json.loads((self.folder / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder}: no readable record.json; {MOVE_FOLDER}") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.folder}: record.json is not a JSON object; {MOVE_FOLDER}")
        return content

    def _predictions_path(self, earlier: int = 0) -> Path:
        return self.folder / (f"predictions-{earlier}.csv" if earlier else "predictions.csv")

    def write_predictions(self, rows: Iterable[tuple[Any, ...]], earlier: int = 0) -> None:
        """Write predictions.csv: a row for each test image, PREDICTION_COLUMNS and NLL_COLUMN.

        earlier: number of an earlier checkpoint (predictions-1.csv, ...); 0: the last one."""
        write_csv(self._predictions_path(earlier), (*PREDICTION_COLUMNS, NLL_COLUMN), rows)

    def write_correct(self, correct: Mapping[str, Sequence[bool]]) -> None:
        """Write correct.json: which images of each subset were recognized correctly.

        A cache for tables; it is valid only for the predictions.csv whose hash it contains.

        correct: subset -> (images,) in the order of predictions.csv."""
        self.write_json(
            "correct.json", {"predictions": self._predictions_hash(), "subsets": _pack(correct)}
        )

    def correct(self) -> dict[str, Correct] | None:
        """Subset -> (images,) 0 or 1; None if correct.json is absent, damaged or out of date."""
        try:
            stored = json.loads((self.folder / "correct.json").read_text(encoding="utf-8"))
            if stored["predictions"] != self._predictions_hash():
                return None
            return _unpack(stored["subsets"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_validation(self, correct: Mapping[str, Sequence[bool]]) -> None:
        """Write validation.json: which images of each validation root were recognized correctly."""
        self.write_json("validation.json", _pack(correct))

    def validation(self) -> dict[str, Correct] | None:
        """Validation root -> (images,) 0 or 1; None if validation.json is absent or damaged."""
        try:
            text = (self.folder / "validation.json").read_text(encoding="utf-8")
            correct = _unpack(json.loads(text))
            return {current_root(root): values for root, values in correct.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write_photos(self, photos: Mapping[str, Sequence[str]]) -> None:
        """Write photos.json: the photos that the words of subsets were cut from, if any is known.

        photos: subset -> (images,) names in the order of predictions.csv, "" where unknown."""
        known = {subset: names for subset, names in photos.items() if any(names)}
        if known:
            self.write_json(
                "photos.json", {subset: _pack_names(names) for subset, names in known.items()}
            )

    def photos(self) -> dict[str, list[str]]:
        """Subset -> (images,) names of photos; without the subsets that name none.

        {} if there is no photos.json. Raises UserError if it is damaged."""
        path = self.folder / "photos.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return {
                subset: [packed["photos"][number] for number in packed["of_words"]]
                for subset, packed in stored.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UserError(f"{path}: no names of photos; {MOVE_FOLDER}") from error

    def _predictions_hash(self) -> str:
        path = self._predictions_path()
        digest = hashlib.sha256(path.read_bytes())
        if is_split(path):
            digest.update((self.folder / WORDS).read_bytes())
        return digest.hexdigest()

    def predictions(self, earlier: int = 0) -> list[tuple[str, ...]]:
        """The columns of predictions.csv as text, in the order of PREDICTION_COLUMNS.

        earlier: number of an earlier checkpoint; 0: the last one.
        Raises UserError if the file is absent or damaged."""
        return self._prediction_columns(earlier)[: len(PREDICTION_COLUMNS)]

    def predictions_with_nll(
        self, earlier: int = 0
    ) -> tuple[list[tuple[str, ...]], list[float] | None]:
        """As `predictions`, and the NLL of each label in nats; NaN where there is none.

        The NLL are None if the file has no such column."""
        columns = self._prediction_columns(earlier)
        texts = columns[: len(PREDICTION_COLUMNS)]
        if len(columns) == len(PREDICTION_COLUMNS):
            return texts, None
        return texts, [float(value) if value else math.nan for value in columns[-1]]

    def has_nll(self) -> bool:
        """Whether predictions.csv exists and has the column of likelihoods."""
        try:
            with self._predictions_path().open(encoding="utf-8") as file:
                return NLL_COLUMN in file.readline().strip().split(",")
        except (OSError, UnicodeDecodeError):
            return False

    def checkpoints_evaluated(self) -> int:
        """How many checkpoints have predictions, the last one included."""
        count = 1
        while self._predictions_path(count).is_file():
            count += 1
        return count

    def _prediction_columns(self, earlier: int) -> list[tuple[str, ...]]:
        path = self._predictions_path(earlier)
        try:
            _, *rows = read_rows(path)
        except (OSError, ValueError, csv.Error) as error:
            reason = f"no readable {path.name} ({error})"
            raise UserError(f"{self.folder}: {reason}; {MOVE_FOLDER}") from error
        return list(zip(*rows, strict=True))


def _pack(correct: Mapping[str, Sequence[bool]]) -> dict[str, list[Any]]:
    """Name -> [number of values, the values as bits in hexadecimal digits]."""
    return {
        name: [len(values), np.packbits(values).tobytes().hex()] for name, values in correct.items()
    }


def _unpack(packed: Mapping[str, list[Any]]) -> dict[str, Correct]:
    """The inverse of `_pack`. Raises ValueError, TypeError or AttributeError for other content."""
    bits = {
        name: np.frombuffer(bytes.fromhex(digits), np.uint8) for name, (_, digits) in packed.items()
    }
    return {
        name: np.unpackbits(bits[name], count=count).astype(np.int8)
        for name, (count, _) in packed.items()
    }


def _pack_names(names: Sequence[str]) -> dict[str, list[Any]]:
    """`photos`, each name once, and `of_words`, the position of each word's name among them."""
    positions = {name: position for position, name in enumerate(dict.fromkeys(names))}
    return {"photos": list(positions), "of_words": [positions[name] for name in names]}


@dataclass(frozen=True)
class Store:
    """A results folder."""

    root: Path

    def __post_init__(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--results {self.root}: is a file; choose a folder")

    def check_writable(self) -> None:
        """Raise UserError unless files can be created in this folder."""
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
        """The folder of a run; it need not exist."""
        return Run(self.root / "runs" / run_id)

    def weights(self, name: str) -> Path:
        """The weights file of a run's input.

        name: a run's id, or file:PATH."""
        if name.startswith("file:"):
            return Path(name.removeprefix("file:"))
        return self.run(name).folder / MODEL

    def data(self, fingerprint: str) -> Path:
        """The folder of the data set with this fingerprint that runs made."""
        return self.root / "data" / fingerprint

    @property
    def decoded(self) -> Path:
        """The folder of decoded images."""
        return self.root / "decoded"

    @property
    def targets(self) -> Path:
        """The folder of the targets of frozen teachers."""
        return self.root / "targets"

    def table(self, name: str) -> Path:
        """The path of a table's file, e.g. of `ablation_mask.mini.md`."""
        return self.root / "tables" / name
