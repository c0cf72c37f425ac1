"""Training steps that are timed: those of the training loop, and a plain baseline."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.bench.limits import native_precisions
from analysis.bench.per_image import per_image_view
from analysis.bench.setup import BenchSetup
from core.config import Finetune, Precision, Pretrain
from core.data.batches import Batch, normalize, to_unit
from core.lmim import LMIM
from core.model.compile import can_compile
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
