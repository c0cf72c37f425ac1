"""A small fine-tuning config and its words, for tests."""

from typing import Any

from core.config import Finetune

WORDS = ["one", "three", "seven", "nine"] * 8


def config(**changes: Any) -> Finetune:
    content: dict[str, Any] = {
        "encoder": {
            "image": [16, 32],
            "patch": [8, 8],
            "width": 16,
            "depth": 2,
            "heads": 2,
            "positions": "grid",
        },
        "decoder": {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0},
        "max_length": 8,
        "augmentation": "none",
        "optimizer": {"base_lr": 0.1, "batch": 8, "epochs": 1, "warmup_epochs": 0},
        "data": {"roots": ["words"]},
        "precision": "fp32",
        "seed": 0,
    }
    return Finetune.model_validate(content | changes)
