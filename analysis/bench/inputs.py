"""The input path on one core, and how its cost grows with the number of images in the index."""

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from analysis.bench.measure import Row, rows, take_turns, times_as_fast
from analysis.bench.per_image import per_image_view
from analysis.bench.work import Work
from core.data.batches import ShuffledBatches, load_batches, normalize, to_unit
from core.data.lmdb_folder import new_lmdb, put_count, put_samples
from core.data.word_images import WordImages, decode
from core.runtime.processes import worker_pool
from core.views.guidance import STRENGTHS, draw_view, guidance_view

BATCH = 64


def measure_input(work: Work) -> list[Row]:
    """Images/s of one core from LMDB to both views; beside it the parts, and a loop that decodes JPEG and no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _on_one_core(work)
    finally:
        torch.set_num_threads(threads)


def _on_one_core(work: Work) -> list[Row]:
    images, size = work.images(), work.encoder.image
    count = min(len(images), 16 if work.quick else 512) // BATCH * BATCH or min(len(images), 16)
    files = [images.raw(number) or b"" for number in range(count)]
    batches = [list(range(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]

    def ours() -> None:
        random = torch.Generator().manual_seed(0)
        for batch in load_batches(images, size, batches, labeled=False, workers=0):
            unit = to_unit(batch.images, torch.device("cpu"))
            normalize(unit)
            normalize(
                guidance_view(
                    unit, draw_view(STRENGTHS["medium"], len(unit), size, generator=random)
                )
            )

    def clean_only() -> None:
        for batch in load_batches(images, size, batches, labeled=False, workers=0):
            normalize(to_unit(batch.images, torch.device("cpu")))

    def plain() -> None:
        random = np.random.default_rng(0)
        for number in range(count):
            picture = decode(images.raw(number) or b"")
            if picture is None:
                continue
            clean = picture.resize(size[::-1], Image.Resampling.BICUBIC)
            normalize(torch.from_numpy(np.array(clean)).permute(2, 0, 1).float() / 255)
            normalize(per_image_view(picture, size, random))

    def decode_only() -> None:
        for file in files:
            decode(file)

    paths = {"plain": plain, "ours, both views": ours, "ours, clean view alone": clean_only}
    seconds = take_turns(paths | {"limit: JPEG decoding": decode_only}, work.repetitions)
    sides = [picture.size for file in files if (picture := decode(file)) is not None]
    width, height = np.mean(sides, axis=0)
    found = rows(
        "input",
        f"one core, images of {width:.0f} x {height:.0f} on average",
        "images",
        count,
        seconds,
        "plain",
    )
    for row in found:
        if row.path.startswith("ours"):
            row.ratios["of JPEG decoding's rate"] = times_as_fast(
                row.seconds, seconds["limit: JPEG decoding"]
            )
    return found


def measure_index(work: Work) -> list[Row]:
    """At growing numbers of images: the start of an epoch, images/s, memory; each in a process of its own."""
    found = []
    for count in (10**2, 10**3, 10**4) if work.quick else (10**3, 10**5, 10**7):
        with TemporaryDirectory(prefix="bench-") as folder:
            _write_index(Path(folder), count)
            with worker_pool(1) as pool:
                walk = pool.submit(_walk, folder, work.encoder.image, 5 if work.quick else 100)
                start, seconds, shown, memory = walk.result()
        case = f"{count:,} images"
        found.append(Row("index", case, "start of an epoch", "epochs", 1, [start]))
        ratios = {"x the smallest": found[1].seconds[0] / seconds} if found[1:] else {}
        found.append(
            Row("index", case, "reading, one core", "images", shown, [seconds], ratios, memory)
        )
    return found


def _write_index(folder: Path, count: int) -> None:
    """Tiny images under all numbers: the index is as large as it would be, the file is not."""
    stream = io.BytesIO()
    Image.new("L", (1, 1), 128).save(stream, "PNG")
    with new_lmdb(folder) as environment:
        for start in range(0, count, 1 << 20):
            with environment.begin(write=True) as transaction:
                put_samples(
                    transaction,
                    start + 1,
                    [(stream.getvalue(), None)] * min(1 << 20, count - start),
                )
        with environment.begin(write=True) as transaction:
            put_count(transaction, count)


def _walk(folder: str, size: tuple[int, int], batches: int) -> tuple[float, float, int, float]:
    """Seconds to the first batch, seconds of the others, images in these, MB of memory that is not the file's own pages."""
    process: Any = psutil.Process()

    def own() -> float:
        known = process.memory_info()
        return (known.rss - known.shared) / 2**20

    torch.set_num_threads(1)
    before, started = own(), time.perf_counter()
    images = WordImages([folder])
    order = ShuffledBatches([images.selection()], [BATCH], 0, batches + 1, 0)
    parts = iter(load_batches(images, size, order, labeled=False, workers=0))
    next(parts)
    first = time.perf_counter()
    shown = sum(len(part.indices) for part in parts)
    return first - started, time.perf_counter() - first, shown, own() - before
