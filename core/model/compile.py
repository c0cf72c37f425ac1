"""The encoder's blocks compiled by torch.compile: on GPUs it fuses what lies between matrix products.

On CPUs it was measured to gain nothing (results/published/bench), and is left out.
"""

import shutil
from importlib.util import find_spec

import torch
from torch import nn

from core.model.vit import VisionTransformer


def can_compile(device: torch.device | str) -> bool:
    """Whether what torch.compile calls is installed: Triton for GPUs, a C++ compiler for CPUs."""
    if torch.device(device).type == "cuda":
        return find_spec("triton") is not None
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def compile_for(device: torch.device, model: nn.Module) -> None:
    """Compile the model's encoders where that pays: on a GPU with Triton. TORCH_COMPILE_DISABLE=1 leaves it out."""
    if device.type == "cuda" and can_compile(device):
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
        compile_blocks(model)


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of each encoder in the model, the teacher's too, in place: weights keep their names.

    All blocks of a size share what was compiled for the first. The decoders stay as they are: their dropout draws by chunk."""
    for part in model.modules():
        if isinstance(part, VisionTransformer):
            for block in part.blocks:
                block.compile()
