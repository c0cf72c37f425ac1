"""The feed-forward network that computes GELU a second time in the backward pass."""

import pytest
import torch
from timm.layers.mlp import Mlp
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from core.model.kernels import layers
from core.model.kernels.layers import FeedForward

WIDTH = 16
INNER = 64
TOKENS = (4, 9)  # images, tokens


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """GELU is computed a second time in small networks too."""
    monkeypatch.setattr(layers, "RECOMPUTED_VALUES", 1)


def saved_values(network: Mlp, inputs: Tensor) -> int:
    """Values, other than weights, that the forward pass keeps for the backward pass."""
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(inputs)
    return sum(kept.values())


def gradients(network: Mlp, inputs: Tensor, precision: torch.dtype | None) -> list[Tensor]:
    """Of the inputs and of all weights, for the sum of squares of the output."""
    inputs = inputs.clone().requires_grad_()
    network.zero_grad()
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        output = network(inputs)
    output.float().square().sum().backward()
    tensors = [inputs, *network.parameters()]
    return [output.detach(), *(t.grad.clone() for t in tensors if t.grad is not None)]


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_outputs_and_gradients_are_those_of_timm(
    small_limit: None, precision: torch.dtype | None
) -> None:
    torch.manual_seed(0)
    ours = FeedForward(WIDTH, INNER)
    plain = Mlp(WIDTH, INNER)
    plain.load_state_dict(ours.state_dict())
    inputs = torch.randn(*TOKENS, WIDTH)
    expected = gradients(plain, inputs, precision)
    assert len(expected) == 6
    for value, reference in zip(gradients(ours, inputs, precision), expected, strict=True):
        assert torch.equal(value, reference)


def test_the_output_of_gelu_is_not_kept(small_limit: None) -> None:
    inputs = torch.randn(*TOKENS, WIDTH)
    tokens = TOKENS[0] * TOKENS[1]
    assert saved_values(Mlp(WIDTH, INNER), inputs) == tokens * (WIDTH + 2 * INNER)
    assert saved_values(FeedForward(WIDTH, INNER), inputs) == tokens * (WIDTH + INNER)


def test_small_networks_compute_gelu_once() -> None:
    inputs = torch.randn(*TOKENS, WIDTH)
    assert saved_values(FeedForward(WIDTH, INNER), inputs) == saved_values(
        Mlp(WIDTH, INNER), inputs
    )
