"""Parameter groups, the learning-rate schedule, the optimizer."""

import math
import re

import torch
from torch import nn

from core.config import Optimizer, peak_lr


def layer_scale(name: str, depth: int, decay: float) -> float:
    """Factor of a parameter's learning rate: layer-wise decay as in MAE fine-tuning.

    decay^(depth + 1) for the encoder's embeddings, decay^(depth - i) for its block i, and 1 for
    all other parameters (encoder norm, bridge, decoders)."""
    if re.match(r"encoder\.(cls_token|patch_embed)", name):
        return decay ** (depth + 1)
    if block := re.match(r"encoder\.blocks\.(\d+)\.", name):
        return decay ** (depth - int(block[1]))
    return 1.0


def parameter_groups(model: nn.Module, config: Optimizer, depth: int) -> list[dict[str, object]]:
    """Trainable parameters by (learning-rate scale, weight decay).

    Biases, norms and other one-dimensional parameters have no weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        weight_decay = 0.0 if parameter.ndim <= 1 else config.weight_decay
        key = (layer_scale(name, depth, config.layer_decay), weight_decay)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": group, "scale": scale, "weight_decay": weight_decay}
        for (scale, weight_decay), group in groups.items()
    ]


def learning_rate(config: Optimizer, epoch: float) -> float:
    """The rate at a fractional epoch: linear warm-up from 0, then a half cosine to `final_lr`."""
    peak = peak_lr(config.base_lr, config.batch)
    if epoch < config.warmup_epochs:
        return peak * epoch / config.warmup_epochs
    share = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return config.final_lr + (peak - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(model: nn.Module, config: Optimizer, depth: int) -> torch.optim.AdamW:
    """Fused AdamW. `set_rate` sets its learning rates before every step."""
    return torch.optim.AdamW(
        parameter_groups(model, config, depth), lr=0.0, betas=config.betas, eps=1e-8, fused=True
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set each group's learning rate to `rate` times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
