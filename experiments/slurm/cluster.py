"""Cluster files: the resources that jobs request (`experiments/settings/cluster.yaml`)."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.number_types import Integer, NonNegativeInt, PositiveFloat, PositiveInt
from core.runtime.yaml import read_yaml
from experiments.planning.diagnostics import Layer, Tree, explain
from experiments.planning.schema import HERE, named_file

CLUSTER_FILE = HERE / "settings" / "cluster.yaml"
# Options of sbatch that this suite sets itself.
SET_BY_SUITE = (
    "array",
    "chdir",
    "dependency",
    "error",
    "export",
    "job-name",
    "kill-on-invalid-dep",
    "no-requeue",
    "open-mode",
    "output",
    "requeue",
    "signal",
    "wrap",
)
# Options of sbatch that keys of a cluster file set (`ntasks` is nodes x tasks).
SET_BY_KEYS = (
    "account",
    "constraint",
    "cpus-per-task",
    "gpus-per-node",
    "mem",
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "partition",
    "qos",
    "time",
)
# sweep: each worker of a sweep
Stage = Literal["pretrain", "finetune", "evaluate", "probe", "sweep"]


def time_limit_minutes(time: int | str) -> int:
    """A time limit in whole minutes, rounded up.

    time: minutes, or one of sbatch's formats M, M:S, H:M:S, D-H, D-H:M and D-H:M:S.

    Raises ValueError for another format and for less than a second.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(time).strip())
    if match is None:
        raise ValueError('must be minutes, or a text like "24:00:00" or "1-12:00:00"')
    days, *groups = match.groups()
    parts = [int(group) for group in groups if group is not None]
    starts_with_hours = days is not None or len(parts) == 3
    minutes_per_unit = (60, 1, 1 / 60) if starts_with_hours else (1, 1 / 60)
    minutes = sum(part * unit for part, unit in zip(parts, minutes_per_unit, strict=False))
    total = math.ceil(int(days or 0) * 24 * 60 + minutes)
    if total < 1:
        raise ValueError("must be at least one minute")
    return total


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _line_as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _check_sbatch_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse options that this suite sets. An underscore in a name counts as a hyphen."""
    for name in sorted(options):
        option = name.replace("_", "-")
        if option in SET_BY_SUITE:
            raise ValueError(f"{name} is set by this suite; leave it out")
        if option in SET_BY_KEYS:
            raise ValueError(f"{name} is set by a key of the cluster file; use that key")
    return options


class Resources(FrozenModel):
    """The resources of one job. The cluster decides on a value that is None."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    tasks_per_node: PositiveInt | None = None
    cpus_per_task: PositiveInt = 1
    mem: Annotated[str | None, BeforeValidator(_number_as_text)] = None  # of a node
    time: Annotated[Integer | str, AfterValidator(time_limit_minutes)] = 60
    parallelism: PositiveInt = 64  # jobs of an array that run at the same time
    setup: Annotated[tuple[str, ...], BeforeValidator(_line_as_tuple)] = ()  # shell lines
    python: str | None = None  # command of the interpreter; None: the one that submits
    sbatch: Annotated[dict[str, str | int | bool], AfterValidator(_check_sbatch_options)] = Field(
        default_factory=dict
    )

    @property
    def tasks(self) -> int:
        """Processes on each node. Default: one for each GPU."""
        return self.tasks_per_node or max(1, self.gpus_per_node)


class ScaleResources(Resources):
    """The resources at one scale, with changes for stages."""

    stages: dict[Stage, dict[str, Any]] = Field(default_factory=dict)


class Cluster(ScaleResources):
    """A cluster file."""

    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    warning_seconds: PositiveInt = 120  # time between SLURM's warning signal and a job's end
    poll_seconds: PositiveFloat = 10
    # Maximal number of jobs in an array: the cluster's MaxArraySize minus 1.
    array_size: PositiveInt = 1000
    # A run fails after this many stops in a row without a new checkpoint.
    lost_after_stops: PositiveInt = 5


Checked = TypeVar("Checked", bound=Resources)


def read_cluster(path: Path | None, scale: str) -> tuple[Cluster, dict[str, Resources]]:
    """Read a cluster file. Raises UserError.

    Returns the file's settings, and the resources of each stage at a scale.

    path: None: the suite's file.
    scale: the name of a scale.
    """
    path = path or CLUSTER_FILE
    tree = read_yaml(path)
    cluster = _check_cluster(path, tree)
    return cluster, {
        stage: _stage_resources(path, tree, cluster, scale, stage) for stage in get_args(Stage)
    }


def _check_cluster(path: Path, tree: Tree) -> Cluster:
    """The validated settings of a cluster file, of its scales and stages. Raises UserError."""
    layers = [Layer(str(path), tree)]
    cluster = _checked(Cluster, tree, layers, "")
    _check_stages(cluster, layers, "")
    for name, changes in cluster.scales.items():
        try:
            named_file("scales", name)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        section = f"scales.{name}"
        _check_stages(_checked(ScaleResources, changes, layers, section), layers, f"{section}.")
    return cluster


def _check_stages(resources: ScaleResources, layers: list[Layer], prefix: str) -> None:
    """Raise UserError for a mistake in the stages of a section. prefix: of their keys."""
    for stage, changes in resources.stages.items():
        _checked(Resources, changes, layers, f"{prefix}stages.{stage}")


def _checked(model: type[Checked], tree: Tree, layers: list[Layer], section: str) -> Checked:
    """A validated section of a cluster file. Raises UserError with file and key.

    model: of the section.
    tree: its content.
    layers: the file, for the error message.
    section: its dotted key; empty for the whole file.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, model, layers, section)) from error


def _stage_resources(
    path: Path, tree: Tree, cluster: Cluster, scale: str, stage: Stage
) -> Resources:
    """The resources of a stage at a scale. Raises UserError.

    Values for a stage take precedence over values for a scale, and these over the top level.

    path: the cluster file.
    tree: its content.
    cluster: its validated content.
    scale: the scale's name.
    stage: the stage.
    """
    no_resources = Cluster.model_fields.keys() - Resources.model_fields.keys()
    top_level = {key: value for key, value in tree.items() if key not in no_resources}
    of_scale = dict(cluster.scales.get(scale, {}))
    of_stages_at_scale = of_scale.pop("stages", {})
    of_stage = cluster.stages.get(stage, {}) | of_stages_at_scale.get(stage, {})
    merged = top_level | of_scale | of_stage
    try:
        return Resources.model_validate(merged)
    except ValidationError as error:
        raise UserError(explain(error, Resources, [Layer(f"{path}: {stage}", merged)])) from error
