"""One seed in the config; every generator derives from (seed, purpose, step)."""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the given parts: equal parts, equal seed; any other part, an independent one."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`. Draws are made on the CPU so that they are equal on every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))
