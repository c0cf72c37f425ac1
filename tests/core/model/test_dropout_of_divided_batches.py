"""Dropout of a batch that is divided between micro-batches or processes."""

import pytest
import torch
from torch import Tensor

from core.model.kernels.attention import scaled_dot_product
from core.model.kernels.dropout import Dropout, SeededModule, position_seeded_dropout
from core.runtime.seeds import chunk_size

BATCH = 64


class TwoDropouts(SeededModule):
    """Drops values, and weights of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = Dropout(0.5)

    def forward(self, values: Tensor, projected: Tensor) -> tuple[Tensor, Tensor]:
        dropped = self.drop(values)
        seeds = self.next_seeds(len(projected), 0.5)
        return dropped, scaled_dot_product(projected, dropout=0.5, seeds=seeds)


def test_an_image_has_the_same_dropout_however_its_batch_is_divided() -> None:
    model = TwoDropouts()
    values = torch.ones(BATCH, 7)
    projected = torch.randn(BATCH, 5, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert chunk_size(BATCH) == 4

    def forward(rows: slice) -> tuple[Tensor, Tensor]:
        with position_seeded_dropout(model, 3, range(BATCH)[rows], BATCH):
            dropped, attended = model(values[rows], projected[rows])
            return dropped, attended

    whole = forward(slice(0, BATCH))
    parts = [forward(slice(0, 24)), forward(slice(24, BATCH))]
    for number in range(2):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])
    dropped = whole[0]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(dropped[:4], dropped[4:8]), "chunks have the same dropout"
    with position_seeded_dropout(model, 4, range(BATCH), BATCH):
        assert not torch.equal(model.drop(values), dropped), "steps have the same dropout"
