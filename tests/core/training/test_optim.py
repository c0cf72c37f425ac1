"""Learning rates, parameter groups and numbers of steps."""

import pytest
from line_task import OPTIMIZER
from torch import nn

from core.config import peak_lr, steps
from core.training.optim import layer_scale, learning_rate, parameter_groups


def test_peak_learning_rates_are_those_of_the_paper() -> None:
    assert peak_lr(1.5e-4, 512) == pytest.approx(3e-4)
    assert peak_lr(1e-4, 512) == pytest.approx(2e-4)


def test_the_schedule_warms_up_from_zero_and_ends_at_its_final_rate() -> None:
    config = OPTIMIZER.model_copy(update={"final_lr": 1e-6})
    peak = peak_lr(config.base_lr, config.batch)
    assert learning_rate(config, 0) == 0
    assert learning_rate(config, 0.5) == pytest.approx(peak / 2)
    assert learning_rate(config, 1) == pytest.approx(peak)
    assert learning_rate(config, 2.5) == pytest.approx((peak + 1e-6) / 2)
    assert learning_rate(config, 4) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("encoder.patch_embed.weight", 13),
        ("encoder.cls_token", 13),
        ("encoder.blocks.0.attn.qkv.weight", 12),
        ("encoder.blocks.11.norm1.bias", 1),
        ("encoder.norm.weight", 0),
        ("bridge.0.weight", 0),
        ("layers.3.norms.0.bias", 0),
    ],
)
def test_layer_decay_is_the_released_one(name: str, power: int) -> None:
    assert layer_scale(name, 12, 0.75) == 0.75**power


def test_biases_and_norms_do_not_decay() -> None:
    groups = parameter_groups(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), OPTIMIZER, 1)
    sizes = {group["weight_decay"]: len(list(group["params"])) for group in groups}  # type: ignore[call-overload]
    assert sizes == {0.05: 1, 0.0: 3}


def test_a_last_smaller_batch_is_left_out() -> None:
    assert steps(1000, 64, 2) == (15, 30)
    assert steps(10, 64, 3) == (1, 3)
