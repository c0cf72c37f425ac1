"""Stage 2: fine-tune the recognizer on labeled words."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from core.checkpoints.load import load_weights
from core.config import Finetune
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.data.word_images import Dropped, WordImages
from core.model.ctc import AnyRecognizer, JointRecognizer, ctc_loss, make_recognizer
from core.model.recognizer import sequence_cross_entropy
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.artifacts import EARLIER_MODEL, MODEL
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed, generator
from core.text.charset import make_charset
from core.text.protocols import PROTOCOLS, is_correct
from core.training.evaluate import recognize
from core.training.label_subset import labeled_subset
from core.training.last_checkpoints import last_steps
from core.training.loop import TrainingLoop
from core.training.parameters import recognizer_tensors
from core.training.run_context import RunContext, ignore_progress, never
from core.training.schedule import training_groups
from core.training.stage_results import FinetuneResult, ValidationScore
from core.training.task import LossTerms, prepare_network
from core.views.augmentation import augment, sample_augmentation

VALIDATION_BATCH = 256


def make_model(config: Finetune, encoder: Path | None) -> AnyRecognizer:
    """The recognizer at its initial weights. encoder: file of the encoder's; None: from scratch."""
    torch.manual_seed(derive_seed(config.seed, "finetune", "weights"))
    model = JointRecognizer(config) if config.ctc_weight else make_recognizer(config)
    if encoder is not None:
        safetensors_io.load_into(model.encoder, load_weights(encoder)[0], "encoder.", encoder)
    freeze_blocks(model.encoder, config.frozen_blocks)
    return model


def freeze_blocks(encoder: VisionTransformer, count: int) -> None:
    """Keep the patch embedding, [cls] and the first `count` blocks unchanged in training.

    With all blocks the final norm is kept too, so that the whole encoder is frozen. 0: nothing."""
    if count == 0:
        return
    frozen: list[nn.Module] = [encoder.patch_embed, *list(encoder.blocks)[:count]]
    if count == len(encoder.blocks):
        frozen.append(encoder.norm)
    encoder.cls_token.requires_grad_(False)
    for module in frozen:
        module.requires_grad_(False)


def unusable_labels(images: WordImages, config: Finetune) -> tuple[list[int], Dropped]:
    """Numbers of the images that are not trained on because of their label, and their counts.

    Policy `released` leaves no image out: a later sample replaces one whose label is too long.
    A label subset leaves out the words outside of it.
    Raises UserError if no label can be trained on."""
    charset = make_charset(config.charset)
    limit = length_limit(config)
    dropped = Dropped(filtered=len(images.filtered))
    filtered = frozenset(images.filtered.tolist())
    unusable: list[int] = []
    lengths: dict[int, int] = {}  # number of a usable word -> length of its label
    for index, label in enumerate(images.labels()):
        if label and len(label) < limit:
            dropped.unknown_characters += bool(charset.unknown_characters(label))
            if index not in filtered:
                lengths[index] = len(label)
            continue
        dropped.unlabeled += not label
        dropped.over_long += bool(label)
        unusable.append(index)
    if len(unusable) == len(images):
        raise UserError(
            f"{', '.join(images.roots)}: no usable label among {len(images)} images"
            f" ({dropped.counts()})"
        )
    if config.label_policy == "released":
        dropped.replaced = len(unusable)
        unusable = []
    if config.label_subset is not None:
        chosen = labeled_subset(lengths, config.label_subset, config.seed)
        unusable = sorted({*unusable, *lengths}.difference(chosen))
    return unusable, dropped


def length_limit(config: Finetune) -> int:
    """Labels of this many characters or more do not fit.

    The decoder has room for `max_length - 1` characters and EOS; the released code uses one
    character less."""
    return config.max_length - (config.label_policy == "released")


