"""What is in an LMDB root: every key, every image, every label; and what of it a recognizer or a protocol cannot use."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import lmdb
import numpy as np

from core.data.lmdb_folder import (
    COUNT_KEY,
    IMAGE_KEY,
    LABEL_KEY,
    count_samples,
    fingerprint,
    last_image,
    open_lmdb,
)
from core.data.word_images import WordImages, decode
from core.runtime.errors import UserError
from core.runtime.processes import worker_pool
from core.text.charset import Charset
from core.text.protocols import PROTOCOLS

CHUNK = 2048  # images that a process looks at at a time
SHOWN = 1000  # keys named in a report; more are only counted
KEY = re.compile(rb"(image|label)-(\d{9})")
OnProgress = Callable[[int, int], None]
Look = tuple[list[int], np.ndarray, np.ndarray]


def look_at(root: str, start: int, stop: int) -> Look:
    """Images `start` to `stop`: numbers that cannot be decoded, (images, 2) width and height, (images,) hash of the file.

    0 stands for an image that is missing or cannot be decoded."""
    images = WordImages([root])
    broken, sizes, hashes = (
        [],
        np.zeros((stop - start, 2), np.int32),
        np.zeros(stop - start, np.uint64),
    )
    for index in range(start, stop):
        raw = images.raw(index)
        if raw is None:
            continue
        picture = decode(raw)
        if picture is None:
            broken.append(index)
        else:
            sizes[index - start] = picture.size
            hashes[index - start] = file_hash(raw)
    return broken, sizes, hashes


def file_hash(raw: bytes) -> np.uint64:
    """64 bits of a file's BLAKE2; never 0."""
    return np.uint64(int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little") | 1)


def in_processes(
    work: Callable[[str, int, int], Any], root: str, count: int, processes: int
) -> Iterator[tuple[int, Any]]:
    """`work(root, start, stop)` for every chunk of a root, in order, by several processes; yields (stop, result)."""
    starts = range(0, count, CHUNK)
    stops = [min(start + CHUNK, count) for start in starts]
    if processes == 1 or count <= CHUNK:
        for start, stop in zip(starts, stops, strict=True):
            yield stop, work(root, start, stop)
        return
    with worker_pool(processes) as pool:
        try:
            yield from zip(stops, pool.map(work, [root] * len(stops), starts, stops), strict=True)
        except BrokenProcessPool as error:
            raise UserError(
                f"{root}: a process that read images was killed; try again with --processes 1"
            ) from error


def check_root(
    root: str,
    charset: Charset,
    max_length: int,
    processes: int,
    on_progress: OnProgress = lambda done, total: None,
) -> dict[str, Any]:
    """A report on one root, as plain values. `problems` are what makes data wrong, `notes` what a user should know.

    Raises UserError if there is no readable LMDB."""
    environment = open_lmdb(root)
    try:
        count = count_samples(environment, root)
        with environment.begin() as transaction:
            declared = transaction.get(COUNT_KEY)
        keys = _check_keys(root, count)
    except lmdb.Error as error:
        raise UserError(
            f"{root}: damaged, its keys cannot be listed ({error}); copy or download it again"
        ) from error
    parts = []
    for done, part in in_processes(look_at, root, count, processes):
        parts.append(part)
        on_progress(done, count)
    broken = [number for numbers, _, _ in parts for number in numbers]
    sizes, hashes = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    report = {
        "root": root,
        "images": count,
        "num_samples": None if declared is None else declared.decode(errors="replace"),
        "fingerprint": fingerprint(root)[0],
        **keys,
        "last_image": last_image(environment),
        "undecodable": _some(broken, IMAGE_KEY),
        "sizes": _sizes(sizes[sizes[:, 0] > 0]),
        "labels": _check_labels(root, charset, max_length),
        "duplicates": _duplicates(hashes),
    }
    report["undecodable_labels"] = _some(
        _not_text(root, count) if keys["labeled"] else [], LABEL_KEY
    )
    return report | {"problems": _problems(report), "notes": _notes(report)}


def _some(found: Sequence[Any] | np.ndarray, pattern: str = "") -> dict[str, Any]:
    """How many keys, and the first of them by name; with a pattern, they are numbers from 0."""
    first = (
        [pattern.format(int(number) + 1) for number in found[:SHOWN]]
        if pattern
        else list(found[:SHOWN])
    )
    return {"count": len(found), "first": first}


def _check_keys(root: str, count: int) -> dict[str, Any]:
    """Which of the keys that the count promises are missing, and which keys are there besides."""
    there = {b"image": np.zeros(count, bool), b"label": np.zeros(count, bool)}
    beyond, other = [], []
    with open_lmdb(root).begin() as transaction, transaction.cursor() as cursor:
        for key in cursor.iternext(keys=True, values=False):
            match = KEY.fullmatch(key)
            number = int(match[2]) if match else 0
            if match and 1 <= number <= count:
                there[match[1]][number - 1] = True
            elif match and number > count:
                beyond.append(key.decode())
            elif key != COUNT_KEY:
                other.append(key.decode(errors="replace"))
    labeled = bool(there[b"label"].any())
    absent = {name: np.flatnonzero(~there[name]) for name in there}
    return {
        "labeled": labeled,
        "missing_images": _some(absent[b"image"], IMAGE_KEY),
        "missing_labels": _some(absent[b"label"] if labeled else [], LABEL_KEY),
        "beyond_count": _some(beyond),
        "other_keys": _some(other),
    }


def _not_text(root: str, count: int) -> list[int]:
    """Numbers of the labels that are there and are not UTF-8."""
    images = WordImages([root])
    return [
        number
        for number, label in enumerate(images.labels())
        if label is None and images.has_label(number)
    ]


def _histogram(values: Iterable[int] | np.ndarray) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(map(int, values)).items())}


