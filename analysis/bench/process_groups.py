"""Cost of exchanging gradients between processes: measured on CPUs, estimated for GPUs."""

import os
import socket
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

import torch

from analysis.bench.budget import TimeBudget
from analysis.bench.limits import expected_seconds, native_precisions
from analysis.bench.measure import Timing, time_in_turns
from analysis.bench.setup import BenchSetup
from core.config import Precision
from core.lmim import LMIM
from core.model.cost import pretrain_cost
from core.model.masking import random_mask
from core.runtime.distributed import gradient_sync, join_process_group
from core.runtime.seeds import generator
from core.training.run_context import autocast

GPU_RATE = 0.4 * 989e12  # operations per second: 40 % of an H100's dense bf16 rate (data sheet)
# GPUs -> bytes per second in each direction: NVLink inside a node, and between nodes one port of
# 400 Gbit/s for each GPU.
LINKS = {8: 450e9, 64: 50e9}
BATCH_PER_GPU = 64
FP32_BYTES = 4
SECONDS_FILE = "seconds.pt"
UNCOUNTED_STEPS = 4  # that each process takes before those that are timed


def measure_process_groups(setup: BenchSetup) -> list[Timing]:
    """The share of a step that two processes spend on gradients; estimates for 8 and 64 GPUs."""
    estimates = [estimate(setup, gpus) for gpus in LINKS]
    batch = setup.batches[0]
    case = f"{setup.name}, 2 processes of 1 thread, {batch // 2} images each"
    precision = native_precisions(setup.device)[-1]
    operations = pretrain_cost(setup.pretrain(batch, precision)).operations * batch
    minimum = UNCOUNTED_STEPS + 2  # steps
    if not setup.budget.allows_or_cut(case, minimum * expected_seconds(setup, operations)):
        return estimates
    seconds = _time_two_processes(setup, precision)
    exchanging = seconds["exchange"]
    silent = seconds["no exchange"]
    pairs = zip(silent, exchanging, strict=True)
    share = median(1 - without / with_exchange for without, with_exchange in pairs)
    done = len(exchanging)
    setup.budget.note_repetitions(case, done, setup.repetitions, exchanging[-1] + silent[-1])
    ratios = {"share of time in communication": share}
    measured = [
        Timing("team", case, "gradients exchanged", "images", batch, exchanging, ratios),
        Timing("team", case, "gradients kept", "images", batch, silent),
    ]
    return measured + estimates


def _time_two_processes(setup: BenchSetup, precision: Precision) -> dict[str, list[float]]:
    """Seconds of steps of two processes, with and without exchange of gradients."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    spawn = get_context("spawn")
    with TemporaryDirectory() as folder:
        processes = [
            spawn.Process(target=_time_steps, args=(rank, port, setup, precision, folder))
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = torch.load(Path(folder) / SECONDS_FILE, weights_only=True)
    return cast(dict[str, list[float]], seconds)


def _time_steps(rank: int, port: int, setup: BenchSetup, precision: Precision, folder: str) -> None:
    """The body of each process; the main one writes its seconds into the folder.

    rank: the number of the process.
    port: where the processes meet.
    setup, precision: of the step.
    folder: for the seconds.
    """
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(variables, RANK=str(rank))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = max(1, setup.batches[0] // 2)
    device = torch.device("cpu")
    config = setup.pretrain(batch, precision)
    visible = random_mask(
        batch, config.encoder.patches, config.mask.ratio, generator=generator("team")
    )
    images = torch.rand(batch, 3, *config.encoder.image)
    with join_process_group(device) as group:
        network = group.data_parallel(LMIM(config).train())

        def step(exchanged: bool) -> None:
            with gradient_sync(network, exchanged), autocast(device, precision):
                network(images, images, visible).loss.backward()

        step(True)  # connects the processes
        started = time.perf_counter()
        step(True)
        turn = 2 * (time.perf_counter() - started)
        affordable = setup.budget.remaining() / turn - 1  # one turn is not counted
        wanted = max(1, int(min(setup.repetitions, affordable)))
        repetitions = min(group.all_gather(wanted))  # all processes take the same steps
        paths = {"exchange": lambda: step(True), "no exchange": lambda: step(False)}
        unlimited = replace(setup, device="cpu", budget=TimeBudget())
        seconds = time_in_turns(unlimited, "", paths, repetitions)
        if group.is_main:
            torch.save(seconds, Path(folder) / SECONDS_FILE)


def estimate(setup: BenchSetup, gpus: int) -> Timing:
    """Computed, not measured: a step with 64 images per GPU.

    A ring all-reduce sends each fp32 gradient 2 (gpus - 1) / gpus times; it is assumed not to
    overlap with the backward pass."""
    parameters, operations = pretrain_cost(setup.pretrain(BATCH_PER_GPU, "bf16"))
    compute = BATCH_PER_GPU * operations / GPU_RATE
    exchange = 2 * (gpus - 1) / gpus * FP32_BYTES * parameters / LINKS[gpus]
    seconds = compute + exchange
    return Timing(
        what="team",
        case=f"{setup.name}, {gpus} GPUs, on paper",
        path="estimate",
        unit="images",
        count=BATCH_PER_GPU * gpus,
        seconds=[seconds],
        ratios={"share of time in communication, at most": exchange / seconds},
        note="estimate, not measured; DistributedDataParallel hides part of the exchange behind"
        " the backward pass",
    )
