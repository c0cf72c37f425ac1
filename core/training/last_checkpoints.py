"""The weights of the last steps of fine-tuning, over which an evaluation can average.

A measure that is averaged over the last checkpoints has less noise than that of the last one
(Heineman et al., "Signal and Noise", 2025).
"""

from pathlib import Path

from core.runtime.artifacts import EARLIER_MODEL
from core.runtime.errors import UserError

SPACING = 0.02  # of all steps, between two checkpoints


def last_steps(count: int, total_steps: int) -> dict[int, int]:
    """Number of steps done -> number of the earlier checkpoint, from 1 (the latest) on.

    The last step itself is not listed: its weights are the run's `model.safetensors`.

    count: number of checkpoints, the last one included.
    total_steps: of the training.

    Raises UserError if there are fewer steps than checkpoints."""
    spacing = max(1, round(SPACING * total_steps))
    steps = {total_steps - spacing * number: number for number in range(1, count)}
    if steps and min(steps) < 1:
        raise UserError(
            f"{total_steps} steps are too few for {count} checkpoints that are {spacing} steps "
            "apart; lower evaluate.last or train longer"
        )
    return steps


def earlier_models(model: Path, count: int) -> list[Path]:
    """The files of the `count` checkpoints before the last one, the latest first.

    model: the file of the last weights. Raises UserError if a file does not exist."""
    files = [model.with_name(EARLIER_MODEL.format(number)) for number in range(1, count + 1)]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"{file}: no such file; evaluate.last needs the checkpoints of a fine-tuning run "
                "of this suite, so leave it out for other recognizers"
            )
    return files
