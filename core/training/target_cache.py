"""Features of a frozen teacher on disk, so that later epochs and other runs do not compute them.

The target of an image is the same in every epoch, and in every run with the same teacher: the rows
of a table share them. Only on CPUs: a GPU computes targets faster than a disk gives them.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from core.config import Pretrain
from core.data.decoded_cache import content_name
from core.data.record_cache import RecordCache, RecordFile
from core.data.word_images import WordImages
from core.model.cost import target_bytes
from core.model.targets import FrozenFeatures

TARGETS = 1  # increase when a change of the code alters targets


class TargetCache:
    """The targets of a pre-training's images. Shapes: B images, N patches, D features."""

    def __init__(self, records: RecordFile, shape: tuple[int, int]) -> None:
        """shape: (N, D)."""
        self._records = records
        self._shape = shape

    def read(self, numbers: Sequence[int]) -> Tensor | None:
        """The targets of images of these numbers, (B, N, D); None unless all are stored."""
        targets = []
        for number in numbers:
            content = self._records.read(number)
            if content is None:
                return None
            targets.append(torch.frombuffer(content, dtype=torch.float32).view(self._shape))
        return torch.stack(targets)

    def write(self, numbers: Sequence[int], targets: Tensor) -> None:
        """Store targets, (B, N, D) float32. That of a dummy image (number -1) is not stored."""
        for number, target in zip(numbers, targets, strict=True):
            if number < 0:
                continue
            self._records.write(number, target.contiguous().numpy().tobytes())


def open_targets(
    cache: RecordCache | None,
    target: torch.nn.Module,
    config: Pretrain,
    images: WordImages,
    device: torch.device,
) -> TargetCache | None:
    """The stored targets of a pre-training; None if they are not stored.

    cache: where they are stored.
    target: the model's, with the teacher's weights.
    config: of the pre-training.
    images: all of its images.
    device: where the model is."""
    if cache is None or device.type != "cpu" or not isinstance(target, FrozenFeatures):
        return None
    digest = hashlib.sha256()
    arithmetic = (torch.__version__, torch.backends.cpu.get_cpu_capability(), config.precision)
    roots = [content_name(root, config.encoder.image) for root in images.roots]
    for part in (TARGETS, arithmetic, config.optimizer.batch, target.encoder.config, roots):
        digest.update(repr(part).encode())
    for name, tensor in sorted(target.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    digest.update(target.encoder.positions.numpy().tobytes())
    shape = (config.encoder.patches, config.target_values)
    content_bytes = target_bytes(*shape)
    records = cache.open(f"targets-{digest.hexdigest()[:32]}", len(images), content_bytes)
    return None if records is None else TargetCache(records, shape)
