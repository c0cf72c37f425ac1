"""Training steps: the training loop against a plain baseline, and its wait for data."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.bench.limits import matrix_product, native_precisions
from analysis.bench.measure import (
    Timing,
    compare_paths,
    peak_memory,
    share_of_limit,
    time_in_turns,
)
from analysis.bench.per_image import per_image_view
from analysis.bench.setup import BenchSetup
from core.config import Finetune, Precision, Pretrain
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.lmim import LMIM
from core.model.compile import can_compile
from core.model.cost import cost
from core.model.masking import sample_visible
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.runtime.seeds import generator
from core.training.finetune import FinetuneTask
from core.training.finetune import make_model as make_recognizer
from core.training.loop import TrainingLoop
from core.training.optim import parameter_groups
from core.training.pretrain import PretrainTask
from core.training.pretrain import make_model as make_lmim
from core.training.run_context import RunContext
from core.views.augmentation import augment

LEARNING_RATE = 1e-4
GPU_WORKERS = 14  # processes that decode images for a GPU
StageName = Literal["pretrain", "finetune"]
Step = Callable[[], object]


def config_of(
    setup: BenchSetup, stage: StageName, batch: int, precision: Precision
) -> Pretrain | Finetune:
    """The config of a stage, with the setup's sizes.

    setup: sizes. stage, batch, precision: of the config."""
    make = setup.pretrain if stage == "pretrain" else setup.finetune
    return make(batch, precision)


def make_training(
    config: Pretrain | Finetune, setup: BenchSetup, *, compiled: bool = False
) -> TrainingLoop:
    """The training loop of a run, which writes no file. compiled: its encoder's blocks."""
    on_cpu = setup.device == "cpu"
    context = RunContext(
        torch.device(setup.device), num_workers=0 if on_cpu else GPU_WORKERS, compile=compiled
    )
    if isinstance(config, Pretrain):
        task: PretrainTask | FinetuneTask = PretrainTask(config, make_lmim(config, None), context)
    else:
        task = FinetuneTask(config, make_recognizer(config, None), None, context)
    with TemporaryDirectory() as folder:
        groups = [setup.images().selection()]
        training = TrainingLoop(task, config, groups, Path(folder), context)
        assert training.log is not None
        training.log.close()
    return training


def make_step(
    setup: BenchSetup,
    stage: StageName,
    batch: int,
    precision: Precision,
    compiled: bool = False,
) -> Step:
    """One step of the loop: random draws, views, forward and backward pass, optimizer.

    setup: sizes and images.
    stage, batch, precision: of the step.
    compiled: whether the encoder's blocks are compiled."""
    config = config_of(setup, stage, batch, precision)
    training = make_training(config, setup, compiled=compiled)
    images = setup.batch(batch)

    def step() -> None:
        training.update(images, batch, LEARNING_RATE)
        training.step += 1

    return step


def make_plain_step(setup: BenchSetup, stage: StageName, batch: int) -> Step:
    """The baseline: fp32, unfused attention, AdamW parameter by parameter, images one by one."""
    config = config_of(setup, stage, batch, "fp32")
    images = setup.batch(batch)
    model: nn.Module
    if isinstance(config, Pretrain):
        model = lmim = make_lmim(config, None).to(setup.device).train()
        compute_loss = partial(plain_pretraining_loss, lmim, images, config)
    else:
        recognizer = make_recognizer(config, None).to(setup.device).train()
        assert isinstance(recognizer, Recognizer)  # the config of the benchmark has a decoder
        model = recognizer
        compute_loss = partial(plain_recognition_loss, recognizer, images)
    groups = parameter_groups(model, config.optimizer, config.encoder.depth)
    optimizer = torch.optim.AdamW(
        groups, lr=LEARNING_RATE, betas=config.optimizer.betas, foreach=False
    )

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            torch.autograd.backward(compute_loss())
        optimizer.step()
        optimizer.zero_grad()

    return step


def plain_pretraining_loss(model: LMIM, batch: Batch, config: Pretrain) -> Tensor:
    """LMIM's loss, with guidance views made image by image."""
    size = config.encoder.image
    device = model.decoder.mask_token.device
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch.images]
    views = torch.stack([per_image_view(picture, size, random) for picture in pictures])
    visible = sample_visible(
        config.mask,
        config.encoder,
        batch.images,
        torch.tensor(batch.positions),
        batch.size,
        generator=torch.Generator().manual_seed(0),
    )
    images = normalize(to_unit(batch.images, device))
    output = model(images, normalize(views.to(device)), visible.to(device))
    return cast(Tensor, output.loss)


