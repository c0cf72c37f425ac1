"""Whether runs fit on the disk and into the memory of the device that computes them."""

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from core.config import Evaluate, Pretrain
from core.data.decoded_cache import DecodedCache
from core.data.record_cache import RecordCache, record_bytes
from core.model.cost import target_bytes
from core.runtime.errors import DiskError, UserError
from core.runtime.files import folder_bytes, free_disk_bytes
from core.synthetic.config import LANGUAGE_SPLITS
from experiments.planning.data_roots import Root
from experiments.planning.device import DRIVERS
from experiments.planning.disk_estimate import disk_use, rendered_bytes
from experiments.planning.memory_estimate import memory_bytes
from experiments.planning.plan import Plan, PlannedRun
from experiments.planning.run_cost import recognizer_config
from experiments.running.options import ComputeOptions
from results.store import Store

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container or a job; "max" is no limit
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def bytes_text(count: float) -> str:
    """A number of bytes with a unit (powers of 1,000) and at least two digits: 1.2 GB, 340 MB."""
    for unit in UNITS[:-1]:
        if count < 999.5:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 9.95 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


# Disk


def bytes_to_write(runs: Iterable[PlannedRun], store: Store, at_once: int = 1) -> int:
    """The bytes by which runs fill the disk at most, beyond what their folders contain now.

    What the runs keep, the temporary files of those that occupy most, and the words that the runs
    render, or add boxes to.

    runs: the runs, none of them complete.
    store: the results folder.
    at_once: runs that are computed at the same time."""
    runs = list(runs)
    uses = [disk_use(run) for run in runs]
    total = sum(sorted((use.temporary for use in uses), reverse=True)[:at_once])
    for run, use in zip(runs, uses, strict=True):
        total += use.kept - folder_bytes(store.run(run.id).folder)
    roots = {root for run in runs for root in chain(*run.data.values()) if root.is_absent}
    return max(0, total) + _bytes_to_render(roots) + _bytes_with_boxes(roots)


def _bytes_to_render(absent: Iterable[Root]) -> int:
    """Bytes of the synthetic words among absent roots."""
    splits = {
        (root.synthetic, Path(root.path).name in LANGUAGE_SPLITS)
        for root in absent
        if root.synthetic is not None
    }
    return sum(rendered_bytes(*of_root) for of_root in splits)


def _bytes_with_boxes(absent: Iterable[Root]) -> int:
    """Bytes of the words with boxes among absent roots: those of the words and of the boxes."""
    sources = {root.path: root.made_from for root in absent if root.made_from is not None}
    return sum(
        (Path(source.words) / "data.mdb").stat().st_size + Path(source.file).stat().st_size
        for source in sources.values()
    )


def bytes_to_decode(runs: Iterable[PlannedRun], plan: Plan, store: Store) -> int:
    """The bytes of decoded images that runs add to the results folder at most.

    Runs do not need them, and they take little of the free space: no run is refused for them.

    runs: the runs, none of them complete.
    plan: contains the runs.
    store: the results folder."""
    images: dict[tuple[str, tuple[int, int]], int] = {}
    for run in runs:
        model = recognizer_config(run, plan) if isinstance(run.config, Evaluate) else run.config
        if model is None:  # the recognizer's file is absent
            continue
        for root in chain.from_iterable(run.data.values()):
            if not root.unmet:
                images[root.path, model.encoder.image] = root.images
    return DecodedCache(store.decoded).missing_bytes(images, free_disk_bytes(store.root))


def bytes_of_targets(runs: Iterable[PlannedRun], store: Store) -> int:
    """The bytes of stored targets that pre-trainings on a CPU add to the results folder at most.

    Runs do not need them, and they take little of the free space: no run is refused for them.

    runs: the runs, none of them complete.
    store: the results folder."""
    cache = RecordCache(store.targets)
    free = free_disk_bytes(store.root)
    sizes: dict[tuple[object, ...], int] = {}
    for run in runs:
        if not isinstance(run.config, Pretrain) or not run.config.has_frozen_target:
            continue
        encoder = run.config.encoder
        content_bytes = target_bytes(encoder.patches, encoder.width)
        images = sum(root.images for roots in run.data.values() for root in roots)
        if cache.fits(images, content_bytes, free):
            teacher = run.inputs.get("teacher", run.config.seed)
            key = (teacher, *(root.path for roots in run.data.values() for root in roots))
            sizes[key] = images * record_bytes(content_bytes)
    return min(sum(sizes.values()), cache.budget)


