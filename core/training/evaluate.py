"""Stage 3: read every image of every subset and count. Recognizer + data -> counts, and one row per image."""

import time
from pathlib import Path

import numpy as np
import torch

from core.checkpoints.released import read_recognizer
from core.config import Evaluate, Precision
from core.data.batches import load_batches, normalize, to_unit
from core.data.word_images import Dropped, WordImages
from core.model.recognizer import Recognizer
from core.runtime import safetensors_io
from core.text.protocols import LABEL_POLICIES, PROTOCOLS, Reading, as_released, count
from core.training.loop import Interrupted, Progress, RunContext, autocast


def read_batch(model: Recognizer, images: torch.Tensor, beams: int = 1) -> list[tuple[str, float]]:
    """(B, 3, H, W) in [-1, 1] -> text, and confidence: the product of its characters' probabilities and EOS's."""
    tokens, probabilities = model.read(images) if beams == 1 else model.search(images, beams)
    ends = tokens == model.charset.eos
    ended = ends.cumsum(1) - ends.long()  # EOS itself still counts
    confidences = torch.where(ended > 0, 1.0, probabilities).prod(1).tolist()
    return list(zip(map(model.charset.decode, tokens.tolist()), confidences, strict=True))


def recognize(
    model: Recognizer,
    images: WordImages,
    batch: int,
    precision: Precision,
    context: RunContext,
    name: str,
    beams: int = 1,
) -> tuple[list[Reading], Dropped]:
    """Readings of every image, in order, and what could not be read or labeled; greedy ones, or of so many beams.

    Each process reads its own share of the batches; all return the whole. Raises Interrupted."""
    model.eval()
    readings: list[Reading] = []
    dropped = Dropped()
    charset, max_length = model.charset, model.config.max_length
    chosen = images.selection()
    starts = range(0, len(chosen), batch)[
        context.process_group.rank :: context.process_group.size
    ]  # batches as they are with one process
    order = [chosen[np.arange(start, min(start + batch, len(chosen)))].tolist() for start in starts]
    started = time.monotonic()
    size = model.config.encoder.image
    parts = iter(
        load_batches(
            images, size, order, labeled=True, workers=context.num_workers, pinned=context.pinned
        )
    )
    for _ in range(
        -(-len(chosen) // (batch * context.process_group.size))
    ):  # as often in each process, for they stop together
        (stopping,) = context.process_group.totals(
            int(context.process_group.is_main and context.should_stop())
        )
        if stopping:
            raise Interrupted(
                f"stopped while reading {name}; evaluation starts again from its first image"
            )
        if (part := next(parts, None)) is None:
            break
        read: list[tuple[str, float]] = []
        if part.indices:
            with autocast(context.device, precision):
                read = read_batch(model, normalize(to_unit(part.images, context.device)), beams)
        for index, label, (text, confidence) in zip(part.indices, part.labels, read, strict=True):
            dropped.over_long += len(label) >= max_length
            dropped.unknown_characters += bool(charset.unknown_in(label))
            dropped.unlabeled += not label
            readings.append(
                Reading(
                    index, label, text, round(confidence, 6), charset.can_read(label, max_length)
                )
            )
        for index in part.unreadable:
            dropped.unreadable.add(index)
            readings.append(Reading(index, images.label(index) or "", "", 0.0, readable=False))
        rate = len(readings) / (time.monotonic() - started)
        mine = sum(map(len, order))
        context.on_progress(
            Progress(len(readings), mine, "images", rate, (mine - len(readings)) / rate, name)
        )
    shares = context.process_group.gather((readings, dropped))
    readings = sorted(
        (reading for share, _ in shares for reading in share), key=lambda reading: reading.index
    )
    whole = Dropped.total([dropped for _, dropped in shares])
    whole.filtered = len(images) - len(chosen)
    return readings, whole


def load_recognizer(path: Path, device: torch.device) -> Recognizer:
    """The recognizer in a fine-tuned run's `model.safetensors`."""
    config, weights = read_recognizer(path)
    model = Recognizer(config)
    safetensors_io.load_into(model, weights, "", path)
    return model.to(device)


def evaluate(
    config: Evaluate, subsets: dict[str, WordImages], recognizer: Path, context: RunContext
) -> tuple[dict[str, object], dict[str, list[Reading]]]:
    """Run the stage; returns its metrics (counts per subset) and the readings of each subset."""
    model = load_recognizer(recognizer, context.device)
    protocol = PROTOCOLS[config.protocol]
    statement = f"{protocol.statement}; {LABEL_POLICIES[config.labels]}"
    metrics: dict[str, object] = {
        "protocol": protocol.name,
        "labels": config.labels,
        "protocol_statement": statement,
    }
    counts, drops, readings = {}, {}, {}
    for name, images in subsets.items():
        readings[name], dropped = recognize(
            model, images, config.batch, config.precision, context, name, config.beams
        )
        if config.labels == "released":
            readings[name], dropped.replaced = as_released(
                readings[name], model.charset, model.config.max_length
            )
        result = count(readings[name], protocol)
        counts[name] = {"correct": result.correct, "images": result.images}
        drops[name] = dropped.counts()
    return metrics | {"counts": counts, "dropped": drops}, readings
