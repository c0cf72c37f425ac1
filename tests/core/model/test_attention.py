"""Attention of core/model/kernels computes its formula, with and without dropout."""

import math

import pytest
import torch
from torch import Tensor

from core.model.kernels.attention import scaled_dot_product, split_qkv
from core.model.kernels.dropout import DropoutSeedSource, keep_mask


def packed_inputs(
    dtype: torch.dtype, images: int = 5, queries: int = 40, keys: int = 70
) -> list[Tensor]:
    """Queries (B, T, 1, 3, 16), and keys with values (B, S, 2, 3, 16), as linear layers return."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((images, queries, 1, 3, 16), (images, keys, 2, 3, 16))
    return [torch.randn(size, generator=generator).to(dtype).requires_grad_() for size in sizes]


def formula(packed: list[Tensor], mask: Tensor | None, factors: Tensor | None = None) -> Tensor:
    """Attention by its formula, in double precision; factors (B, H, T, S) multiply the weights."""
    queries, keys, values = (part.double() for part in split_qkv(packed))
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    if factors is not None:
        weights = weights * factors
    features: Tensor = (weights @ values).transpose(1, 2).flatten(2)
    return features


def gradients(output: Tensor, packed: list[Tensor]) -> list[Tensor]:
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad(output, packed, direction.to(output.dtype)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("queries", [40, 3])
def test_attention_and_its_gradients_equal_the_formula(
    dtype: torch.dtype, tolerance: float, masked: bool, queries: int
) -> None:
    """On a CPU, bf16 uses blocked matrix products, and fp32 PyTorch's kernel."""
    inputs = packed_inputs(dtype, queries=queries)
    mask = None
    if masked:
        mask = torch.rand(5, 1, queries, 70, generator=torch.Generator().manual_seed(2)) < 0.7
    computed = scaled_dot_product(*inputs, mask=mask)
    expected = formula(inputs, mask)
    pairs = [(computed, expected)]
    pairs += zip(gradients(computed, inputs), gradients(expected, inputs), strict=True)
    for actual, reference in pairs:
        distance = (actual.double() - reference.double()).norm()
        assert distance <= tolerance * reference.double().norm()


def test_few_queries_without_gradients_equal_the_formula() -> None:
    """Decoding uses blocked matrix products in fp32 too."""
    inputs = packed_inputs(torch.float32, queries=3)
    with torch.no_grad():
        computed = scaled_dot_product(*inputs)
        torch.testing.assert_close(computed.double(), formula(inputs, None), atol=1e-5, rtol=1e-5)


def test_attention_with_dropout_and_its_gradients_equal_the_formula() -> None:
    inputs = packed_inputs(torch.float32, images=32)
    seeds = DropoutSeedSource(7, range(32), 32).next_seeds(32)
    computed = scaled_dot_product(*inputs, dropout=0.25, seeds=seeds)
    # Each chunk has two images here. They fit one block, so their mask is drawn at once.
    keep = [
        keep_mask((2, 3, 40, 70), 0.25, generator)
        for generator, _ in seeds.generators(torch.device("cpu"))
    ]
    expected = formula(inputs, None, torch.cat(keep).double() / 0.75)
    torch.testing.assert_close(computed.double(), expected, atol=1e-5, rtol=1e-4)
    pairs = zip(gradients(computed, inputs), gradients(expected, inputs), strict=True)
    for actual, reference in pairs:
        torch.testing.assert_close(actual.double(), reference.double(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_without_seeds_differs_from_call_to_call(dtype: torch.dtype) -> None:
    inputs = packed_inputs(dtype)
    with torch.no_grad():
        whole = scaled_dot_product(*inputs)
        first = scaled_dot_product(*inputs, dropout=0.5)
        second = scaled_dot_product(*inputs, dropout=0.5)
    assert not torch.equal(first, whole)
    assert not torch.equal(first, second)
