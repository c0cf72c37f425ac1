"""Annotated images -> an LMDB in the standard layout: resumable, atomic, and nothing is left out in silence.

A source is a list of (image file, label), read from a text file of lines `image label` (separated by a tab, a comma or white
space; ICDAR's quotes are removed), TSV or CSV with or without a header, JSON lines `{"filename": ..., "text": ...}`, JSON as
MMOCR 1.x writes it (`data_list` of `img_path` and `instances`), or a folder of images without labels.
"""

import csv
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from core.data import PROGRESS_KEY, decode
from core.errors import UserError
from core.files import try_lock
from core.lmdb_writer import Sample, new_lmdb, put_count, put_samples
from core.processes import end_with_parent

CHUNK = 256  # samples read by a process at a time, and kept in memory
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
ANNOTATIONS = ("gt.txt", "labels.txt", "label.txt", "gt.tsv", "labels.tsv", "gt.csv", "labels.csv", "annotation.json")
_NAMED = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))(?:\s*,\s*|\s+)(.+)", re.IGNORECASE)
SKIPPED = "skipped.tsv"
IMAGE_NAMES = ("filename", "file_name", "img_path", "image", "path", "name")
LABEL_NAMES = ("text", "label", "transcription", "words")


@dataclass(frozen=True)
class Item:
    """One line of a source: the image as it is named there, its label (None: an image without labels), or why it has none."""

    image: str
    label: str | None
    problem: str = ""


@dataclass
class Progress:
    """How far a build is; kept inside the LMDB, in the transaction of the samples it counts."""

    source: str  # what is being built, so that another source does not go on with it
    items: int = 0
    samples: int = 0
    skipped_bytes: int = 0  # of SKIPPED that belong to these items
    reasons: dict[str, int] = field(default_factory=dict)


def find_annotation(source: Path) -> Path | None:
    """The annotation file of a folder; None where it holds only images. Raises UserError."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; name an annotation file or a folder of images")
    if source.is_file():
        return source
    named = [source / name for name in ANNOTATIONS if (source / name).is_file()]
    others = sorted(path for path in source.iterdir() if path.suffix in (".jsonl", ".json", ".tsv", ".csv", ".txt"))
    found = named or others
    if len(found) > 1:
        raise UserError(f"{source}: several annotation files ({', '.join(path.name for path in found)}); name the one to use")
    return found[0] if found else None


def read_items(annotation: Path) -> Iterator[Item]:
    """The lines of an annotation file. Raises UserError where it has none of the known forms."""
    with annotation.open(encoding="utf-8-sig", newline="") as file:
        try:
            start = file.read(1 << 16).lstrip()
            file.seek(0)
            first = start.partition("\n")[0]
            if annotation.suffix == ".jsonl" or (first.startswith("{") and _is_object(first) and '"data_list"' not in first):
                yield from _json_lines(file)
            elif annotation.suffix == ".json" or start.startswith("{"):
                yield from _mmocr(annotation, json.load(file))
            elif annotation.suffix in (".tsv", ".csv"):
                yield from _table(annotation, file, "\t" if annotation.suffix == ".tsv" else ",")
            else:
                yield from _text_lines(file)
        except UnicodeDecodeError as error:
            raise UserError(f"{annotation}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except (json.JSONDecodeError, csv.Error) as error:
            raise UserError(f"{annotation}: not valid {annotation.suffix[1:].upper() or 'text'} ({error})") from error


def _is_object(line: str) -> bool:
    """Whether a line is a whole JSON object: then each line is."""
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _entry(entry: Any) -> Item:
    """One JSON object: `filename` and `text`, or `img_path` and one of `instances`."""
    if not isinstance(entry, dict):
        return Item(str(entry)[:80], "", "not a JSON object")
    image = next((entry[name] for name in IMAGE_NAMES if isinstance(entry.get(name), str)), None)
    if image is None:
        return Item(json.dumps(entry)[:80], "", f"no image under {', '.join(IMAGE_NAMES[:3])}")
    instances = entry.get("instances")
    if isinstance(instances, list):
        if len(instances) != 1:
            return Item(image, "", f"{len(instances)} instances, where a word image has one")
        entry = instances[0] if isinstance(instances[0], dict) else {}
    label = next((entry[name] for name in LABEL_NAMES if isinstance(entry.get(name), str)), None)
    return Item(image, "", "no text") if label is None else Item(image, label)


def _mmocr(annotation: Path, content: Any) -> Iterator[Item]:
    entries = content.get("data_list") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise UserError(f"{annotation}: no list of images (data_list); JSON is read as MMOCR 1.x writes it")
    return map(_entry, entries)


def _json_lines(lines: Iterable[str]) -> Iterator[Item]:
    for line in lines:
        if line.strip():
            try:
                yield _entry(json.loads(line))
            except json.JSONDecodeError:
                yield Item(line.strip()[:80], "", "not a line of JSON")


def _table(annotation: Path, lines: Iterable[str], separator: str) -> Iterator[Item]:
    rows: Iterator[list[str]]
    if separator == "\t":
        rows = (line.rstrip("\r\n").split("\t") for line in lines if line.strip())
    else:
        rows = csv.reader(lines, skipinitialspace=True)
    head = next(rows, [])
    names = [name.strip().lower() for name in head]
    image = next((names.index(name) for name in IMAGE_NAMES if name in names), None)
    label = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    if image is None or label is None:  # no header: the image, then its label
        image, label = 0, 1
        rows = chain([head], rows)
    for row in rows:
        if row:
            fits = len(row) > max(image, label)
            yield Item(row[image], row[label]) if fits else Item(separator.join(row)[:80], "", f"{len(row)} column")


def _text_lines(lines: Iterable[str]) -> Iterator[Item]:
    """`image<TAB>label`, ICDAR's `image, "label"`, or `image label`."""
    for line in lines:
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if "\t" in line:
            image, label = line.split("\t", 1)
            yield Item(image.strip(), label.strip())
        elif quoted := re.fullmatch(r'(.+?)\s*,\s*"(.*)"\s*', line):
            yield Item(quoted[1].strip(), re.sub(r"\\(.)", r"\1", quoted[2]))
        else:  # up to a known suffix, for names may hold spaces; else up to the first space or comma
            parts = _NAMED.fullmatch(line.strip()) or re.fullmatch(r"([^\s,]+)(?:\s*,\s*|\s+)(.+)", line.strip())
            yield Item(parts[1], parts[2]) if parts else Item(line.strip()[:80], "", "no label")


