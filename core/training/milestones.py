"""Milestones of a training: points at which it is validated and may be pruned."""

from collections.abc import Mapping, Sequence

from core.training.run_context import RunContext


class Milestones:
    """The steps after which a training is validated in addition to its epochs' ends."""

    def __init__(self, shares: Sequence[float], total_steps: int) -> None:
        """shares: of the training, in (0, 1). One that rounds to the last step is left out."""
        shares_by_step = {max(1, round(share * total_steps)): share for share in shares}
        self.shares = {step: share for step, share in shares_by_step.items() if step < total_steps}

    def share_at(self, steps_done: int) -> float | None:
        """The milestone that is reached after `steps_done` steps, or None."""
        return self.shares.get(steps_done)


def reason_to_prune(context: RunContext, share: float, values: Mapping[str, float]) -> str:
    """Why the run is to stop at a milestone, or "". The main process decides for all."""
    group = context.process_group
    reason = context.should_prune(share, values) if group.is_main else ""
    return group.all_gather(reason)[0]
