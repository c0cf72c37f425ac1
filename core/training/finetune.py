"""Stage 2: fine-tune the recognizer on labeled words. Config + data (+ pre-trained encoder) -> `model.safetensors`."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from core.checkpoints.released import load_weights
from core.config import Finetune
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.data.word_images import Dropped, WordImages
from core.model.compile import compile_for
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.runtime import safetensors_io
from core.runtime.artefacts import MODEL
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed, generator
from core.text.charset import make_charset
from core.text.protocols import PROTOCOLS, is_correct
from core.training.evaluate import recognize
from core.training.loop import Losses, RunContext, Training, exported_tensors, training_groups
from core.views.augmentation import augment, draw


def make_model(config: Finetune, encoder: Path | None) -> Recognizer:
    """The recognizer at its seed's initial weights, its encoder from the file `encoder` unless that is None (scratch)."""
    torch.manual_seed(derive_seed(config.seed, "finetune", "weights"))
    model = Recognizer(config)
    if encoder is not None:
        safetensors_io.load_into(model.encoder, load_weights(encoder)[0], "encoder.", encoder)
    return model


def unusable_labels(images: WordImages, config: Finetune) -> tuple[list[int], Dropped]:
    """Numbers of the images whose label cannot be trained on, and what becomes of labels that do not fit.

    Policy `released` leaves none out: a later sample takes the place of one whose label is too long. Raises UserError if no
    label can be trained on."""
    dropped, unusable, fits = Dropped(filtered=len(images.left_out)), [], 0
    charset, limit = make_charset(config.charset), length_limit(config)
    for index, label in enumerate(images.labels()):
        if label and len(label) < limit:
            dropped.unknown_characters += bool(charset.unknown_in(label))
            fits += 1
            continue
        dropped.unlabeled += not label
        dropped.over_long += bool(label)
        unusable.append(index)
    if not fits:
        raise UserError(
            f"{', '.join(images.roots)}: no usable label among {len(images)} images ({dropped.counts()})"
        )
    if config.labels == "released":
        dropped.replaced, unusable = len(unusable), []
    return unusable, dropped


def length_limit(config: Finetune) -> int:
    """Labels of so many characters do not fit; the released code takes one fewer than there is room for."""
    return config.max_length - (config.labels == "released")


class FinetuneTask:
    """Augmentation and loss of one batch; validation after each epoch."""

    def __init__(
        self,
        config: Finetune,
        model: Recognizer,
        validation: WordImages | None,
        context: RunContext,
    ) -> None:
        self.config, self.validation, self.context = config, validation, context
        self.model = model.to(context.device).train()
        compile_for(context.device, self.model)
        self.network = context.process_group.distribute(self.model)
        self.validated: dict[str, float] = {}
        self.read_right: list[list[bool]] = []  # of each validation root, image by image
        self.draws = None
        if config.augmentation_draws is not None:
            source = generator(config.seed, "augmentation of the run")
            self.draws = draw(config.augmentation_draws, config.encoder.image, generator=source)

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        device = self.context.device
        tokens, lengths = self.model.charset.encode(batch.labels, self.config.max_length)
        images = to_unit(batch.images, device)
        if self.config.augmentation == "abinet":
            source = generator(self.config.seed, "augmentation", step)
            images = augment(
                images, torch.tensor(batch.places), batch.size, self.draws, generator=source
            )
        images = normalize(images)

        def losses(part: slice) -> Losses:
            target, length = tokens[part].to(device), lengths[part].to(device)
            return {
                "loss": sequence_cross_entropy(
                    self.network(images[part], target, length), target, length
                )
            }

        return losses

    def validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        quiet = replace(self.context, should_stop=lambda: False, on_progress=lambda progress: None)
        readings, _ = recognize(
            self.model, self.validation, 256, self.config.precision, quiet, "validation"
        )
        self.model.train()
        protocol = PROTOCOLS["waics" if self.model.charset.characters.isascii() else "chinese"]
        right = [is_correct(reading, protocol) for reading in readings]
        ends = self.validation.ends.tolist()
        self.read_right = [right[start:end] for start, end in pairwise([0, *ends])]
        shares = [sum(root) / len(root) for root in self.read_right if root]
        counts = {"validation_correct": sum(right), "validation_images": len(right)}
        self.validated = counts | {"validation_avg": sum(shares) / max(len(shares), 1)}
        return self.validated


def finetune(
    config: Finetune,
    images: WordImages,
    validation: WordImages | None,
    encoder: Path | None,
    folder: Path,
    context: RunContext,
) -> tuple[dict[str, object], list[list[bool]]]:
    """Run the stage in `folder`; returns its metrics, and which images of each validation root were read right at the end.
    Resumes from the folder's checkpoint.

    images: the roots of `config.data`, then those mixed in. The last weights are kept: nothing is chosen on validation or
    test images."""
    model = make_model(config, encoder)
    unusable, dropped = unusable_labels(images, config)
    task = FinetuneTask(config, model, validation, context)
    training = Training(task, config, training_groups(config, images, unusable), folder, context)
    limit = length_limit(config) if config.labels == "released" else None
    size, order, num_workers = config.encoder.image, training.order(), context.num_workers
    parts = load_batches(
        images, size, order, labeled=True, workers=num_workers, limit=limit, pinned=context.pinned
    )
    training.run(parts)
    if context.process_group.is_main:
        safetensors_io.save(
            folder / MODEL,
            exported_tensors(model),
            {"stage": "finetune", "config": config.model_dump(mode="json")},
        )
    dropped.unreadable = training.unreadable
    return training.metrics() | {"dropped": dropped.counts()} | task.validated, task.read_right
