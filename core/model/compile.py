"""Compiling encoder blocks with torch.compile: opt-in, and only for CUDA.

On GPUs it fuses the operations between matrix products. On CPUs it gained nothing in our
measurements (results/published/bench).
"""

import shutil
from importlib.util import find_spec

import torch
from torch import nn

from core.model.vit import VisionTransformer


def can_compile(device: torch.device | str) -> bool:
    """Whether torch.compile's backend is installed: Triton for GPUs, a C++ compiler for CPUs."""
    if torch.device(device).type == "cuda":
        return find_spec("triton") is not None
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def compile_for(device: torch.device, model: nn.Module) -> None:
    """Compile the model's encoder blocks on a CUDA device with Triton; else do nothing.

    Code that cannot be compiled runs as it is. TORCH_COMPILE_DISABLE=1 disables compiling."""
    if device.type == "cuda" and can_compile(device):
        torch._dynamo.config.suppress_errors = True
        compile_blocks(model)


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of each encoder in the model, the teacher's included, in place.

    Weights keep their names. Blocks of equal sizes share the compiled code. The decoders stay as
    they are, because their dropout draws chunk by chunk."""
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            for block in module.blocks:
                block.compile()
