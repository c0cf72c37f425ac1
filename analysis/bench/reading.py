"""Reading words: greedy and by beam search with cached keys and values, against a decoder that computes every prefix anew."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.bench.limits import precisions, product
from analysis.bench.measure import Row, rows, share_of, take_turns, times_as_fast
from analysis.bench.work import Work
from core.config import Precision
from core.model.cost import cost
from core.model.recognizer import Recognizer
from core.training.loop import autocast

BATCH, BEAMS = 32, 5


def make_reader(work: Work) -> Recognizer:
    """A recognizer that never writes EOS, so that every path does the same, and all, steps."""
    torch.manual_seed(0)
    model = Recognizer(work.recognizer()).to(work.device).eval()
    with torch.no_grad():
        model.classify.bias[model.charset.eos] = -1e4
    return model


@torch.inference_mode()
def plain_read(model: Recognizer, images: Tensor) -> Tensor:
    """Greedy reading without a cache, as the released code reads: each step computes the whole prefix. (B, T)."""
    with sdpa_kernel(SDPBackend.MATH):
        image = model.bridge(model.encoder(images))
        tokens = torch.full((len(images), 1), model.charset.begin, device=images.device)
        for length in range(1, model.config.max_length + 1):
            text = model.embedding(tokens) + model.positions[:, :length]
            mask = (
                torch.ones(length, length, dtype=torch.bool, device=images.device)
                .tril()
                .expand(len(images), 1, -1, -1)
            )
            for layer in model._stack():
                text = layer(text, layer.cross_attention.keys_values(image), None, mask)
            tokens = torch.cat([tokens, model.classify(model.norm(text))[:, -1:].argmax(-1)], dim=1)
        return tokens[:, 1:]


def _within(way: Callable[[], object], device: torch.device, precision: Precision) -> None:
    with autocast(device, precision):
        way()


def measure_reading(work: Work) -> list[Row]:
    """Images/s of each way to read; of the encoder alone; and of the matrix product's rate."""
    model = make_reader(work)
    images = (
        torch.rand(4 if work.quick else BATCH, 3, *work.encoder.image).to(work.device) * 2 - 1
    )  # whatever they show
    device = torch.device(work.device)

    @torch.inference_mode()
    def encode() -> Tensor:
        return model.encoder(images)

    paths: dict[str, Callable[[], object]] = {"plain": lambda: plain_read(model, images)}
    native = precisions(work.device)
    for precision in native:
        ways: dict[str, Callable[[], object]] = {
            "encoder alone": encode,
            "greedy": lambda: model.read(images),
            f"beam search, width {BEAMS}": lambda: model.search(images, BEAMS),
        }
        paths |= {
            f"{name}, {precision}": partial(_within, way, device, precision)
            for name, way in ways.items()
        }
    fastest = native[-1]
    limit, operations = product(work.device, fastest)
    seconds = take_turns(paths | {"limit": limit}, 2 if work.quick else 3, work.device)
    found = rows(
        "reading",
        f"{work.name}, batch {len(images)}",
        "images",
        len(images),
        {name: seconds[name] for name in paths},
        "plain",
    )
    whole = cost(work.finetune(1, "fp32"))[1] / 3 * len(images)
    for row in found:
        within = row.path.rpartition(", ")[2]
        if row.path.startswith("greedy"):
            row.ratios["of the encoder's speed"] = times_as_fast(
                row.seconds, seconds[f"encoder alone, {within}"]
            )
        if row.path == f"greedy, {fastest}":
            share = share_of(seconds["limit"], operations, row.seconds, whole)
            row.ratios[f"of the {fastest} matrix product's rate"] = share
        if row.path.startswith("beam"):
            row.ratios["times greedy's cost"] = times_as_fast(
                seconds[f"greedy, {within}"], row.seconds
            )
    return found
