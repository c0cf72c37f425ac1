"""Annotated images -> an LMDB in the standard layout: resumable, atomic, and nothing is left out in silence."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from core.data.lmdb_folder import PROGRESS_KEY, Sample, new_lmdb, put_count, put_samples
from core.data.word_images import decode
from core.data_tools.annotations import Item
from core.runtime.errors import UserError
from core.runtime.files import try_lock
from core.runtime.processes import worker_pool

CHUNK = 256  # samples read by a process at a time, and kept in memory
SKIPPED = "skipped.tsv"


@dataclass
class Progress:
    """How far a build is; kept inside the LMDB, in the transaction of the samples it counts."""

    source: str  # what is being built, so that another source does not go on with it
    items: int = 0
    samples: int = 0
    skipped_bytes: int = 0  # of SKIPPED that belong to these items
    reasons: dict[str, int] = field(default_factory=dict)


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
        raise UserError(f"{out}: is there already; name another folder, or move it away")
    identity, total = _identify(folder, items())
    if not total:
        raise UserError(
            f"{out}: nothing to build it from, no image and no annotation; `run.py data build --help` says what is read"
        )
    temporary = out.with_name(f".{out.name}.building")
    with try_lock(temporary / ".lock") as free:
        if not free:
            raise UserError(f"{out}: another command is building it now")
        with new_lmdb(temporary) as environment:
            progress = _progress_of(environment, identity, temporary)
            try:
                for _ in _fill(
                    environment, items(), folder, temporary / SKIPPED, progress, processes
                ):
                    on_progress(progress.items, total)
                    if should_stop():
                        return None
            except BrokenProcessPool as error:
                raise UserError(
                    f"{out}: a process that reads images was killed; the same command goes on from here"
                ) from error
            if progress.samples:
                with environment.begin(write=True) as transaction:
                    transaction.delete(PROGRESS_KEY)
                    put_count(transaction, progress.samples)
        if not progress.samples:
            shutil.rmtree(temporary)
            reasons = f"none of {total} images can be used ({describe(progress.reasons)})"
            unread = any(reason.startswith("image cannot be read") for reason in progress.reasons)
            hint = "; --images DIR says where the images lie" if unread else ""
            raise UserError(f"{out}: {reasons}; not built{hint}")
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
    environment: Any,
    items: Iterator[Item],
    folder: Path,
    skipped_file: Path,
    progress: Progress,
    processes: int,
) -> Iterator[None]:
    """Store the samples that are still to come; yields after each chunk."""
    with (
        open(skipped_file, "a", encoding="utf-8", errors="backslashreplace") as skipped,
        worker_pool(processes) as pool,
    ):
        skipped.truncate(progress.skipped_bytes)
        try:
            for chunk, samples in _read_all(
                pool, islice(items, progress.items, None), folder, 4 * processes
            ):
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


def _store(
    environment: Any,
    skipped: Any,
    progress: Progress,
    chunk: list[Item],
    samples: list[Sample | str],
) -> None:
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
