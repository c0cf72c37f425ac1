"""Stage 1: pre-train the encoder, by LMIM or MIM (`PretrainTask`) or SeqCLR (`ContrastTask`)."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from core.checkpoints.load import load_weights
from core.config import ContrastivePretrain, Pretrain, PretrainModel
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.data.record_cache import RecordCache
from core.data.word_images import WordImages
from core.lmim import LMIM
from core.model.alignment_repair import BatchPlace
from core.model.masking import sample_visible
from core.model.moving_average import averaged_teachers
from core.model.seqclr import SeqCLR
from core.model.targets import FrozenFeatures
from core.runtime import safetensors_io
from core.runtime.artifacts import MODEL
from core.runtime.errors import UserError
from core.runtime.former_keys import with_current_keys
from core.runtime.seeds import derive_seed, generator
from core.training.loop import TrainingLoop
from core.training.parameters import exported_tensors
from core.training.run_context import RunContext
from core.training.schedule import training_groups
from core.training.stage_results import TrainingMetrics
from core.training.target_cache import TargetCache, open_targets
from core.training.task import LossTerms, prepare_network
from core.views.guidance import STRENGTHS, GuidanceView, apply_view, sample_view, strength_of


def make_model(config: Pretrain, teacher: Path | None) -> LMIM:
    """LMIM at its initial weights: random, or with `start: teacher` those of the teacher's file.

    The teacher's decoder is loaded too if its config is that of the new decoder. MAE features
    come from the teacher's encoder, with the position table of its file. Random features come
    from an encoder with weights of another initialization than the trained encoder's. Raises
    UserError if a teacher is needed and missing, or does not fit."""
    torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
    model = LMIM(config)
    if not config.needs_teacher:
        return model
    if teacher is None:
        raise UserError(
            "target.kind mae_feature and start: teacher: each needs a teacher;"
            " name a checkpoint file or a pre-training run"
        )
    weights, metadata = load_weights(teacher)
    if config.target.kind == "mae_feature":
        assert isinstance(model.target, FrozenFeatures)
        model.target.load_teacher(weights, teacher)
    if config.start == "teacher":
        safetensors_io.load_into(model.encoder, weights, "encoder.", teacher)
        if _same_decoding_task(config, with_current_keys(metadata["config"])):
            safetensors_io.load_into(model.decoder, weights, "decoder.", teacher)
        for part in averaged_teachers(model):
            part.restart_teacher(model.encoder)
    return model


def _same_decoding_task(config: Pretrain, teacher: dict[str, object]) -> bool:
    """Whether the teacher has a decoder, with the sizes, guidance and target of `config`."""
    sections = PretrainModel.model_fields.keys() - {"encoder", "alignment"}
    settings = config.model_dump(mode="json", include=sections)
    return all(teacher.get(section, "none") == settings[section] for section in sections)


class PretrainTask:
    """Masks, guidance views and losses of a batch, for LMIM and MIM."""

    def __init__(
        self,
        config: Pretrain,
        model: LMIM,
        context: RunContext,
        targets: TargetCache | None = None,
    ) -> None:
        """Raises UserError if the context divides batches whose images are compared."""
        repair = None if config.alignment is None else config.alignment.repair
        if repair is not None and repair.compares_images and context.micro_batch is not None:
            raise UserError(
                f"alignment.repair {repair.kind} compares all images of a batch with each other;"
                " run it without --micro-batch"
            )
        self.config = config
        self.targets = targets
        self.device = context.device
        self.process_group = context.process_group
        self.model = model
        self.teachers = averaged_teachers(model)
        self.network = prepare_network(model, context)
        self.model.target.eval()

    def prepare_batch(self, batch: Batch, step: int) -> Callable[[slice], LossTerms]:
        """Draw masks and guidance views; return the losses of Eq. 1 to 3 for a slice."""
        seed = self.config.seed
        positions = torch.tensor(batch.positions)
        visible = sample_visible(
            self.config.mask,
            self.config.encoder,
            batch.images,
            positions,
            batch.size,
            generator=generator(seed, "mask", step),
        )
        view = None
        if self.config.guidance is not None:
            view = sample_view(
                strength_of(self.config.guidance.strength),
                batch.size,
                self.config.encoder.image,
                generator=generator(seed, "guidance", step),
            )[positions]

        def losses(rows: slice) -> LossTerms:
            images = to_unit(batch.images[rows], self.device)
            views = None if view is None else make_guidance_view(images, view[rows])
            numbers = batch.indices[rows]
            target = None if self.targets is None else self.targets.read(numbers)
            place = None
            if self.model.repair is not None:
                # a dummy image has number -1
                places = positions[rows].where(torch.tensor(numbers) >= 0, -1)
                draws = generator(seed, "alignment", step)
                place = BatchPlace(places, batch.size, draws, self.process_group)
            patches = visible[rows].to(self.device)
            output = self.network(normalize(images), views, patches, target, place)
            if self.targets is not None and target is None:
                self.targets.write(numbers, output.target)
            terms = {"loss": output.loss, "reconstruction": output.reconstruction}
            return terms if output.alignment is None else terms | {"alignment": output.alignment}

        return losses

    def update_teachers(self, share: float) -> None:
        """Move the moving averages of the encoder, after a step.

        share: of the training that is done, in [0, 1]."""
        for part in self.teachers:
            part.update_teacher(self.model.encoder, share)

    def validate(self) -> dict[str, float]:
        """Nothing to log: the losses are the only measure of pre-training."""
        return {}


class ContrastTask:
    """SeqCLR: two steady views of every image, and their loss over the whole batch."""

    def __init__(self, config: ContrastivePretrain, context: RunContext) -> None:
        """Raises UserError if the context divides batches: negatives are of the whole batch."""
        if context.micro_batch is not None:
            raise UserError(
                "SeqCLR compares all images of a batch with each other;"
                " run it without --micro-batch"
            )
        torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
        self.config = config
        self.device = context.device
        self.model = SeqCLR(config.encoder, config.contrast, context.process_group)
        self.network = prepare_network(self.model, context)

    def prepare_batch(self, batch: Batch, step: int) -> Callable[[slice], LossTerms]:
        """Draw two views of each image; return the contrastive loss for a slice."""
        positions = torch.tensor(batch.positions)

        def draw_steady_view(name: str) -> GuidanceView:
            return sample_view(
                STRENGTHS["steady"],
                batch.size,
                self.config.encoder.image,
                generator=generator(self.config.seed, "guidance", name, step),
            )[positions]

        drawn_views = draw_steady_view("first"), draw_steady_view("second")

        def losses(rows: slice) -> LossTerms:
            images = to_unit(batch.images[rows], self.device)
            first, second = (make_guidance_view(images, view[rows]) for view in drawn_views)
            output = self.network(first, second, positions, batch.size)
            return {"loss": output.loss, "matched": output.matched}

        return losses

    def validate(self) -> dict[str, float]:
        """Nothing to log: the losses are the only measure of pre-training."""
        return {}


def make_guidance_view(images: Tensor, view: GuidanceView) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> guidance views in [-1, 1], computed in fp32."""
    with torch.autocast(images.device.type, enabled=False):
        return normalize(apply_view(images, view))