def check_disk(run: PlannedRun, store: Store) -> None:
    """Raise DiskError if the disk has less free space than a run will still write."""
    needed = bytes_to_write([run], store)
    free = free_disk_bytes(store.root)
    if needed > free:
        raise DiskError(
            f"{store.run(run.id).folder}: the run will write {_exact(needed)}, and "
            f"{_exact(free)} are free; choose a folder on another disk with --results, or delete "
            "files that are no longer needed, and run the same command again"
        )


def _exact(count: int) -> str:
    return f"{count:,} bytes ({bytes_text(count)})"


# Memory


def device_memory_bytes(device: str) -> int | None:
    """The memory of a device: of a GPU, or of this machine; None if it is unknown.

    Does not import torch: a GPU's memory is known only where torch has been imported.

    device: auto, cpu, cuda, cuda:1, ...; "" is unknown."""
    has_gpu = any(map(os.path.exists, DRIVERS))
    if device == "cpu" or (device == "auto" and not has_gpu):
        return _machine_memory_bytes()
    if not device or "torch" not in sys.modules:
        return None
    import torch

    if device == "auto":
        return device_memory_bytes("cuda" if torch.cuda.is_available() else "cpu")
    if not device.startswith("cuda"):
        return None
    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def _machine_memory_bytes() -> int:
    """The memory of this machine, or the limit of its container or job if that is lower."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return memory


def _owner(device: str) -> str:
    """What has the memory of a device."""
    return "this machine" if device in ("cpu", "auto") else device


def check_memory(run: PlannedRun, needed: int, device: str) -> None:
    """Raise UserError if a run needs more memory than its device has.

    run: names the run in the message.
    needed: bytes, as `memory_bytes` estimates them.
    device: the device that computes the run."""
    memory = device_memory_bytes(device)
    if memory is not None and needed > memory:
        raise UserError(
            f"{run.id}: needs about {bytes_text(needed)} of memory, and {_owner(device)} has "
            f"{bytes_text(memory)}; use --micro-batch with fewer images, or another device"
        )


# Checks


def check_run(
    run: PlannedRun, store: Store, device: str, *, micro_batch: int | None, processes: int
) -> None:
    """Raise UserError if a run does not fit; called by the process that is about to compute it.

    run: the run.
    store: the results folder.
    device: the device that computes the run.
    micro_batch: images of a forward pass; None: the whole batch.
    processes: the processes that share each batch."""
    check_disk(run, store)
    needed = memory_bytes(run.config, micro_batch=micro_batch, processes=processes)
    check_memory(run, needed, device)


def check_plan(plan: Plan, store: Store, device: str, options: ComputeOptions) -> list[str]:
    """Check before a launch whether the incomplete runs fit; returns notes for the user.

    Raises UserError if not even the first of them fits on the disk, or if one of them needs more
    memory than the device has.

    plan: the runs.
    store: the results folder.
    device: the device that computes the runs; "" if another machine does.
    options: how the runs are computed."""
    incomplete = [run for run in plan.runs.values() if store.run(run.id).state().name != "complete"]
    if not incomplete:
        return []
    check_disk(incomplete[0], store)
    notes: list[str] = []
    at_once = len(incomplete) if options.launcher == "slurm" else options.jobs or 1
    needed = bytes_to_write(incomplete, store, at_once)
    free = free_disk_bytes(store.root)
    if needed > free:
        notes.append(
            f"{store.root}: the runs will write {bytes_text(needed)}, and {bytes_text(free)} are "
            "free; the last runs may not fit"
        )
    return notes + _memory_notes(plan, incomplete, device, options)


def _memory_notes(
    plan: Plan, runs: Sequence[PlannedRun], device: str, options: ComputeOptions
) -> list[str]:
    """As `check_plan`, for the memory of the incomplete `runs`."""
    memory = device_memory_bytes(device)
    if memory is None:
        return []
    needs: list[int] = []
    for run in runs:
        needed = memory_bytes(
            run.config,
            recognizer_config(run, plan),
            micro_batch=options.micro_batch,
            processes=options.processes,
        )
        check_memory(run, needed, device)
        needs.append(needed)
    at_once = min(options.jobs or 1, len(needs))
    together = sum(sorted(needs, reverse=True)[:at_once])
    if device == "cpu":
        together *= options.processes
    if together <= memory:
        return []
    return [
        f"runs at the same time ({at_once}) need up to {bytes_text(together)} of memory, and "
        f"{_owner(device)} has {bytes_text(memory)}; lower --jobs or --micro-batch"
    ]
