"""Recognition: greedy decoding and beam search, against greedy decoding without a cache."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.bench.limits import expected_seconds, matrix_product, native_precisions
from analysis.bench.measure import (
    Timing,
    add_share_of_limit,
    compare_paths,
    share_of_limit,
    speed_ratio,
    time_in_turns,
)
from analysis.bench.setup import BenchSetup
from core.config import Precision
from core.model.cost import recognizer_cost
from core.model.recognizer import Recognizer
from core.training.run_context import autocast

BATCH = 64
BEAMS = 5
PATHS_IN_GREEDY_COST = 7  # one turn of all paths in fp32, in greedy decodings; for estimates


def make_recognizer(setup: BenchSetup) -> Recognizer:
    """A recognizer that never predicts EOS, so that every path decodes all positions."""
    torch.manual_seed(0)
    model = Recognizer(setup.recognizer()).to(setup.device).eval()
    with torch.no_grad():
        model.classify.bias[model.charset.eos] = -1e4
    return model


@torch.inference_mode()
def decode_without_cache(model: Recognizer, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, T) tokens: greedy decoding that recomputes the prefix at every step.

    The released code decodes like this."""
    with sdpa_kernel(SDPBackend.MATH):
        image = model.bridge(model.encoder(images))
        tokens = torch.full((len(images), 1), model.charset.bos, device=images.device)
        for length in range(1, model.config.max_length + 1):
            text = model.embedding(tokens) + model.positions[:, :length]
            causal = torch.ones(length, length, dtype=torch.bool, device=images.device).tril()
            mask = causal.expand(len(images), 1, -1, -1)  # (B, 1, T, T)
            for layer in model.decoder_layers:
                text = layer(text, layer.cross_attention.keys_values(image), None, mask)
            next_token = model.classify(model.norm(text))[:, -1:].argmax(-1)
            tokens = torch.cat([tokens, next_token], dim=1)
        return tokens[:, 1:]


def _run_in(device: torch.device, precision: Precision, path: Callable[[], object]) -> None:
    with autocast(device, precision):
        path()


def measure_decoding(setup: BenchSetup) -> list[Timing]:
    """Images per second of each way to decode; of the encoder alone; share of a matrix product."""
    batch = 4 if setup.quick else BATCH
    case = f"{setup.name}, batch {batch}"
    operations = recognizer_cost(setup.recognizer()).operations * batch
    estimate = PATHS_IN_GREEDY_COST * expected_seconds(setup, operations)
    if not setup.budget.allows_or_cut(case, estimate):
        return []
    model = make_recognizer(setup)
    images = torch.rand(batch, 3, *setup.encoder.image).to(setup.device) * 2 - 1
    paths = _decoding_paths(setup, model, images)
    fastest = native_precisions(setup.device)[-1]
    product = matrix_product(setup.device, fastest)
    repetitions = 2 if setup.quick else 3
    seconds = time_in_turns(setup, case, paths | {"limit": product.path}, repetitions)
    limit = seconds.pop("limit")
    timings = compare_paths("reading", case, "images", batch, seconds, "plain")
    for timing in timings:
        precision = timing.path.rpartition(", ")[2]
        if timing.path.startswith("greedy"):
            encoder = seconds[f"encoder alone, {precision}"]
            timing.ratios["of the encoder's speed"] = speed_ratio(timing.seconds, encoder)
        if timing.path == f"greedy, {fastest}":
            share = share_of_limit(limit, product.operations, timing.seconds, operations)
            add_share_of_limit(setup, timing, fastest, share)
        if timing.path.startswith("beam"):
            greedy = seconds[f"greedy, {precision}"]
            timing.ratios["times greedy's cost"] = speed_ratio(greedy, timing.seconds)
    return timings


def _decoding_paths(
    setup: BenchSetup, model: Recognizer, images: Tensor
) -> dict[str, Callable[[], object]]:
    """Name -> function, in each native precision."""

    @torch.inference_mode()
    def encode() -> Tensor:
        return cast(Tensor, model.encoder(images))

    ways: dict[str, Callable[[], object]] = {
        "encoder alone": encode,
        "greedy": lambda: model.greedy_decode(images),
        f"beam search, width {BEAMS}": lambda: model.beam_search(images, BEAMS),
    }
    paths: dict[str, Callable[[], object]] = {"plain": lambda: decode_without_cache(model, images)}
    device = torch.device(setup.device)
    for precision in native_precisions(setup.device):
        for name, way in ways.items():
            paths[f"{name}, {precision}"] = partial(_run_in, device, precision, way)
    return paths
