"""Lets timm import torchvision where torchvision's compiled operators cannot load.

PyPI's torchvision is built for CUDA. Beside a CPU-only torch its operator library does not load, and importing torchvision
fails with "operator torchvision::nms does not exist". Declaring the two operators it looks up is enough for the import; nothing
in this project calls them. Where the library loads (a CUDA torch, or a CPU build of torchvision) nothing is changed.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_declared: list[torch.library.Library] = []  # a Library's declarations live as long as the object


def declare_missing_operators() -> None:
    """Declare `torchvision::nms` and `torchvision::qnms` if torchvision's own library cannot provide them."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _declared:
        return
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