def image_files(folder: Path) -> Iterator[str]:
    """Names of the image files below a folder, relative to it, in a fixed order."""
    for place, below, files in os.walk(folder):
        below.sort()
        for name in sorted(files):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield os.path.relpath(os.path.join(place, name), folder)


def read_sample(item: Item, folder: str) -> Sample | str:
    """The image file of an item and its label, or why it cannot be used."""
    if item.problem:
        return item.problem
    if item.label is not None and not item.label.strip():
        return "empty label"
    try:
        raw = Path(folder, item.image).read_bytes()
        (item.label or "").encode()
    except OSError as error:
        return f"image cannot be read ({error.strerror})"
    except UnicodeEncodeError:
        return "the label is no valid text"
    except ValueError:
        return "the image's name is no file name"
    return "image cannot be decoded" if decode(raw) is None else (raw, item.label)


def _read_chunk(items: list[Item], folder: str) -> list[Sample | str]:
    return [read_sample(item, folder) for item in items]


def source_items(source: Path) -> tuple[Path, Callable[[], Iterator[Item]]]:
    """Where a source's images lie, and its items. Raises UserError."""
    annotation = find_annotation(source)
    if annotation is None:
        return source, lambda: (Item(name, None) for name in image_files(source))
    return annotation.parent, lambda: read_items(annotation)


