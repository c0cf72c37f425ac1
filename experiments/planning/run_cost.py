"""The cost of a planned run: its parameters and its arithmetic."""

from pathlib import Path

from core.config import RecognizerModel
from core.model.cost import Cost, cost
from experiments.planning.plan import FILE, Plan, PlannedRun


def recognizer_config(run: PlannedRun, plan: Plan) -> RecognizerModel | None:
    """The recognizer that an evaluation uses; None for other stages and if its file is absent.

    plan: contains the run that trains the recognizer, unless it is a file."""
    name = run.inputs.get("recognizer", "")
    if name in plan.runs:
        config = plan.runs[name].config
        return config if isinstance(config, RecognizerModel) else None
    path = Path(name.removeprefix(FILE))
    if not path.is_file():
        return None
    from core.checkpoints.load import read_recognizer  # imports torch

    return read_recognizer(path)[0]


def run_cost(run: PlannedRun, plan: Plan) -> Cost:
    """Parameters, and floating-point operations per image. plan: as in `recognizer_config`."""
    return cost(run.config, recognizer_config(run, plan))