def plain_recognition_loss(model: Recognizer, batch: Batch) -> Tensor:
    """The recognizer's loss, with images augmented one by one."""
    device = model.classify.weight.device
    position = torch.zeros(1, dtype=torch.long)
    tokens, lengths = model.charset.encode(batch.labels, model.config.max_length)
    tokens = tokens.to(device)
    lengths = lengths.to(device)
    images = to_unit(batch.images, device)
    augmented = [
        augment(image[None], position, 1, generator=generator(number))
        for number, image in enumerate(images)
    ]
    logits = model(normalize(torch.cat(augmented)), tokens, lengths)
    return sequence_cross_entropy(logits, tokens, lengths)


def measure_pretraining(setup: BenchSetup) -> list[Timing]:
    """Steps of pre-training, at each batch size."""
    return [timing for batch in setup.batches for timing in _measure_step(setup, "pretrain", batch)]


def measure_finetuning(setup: BenchSetup) -> list[Timing]:
    """Steps of fine-tuning, at the smallest batch size."""
    return _measure_step(setup, "finetune", setup.batches[0])


def _measure_step(setup: BenchSetup, stage: StageName, batch: int) -> list[Timing]:
    """Images per second, share of the matrix product's rate, and on a CPU added memory."""
    precisions = native_precisions(setup.device)
    makers = step_makers(setup, stage, batch)
    memory: dict[str, float | None] = {}
    if setup.device == "cpu":  # each in a new process, before this process holds any model
        memory = {name: peak_memory(make) for name, make in makers.items()}
    products = {precision: matrix_product(setup.device, precision) for precision in precisions}
    limits = {f"limit, {precision}": product.path for precision, product in products.items()}
    paths: dict[str, Step] = {name: make() for name, make in makers.items()}
    seconds = time_in_turns(paths | limits, _step_repetitions(setup, batch), setup.device)
    operations = cost(config_of(setup, stage, batch, "fp32")).operations * batch
    timings = compare_paths(
        what=stage,
        case=f"{setup.name}, batch {batch}",
        unit="images",
        count=batch,
        seconds={name: seconds[name] for name in paths},
        baseline="plain",
    )
    for timing in timings:
        precision: Precision = "bf16" if timing.path.endswith("bf16") else "fp32"
        limit = seconds[f"limit, {precision}"]
        limit_operations = products[precision].operations
        share = share_of_limit(limit, limit_operations, timing.seconds, operations)
        timing.ratios[f"of the {precision} matrix product's rate"] = share
    return [replace(timing, memory_mb=memory.get(timing.path)) for timing in timings]


def step_makers(setup: BenchSetup, stage: StageName, batch: int) -> dict[str, Callable[[], Step]]:
    """Path -> function that makes its step. Compiled ones on CUDA only, where --compile acts."""
    makers: dict[str, Callable[[], Step]] = {"plain": partial(make_plain_step, setup, stage, batch)}
    compiles = setup.device.startswith("cuda") and can_compile(setup.device)
    for precision in native_precisions(setup.device):
        make = partial(make_step, setup, stage, batch, precision)
        makers[f"ours, {precision}"] = make
        if compiles:
            makers[f"ours, compiled, {precision}"] = partial(make, compiled=True)
    return makers


def _step_repetitions(setup: BenchSetup, batch: int) -> int:
    if setup.device != "cpu":
        return setup.repetitions
    return 2 if batch > 16 or setup.quick else 3


def measure_feeding(setup: BenchSetup) -> list[Timing]:
    """Pre-training steps with the real input path: images per second, and time without data."""
    batch = setup.batches[0]
    precision = native_precisions(setup.device)[-1]
    config = setup.pretrain(batch, precision)
    training = make_training(config, setup)
    context = training.context
    batches = iter(
        load_batches(
            setup.images(),
            config.encoder.image,
            training.order(),
            labeled=False,
            num_workers=context.num_workers,
            pin_memory=context.pinned,
        )
    )
    waiting_seconds = []
    step_seconds = []
    for step in range(1 + (3 if setup.device == "cpu" else 30)):
        started = time.perf_counter()
        images = next(batches)
        ready = time.perf_counter()
        training.update(images, batch, LEARNING_RATE)
        if setup.device != "cpu":
            torch.cuda.synchronize()
        if step > 0:  # the first one starts the workers
            waiting_seconds.append(ready - started)
            step_seconds.append(time.perf_counter() - started)
    share = sum(waiting_seconds) / sum(step_seconds)
    return [
        Timing(
            what="feeding",
            case=f"{setup.name}, batch {batch}, {context.num_workers} workers",
            path=f"ours, {precision}",
            unit="images",
            count=batch,
            seconds=step_seconds,
            ratios={"share of time waiting for data": share},
        )
    ]
