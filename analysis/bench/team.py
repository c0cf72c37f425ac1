"""What processes that share a run tell one another: its share of a step, and what it would be on GPUs, on paper."""

import os
import socket
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from analysis.bench.limits import precisions
from analysis.bench.measure import Row, take_turns
from analysis.bench.work import Work
from core.lmim import LMIM
from core.model.cost import pretrain_cost
from core.model.masking import random_mask
from core.runtime.distributed import join_process_group, synchronized
from core.runtime.seeds import generator
from core.training.loop import autocast

GPU_RATE = (
    0.4 * 989e12
)  # operations a second: 40 % of an H100's dense bf16 rate, as its data sheet has it
LINKS = {
    8: 450e9,
    64: 50e9,
}  # bytes a second and direction: NVLink inside a node, one 400 Gbit/s port a GPU between nodes


def measure_team(work: Work) -> list[Row]:
    """The share of a step that two processes spend on each other's gradients, and an estimate for 8 and 64 GPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        context = get_context("spawn")
        members = [
            context.Process(target=_member, args=(rank, port, work, folder)) for rank in range(2)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join()
        seconds = torch.load(Path(folder) / "seconds.pt", weights_only=True)
    batch = work.batches[0]
    share = median(
        1 - alone / both
        for alone, both in zip(seconds["no exchange"], seconds["exchange"], strict=True)
    )
    shares = {"share of time in communication": share}
    case = f"{work.name}, 2 processes of 1 thread, {batch // 2} images each"
    found = [
        Row("team", case, "gradients exchanged", "images", batch, seconds["exchange"], shares),
        Row("team", case, "gradients kept", "images", batch, seconds["no exchange"]),
    ]
    return found + [estimate(work, gpus) for gpus in LINKS]


def _member(rank: int, port: int, work: Work, folder: str) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2"
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, device = max(1, work.batches[0] // 2), torch.device("cpu")
    precision = precisions(work.device)[-1]
    config = work.pretrain(batch, precision)
    visible = random_mask(
        batch, config.encoder.patches, config.mask.ratio, generator=generator("team")
    )
    images = torch.rand(batch, 3, *config.encoder.image)
    with join_process_group(device) as team:
        network = team.distribute(LMIM(config).train())

        def step(exchanged: bool) -> None:
            with synchronized(network, exchanged), autocast(device, precision):
                network(images, images, visible).loss.backward()

        seconds = take_turns(
            {"exchange": lambda: step(True), "no exchange": lambda: step(False)}, work.repetitions
        )
        if team.is_main:
            torch.save(seconds, Path(folder) / "seconds.pt")


def estimate(work: Work, gpus: int) -> Row:
    """On paper, 64 images a GPU: a ring sends every gradient (fp32) twice, but for a part in `gpus`; nothing overlaps."""
    parameters, operations = pretrain_cost(work.pretrain(64, "bf16"))
    compute = 64 * operations / GPU_RATE
    exchange = 2 * (gpus - 1) / gpus * 4 * parameters / LINKS[gpus]
    note = "estimate: nothing of it was measured; DistributedDataParallel hides part of the exchange behind the backward pass"
    shares = {"share of time in communication, at most": exchange / (compute + exchange)}
    case = f"{work.name}, {gpus} GPUs, on paper"
    return Row(
        "team", case, "estimate", "images", 64 * gpus, [compute + exchange], shares, note=note
    )