def build(
    items: Callable[[], Iterator[Item]],
    folder: Path,
    out: Path,
    processes: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Progress | None:
    """Build `out` from items whose images lie below `folder`; returns what was done, or None if stopped before the end.

    Until it is whole it lies beside `out` as .NAME.building, from where the same call goes on. Raises UserError if `out`
    exists, the source is empty, or .NAME.building belongs to another source."""
    if out.exists():
        raise UserError(f"{out}: is there already; delete it or name another folder")
    identity, total = _identify(folder, items())
    if not total:
        raise UserError(f"{folder}: no image and no annotation found; see `run.py data build --help` for what is read")
    temporary = out.with_name(f".{out.name}.building")
    with try_lock(temporary / ".lock") as free:
        if not free:
            raise UserError(f"{out}: another command is building it now")
        with new_lmdb(temporary) as environment:
            progress = _progress_of(environment, identity, temporary)
            try:
                for _ in _fill(environment, items(), folder, temporary / SKIPPED, progress, processes):
                    on_progress(progress.items, total)
                    if should_stop():
                        return None
            except BrokenProcessPool as error:
                raise UserError(f"{out}: a process that reads images was killed; the same command goes on from here") from error
            if progress.samples:
                with environment.begin(write=True) as transaction:
                    transaction.delete(PROGRESS_KEY)
                    put_count(transaction, progress.samples)
        if not progress.samples:
            shutil.rmtree(temporary)
            reasons = f"none of {total} images can be used ({describe(progress.reasons)})"
            raise UserError(f"{out}: {reasons}; not built; --images DIR says where the images lie")
        if not progress.reasons:
            (temporary / SKIPPED).unlink()
        (temporary / ".lock").unlink()
        os.replace(temporary, out)
    return progress


def _progress_of(environment: Any, identity: str, temporary: Path) -> Progress:
    """How far a build has come. Raises UserError if it was begun from another source."""
    with environment.begin() as transaction:
        saved = transaction.get(PROGRESS_KEY)
    progress = Progress(**json.loads(saved)) if saved else Progress(identity)
    if progress.source != identity:
        raise UserError(f"{temporary}: begun from another source; delete it to build from this one")
    return progress


def _fill(
    environment: Any, items: Iterator[Item], folder: Path, skipped_file: Path, progress: Progress, processes: int
) -> Iterator[None]:
    """Store the samples that are still to come; yields after each chunk."""
    with (
        open(skipped_file, "a", encoding="utf-8", errors="backslashreplace") as skipped,
        ProcessPoolExecutor(processes, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)) as pool,
    ):
        skipped.truncate(progress.skipped_bytes)
        try:
            for chunk, samples in _read_all(pool, islice(items, progress.items, None), folder, 4 * processes):
                _store(environment, skipped, progress, chunk, samples)
                yield
        finally:
            pool.shutdown(cancel_futures=True)


def _identify(folder: Path, items: Iterator[Item]) -> tuple[str, int]:
    """A hash of a source's items and of where its images lie, and their number."""
    digest, total = hashlib.sha256(repr(str(folder.resolve())).encode()), 0
    for item in items:
        digest.update(repr((item.image, item.label)).encode())
        total += 1
    return digest.hexdigest()[:16], total


def _read_all(
    pool: ProcessPoolExecutor, items: Iterator[Item], folder: Path, ahead: int
) -> Iterator[tuple[list[Item], list[Sample | str]]]:
    """Chunks of items with their samples, in order; so many chunks ahead, that memory stays flat."""
    waiting: list[tuple[list[Item], Future[list[Sample | str]]]] = []
    while True:
        while len(waiting) < ahead and (chunk := list(islice(items, CHUNK))):
            waiting.append((chunk, pool.submit(_read_chunk, chunk, str(folder))))
        if not waiting:
            return
        chunk, samples = waiting.pop(0)
        yield chunk, samples.result()


def _store(environment: Any, skipped: Any, progress: Progress, chunk: list[Item], samples: list[Sample | str]) -> None:
    """One chunk, its skipped items and the progress it makes, in one transaction."""
    reasons = Counter(progress.reasons)
    for number, (item, sample) in enumerate(zip(chunk, samples, strict=True), progress.items + 1):
        if isinstance(sample, str):
            skipped.write(f"{number}\t{item.image}\t{sample}\n")
            reasons[sample] += 1
    skipped.flush()
    whole = [sample for sample in samples if not isinstance(sample, str)]
    with environment.begin(write=True) as transaction:
        put_samples(transaction, progress.samples + 1, whole)
        progress.items += len(chunk)
        progress.samples += len(whole)
        progress.skipped_bytes, progress.reasons = skipped.tell(), dict(reasons)
        transaction.put(PROGRESS_KEY, json.dumps(asdict(progress)).encode())


def describe(reasons: dict[str, int]) -> str:
    """Reasons with their counts, the commonest first."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common())
