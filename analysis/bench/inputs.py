"""The input path: images per second of one core, and its cost at growing numbers of images."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from analysis.bench.measure import MEGABYTE, Timing, compare_paths, speed_ratio, time_in_turns
from analysis.bench.per_image import per_image_view
from analysis.bench.setup import BenchSetup
from core.data.batches import ShuffledBatches, load_batches, normalize, to_unit
from core.data.lmdb_folder import new_lmdb, put_count, put_samples
from core.data.word_images import WordImages, decode_image
from core.runtime.processes import worker_pool
from core.views.guidance import STRENGTHS, apply_view, sample_view

BATCH = 64
CPU = torch.device("cpu")
DECODING = "limit: JPEG decoding"


def measure_input(setup: BenchSetup) -> list[Timing]:
    """Images per second of one core, from LMDB to both views, compared with JPEG decoding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure_on_one_core(setup)
    finally:
        torch.set_num_threads(threads)


def _measure_on_one_core(setup: BenchSetup) -> list[Timing]:
    loader = _Loader(setup)
    paths = {
        "plain": loader.load_image_by_image,
        "ours, both views": loader.load_both_views,
        "ours, clean view alone": loader.load_clean_view,
        DECODING: loader.decode_files,
    }
    case = f"one core, images of {loader.mean_size()} on average"
    seconds = time_in_turns(setup, case, paths)
    timings = compare_paths("input", case, "images", loader.count, seconds, "plain")
    for timing in timings:
        if timing.path.startswith("ours"):
            ratio = speed_ratio(timing.seconds, seconds[DECODING])
            timing.ratios["of JPEG decoding's rate"] = ratio
    return timings


class _Loader:
    """Ways to load the first images of a data set."""

    def __init__(self, setup: BenchSetup) -> None:
        self.images = setup.images()
        self.size = setup.encoder.image
        wanted = min(len(self.images), 16 if setup.quick else 512)
        self.count = wanted // BATCH * BATCH or wanted
        self.files = [self.images.raw(number) or b"" for number in range(self.count)]
        self.batches = [
            list(range(start, min(start + BATCH, self.count)))
            for start in range(0, self.count, BATCH)
        ]

    def load_both_views(self) -> None:
        """The clean and the guidance view, made for a batch at once."""
        random = torch.Generator().manual_seed(0)
        for batch in load_batches(
            self.images, self.size, self.batches, labeled=False, num_workers=0
        ):
            unit = to_unit(batch.images, CPU)
            normalize(unit)
            view = sample_view(STRENGTHS["medium"], len(unit), self.size, generator=random)
            normalize(apply_view(unit, view))

    def load_clean_view(self) -> None:
        """The clean view only."""
        for batch in load_batches(
            self.images, self.size, self.batches, labeled=False, num_workers=0
        ):
            normalize(to_unit(batch.images, CPU))

    def load_image_by_image(self) -> None:
        """Both views, made image by image."""
        random = np.random.default_rng(0)
        for number in range(self.count):
            picture = decode_image(self.images.raw(number) or b"")
            if picture is None:
                continue
            clean = picture.resize(self.size[::-1], Image.Resampling.BICUBIC)
            normalize(torch.from_numpy(np.array(clean)).permute(2, 0, 1).float() / 255)
            normalize(per_image_view(picture, self.size, random))

    def decode_files(self) -> None:
        """Decoding only, of files in memory."""
        for file in self.files:
            decode_image(file)

    def mean_size(self) -> str:
        """Mean width x height of the decoded images, in pixels."""
        pictures = [decode_image(file) for file in self.files]
        sizes = [picture.size for picture in pictures if picture is not None]
        width, height = np.mean(sizes, axis=0)
        return f"{width:.0f} x {height:.0f}"


@dataclass(frozen=True)
class EpochStart:
    """What the first batches of an epoch cost."""

    first_seconds: float  # until the first batch
    other_seconds: float  # for the other batches
    images: int  # in the other batches
    memory_mb: float  # added to the process, without pages of the file


def measure_index(setup: BenchSetup) -> list[Timing]:
    """At growing numbers of images: start of an epoch, images per second, memory."""
    timings: list[Timing] = []
    smallest: EpochStart | None = None
    writing_seconds_per_image = 0.0
    for count in (10**2, 10**3, 10**4) if setup.quick else (10**3, 10**5, 10**7):
        case = f"{count:,} images"
        if not setup.budget.allows_or_cut(case, writing_seconds_per_image * count):
            break
        with TemporaryDirectory(prefix="bench-") as folder:
            started = time.perf_counter()
            _write_tiny_images(Path(folder), count)
            writing_seconds_per_image = (time.perf_counter() - started) / count
            start = _start_epoch_elsewhere(setup, folder)
        ratios: dict[str, float] = {}
        if smallest is not None:
            ratios = {"x the smallest": smallest.other_seconds / start.other_seconds}
        smallest = smallest or start
        timings += [
            Timing("index", case, "start of an epoch", "epochs", 1, [start.first_seconds]),
            Timing(
                what="index",
                case=case,
                path="reading, one core",
                unit="images",
                count=start.images,
                seconds=[start.other_seconds],
                ratios=ratios,
                memory_mb=start.memory_mb,
            ),
        ]
    return timings


def _start_epoch_elsewhere(setup: BenchSetup, folder: str) -> EpochStart:
    """Start an epoch on the images of an LMDB, in a new process."""
    with worker_pool(1) as pool:
        batches = 5 if setup.quick else 100
        return pool.submit(_start_epoch, folder, setup.encoder.image, batches).result()


def _write_tiny_images(folder: Path, count: int) -> None:
    """An LMDB with the keys of `count` images, each of one pixel."""
    stream = io.BytesIO()
    Image.new("L", (1, 1), 128).save(stream, "PNG")
    part = 1 << 20
    with new_lmdb(folder) as environment:
        for start in range(0, count, part):
            samples = [(stream.getvalue(), None)] * min(part, count - start)
            with environment.begin(write=True) as transaction:
                put_samples(transaction, start + 1, samples)
        with environment.begin(write=True) as transaction:
            put_count(transaction, count)


def _start_epoch(folder: str, size: tuple[int, int], batches: int) -> EpochStart:
    """Load one batch, then `batches` more. size: (height, width) of the loaded images."""
    torch.set_num_threads(1)
    memory_before = _private_memory()
    started = time.perf_counter()
    images = WordImages([folder])
    order = ShuffledBatches([images.selection()], [BATCH], 0, batches + 1, 0)
    loaded = iter(load_batches(images, size, order, labeled=False, num_workers=0))
    next(loaded)
    first = time.perf_counter()
    count = sum(len(batch.indices) for batch in loaded)
    ended = time.perf_counter()
    return EpochStart(first - started, ended - first, count, _private_memory() - memory_before)


def _private_memory() -> float:
    """MB of this process that are not pages of files."""
    memory: Any = psutil.Process().memory_info()
    return float(memory.rss - memory.shared) / MEGABYTE
