"""Lets timm import torchvision where torchvision's compiled operators cannot be loaded.

PyPI's torchvision is built for CUDA. With a CPU-only torch its operator library does not load, and
`import torchvision` fails with "operator torchvision::nms does not exist". The import needs only
the declarations of two operators, and this project calls neither. Where the library loads (a CUDA
torch, or a CPU build of torchvision), nothing is changed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

# The declarations of a Library are removed with the object, so it is kept here.
_libraries: list[Any] = []


def declare_missing_operators() -> bool:
    """Declare `torchvision::nms` and `torchvision::qnms` if torchvision's library does not load.

    Returns whether they are declared here.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _libraries:
        return bool(_libraries)
    operators: Any = torch.ops  # PyTorch gives these no types
    try:
        operators.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        torch_library: Any = torch.library
        library = torch_library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
    return bool(_libraries)
