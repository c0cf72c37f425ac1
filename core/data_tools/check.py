"""Checks an LMDB root: all keys, images and labels, and what recognizers and protocols can use."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from core.data.key_layout import (
    COUNT_KEY,
    HARMLESS_KEYS,
    IMAGE,
    LABEL,
    KeyLayout,
    samples_to_last_image,
)
from core.data.lmdb_folder import count_samples, fingerprint, key_layout, open_lmdb
from core.data.word_images import WordImages, decode_image
from core.data_tools.check_report import (
    Duplicates,
    KeyList,
    LabelReport,
    ProtocolEffect,
    RootReport,
    SizeHistogram,
)
from core.data_tools.scan import file_hash, scan_chunks
from core.runtime.errors import UserError
from core.text.charset import Charset
from core.text.protocols import PROTOCOLS

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent of the images
LISTED_KEYS = 1000  # keys that a report lists; more are only counted


@dataclass(frozen=True)
class _Scan:
    """Some images of a root. Sizes and hashes are 0 if an image is missing or undecodable."""

    undecodable: list[int]  # numbers of images
    sizes: NDArray[np.int32]  # (images, 2) width and height
    hashes: NDArray[np.uint64]  # (images,) of the files


def _scan_images(root: str, start: int, stop: int) -> _Scan:
    images = WordImages([root])
    undecodable = []
    sizes = np.zeros((stop - start, 2), np.int32)
    hashes = np.zeros(stop - start, np.uint64)
    for index in range(start, stop):
        raw = images.raw(index)
        if raw is None:
            continue
        picture = decode_image(raw)
        if picture is None:
            undecodable.append(index)
        else:
            sizes[index - start] = picture.size
            hashes[index - start] = file_hash(raw)
    return _Scan(undecodable, sizes, hashes)


def check_root(
    root: str,
    charset: Charset,
    max_length: int,
    processes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RootReport:
    """Check one root.

    Args:
        root: An LMDB folder.
        charset: The charset that labels are compared with.
        max_length: The recognizer's maximal length, EOS included.
        processes: Processes that decode images.
        on_progress: Called with the number of checked images and their total.

    Raises:
        UserError: The root is no readable LMDB.
    """
    environment = open_lmdb(root)
    try:
        count = count_samples(environment, root)
        layout = key_layout(root)
        with environment.begin() as transaction:
            declared = transaction.get(COUNT_KEY)
            last_image = samples_to_last_image(transaction, layout)
        keys = _scan_keys(root, layout, count)
    except lmdb.Error as error:
        raise UserError(
            f"{root}: damaged, its keys cannot be listed ({error}); copy or download it again"
        ) from error
    scans = []
    for done, scan in scan_chunks(_scan_images, root, count, processes):
        scans.append(scan)
        on_progress(done, count)
    sizes = np.concatenate([scan.sizes for scan in scans])
    hashes = np.concatenate([scan.hashes for scan in scans])
    undecodable = [number for scan in scans for number in scan.undecodable]
    labeled = bool(keys.has_label.any())
    missing_labels = np.flatnonzero(~keys.has_label & labeled)
    return RootReport(
        root=root,
        images=count,
        num_samples=None if declared is None else declared.decode(errors="replace"),
        fingerprint=fingerprint(root)[0],
        labeled=labeled,
        missing_images=_key_list(np.flatnonzero(~keys.has_image), layout, IMAGE),
        missing_labels=_key_list(missing_labels, layout, LABEL),
        beyond_count=KeyList(len(keys.beyond), keys.beyond[:LISTED_KEYS]),
        other_keys=KeyList(len(keys.other), keys.other[:LISTED_KEYS]),
        last_image=last_image,
        undecodable=_key_list(undecodable, layout, IMAGE),
        sizes=_size_histograms(sizes[sizes[:, 0] > 0]),
        labels=_check_labels(root, charset, max_length),
        duplicates=_duplicates(hashes, layout),
        undecodable_labels=_key_list(_undecodable_labels(root) if labeled else [], layout, LABEL),
        layout=layout.description,
        harmless_keys=dict(keys.harmless),
    )


def _key_list(indices: Sequence[int] | NDArray[Any], layout: KeyLayout, kind: str) -> KeyList:
    """The keys of images or labels, whose indices count from 0."""
    first = [layout.key(kind, int(index)) for index in indices[:LISTED_KEYS]]
    return KeyList(len(indices), first)


@dataclass(frozen=True)
class _Keys:
    has_image: NDArray[np.bool_]  # (images,)
    has_label: NDArray[np.bool_]  # (images,)
    beyond: list[str]  # keys of images and labels beyond the count
    other: list[str]  # unknown keys
    harmless: Counter[str]  # kind in HARMLESS_KEYS -> number of keys


def _scan_keys(root: str, layout: KeyLayout, count: int) -> _Keys:
    keys = _Keys(np.zeros(count, bool), np.zeros(count, bool), [], [], Counter())
    arrays = {IMAGE: keys.has_image, LABEL: keys.has_label}
    with open_lmdb(root).begin() as transaction, transaction.cursor() as cursor:
        for key in cursor.iternext(keys=True, values=False):
            name = key.decode(errors="replace")
            kind = name.partition("-")[0]
            index = layout.index(key.partition(b"-")[2])
            if key == COUNT_KEY:
                continue
            if index is not None and kind in HARMLESS_KEYS:
                keys.harmless[kind] += 1
            elif index is None or kind not in arrays:
                keys.other.append(name)
            elif index < count:
                arrays[kind][index] = True
            else:
                keys.beyond.append(name)
    return keys


def _undecodable_labels(root: str) -> list[int]:
    """Numbers of the labels that exist but are not UTF-8."""
    images = WordImages([root])
    return [
        number
        for number, label in enumerate(images.labels())
        if label is None and images.has_label(number)
    ]


def _histogram(values: Iterable[int] | NDArray[Any]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(map(int, values)).items())}


def _size_histograms(sizes: NDArray[Any]) -> dict[str, SizeHistogram]:
    """Histograms of width and height in steps of 16 pixels, and of their ratio in steps of 0.5.

    sizes: (images, 2) width and height.
    """
    if not len(sizes):
        return {}
    width, height = sizes.T
    ratio = np.floor(2 * width / height) / 2
    ratios = {f"{value:g}": int((ratio == value).sum()) for value in np.unique(ratio)}
    return {
        "width": SizeHistogram(
            float(np.median(width)), _histogram(width // 16 * 16), _quantiles(width)
        ),
        "height": SizeHistogram(
            float(np.median(height)), _histogram(height // 16 * 16), _quantiles(height)
        ),
        "ratio": SizeHistogram(
            round(float(np.median(width / height)), 2), ratios, _quantiles(width / height)
        ),
    }


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    """Percentage -> the value that as many percent of `values` (n,) do not exceed."""
    found = np.percentile(values, QUANTILES, method="inverted_cdf")
    return {
        str(percent): round(float(one), 2) for percent, one in zip(QUANTILES, found, strict=True)
    }


def _check_labels(root: str, charset: Charset, max_length: int) -> LabelReport:
    """Lengths, characters outside the charset, and the effect of label policies and protocols."""
    lengths: Counter[int] = Counter()
    outside: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    empty: Counter[str] = Counter()
    altered: Counter[str] = Counter()
    for label in WordImages([root]).labels():
        if not label:
            counts["unlabeled"] += 1
            continue
        lengths[len(label)] += 1
        unknown = charset.unknown_characters(label)
        outside.update(unknown)
        counts["over_long"] += len(label) >= max_length
        counts["unknown_characters"] += bool(unknown)
        counts["wrong_under_strict"] += not charset.can_express(label, max_length)
        counts["replaced_under_released"] += len(label) >= max_length - 1
        for name, protocol in PROTOCOLS.items():
            normalized = protocol.normalize(label)
            empty[name] += not normalized
            altered[name] += normalized.lower() != label.lower()
    return LabelReport(
        unlabeled=counts["unlabeled"],
        over_long=counts["over_long"],
        unknown_characters=counts["unknown_characters"],
        wrong_under_strict=counts["wrong_under_strict"],
        replaced_under_released=counts["replaced_under_released"],
        lengths={str(length): lengths[length] for length in sorted(lengths)},
        characters_outside=dict(outside.most_common()),
        protocols={name: ProtocolEffect(empty[name], altered[name]) for name in PROTOCOLS},
    )


def _duplicates(hashes: NDArray[np.uint64], layout: KeyLayout) -> Duplicates:
    """Groups of images with equal file hashes."""
    readable = np.flatnonzero(hashes)
    order = readable[np.argsort(hashes[readable], kind="stable")]
    _, starts, sizes = np.unique(hashes[order], return_index=True, return_counts=True)
    groups = [
        order[start : start + size].tolist()
        for start, size in zip(starts, sizes, strict=True)
        if size > 1
    ]
    first = [
        [layout.key(IMAGE, index) for index in group] for group in sorted(groups)[:LISTED_KEYS]
    ]
    return Duplicates(len(groups), sum(map(len, groups)), first)
