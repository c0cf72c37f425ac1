"""Stage 1: pre-train the encoder. Config + data (+ teacher) -> `model.safetensors` with the encoder and the decoder."""

from collections.abc import Callable
from pathlib import Path

import torch

from core import checkpoint
from core.batches import Batch, load_batches, normalise, to_unit
from core.config import Pretrain
from core.data import WordImages
from core.errors import UserError
from core.guidance import STRENGTHS, draw_view, guidance_view
from core.lmim import LMIM
from core.loop import Losses, Machine, Training, artefact, training_groups
from core.masking import draw_visible
from core.randomness import derive_seed, generator
from core.released import load_weights
from core.targets import FrozenFeatures

MODEL = "model.safetensors"


def make_model(config: Pretrain, teacher: Path | None) -> LMIM:
    """LMIM at its seed's initial weights; MAE features come from the encoder in the file `teacher`.

    Random features come from an encoder initialised separately from the one that is trained."""
    torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
    model = LMIM(config)
    if config.target.kind == "mae_feature":
        if teacher is None or not isinstance(model.target, FrozenFeatures):
            raise UserError("an MAE-feature target needs a teacher: a checkpoint file or a pre-training run")
        checkpoint.load_into(model.target.encoder, load_weights(teacher)[0], "encoder.", teacher)
    return model


class PretrainTask:
    """Masks, guidance views and losses of one batch."""

    def __init__(self, config: Pretrain, model: LMIM, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = model.to(device).train()
        self.model.target.eval()

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        seed, encoder = self.config.seed, self.config.encoder
        size = len(batch.indices)
        visible = draw_visible(self.config.mask, size, encoder.grid, generator=generator(seed, "mask", step))
        view = None
        if self.config.guidance is not None:
            strength = STRENGTHS[self.config.guidance.strength]
            view = draw_view(strength, size, encoder.image, generator=generator(seed, "guidance", step))

        def losses(part: slice) -> Losses:
            images = to_unit(batch.images[part], self.device)
            with torch.autocast(self.device.type, enabled=False):
                views = None if view is None else normalise(guidance_view(images, view[part]))
            output = self.model(normalise(images), views, visible[part].to(self.device))
            named = {"loss": output.loss, "reconstruction": output.reconstruction}
            return named if output.alignment is None else named | {"alignment": output.alignment}

        return losses

    def after_epoch(self, epoch: int) -> dict[str, float]:
        return {}


def pretrain(config: Pretrain, images: WordImages, teacher: Path | None, folder: Path, machine: Machine) -> dict[str, object]:
    """Run the stage in `folder`; returns its metrics. Resumes from the folder's checkpoint.

    images: the roots of `config.data`, then those mixed in."""
    task = PretrainTask(config, make_model(config, teacher), machine.device)
    training = Training(task, config, training_groups(config, images, ()), folder, machine)
    training.run(load_batches(images, config.encoder.image, training.order(), labelled=False, workers=machine.workers))
    checkpoint.save(folder / MODEL, artefact(task.model), {"stage": "pretrain", "config": config.model_dump(mode="json")})
    dropped = {"unreadable": len(training.unreadable), "filtered": len(images.left_out)}
    return training.metrics() | {"dropped": dropped}
