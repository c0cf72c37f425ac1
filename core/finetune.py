"""Stage 2: fine-tune the recogniser on labelled words. Config + data (+ pre-trained encoder) -> `model.safetensors`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core import checkpoint
from core.augmentation import augment
from core.config import Finetune
from core.data import Batch, Dropped, ShuffledBatches, WordImages, load_batches, normalise, to_unit
from core.errors import UserError
from core.evaluate import read_images
from core.loop import Losses, Machine, Training, artefact
from core.metrics import PROTOCOLS, count
from core.pretrain import MODEL
from core.randomness import derive_seed, generator
from core.recognizer import Recognizer, reading_loss
from core.text import Charset


def make_model(config: Finetune, encoder: Path | None) -> Recognizer:
    """The recogniser at its seed's initial weights, its encoder from the file `encoder` unless that is None (scratch)."""
    torch.manual_seed(derive_seed(config.seed, "finetune", "weights"))
    model = Recognizer(config)
    if encoder is not None:
        checkpoint.load_into(model.encoder, checkpoint.load_weights(encoder), "encoder.", encoder)
    return model


def usable_labels(images: WordImages, charset: Charset, max_length: int) -> tuple[np.ndarray, Dropped]:
    """Numbers of the images whose label can be trained on, and what was left out. Raises UserError if none can."""
    dropped = Dropped()
    usable = []
    for index in range(len(images)):
        label = images.label(index)
        if not label:
            dropped.unlabelled += 1
        elif len(label) >= max_length:
            dropped.over_long += 1
        else:
            dropped.unknown_characters += bool(charset.unknown_in(label))
            usable.append(index)
    if not usable:
        raise UserError(f"{', '.join(images.roots)}: no usable label among {len(images)} images ({dropped.counts()})")
    return np.array(usable), dropped


class FinetuneTask:
    """Augmentation and loss of one batch; validation after each epoch."""

    def __init__(self, config: Finetune, model: Recognizer, validation: WordImages | None, machine: Machine) -> None:
        self.config, self.validation, self.machine = config, validation, machine
        self.model = model.to(machine.device).train()
        self.validated: dict[str, float] = {}

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        device = self.machine.device
        tokens, lengths = self.model.charset.encode(batch.labels, self.config.max_length)
        images = to_unit(batch.images, device)
        if self.config.augmentation == "abinet":
            images = augment(images, generator=generator(self.config.seed, "augmentation", step))
        images = normalise(images)

        def losses(part: slice) -> Losses:
            target, length = tokens[part].to(device), lengths[part].to(device)
            return {"loss": reading_loss(self.model(images[part], target, length), target, length)}

        return losses

    def after_epoch(self, epoch: int) -> dict[str, float]:
        if self.validation is None:
            return {}
        quiet = replace(self.machine, should_stop=lambda: False, on_progress=lambda progress: None)
        readings, _ = read_images(self.model, self.validation, 256, self.config.precision, quiet, "validation")
        self.model.train()
        result = count(readings, PROTOCOLS["waics"])
        self.validated = {"validation_correct": result.correct, "validation_images": result.images}
        return self.validated


def finetune(
    config: Finetune,
    roots: list[str],
    validation: list[str] | None,
    encoder: Path | None,
    folder: Path,
    machine: Machine,
) -> dict[str, object]:
    """Run the stage in `folder`; returns its metrics. Resumes from the folder's checkpoint.

    The last weights are kept: nothing is chosen on validation or test images."""
    images = WordImages(roots)
    model = make_model(config, encoder)
    usable, dropped = usable_labels(images, model.charset, config.max_length)
    task = FinetuneTask(config, model, WordImages(validation) if validation else None, machine)
    training = Training(task, config, len(usable), folder, machine)
    order = ShuffledBatches(usable, config.optimiser.batch, training.step, training.total, config.seed)
    training.run(load_batches(images, config.encoder.image, order, labelled=True, workers=machine.workers))
    checkpoint.save(folder / MODEL, artefact(model), {"stage": "finetune", "config": config.model_dump(mode="json")})
    dropped.unreadable = training.unreadable
    return training.metrics() | {"dropped": dropped.counts()} | task.validated
