"""Small planned trainings on an LMDB of a few images, for tests that compute or measure one."""

from pathlib import Path
from typing import Any

import finetune_config
from conftest import jpeg, write_lmdb

from core.config import Finetune
from core.data.lmdb_folder import fingerprint
from experiments.planning.data_roots import Root
from experiments.planning.plan import PlannedRun


def words_root(folder: Path, count: int = 32) -> Root:
    """Write an LMDB of `count` labeled images into `folder`."""
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number % 250), finetune_config.WORDS[number % len(finetune_config.WORDS)])
        for number in range(count)
    ]
    path = write_lmdb(folder, samples)
    return Root("words", path, fingerprint(path)[0], count)


def planned_finetuning(folder: Path, **changes: Any) -> PlannedRun:
    """A fine-tuning of four steps. folder: of its images. changes: keys of its config."""
    root = words_root(folder)
    config = finetune_config.config(**({"data": {"roots": [root.path]}} | changes))
    return planned("finetune", config, root)


def planned(stage: str, config: Finetune, root: Root) -> PlannedRun:
    """A training without inputs."""
    return PlannedRun(f"{stage}-0", stage, config, {}, {"train": (root,)}, rows=("a row",))