class FinetuneTask:
    """Augmentation and loss of a batch; validation after each epoch."""

    def __init__(
        self,
        config: Finetune,
        model: AnyRecognizer,
        validation: WordImages | None,
        context: RunContext,
    ) -> None:
        """config: of the stage. model: to be trained. validation: images with labels, or None.

        context: how the run is computed."""
        self.config = config
        self.validation = validation
        self.context = context
        self.model = model
        self.network = prepare_network(model, context)
        self.score: ValidationScore | None = None
        self.correct: list[list[bool]] = []  # validation root -> image -> recognized correctly
        self.draws = None
        if config.augmentation_draws is not None:
            source = generator(config.seed, "augmentation of the run")
            self.draws = sample_augmentation(
                config.augmentation_draws, config.encoder.image, generator=source
            )

    def prepare_batch(self, batch: Batch, step: int) -> Callable[[slice], LossTerms]:
        """Augment the images; return the cross-entropy for a slice."""
        device = self.context.device
        tokens, lengths = self.model.charset.encode(batch.labels, self.config.max_length)
        images = to_unit(batch.images, device)
        if self.config.augmentation == "abinet":
            source = generator(self.config.seed, "augmentation", step)
            positions = torch.tensor(batch.positions)
            images = augment(images, positions, batch.size, self.draws, generator=source)
        images = normalize(images)

        def losses(rows: slice) -> LossTerms:
            row_tokens = tokens[rows].to(device)
            row_lengths = lengths[rows].to(device)
            output = self.network(images[rows], row_tokens, row_lengths)
            if self.config.decoder is None:
                return {"loss": ctc_loss(output, row_tokens, row_lengths)}
            if self.config.ctc_weight:
                return self._joint_losses(output[0], output[1], row_tokens, row_lengths)
            return {"loss": sequence_cross_entropy(output, row_tokens, row_lengths)}

        return losses

    def _joint_losses(
        self,
        logits: torch.Tensor,
        ctc_logits: torch.Tensor,
        tokens: torch.Tensor,
        lengths: torch.Tensor,
    ) -> LossTerms:
        """The decoder's loss plus the weighted CTC loss, both summed over a word's characters."""
        decoder = sequence_cross_entropy(logits, tokens, lengths)
        ctc = ctc_loss(ctc_logits, tokens, lengths)
        return {"loss": decoder + self.config.ctc_weight * ctc, "decoder": decoder, "ctc": ctc}

    def validate(self) -> dict[str, float]:
        """Recognize the validation images; keeps and returns their score."""
        if self.validation is None:
            return {}
        uninterrupted = replace(self.context, should_stop=never, on_progress=ignore_progress)
        predictions, _ = recognize(
            self.model,
            self.validation,
            VALIDATION_BATCH,
            self.config.precision,
            uninterrupted,
            "validation",
        )
        self.model.train()
        protocol = PROTOCOLS["waics" if self.model.charset.characters.isascii() else "chinese"]
        correct = [is_correct(prediction, protocol) for prediction in predictions]
        ends = self.validation.ends.tolist()
        self.correct = [correct[start:end] for start, end in pairwise([0, *ends])]
        accuracies = [sum(root) / len(root) for root in self.correct if root]
        average = sum(accuracies) / max(len(accuracies), 1)
        self.score = ValidationScore(sum(correct), len(correct), average)
        return self.score.to_json()


def finetune(
    config: Finetune,
    images: WordImages,
    validation: WordImages | None,
    encoder: Path | None,
    folder: Path,
    context: RunContext,
) -> FinetuneResult:
    """Run the stage and write `model.safetensors`. Resumes from the folder's checkpoint.

    The last weights are kept: no image is used to choose among checkpoints.

    config: of the stage.
    images: the roots of `config.data`, then those of its mix.
    validation: images to validate on, or None.
    encoder: file of the pre-trained encoder's weights; None: from scratch.
    folder: of the run.
    context: how the run is computed."""
    model = make_model(config, encoder)
    unusable, dropped = unusable_labels(images, config)
    task = FinetuneTask(config, model, validation, context)
    groups = training_groups(config, images, unusable)
    training = TrainingLoop(
        task, config, groups, folder, context, validate_every=config.validate_every
    )
    batches = load_batches(
        images,
        config.encoder.image,
        training.order(),
        labeled=True,
        num_workers=context.num_workers,
        label_limit=length_limit(config) if config.label_policy == "released" else None,
        pin_memory=context.pinned,
    )

    def save(name: str) -> None:
        if context.process_group.is_main:
            metadata = {"stage": "finetune", "config": config.model_dump(mode="json")}
            safetensors_io.save(folder / name, recognizer_tensors(model), metadata)

    earlier = last_steps(config.last_checkpoints, training.schedule.total_steps)

    def save_earlier(steps_done: int) -> None:
        if steps_done in earlier:
            save(EARLIER_MODEL.format(earlier[steps_done]))

    training.run(batches, save_earlier)
    save(MODEL)
    dropped.unreadable = training.unreadable
    return FinetuneResult(training.metrics(dropped.counts(), task.score), task.correct)