def pretrain(
    config: Pretrain | ContrastivePretrain,
    images: WordImages,
    teacher: Path | None,
    folder: Path,
    context: RunContext,
    cache: RecordCache | None = None,
) -> TrainingMetrics:
    """Run the stage and write `model.safetensors`. Resumes from the folder's checkpoint.

    config: of the stage.
    images: the roots of `config.data`, then those of its mix.
    teacher: file of weights, for MAE features and `start: teacher`.
    folder: of the run.
    context: how the run is computed.
    cache: where the targets of a frozen teacher are stored; None: nowhere."""
    task: PretrainTask | ContrastTask
    if isinstance(config, ContrastivePretrain):
        task = ContrastTask(config, context)
    else:
        model = make_model(config, teacher)
        targets = open_targets(cache, model.target, config, images, context.device)
        task = PretrainTask(config, model, context, targets)
    training = TrainingLoop(task, config, training_groups(config, images, ()), folder, context)
    batches = load_batches(
        images,
        config.encoder.image,
        training.order(),
        labeled=False,
        num_workers=context.num_workers,
        pin_memory=context.pinned,
    )
    total_steps = training.schedule.total_steps

    def after_step(steps_done: int) -> None:
        if isinstance(task, PretrainTask):
            task.update_teachers(steps_done / total_steps)

    training.run(batches, after_step)
    if context.process_group.is_main:
        safetensors_io.save(
            folder / MODEL,
            exported_tensors(task.model),
            {"stage": "pretrain", "config": config.model_dump(mode="json")},
        )
    dropped = {"unreadable": len(training.unreadable), "filtered": len(images.filtered)}
    return training.metrics(dropped)
