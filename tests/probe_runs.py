"""Rendered words with character boxes, and probes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import Encoder, Probe
from core.data.word_images import WordImages
from core.model.vit import VisionTransformer
from core.probes.results import ProbeResult
from core.probes.stage import probe
from core.runtime import safetensors_io
from core.synthetic.config import Synthetic
from core.synthetic.dataset import write_splits
from core.training.run_context import RunContext

WORDS = Synthetic(
    train=60, validation=4, test=8, vocabulary=300, letters=(3, 5), image=(32, 64), boxes=True
)
ENCODER = Encoder(image=(32, 64), patch=(16, 8), width=16, depth=1, heads=2, positions="grid")
SMALL_DECODER = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16}
HEADS: dict[str, dict[str, Any]] = {
    "characters": {"kind": "characters"},
    "ctc_linear": {"kind": "ctc_linear", "epochs": 2, "batch": 16},
    "ctc_bilstm": {"kind": "ctc_bilstm", "epochs": 2, "batch": 16, "hidden": 8},
    "decoder": {"kind": "decoder", "steps": 4, "batch": 16, "decoder": SMALL_DECODER},
}


@pytest.fixture(scope="session")
def probe_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the splits of `WORDS`."""
    folder = tmp_path_factory.mktemp("probe words")
    assert list(write_splits(WORDS, folder, 1, lambda: False))
    return folder


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    """A file with an encoder's weights."""
    torch.manual_seed(5)
    weights = VisionTransformer(ENCODER).state_dict()
    path = tmp_path / "encoder.safetensors"
    safetensors_io.save(path, {f"encoder.{name}": value for name, value in weights.items()}, {})
    return path


def probe_config(folder: Path, kind: str = "characters", **settings: Any) -> Probe:
    """A probe on the words in a folder, tested on two subsets.

    kind: of the head. settings: further settings."""
    values = {
        "encoder": ENCODER,
        "head": HEADS[kind],
        "data": {"roots": [str(folder / "train")]},
        "subsets": {name: {"roots": [str(folder / name)]} for name in ("general", "contextless")},
        "charset": "abcdefghijklmnopqrstuvwxyz",
    }
    return Probe.model_validate(values | settings)


def run_probe(config: Probe, encoder: Path | None, folder: Path, **settings: Any) -> ProbeResult:
    """Run a probe on the CPU. settings: further arguments of `probe`, or a context."""
    context = settings.pop("context", RunContext(torch.device("cpu")))
    subsets = {name: WordImages(data.roots) for name, data in config.subsets.items()}
    images = WordImages(config.data.roots)
    return probe(config, images, subsets, encoder, folder, context, **settings)
