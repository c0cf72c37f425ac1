"""Stored runs -> the models they left: pre-trained branches, encoders, recognizers. Nothing is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError

from analysis.tables.measurements import Row
from core.checkpoints.released import check_encoder, load_weights
from core.config import ContrastivePretrain, Encoder, Pretrain
from core.lmim import LMIM
from core.model.recognizer import Recognizer
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed
from core.training.evaluate import load_recognizer
from core.training.pretrain import make_model
from results.store import Store

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pretrained:
    """The pre-training run of a table's row at one seed, with its weights."""

    name: str  # of the row
    run: str
    seed: int
    config: Pretrain | ContrastivePretrain
    weights: Path
    teacher: Path | None

    @property
    def method(self) -> str:
        """SeqCLR; MIM, which has one branch and pixels to reconstruct; else LMIM, with whatever its row changes."""
        if isinstance(self.config, ContrastivePretrain):
            return "SeqCLR"
        return (
            "MIM" if self.config.guidance is None and self.config.target.kind == "pixel" else "LMIM"
        )

    def named(self, more: str) -> "Pretrained":
        """The same with a name that says more."""
        return replace(self, name=f"{self.name} ({more})")

    @cached_property
    def encoder(self) -> VisionTransformer:
        """As pre-training left it, in evaluation mode. Raises UserError if the weights are damaged or do not fit."""
        encoder = VisionTransformer(self.config.encoder)
        safetensors_io.load_into(encoder, load_weights(self.weights)[0], "encoder.", self.weights)
        return encoder.eval().requires_grad_(False)

    @cached_property
    def lmim(self) -> LMIM:
        """Encoder, decoder and target, in evaluation mode. Raises UserError for a contrastive run, which has no decoder."""
        if isinstance(self.config, ContrastivePretrain):
            raise UserError(f"{self.run}: SeqCLR reconstructs nothing; choose another row")
        model = make_model(self.config, self.teacher)
        weights = load_weights(self.weights)[0]
        for part in ("encoder", "decoder"):
            safetensors_io.load_into(getattr(model, part), weights, f"{part}.", self.weights)
        return model.eval().requires_grad_(False)


def untrained(config: Encoder, seed: int = 0) -> VisionTransformer:
    """An encoder at its first weights: what pre-training has to be better than."""
    torch.manual_seed(derive_seed(seed, "analysis", "untrained"))
    return VisionTransformer(config).eval().requires_grad_(False)


def pretrained(rows: Sequence[Row], store: Store, seed: int) -> tuple[list[Pretrained], list[str]]:
    """The pre-trained models of a table's rows at one seed, a run shared by several once; and why others are not there."""
    found: dict[str, Pretrained] = {}
    blocked_experiments: list[str] = []
    for row in rows:
        for run in _pretrainings(row, seed):
            if run in found:
                continue
            try:
                found[run] = _stored(row.name, run, seed, store)
            except UserError as error:
                blocked_experiments.append(f"{row.name}: {error}")
    return list(found.values()), blocked_experiments


def _pretrainings(row: Row, seed: int) -> Iterator[str]:
    yield from (run for run in row.trainings.get(seed, ()) if run.startswith("pretrain-"))


def _stored(name: str, run: str, seed: int, store: Store) -> Pretrained:
    record = stored_record(store, run)
    try:
        kind = ContrastivePretrain if record["config"].get("contrast") else Pretrain
        config, teacher = kind.model_validate(record["config"]), record["inputs"].get("teacher")
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        path = store.run(run).folder / "record.json"
        raise UserError(
            f"{path}: not a record of this suite; delete the folder and run again"
        ) from error
    files = {"weights": store.weights(run)} | (
        {"teacher": store.weights(teacher)} if teacher else {}
    )
    for role, path in files.items():
        if not path.is_file():
            what = (
                "has no weights here"
                if role == "weights"
                else f"its teacher's weights are not here ({path.parent.name})"
            )
            raise UserError(f"{run}: {what}; run its experiment for them")
        check_encoder(path, config.encoder, own_table=role == "teacher")
    return Pretrained(name, run, seed, config, files["weights"], files.get("teacher"))


def stored_record(store: Store, run: str) -> dict:
    """The record of a complete run. Raises UserError saying what the run is doing where it is not complete."""
    if (state := store.run(run).state().name) != "complete":
        raise UserError(f"{run} is {state}; run its experiment first")
    return store.run(run).record()


def recognizers(
    rows: Sequence[Row], store: Store, seed: int
) -> tuple[dict[str, tuple[str, Recognizer]], list[str]]:
    """Row -> (fine-tuning run, its recognizer in evaluation mode) at one seed; and why others are not there."""
    found: dict[str, tuple[str, Recognizer]] = {}
    blocked_experiments: list[str] = []
    for row in rows:
        for run in (run for run in row.trainings.get(seed, ()) if run.startswith("finetune-")):
            try:
                stored_record(store, run)
                if not store.weights(run).is_file():
                    raise UserError(f"{run}: has no weights here; run its experiment for them")
                found[row.name] = (
                    run,
                    load_recognizer(store.weights(run), CPU).eval().requires_grad_(False),
                )
            except UserError as error:
                blocked_experiments.append(f"{row.name}: {error}")
    return found, blocked_experiments
