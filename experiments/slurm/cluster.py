"""What jobs ask a cluster for: `experiments/settings/cluster.yaml`, checked."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from experiments.planning.diagnostics import Layer, explain
from experiments.planning.schema import HERE, named_file

CLUSTER = HERE / "settings" / "cluster.yaml"
OURS = {  # options of sbatch that this suite sets, or that have a key of their own
    *(
        "array",
        "chdir",
        "dependency",
        "error",
        "export",
        "job-name",
        "kill-on-invalid-dep",
        "no-requeue",
        "open-mode",
    ),
    *("output", "requeue", "signal", "wrap"),
    *(
        "account",
        "constraint",
        "cpus-per-task",
        "gpus-per-node",
        "mem",
        "nodes",
        "ntasks",
        "ntasks-per-node",
        "partition",
    ),
    *("qos", "time"),
}


def minutes(time: int | str) -> int:
    """A time limit in whole minutes, rounded up, as sbatch reads it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(time).strip())
    if match is None:
        raise ValueError('must be minutes, or a text like "24:00:00" or "1-12:00:00"')
    days, *parts = (None if part is None else int(part) for part in match.groups())
    given = [part for part in parts if part is not None]
    hours_first = days is not None or len(given) == 3
    units = (60, 1, 1 / 60) if hours_first else (1, 1 / 60)
    total = math.ceil(
        (days or 0) * 24 * 60 + sum(part * unit for part, unit in zip(given, units, strict=False))
    )
    if total < 1:
        raise ValueError("must be a minute at least")
    return total


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _lines(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _free(options: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(name for name in options if name.replace("_", "-") in OURS):
        raise ValueError(
            f"{taken[0]} is what this suite says to sbatch itself; where there is a key for it, use that"
        )
    return options


class Resources(FrozenModel):
    """What one job asks for. None leaves it to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    tasks_per_node: PositiveInt | None = None
    cpus_per_task: PositiveInt = 1
    mem: Annotated[str | None, BeforeValidator(_text)] = None
    time: Annotated[int | str, AfterValidator(minutes)] = 60
    parallelism: PositiveInt = 64
    setup: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    python: str | None = None
    sbatch: Annotated[dict[str, str | int | bool], AfterValidator(_free)] = Field(
        default_factory=dict
    )

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)


Stages = dict[Literal["pretrain", "finetune", "evaluate", "sweep"], dict[str, Any]]


class ScaleResources(Resources):
    stages: Stages = Field(default_factory=dict)


class Cluster(ScaleResources):
    """A cluster file. `array_size`: the most jobs of one array that the cluster takes (its MaxArraySize less one)."""

    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    warning_seconds: PositiveInt = 120
    poll_seconds: PositiveFloat = 10
    array_size: PositiveInt = 1000
    lost_after_stops: PositiveInt = (
        5  # a run stopped so often in a row without a checkpoint between is given up
    )


def read_cluster(path: Path | None, scale: str) -> tuple[Cluster, dict[str, Resources]]:
    """A cluster file, and what each stage asks for at a scale. Raises UserError."""
    path = path or CLUSTER
    tree = read_yaml(path)
    try:
        cluster = Cluster.model_validate(tree)
        for name, stages in [
            (name, part.get("stages", {})) for name, part in cluster.scales.items()
        ]:
            named_file("scales", name)
            ScaleResources.model_validate({**cluster.scales[name], "stages": stages})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ValidationError as error:
        raise UserError(explain(error, Cluster, [Layer(str(path), tree)])) from error
    own = Cluster.model_fields.keys() - Resources.model_fields.keys()
    base = {key: value for key, value in tree.items() if key not in own}
    scaled = cluster.scales.get(scale, {})
    resources = {}
    for stage in ("pretrain", "finetune", "evaluate", "sweep"):  # of a sweep: each of its workers
        layers = (
            {key: value for key, value in scaled.items() if key != "stages"},
            cluster.stages,
            scaled.get("stages", {}),
        )
        merged = base | layers[0] | layers[1].get(stage, {}) | layers[2].get(stage, {})
        try:
            resources[stage] = Resources.model_validate(merged)
        except ValidationError as error:
            raise UserError(
                explain(error, Resources, [Layer(f"{path}: {stage}", merged)])
            ) from error
    return cluster, resources
