"""Reading whole data sets with a peer: each finished image is on disk, so that nothing is lost.

In the folder: `reading.jsonl` while it reads, and at the end `predictions.csv` in the format of the
suite, and `record.json`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from core.data.lmdb_folder import fingerprint
from core.data.word_images import WordImages, decode_image
from core.peer import NOT_COMPARABLE
from core.peer.ppocrv6 import Reading
from core.runtime.errors import UserError
from core.runtime.files import try_lock, write_csv, write_text

PARTIAL = "reading.jsonl"
PREDICTIONS = "predictions.csv"
RECORD = "record.json"
COLUMNS = ("subset", "index", "label", "prediction", "confidence", "readable", "recognizer")
DIGITS = 6  # of a confidence

Roots = Mapping[str, list[str]]  # subset -> its LMDB folders
Row = tuple[str, int, str, str, float, int]  # COLUMNS but the last


class Reader(Protocol):
    """A recognizer of one picture."""

    def read(self, picture: Image.Image) -> Reading: ...


class PeerResult(NamedTuple):
    """What reading has written.

    predictions: the file.
    images: number of images, by subset.
    unusable: images without label or that cannot be decoded, by subset. They count as wrong.
    seconds: that this call took; 0 if all was read before.
    """

    predictions: Path
    images: dict[str, int]
    unusable: dict[str, int]
    seconds: float


def identity(name: str, model: str, versions: Mapping[str, str], roots: Roots) -> dict[str, Any]:
    """What readings depend on. Paths are not in it.

    name: of the peer.
    model: SHA-256 of its file.
    versions: of packages.
    roots: the data.
    """
    subsets = {
        subset: [
            dict(zip(("fingerprint", "images"), fingerprint(root), strict=True)) for root in paths
        ]
        for subset, paths in roots.items()
    }
    return {"peer": name, "model": model, "versions": dict(versions), "subsets": subsets}


def read_roots(
    reader: Callable[[], Reader],
    roots: Roots,
    folder: Path,
    about: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> PeerResult | None:
    """Read all images that the folder does not have yet.

    reader: makes the recognizer; it is called only if an image is left.
    roots: the data.
    folder: where the files are written; created if it does not exist.
    about: from `identity`; a folder belongs to one identity.
    on_progress: called with the images done and all images.
    should_stop: asked after each image.

    Returns None if it was stopped; the same call continues.

    Raises UserError if the folder has readings of other data or another model, or is in use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with try_lock(folder / ".lock") as free:
        if not free:
            raise UserError(f"{folder}: another process reads into it; wait, or choose another one")
        return _read_roots(reader, roots, folder, about, on_progress, should_stop)


def _read_roots(
    reader: Callable[[], Reader],
    roots: Roots,
    folder: Path,
    about: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> PeerResult | None:
    images = {subset: WordImages(paths) for subset, paths in roots.items()}
    counts = {subset: len(words) for subset, words in images.items()}
    record = folder / RECORD
    if record.is_file() and (folder / PREDICTIONS).is_file():
        stored = _load_json(record, record.read_text(encoding="utf-8"))
        _check_identity(record, stored.get("identity"), about)
        return PeerResult(folder / PREDICTIONS, counts, stored["unusable"], 0.0)
    partial = folder / PARTIAL
    rows = _stored_rows(partial, about)
    started = time.monotonic()
    total = sum(counts.values())
    with partial.open("a", encoding="utf-8") as file:
        if not partial.stat().st_size:
            file.write(json.dumps(about) + "\n")
        on_progress(len(rows), total)
        for row in _missing_rows(reader, images, len(rows)):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            rows.append(row)
            on_progress(len(rows), total)
            if should_stop():
                break
    if len(rows) < total:
        return None
    seconds = time.monotonic() - started
    unusable = {subset: sum(row[0] == subset and not row[-1] for row in rows) for subset in counts}
    _write_predictions(folder / PREDICTIONS, rows, str(about["peer"]))
    content = {
        "identity": about,
        "images": counts,
        "unusable": unusable,
        "seconds_of_last_call": round(seconds, 1),
        "comparability": NOT_COMPARABLE,
    }
    write_text(record, json.dumps(content, indent=1) + "\n")
    partial.unlink()
    return PeerResult(folder / PREDICTIONS, counts, unusable, seconds)


def _missing_rows(
    reader: Callable[[], Reader], images: Mapping[str, WordImages], done: int
) -> Iterator[Row]:
    """The rows of all images in order, but the first `done`."""
    places = [(subset, index) for subset, words in images.items() for index in range(len(words))]
    if not places[done:]:
        return
    recognizer = reader()
    for subset, index in places[done:]:
        words = images[subset]
        label = words.label(index) or ""
        raw = words.raw(index)
        picture = None if raw is None else decode_image(raw)
        reading = Reading("", 0.0) if picture is None else recognizer.read(picture)
        usable = int(picture is not None and bool(label))
        yield subset, index, label, reading.text, round(reading.confidence, DIGITS), usable


def _stored_rows(partial: Path, about: Mapping[str, Any]) -> list[Row]:
    """The rows that an interrupted call has left. A last line that was cut is removed."""
    if not partial.exists():
        return []
    content = partial.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if len(complete) < len(content):
        with partial.open("r+b") as file:
            file.truncate(len(complete))
    if not complete:
        return []
    first, *lines = complete.decode("utf-8").removesuffix("\n").split("\n")
    _check_identity(partial, _load_json(partial, first), about)
    return [tuple(_load_json(partial, line)) for line in lines]


def _check_identity(path: Path, stored: Any, about: Mapping[str, Any]) -> None:
    if stored != about:
        raise UserError(
            f"{path}: readings of other data or with other versions; choose another folder with "
            "--out, or delete this one"
        )


def _load_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); delete it and read again") from error


def _write_predictions(path: Path, rows: list[Row], recognizer: str) -> None:
    write_csv(path, COLUMNS, ((*row, recognizer) for row in rows))
