"""The data set of synthetic words as LMDB folders, and its fingerprint.

The suite needs no other data to run. The images are deterministic in (seed, split, index), given
the library versions that the fingerprint contains.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from core.config import identity_fields
from core.data.character_boxes import CharacterBoxes, boxes_key, encode_boxes
from core.data.lmdb_folder import Sample, new_lmdb, put_count, put_samples
from core.runtime.processes import worker_pool
from core.synthetic.cjk_fonts import cjk_contents
from core.synthetic.config import LANGUAGE_SPLITS, Synthetic, language_sizes, split_sizes
from core.synthetic.fonts import package_version, packages
from core.synthetic.vocabulary import vocabulary_characters
from core.synthetic.words import render_with_boxes

RENDERER = 1  # increase when a change of the code alters any image
LIBRARIES = ("pillow", "numpy", "wordfreq", "matplotlib")
CHUNK = 500  # images that one task of a worker renders
JPEG_QUALITY = 92


def dataset_fingerprint(config: Synthetic) -> str:
    """16 hex digits that follow from everything that the pixels depend on.

    These are the config, the renderer, and the versions of libraries and fonts. Raises UserError if
    a package is not installed, or if no font has the Chinese characters."""
    tables = ("scene",) if config.look == "scene" else ("plain", "artistic")
    chinese = config.language == "zh"
    font_packages = [] if chinese else packages(*tables)
    libraries = sorted({*LIBRARIES, *font_packages})
    parts: list[object] = [
        identity_fields(config),
        RENDERER,
        {name: package_version(name) for name in libraries},
    ]
    if chinese:
        parts.append(cjk_contents(vocabulary_characters(config)))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_splits(
    config: Synthetic,
    folder: Path,
    processes: int,
    should_stop: Callable[[], bool],
    for_language: bool = False,
) -> Iterator[tuple[int, int]]:
    """Render every split into `folder`/NAME as LMDB; yields (images done, images in all).

    A split appears under its name only when it is complete; complete splits are kept. If
    `should_stop` becomes true, rendering ends early and the last yield is below the total.

    config: what to render.
    folder: where the splits are written.
    processes: number of worker processes.
    should_stop: called after each chunk of images.
    for_language: render the splits for hidden letters instead, which always have boxes.
    Raises UserError if the disk is full."""
    sizes = split_sizes(config)
    if for_language:
        sizes = language_sizes(config)
        config = config.model_copy(update={"boxes": True})
    total = sum(sizes.values())
    done = 0
    with worker_pool(processes) as pool:
        for split, size in sizes.items():
            if (folder / split).is_dir():
                done += size
                continue
            temporary = folder / f".{split}.{os.getpid()}"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for count in _write_split(config, split, size, temporary, pool):
                done += count
                yield done, total
                if should_stop():
                    pool.shutdown(cancel_futures=True)
                    shutil.rmtree(temporary)
                    return
            os.replace(temporary, folder / split)


def _write_split(
    config: Synthetic, split: str, size: int, folder: Path, pool: ProcessPoolExecutor
) -> Iterator[int]:
    """Write `size` images of a split as LMDB; yields the number of images of each chunk."""
    chunks = [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    with new_lmdb(folder) as environment:
        rendered = pool.map(_render_chunk, [config] * len(chunks), [split] * len(chunks), chunks)
        for chunk, (samples, boxes) in zip(chunks, rendered, strict=True):
            with environment.begin(write=True) as transaction:
                put_samples(transaction, chunk.start + 1, samples)
                for number, of_word in enumerate(boxes, chunk.start + 1):
                    transaction.put(boxes_key(number), encode_boxes(of_word))
            yield len(chunk)
        with environment.begin(write=True) as transaction:
            put_count(transaction, size)


def _render_chunk(
    config: Synthetic, split: str, numbers: range
) -> tuple[list[Sample], list[CharacterBoxes]]:
    """The images with the given numbers as files with their labels; the characters' boxes.

    There are no boxes unless `config.boxes`. Files are JPEG, but PNG for hidden letters: JPEG would
    spread traces of a letter beyond its box."""
    samples: list[Sample] = []
    boxes: list[CharacterBoxes] = []
    for index in numbers:
        word = render_with_boxes(config, split, index)
        stream = io.BytesIO()
        if split in LANGUAGE_SPLITS:
            word.image.save(stream, "PNG")
        else:
            word.image.save(stream, "JPEG", quality=_jpeg_quality(config, index))
        samples.append((stream.getvalue(), word.text))
        if config.boxes:
            boxes.append(word.boxes)
    return samples, boxes


def _jpeg_quality(config: Synthetic, index: int) -> int:
    """35 to 95, evenly, for the look of photographs; else constant."""
    return 35 + 37 * index % 61 if config.look == "scene" else JPEG_QUALITY
