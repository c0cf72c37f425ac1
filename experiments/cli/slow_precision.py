"""A warning before bf16 runs on a processor that has no instructions for it."""

import sys
from typing import TYPE_CHECKING

from experiments.planning.bf16_speed import bf16_warnings

if TYPE_CHECKING:
    from experiments.planning.plan import Plan
    from results.store import Store


def warn_of_slow_precision(plan: "Plan", store: "Store", device: str, launcher: str) -> None:
    """Print a warning on standard error if runs that are not complete would be slow in bf16.

    Args:
        plan: The runs.
        store: The results folder.
        device: The value of `--device`.
        launcher: The value of `--launcher`.
    """
    precisions = {
        run.config.precision
        for run in plan.runs.values()
        if store.run(run.id).state().name != "complete"
    }
    for warning in bf16_warnings(precisions, device, launcher):
        print(f"warning: {warning}", file=sys.stderr)
