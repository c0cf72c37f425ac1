"""Augmentation with draws of the whole run, as in the released code."""

from dataclasses import replace

import torch
from conftest import STAGE

from core.config import Encoder, Finetune, TextDecoder
from core.data.batches import Batch
from core.runtime.seeds import generator
from core.training.finetune import FinetuneTask, make_model
from core.training.run_context import RunContext
from core.views import geometry
from core.views.augmentation import augment, sample_augmentation


def test_draws_of_the_run_are_the_same_at_every_step() -> None:
    images = torch.rand(64, 3, 32, 128, generator=generator(0))
    positions = torch.arange(64)
    draws = replace(
        sample_augmentation(1, (32, 128), generator=generator(1)),
        deviation=torch.zeros(1),
        sigma=torch.zeros(1),
        factor=torch.zeros(1, dtype=torch.long),
    )
    warped = geometry.apply_warp(images, draws.matrix.expand(64, -1, -1))

    def share_of_equal(augmented: torch.Tensor, expected: torch.Tensor) -> float:
        distance = (augmented - expected).flatten(1).abs().amax(1)
        return (distance < 1e-3).float().mean().item()

    for step in range(2):
        augmented = augment(images, positions, 64, draws, generator=generator(2, step))
        # Half of the images are warped; a quarter of those get other colors.
        assert 0.2 < share_of_equal(augmented, warped) < 0.55
        assert 0.2 < share_of_equal(augmented, images) < 0.55
    sampled = augment(images, positions, 64, generator=generator(2, 0))
    assert share_of_equal(sampled, warped) == 0


def test_images_use_the_draws_of_the_run_in_turn() -> None:
    draws = sample_augmentation(3, (32, 128), generator=generator(0))
    turn = draws.of(torch.arange(7) % 3)
    assert torch.equal(turn.matrix[4], draws.matrix[1])
    assert torch.equal(turn.factor, draws.factor[torch.tensor([0, 1, 2, 0, 1, 2, 0])])


def test_a_restarted_run_has_the_same_draws_and_losses(context: RunContext) -> None:
    encoder = Encoder(width=32, depth=2, heads=2, patch=(8, 8))
    decoder = TextDecoder(width=32, heads=2, layers=1, dropout=0)
    config = Finetune(encoder=encoder, decoder=decoder, augmentation_draws=8, **STAGE)
    pixels = torch.randint(0, 256, (4, 3, 32, 128), dtype=torch.uint8, generator=generator(5))
    numbers = list(range(4))
    batch = Batch(pixels, numbers, ["ab"] * 4, [], numbers, 4)
    losses = []
    for _ in range(2):
        task = FinetuneTask(config, make_model(config, None), None, context)
        assert task.draws is not None
        assert len(task.draws.sigma) == 8
        losses.append(task.prepare_batch(batch, 3)(slice(0, 4))["loss"].item())
    assert losses[0] == losses[1]
