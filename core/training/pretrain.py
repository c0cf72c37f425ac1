"""Stage 1: pre-train the encoder. Config + data (+ teacher) -> `model.safetensors`, encoder and pre-training parts."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from core.checkpoints.released import load_weights
from core.config import ContrastivePretrain, Pretrain, PretrainModel, with_current_keys
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.data.word_images import WordImages
from core.lmim import LMIM
from core.model.compile import compile_for
from core.model.masking import draw_visible
from core.model.seqclr import SeqCLR
from core.model.targets import FrozenFeatures
from core.runtime import safetensors_io
from core.runtime.artefacts import MODEL
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed, generator
from core.training.loop import Losses, RunContext, Training, exported_tensors, training_groups
from core.views.guidance import STRENGTHS, View, draw_view, guidance_view, strength_of


def make_model(config: Pretrain, teacher: Path | None) -> LMIM:
    """LMIM at its first weights: its seed's, or with `start: teacher` those in the file `teacher`.

    The teacher's decoder is taken over where it had the same task. MAE features come from the encoder in that file, whatever
    its position table. Random features come from an encoder initialized separately from the one that is trained. Raises
    UserError if a teacher is needed and not given, or does not fit."""
    torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
    model = LMIM(config)
    if not config.needs_teacher:
        return model
    if teacher is None:
        raise UserError(
            "an MAE-feature target, or start: teacher, needs a teacher: a checkpoint file or a pre-training run"
        )
    weights, metadata = load_weights(teacher)
    if config.target.kind == "mae_feature":
        assert isinstance(model.target, FrozenFeatures)
        model.target.take(weights, teacher)
    if config.start == "teacher":
        safetensors_io.load_into(model.encoder, weights, "encoder.", teacher)
        parts = PretrainModel.model_fields.keys() - {"encoder", "alignment"}
        own = config.model_dump(mode="json", include=parts)
        theirs = with_current_keys(metadata["config"])
        if all(
            theirs.get(part, "none") == own[part] for part in parts
        ):  # else the decoder has another task, or is not there
            safetensors_io.load_into(model.decoder, weights, "decoder.", teacher)
    return model


class PretrainTask:
    """Masks, guidance views and losses of one batch."""

    def __init__(self, config: Pretrain, model: LMIM, context: RunContext) -> None:
        self.config, self.device = config, context.device
        self.model = model.to(context.device).train()
        self.model.target.eval()
        compile_for(context.device, self.model)
        self.network = context.process_group.distribute(self.model)

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        seed, encoder = self.config.seed, self.config.encoder
        places, source = torch.tensor(batch.places), generator(seed, "mask", step)
        visible = draw_visible(
            self.config.mask, encoder, batch.images, places, batch.size, generator=source
        )
        view = None
        if self.config.guidance is not None:
            strength = strength_of(self.config.guidance.strength)
            view = draw_view(
                strength, batch.size, encoder.image, generator=generator(seed, "guidance", step)
            )[places]

        def losses(part: slice) -> Losses:
            images = to_unit(batch.images[part], self.device)
            views = None if view is None else look(images, view[part])
            output = self.network(normalize(images), views, visible[part].to(self.device))
            named = {"loss": output.loss, "reconstruction": output.reconstruction}
            return named if output.alignment is None else named | {"alignment": output.alignment}

        return losses

    def validate(self) -> dict[str, float]:
        return {}


class ContrastTask:
    """Two steady views of every image of a batch, and their loss over the whole batch."""

    def __init__(self, config: ContrastivePretrain, context: RunContext) -> None:
        """Raises UserError where batches would be taken in parts: an instance's negatives are those of the whole batch."""
        if context.micro_batch is not None:
            raise UserError(
                "SeqCLR compares all images of a batch with one another: run it without --micro-batch"
            )
        torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
        self.config, self.device = config, context.device
        self.model = (
            SeqCLR(config.encoder, config.contrast, context.process_group)
            .to(context.device)
            .train()
        )
        compile_for(context.device, self.model)
        self.network = context.process_group.distribute(self.model)

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        places = torch.tensor(batch.places)

        def draw(name: str) -> View:
            source = generator(self.config.seed, "guidance", name, step)
            return draw_view(
                STRENGTHS["steady"], batch.size, self.config.encoder.image, generator=source
            )[places]

        views = draw("first"), draw("second")

        def losses(part: slice) -> Losses:
            images = to_unit(batch.images[part], self.device)
            output = self.network(*(look(images, view[part]) for view in views), places, batch.size)
            return {"loss": output.loss, "matched": output.matched}

        return losses

    def validate(self) -> dict[str, float]:
        return {}


def look(images: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> guidance views in [-1, 1], in full precision."""
    with torch.autocast(images.device.type, enabled=False):
        return normalize(guidance_view(images, view))


def pretrain(
    config: Pretrain | ContrastivePretrain,
    images: WordImages,
    teacher: Path | None,
    folder: Path,
    context: RunContext,
) -> dict[str, object]:
    """Run the stage in `folder`; returns its metrics. Resumes from the folder's checkpoint.

    images: the roots of `config.data`, then those mixed in."""
    task: PretrainTask | ContrastTask
    if isinstance(config, ContrastivePretrain):
        task = ContrastTask(config, context)
    else:
        task = PretrainTask(config, make_model(config, teacher), context)
    training = Training(task, config, training_groups(config, images, ()), folder, context)
    size, order = config.encoder.image, training.order()
    training.run(
        load_batches(
            images, size, order, labeled=False, workers=context.num_workers, pinned=context.pinned
        )
    )
    if context.process_group.is_main:
        safetensors_io.save(
            folder / MODEL,
            exported_tensors(task.model),
            {"stage": "pretrain", "config": config.model_dump(mode="json")},
        )
    dropped = {"unreadable": len(training.unreadable), "filtered": len(images.left_out)}
    return training.metrics() | {"dropped": dropped}
