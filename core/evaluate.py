"""Stage 3: read every image of every subset and count. Recogniser + data -> counts, and one row per image."""

import time
from pathlib import Path

import torch

from core import checkpoint
from core.config import Evaluate, Finetune, Precision
from core.data import Dropped, WordImages, load_batches, normalise, to_unit
from core.errors import UserError
from core.loop import Interrupted, Machine, Progress, autocast
from core.metrics import PROTOCOLS, Reading, count
from core.recognizer import Recognizer


def read_images(
    model: Recognizer, images: WordImages, batch: int, precision: Precision, machine: Machine, name: str
) -> tuple[list[Reading], Dropped]:
    """Greedy readings of every image, in order, and what could not be read or labelled. Raises Interrupted."""
    model.eval()
    readings: list[Reading] = []
    dropped = Dropped()
    charset, max_length = model.charset, model.config.max_length
    order = [list(range(start, min(start + batch, len(images)))) for start in range(0, len(images), batch)]
    started = time.monotonic()
    for part in load_batches(images, model.config.encoder.image, order, labelled=True, workers=machine.workers):
        if machine.should_stop():
            raise Interrupted(f"stopped while reading {name}; evaluation starts again from its first image")
        texts, confidences = [], []
        if part.indices:
            with autocast(machine.device, precision):
                tokens, probabilities = model.read(normalise(to_unit(part.images, machine.device)))
            ended = (tokens == charset.eos).cumsum(1) - (tokens == charset.eos).long()  # EOS itself still counts
            confidences = torch.where(ended > 0, 1.0, probabilities).prod(1).tolist()
            texts = [charset.decode(row) for row in tokens.tolist()]
        for index, label, text, confidence in zip(part.indices, part.labels, texts, confidences, strict=True):
            dropped.over_long += len(label) >= max_length
            dropped.unknown_characters += bool(charset.unknown_in(label))
            dropped.unlabelled += not label
            readings.append(Reading(index, label, text, round(confidence, 6), charset.can_read(label, max_length)))
        for index in part.unreadable:
            dropped.unreadable.add(index)
            readings.append(Reading(index, images.label(index) or "", "", 0.0, readable=False))
        rate = len(readings) / (time.monotonic() - started)
        left = (len(images) - len(readings)) / rate
        machine.on_progress(Progress(len(readings), len(images), "images", rate, left, name))
    return sorted(readings, key=lambda reading: reading.index), dropped


def load_recognizer(path: Path, device: torch.device) -> Recognizer:
    """The recogniser in a fine-tuned run's `model.safetensors`."""
    weights, metadata = checkpoint.load(path)
    if metadata.get("stage") != "finetune":
        raise UserError(f"{path}: holds no recogniser; name the model.safetensors of a finetune run")
    model = Recognizer(Finetune.model_validate(metadata["config"]))
    checkpoint.load_into(model, weights, "", path)
    return model.to(device)


def evaluate(
    config: Evaluate, subsets: dict[str, list[str]], recognizer: Path, machine: Machine
) -> tuple[dict[str, object], dict[str, list[Reading]]]:
    """Run the stage; returns its metrics (counts per subset) and the readings of each subset."""
    model = load_recognizer(recognizer, machine.device)
    protocol = PROTOCOLS[config.protocol]
    metrics: dict[str, object] = {"protocol": protocol.name, "protocol_statement": protocol.statement}
    counts, drops, readings = {}, {}, {}
    for name, roots in subsets.items():
        readings[name], dropped = read_images(model, WordImages(roots), config.batch, config.precision, machine, name)
        result = count(readings[name], protocol)
        counts[name] = {"correct": result.correct, "images": result.images}
        drops[name] = dropped.counts()
    return metrics | {"counts": counts, "dropped": drops}, readings