def _sizes(sizes: np.ndarray) -> dict[str, Any]:
    """Histograms of width and height in pixels, in steps of 16, and of their ratio, in steps of one half."""
    if not len(sizes):
        return {}
    width, height = sizes.T
    ratio = np.floor(2 * width / height) / 2
    return {
        "width": {"median": float(np.median(width)), "histogram": _histogram(width // 16 * 16)},
        "height": {"median": float(np.median(height)), "histogram": _histogram(height // 16 * 16)},
        "ratio": {
            "median": round(float(np.median(width / height)), 2),
            "histogram": {f"{value:g}": int((ratio == value).sum()) for value in np.unique(ratio)},
        },
    }


def _check_labels(root: str, charset: Charset, max_length: int) -> dict[str, Any]:
    """Lengths, characters outside the charset, and what each policy and protocol does to labels."""
    lengths: Counter[int] = Counter()
    outside: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    protocols = {name: {"empty": 0, "altered": 0} for name in PROTOCOLS}
    for label in WordImages([root]).labels():
        if not label:
            counts["unlabeled"] += 1
            continue
        lengths[len(label)] += 1
        unknown = charset.unknown_in(label)
        outside.update(unknown)
        counts["over_long"] += len(label) >= max_length
        counts["unknown_characters"] += bool(unknown)
        counts["wrong_under_strict"] += not charset.can_read(label, max_length)
        counts["replaced_under_released"] += len(label) >= max_length - 1
        for name, protocol in PROTOCOLS.items():
            left = protocol.normalize(label)
            protocols[name]["empty"] += not left
            protocols[name]["altered"] += left.lower() != label.lower()
    names = (
        "unlabeled",
        "over_long",
        "unknown_characters",
        "wrong_under_strict",
        "replaced_under_released",
    )
    return {
        **{name: counts[name] for name in names},
        "lengths": {str(length): lengths[length] for length in sorted(lengths)},
        "characters_outside": dict(outside.most_common()),
        "protocols": protocols,
    }


def _duplicates(hashes: np.ndarray) -> dict[str, Any]:
    """Images whose files are equal, byte by byte."""
    known = np.flatnonzero(hashes)
    order = known[np.argsort(hashes[known], kind="stable")]
    _, starts, sizes = np.unique(hashes[order], return_index=True, return_counts=True)
    groups = [
        order[start : start + size].tolist()
        for start, size in zip(starts, sizes, strict=True)
        if size > 1
    ]
    first = [[IMAGE_KEY.format(index + 1) for index in group] for group in sorted(groups)[:SHOWN]]
    return {"groups": len(groups), "images": sum(map(len, groups)), "first": first}


def _named(entry: dict[str, Any], most: int = 20) -> str:
    rest = f" and {entry['count'] - most} more" if entry["count"] > most else ""
    return ", ".join(entry["first"][:most]) + rest


def _problems(report: dict[str, Any]) -> list[str]:
    found = []
    said = report["num_samples"]
    if said is None or not said.isdigit() or not int(said):
        found.append(
            f"num-samples is {report['num_samples'] or 'missing'}; the last image's number, {report['images']}, is used"
        )
    elif report["images"] > report["last_image"]:
        found.append(f"num-samples is {said}, but the last image is number {report['last_image']}")
    for name, what in (
        ("missing_images", "images missing"),
        ("missing_labels", "labels missing"),
        ("undecodable", "images cannot be decoded"),
        ("undecodable_labels", "labels are not UTF-8"),
        ("other_keys", "keys of no meaning here"),
    ):
        if report[name]["count"]:
            found.append(f"{report[name]['count']} {what}: {_named(report[name])}")
    if report["beyond_count"]["count"]:
        beyond = report["beyond_count"]
        found.append(
            f"num-samples is {report['num_samples']}, but {beyond['count']} keys lie beyond: {_named(beyond)}"
        )
    return found


def _notes(report: dict[str, Any]) -> list[str]:
    labels, duplicates = report["labels"], report["duplicates"]
    found = [] if report["labeled"] else ["no labels: for pre-training only"]
    for name, what in (
        ("unlabeled", "images have no label, or an empty one"),
        ("over_long", "labels are too long for the decoder"),
        ("unknown_characters", "labels have a character outside the charset"),
        ("wrong_under_strict", "labels can only be read wrong (policy strict)"),
        ("replaced_under_released", "labels are replaced by a later sample under policy released"),
    ):
        if labels[name] and report["labeled"]:
            found.append(f"{labels[name]} {what}")
    if duplicates["groups"]:
        found.append(
            f"{duplicates['images']} images are {duplicates['groups']} different files, each several times"
        )
    return found
