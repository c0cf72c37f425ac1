"""Loads the models of stored runs: pre-trained models, encoders and recognizers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from analysis.tables.measurements import Row
from core.checkpoints.load import check_encoder, load_weights
from core.config import ContrastivePretrain, Encoder, Pretrain
from core.lmim import LMIM
from core.model.recognizer import Recognizer
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.artifacts import NO_WEIGHTS
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed
from core.training.evaluate import load_recognizer
from core.training.pretrain import make_model
from results.store import Store

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PretrainedModel:
    """The pre-training run of a table row at one seed. Weights are loaded at first use."""

    name: str  # of the table row
    run: str
    seed: int
    config: Pretrain | ContrastivePretrain
    weights: Path
    teacher: Path | None

    @property
    def has_target(self) -> bool:
        """Whether the target of the reconstruction can be computed from stored files.

        A contrastive run has none, and the moving average of an EMA target is not stored."""
        if isinstance(self.config, ContrastivePretrain):
            return False
        return self.config.target.kind != "ema_feature"

    @property
    def method(self) -> str:
        """`SeqCLR`, `MIM` (no guidance, pixel target) or `LMIM` (all other masked pre-training)."""
        if isinstance(self.config, ContrastivePretrain):
            return "SeqCLR"
        pixel_target = self.config.target.kind == "pixel"
        return "MIM" if self.config.guidance is None and pixel_target else "LMIM"

    def with_suffix(self, suffix: str) -> "PretrainedModel":
        """The same model, named `NAME (SUFFIX)`."""
        return replace(self, name=f"{self.name} ({suffix})")

    @cached_property
    def encoder(self) -> VisionTransformer:
        """The pre-trained encoder in evaluation mode.

        Raises UserError if the weights are damaged or do not fit."""
        encoder = VisionTransformer(self.config.encoder)
        weights = load_weights(self.weights)[0]
        safetensors_io.load_into(encoder, weights, "encoder.", self.weights)
        return encoder.eval().requires_grad_(False)

    @cached_property
    def lmim(self) -> LMIM:
        """Encoder, decoder and target in evaluation mode.

        Raises UserError for a contrastive run, which has no decoder, and for an EMA target."""
        if isinstance(self.config, ContrastivePretrain):
            raise UserError(f"{self.run}: SeqCLR has no decoder; choose another row")
        if not self.has_target:
            raise UserError(
                f"{self.run}: the teacher of an EMA target is not stored; choose another row"
            )
        model = make_model(self.config, self.teacher)
        weights = load_weights(self.weights)[0]
        for part in ("encoder", "decoder"):
            safetensors_io.load_into(getattr(model, part), weights, f"{part}.", self.weights)
        return model.eval().requires_grad_(False)


def untrained_encoder(config: Encoder, seed: int = 0) -> VisionTransformer:
    """An encoder with its initial weights: the baseline of pre-training."""
    torch.manual_seed(derive_seed(seed, "analysis", "untrained"))
    return VisionTransformer(config).eval().requires_grad_(False)


def load_pretrained(
    rows: Sequence[Row], store: Store, seed: int
) -> tuple[list[PretrainedModel], list[str]]:
    """The pre-trained models of table rows at one seed, and a message for each missing one.

    A run that several rows share is listed once, under the name of the first row."""
    models: dict[str, PretrainedModel] = {}
    unavailable: list[str] = []
    for row in rows:
        for run in _training_runs(row, seed, "pretrain"):
            if run in models:
                continue
            try:
                models[run] = _stored_model(row.name, run, seed, store)
            except UserError as error:
                unavailable.append(f"{row.name}: {error}")
    return list(models.values()), unavailable


def _training_runs(row: Row, seed: int, stage: str) -> Iterator[str]:
    yield from (run for run in row.trainings.get(seed, ()) if run.startswith(f"{stage}-"))


def _stored_model(name: str, run: str, seed: int, store: Store) -> PretrainedModel:
    record = complete_record(store, run)
    try:
        kind = ContrastivePretrain if record["config"].get("contrast") else Pretrain
        config = kind.model_validate(record["config"])
        teacher = record["inputs"].get("teacher")
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        path = store.run(run).folder / "record.json"
        raise UserError(
            f"{path}: not a record of this suite; move the run's folder aside and run again"
        ) from error
    weights = store.weights(run)
    _check_weights(weights, run, config.encoder)
    teacher_weights = store.weights(teacher) if teacher else None
    if teacher_weights is not None:
        whose = f"{run}: its teacher {teacher_weights.parent.name}"
        _check_weights(teacher_weights, whose, config.encoder, is_teacher=True)
    return PretrainedModel(name, run, seed, config, weights, teacher_weights)


def _check_weights(path: Path, whose: str, encoder: Encoder, *, is_teacher: bool = False) -> None:
    """Raise UserError if the file is missing, damaged, or does not fit the encoder."""
    if not path.is_file():
        raise UserError(f"{whose} {NO_WEIGHTS}")
    check_encoder(path, encoder, any_position_table=is_teacher)


def complete_record(store: Store, run: str) -> dict[str, Any]:
    """The record of a complete run. Raises UserError with the run's state if it is not complete."""
    if (state := store.run(run).state().name) != "complete":
        raise UserError(f"{run} is {state}; run its experiment first")
    return store.run(run).record()


def load_recognizers(
    rows: Sequence[Row], store: Store, seed: int
) -> tuple[dict[str, tuple[str, Recognizer]], list[str]]:
    """Row name -> (fine-tuning run, recognizer in evaluation mode) at one seed.

    The second value has a message for each recognizer that is not available."""
    loaded: dict[str, tuple[str, Recognizer]] = {}
    unavailable: list[str] = []
    for row in rows:
        for run in _training_runs(row, seed, "finetune"):
            try:
                complete_record(store, run)
                weights = store.weights(run)
                if not weights.is_file():
                    raise UserError(f"{run} {NO_WEIGHTS}")
                recognizer = load_recognizer(weights, CPU).eval().requires_grad_(False)
                if not isinstance(recognizer, Recognizer):
                    raise UserError(f"{run}: has no decoder (CTC), so no cross-attention")
                loaded[row.name] = (run, recognizer)
            except UserError as error:
                unavailable.append(f"{row.name}: {error}")
    return loaded, unavailable
