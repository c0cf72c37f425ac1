"""Builds an LMDB folder from annotated images. A build resumes, is atomic, and names what it skips.

Until it is complete, the LMDB is in the hidden folder `.NAME.building` beside the output folder.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import TextIO

import lmdb
from PIL import Image

from core.data.lmdb_folder import PROGRESS_KEY, Sample, new_lmdb, put_count, put_samples
from core.data.word_images import decode_image
from core.data_tools.annotations import Annotation
from core.data_tools.crops import cut_out, encode_crop
from core.data_tools.parquet_files import read_cell
from core.runtime.errors import UserError
from core.runtime.files import try_lock
from core.runtime.processes import worker_pool

CHUNK = 256  # samples that a process reads at a time
RECORD = "build.json"  # in the LMDB folder: how it was made
SKIPPED = "skipped.tsv"  # in the LMDB folder: number, image and reason of each skipped annotation


@dataclass
class BuildProgress:
    """The progress of a build, stored in the LMDB in the transaction of the samples it counts."""

    source: str  # hash of the source; a build does not resume from another source
    items: int = 0  # annotations processed
    samples: int = 0  # samples written
    skipped_bytes: int = 0  # length of SKIPPED after these annotations
    reasons: dict[str, int] = field(default_factory=dict)  # reason -> skipped images


def read_sample(annotation: Annotation, folder: str) -> Sample | str:
    """The image file and the label of an annotation, or the reason why it is skipped.

    A word in a photo is cut out of it, and stored as a PNG file.
    """
    if annotation.problem:
        return annotation.problem
    label = annotation.label
    if label is not None and not label.strip():
        return "empty label"
    if label is not None and "\0" in label:
        return "label has a NUL character"
    try:
        (label or "").encode()
        raw = _crop(annotation, folder) if annotation.polygon else _file(annotation, folder)
    except OSError as error:
        if PureWindowsPath(annotation.image).drive:
            return "image cannot be read (a Windows path with a drive; make it relative)"
        return f"image cannot be read ({error.strerror})"
    except UnicodeEncodeError:
        return "label is not valid text"
    except UserError:
        return "image cannot be read (damaged Parquet file)"
    except ValueError:
        return "image name is not a valid file name"
    return raw if isinstance(raw, str) else (raw, label)


def _file(annotation: Annotation, folder: str) -> bytes | str:
    """The image file of an annotation, or why it is skipped. Raises OSError or UserError."""
    name = annotation.image
    if annotation.cell is not None:
        value = read_cell(annotation.cell)
        if value is None:
            return "no image in the row"
        if isinstance(value, bytes):
            return value if decode_image(value) else "image cannot be decoded"
        name = value
    raw = _read_image(folder, name)
    return raw if decode_image(raw) else "image cannot be decoded"


def _crop(annotation: Annotation, folder: str) -> bytes | str:
    """The crop of a word as a file, or why it is skipped. Raises OSError."""
    photo = _photo(folder, annotation.image)
    if photo is None:
        return "image cannot be decoded"
    crop = cut_out(photo, annotation.polygon)
    return crop if isinstance(crop, str) else encode_crop(crop)


@lru_cache(maxsize=1)
def _photo(folder: str, name: str) -> Image.Image | None:
    """A photo, which a process decodes once for all of its words. Raises OSError."""
    return decode_image(_read_image(folder, name))


def _read_image(folder: str, name: str) -> bytes:
    """The content of an image file. Raises OSError if it cannot be read.

    If there is no file of this name, backslashes separate folders as on Windows, and the suffix may
    be in the other case (`word.PNG` for `word.png`).
    """
    path = Path(folder, name)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if "\\" in name:
            path = Path(folder, PureWindowsPath(name).as_posix())
        suffixes = (path.suffix, path.suffix.upper(), path.suffix.lower())
        candidates = (path.with_suffix(suffix) for suffix in suffixes if path.suffix)
        existing = next((candidate for candidate in candidates if candidate.exists()), None)
        if existing is None:
            raise
        return existing.read_bytes()


def _read_chunk(annotations: list[Annotation], folder: str) -> list[Sample | str]:
    return [read_sample(annotation, folder) for annotation in annotations]


def build(
    annotations: Callable[[], Iterator[Annotation]],
    folder: Path,
    out: Path,
    processes: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildProgress | None:
    """Build an LMDB folder. After an interruption the same call resumes.

    Args:
        annotations: Returns the annotations; it is called twice.
        folder: The folder of the images.
        out: The LMDB folder to make.
        processes: Processes that read images.
        should_stop: Asked after each chunk of images; true ends the build early.
        on_progress: Called with the number of processed annotations and their total.

    Returns:
        What was built, or None if it was stopped early.

    Raises:
        UserError: `out` exists, no image can be used, or the unfinished build is of another source.
    """
    if out.exists():
        raise UserError(f"{out}: already exists; choose another folder or move it")
    source, total = _identify(folder, annotations())
    if not total:
        raise UserError(
            f"{out}: the source has no image and no annotation; "
            "`run.py data build --help` lists the formats"
        )
    temporary = out.with_name(f".{out.name}.building")
    with try_lock(temporary / ".lock") as is_free:
        if not is_free:
            raise UserError(f"{out}: another command is building it now")
        with new_lmdb(temporary) as environment:
            progress = _load_progress(environment, source, temporary)
            try:
                for _ in _fill(
                    environment, annotations(), folder, temporary / SKIPPED, progress, processes
                ):
                    on_progress(progress.items, total)
                    if should_stop():
                        return None
            except BrokenProcessPool as error:
                raise UserError(
                    f"{out}: a process that reads images was killed; "
                    "run the same command again to resume"
                ) from error
            _finish(environment, progress)
        if not progress.samples:
            shutil.rmtree(temporary)
            raise _nothing_usable(out, progress, total)
        if not progress.reasons:
            (temporary / SKIPPED).unlink()
        (temporary / ".lock").unlink()
        os.replace(temporary, out)
    return progress


def _finish(environment: lmdb.Environment, progress: BuildProgress) -> None:
    if progress.samples:
        with environment.begin(write=True) as transaction:
            transaction.delete(PROGRESS_KEY)
            put_count(transaction, progress.samples)


def _nothing_usable(out: Path, progress: BuildProgress, total: int) -> UserError:
    reasons = describe_reasons(progress.reasons)
    is_absent = any(reason.startswith("image cannot be read") for reason in progress.reasons)
    hint = "; --images DIR names the folder of the images" if is_absent else ""
    return UserError(f"{out}: none of {total} images can be used ({reasons}); not built{hint}")


def _load_progress(environment: lmdb.Environment, source: str, temporary: Path) -> BuildProgress:
    """The stored progress of a build. Raises UserError if it is a build of another source."""
    with environment.begin() as transaction:
        stored = transaction.get(PROGRESS_KEY)
    progress = BuildProgress(**json.loads(stored)) if stored else BuildProgress(source)
    if progress.source != source:
        raise UserError(
            f"{temporary}: the unfinished build of another source; delete it to build from this one"
        )
    return progress


def _fill(
    environment: lmdb.Environment,
    annotations: Iterator[Annotation],
    folder: Path,
    skipped_path: Path,
    progress: BuildProgress,
    processes: int,
) -> Iterator[None]:
    """Write the samples that `progress` does not count yet, and update it; yields per chunk.

    Args:
        environment: The LMDB.
        annotations: All annotations of the source.
        folder: The folder of the images.
        skipped_path: The file that lists skipped images.
        progress: The stored progress.
        processes: Processes that read images.
    """
    with (
        open(skipped_path, "a", encoding="utf-8", errors="backslashreplace") as skipped,
        worker_pool(processes) as pool,
    ):
        skipped.truncate(progress.skipped_bytes)
        remaining = islice(annotations, progress.items, None)
        try:
            for chunk, samples in _read_all(pool, remaining, folder, 4 * processes):
                _store(environment, skipped, progress, chunk, samples)
                yield
        finally:
            pool.shutdown(cancel_futures=True)


def _identify(folder: Path, annotations: Iterator[Annotation]) -> tuple[str, int]:
    """A hash of a source's annotations and image folder, and the number of annotations."""
    digest = hashlib.sha256(repr(str(folder.resolve())).encode())
    total = 0
    for annotation in annotations:
        identity = (annotation.image, annotation.label)
        place = (annotation.polygon, annotation.cell) if _has_place(annotation) else ()
        digest.update(repr((*identity, *place)).encode())
        total += 1
    return digest.hexdigest()[:16], total


