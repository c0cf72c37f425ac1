"""SeqCLR: its loss, its windows, and its training."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE

from core.checkpoints.export import export_released
from core.config import Contrast, ContrastivePretrain, Encoder, Finetune, TextDecoder
from core.data.batches import Batch
from core.data.word_images import resize_image
from core.model.seqclr import SeqCLR, nt_xent, window_features
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.synthetic.config import Synthetic
from core.synthetic.words import render_word
from core.training.finetune import make_model as make_recognizer
from core.training.parameters import exported_tensors
from core.training.pretrain import ContrastTask
from core.training.run_context import RunContext

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))


def seqclr_config(**changes: Any) -> ContrastivePretrain:
    settings: dict[str, Any] = {"encoder": ENCODER, "contrast": Contrast(projection=16)}
    return ContrastivePretrain(**(STAGE | settings | changes))


def batch_of(pixels: torch.Tensor) -> Batch:
    numbers = list(range(len(pixels)))
    return Batch(pixels, numbers, [""] * len(pixels), [], numbers, len(pixels))


def test_windows_average_rows_and_pool_columns() -> None:
    rows = 2
    columns = 6
    features = torch.zeros(1, 1 + rows * columns, 1)
    features[0, 0] = 1000  # [cls] is dropped
    features[0, 1:, 0] = torch.arange(12.0)
    windows = window_features(features, (rows, columns), 3)
    assert windows.shape == (1, 3, 1)
    # Means over both rows of columns 0-1, 2-3 and 4-5.
    assert windows.flatten().tolist() == [3.5, 5.5, 7.5]


def nt_xent_by_formula(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """NT-Xent, term by term."""
    views = [vector / vector.norm() for vector in [*first, *second]]
    count = len(views)
    total = 0.0
    for anchor in range(count):
        similarity = {
            candidate: math.exp(float(views[anchor] @ views[candidate]) / temperature)
            for candidate in range(count)
            if candidate != anchor
        }
        positive = similarity[(anchor + len(first)) % count]
        total -= math.log(positive / sum(similarity.values())) / count
    return total


def test_nt_xent_equals_its_formula_for_vectors_of_any_length() -> None:
    first = torch.randn(3, 4, generator=generator(0))
    second = torch.randn(3, 4, generator=generator(1))
    expected = nt_xent_by_formula(first, second, 0.1)
    assert nt_xent(first, second, 0.1).item() == pytest.approx(expected, rel=1e-5)
    assert nt_xent(3 * first, second, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_refuses_a_single_instance() -> None:
    with pytest.raises(ValueError, match="two instances"):
        nt_xent(torch.randn(1, 4), torch.randn(1, 4), 0.1)


def test_nt_xent_keeps_its_precision_under_autocast() -> None:
    """Similar similarities, divided by a small temperature, need more digits than bf16 has."""
    views = torch.ones(256, 16) + 0.01 * torch.randn(256, 16, generator=generator(0))
    second = views + 0.001 * torch.randn(256, 16, generator=generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = nt_xent(views, second, 0.1)
    assert mixed.item() == pytest.approx(nt_xent(views, second, 0.1).item(), rel=1e-6)


def test_nt_xent_is_lower_for_views_that_match_better() -> None:
    views = torch.randn(40, 16, generator=generator(0))
    noise = torch.randn(40, 16, generator=generator(1))
    assert nt_xent(views, views + 0.1 * noise, 0.1) < nt_xent(views, views + 3 * noise, 0.1)
    chance = math.log(79)
    assert nt_xent(views, views.roll(1, 0), 0.1) > chance


def test_seqclr_learns_to_match_windows(context: RunContext) -> None:
    words = Synthetic(train=16, validation=1, vocabulary=300)
    images = [render_word(words, "train", number)[0] for number in range(16)]
    pixels = torch.stack([resize_image(image, (32, 128)) for image in images])
    task = ContrastTask(seqclr_config(), context)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    losses = []
    matched = []
    for step in range(60):
        values = task.prepare_batch(batch_of(pixels), step)(slice(0, 16))
        values["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(values["loss"].item())
        matched.append(values["matched"].item())
    instances = 16 * 5
    assert sum(losses[-5:]) / 5 < 0.8 * math.log(2 * instances - 1)
    assert sum(matched[-5:]) / 5 > 5 / instances, "less than five times as often as by chance"


def test_views_of_a_step_are_reproducible_and_differ_between_steps(context: RunContext) -> None:
    task = ContrastTask(seqclr_config(), context)
    pixels = torch.randint(0, 256, (4, 3, 32, 128), dtype=torch.uint8, generator=generator(5))
    losses = [
        task.prepare_batch(batch_of(pixels), step)(slice(0, 4))["loss"].item() for step in (3, 3, 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_seqclr_refuses_micro_batches(context: RunContext) -> None:
    with pytest.raises(UserError, match="--micro-batch"):
        ContrastTask(seqclr_config(), replace(context, micro_batch=4))


def test_more_windows_than_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"contrast\.windows.*17.*16"):
        seqclr_config(contrast=Contrast(windows=17))


def test_the_encoder_of_seqclr_is_finetuned_but_not_exported(tmp_path: Path) -> None:
    config = seqclr_config()
    path = tmp_path / "model.safetensors"
    model = SeqCLR(config.encoder, config.contrast)
    metadata = {"stage": "pretrain", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, exported_tensors(model), metadata)
    decoder = TextDecoder(width=32, heads=2, layers=1)
    recognizer = make_recognizer(Finetune(encoder=ENCODER, decoder=decoder, **STAGE), path)
    assert torch.equal(recognizer.encoder.patch_embed.weight, model.encoder.patch_embed.weight)
    with pytest.raises(UserError, match="LMIM"):
        export_released(path, tmp_path / "out.pth")