def _has_place(annotation: Annotation) -> bool:
    return bool(annotation.polygon) or annotation.cell is not None


def _read_all(
    pool: ProcessPoolExecutor, annotations: Iterator[Annotation], folder: Path, ahead: int
) -> Iterator[tuple[list[Annotation], list[Sample | str]]]:
    """Chunks of annotations with their samples, in order.

    Args:
        pool: The processes that read images.
        annotations: The annotations to read.
        folder: The folder of the images.
        ahead: Chunks that are read in advance; it bounds the memory.
    """
    waiting: list[tuple[list[Annotation], Future[list[Sample | str]]]] = []
    while True:
        while len(waiting) < ahead and (chunk := list(islice(annotations, CHUNK))):
            waiting.append((chunk, pool.submit(_read_chunk, chunk, str(folder))))
        if not waiting:
            return
        chunk, samples = waiting.pop(0)
        yield chunk, samples.result()


def _store(
    environment: lmdb.Environment,
    skipped: TextIO,
    progress: BuildProgress,
    chunk: list[Annotation],
    samples: list[Sample | str],
) -> None:
    """Write a chunk's samples and the new progress in one transaction.

    Args:
        environment: The LMDB.
        skipped: The file that lists skipped images.
        progress: The progress before the chunk; it is updated.
        chunk: Annotations.
        samples: For each annotation its sample, or the reason why it is skipped.
    """
    reasons = Counter(progress.reasons)
    first = progress.items + 1
    for number, (annotation, sample) in enumerate(zip(chunk, samples, strict=True), first):
        if isinstance(sample, str):
            image = " ".join(annotation.image.split())  # one line, without tabs
            skipped.write(f"{number}\t{image}\t{sample}\n")
            reasons[sample] += 1
    skipped.flush()
    usable = [sample for sample in samples if not isinstance(sample, str)]
    with environment.begin(write=True) as transaction:
        put_samples(transaction, progress.samples + 1, usable)
        progress.items += len(chunk)
        progress.samples += len(usable)
        progress.skipped_bytes = skipped.tell()
        progress.reasons = dict(reasons)
        transaction.put(PROGRESS_KEY, json.dumps(asdict(progress)).encode())


def describe_reasons(reasons: dict[str, int]) -> str:
    """Reasons with their counts, the most frequent first."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common())
