"""Converts parsed arguments to plain values, and refuses options that have no effect."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.runtime.errors import UserError

if TYPE_CHECKING:
    from core.text.charset import Charset
    from experiments.running.options import ComputeOptions

Overrides = dict[str, Any]


@dataclass(frozen=True)
class PlanOptions:
    """What a command plans.

    files: experiment files, or one sweep.
    scale: None for the files' own.
    seeds: None for the files' own.
    overrides: values of `--set` and `--precision` by dotted key.
    results: the results folder.
    device, launcher: decide the precision where it is auto.
    storage: Optuna's storage of a sweep. None: a journal in the results folder.
    """

    files: tuple[Path, ...]
    scale: str | None
    seeds: tuple[int, ...] | None
    overrides: Overrides
    results: Path
    device: str
    launcher: Literal["local", "slurm"]
    storage: str | None

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "PlanOptions":
        """The options of a parsed command. Raises UserError."""
        from experiments.planning.changes import parse_overrides

        overrides = parse_overrides(arguments.set)
        if arguments.precision:
            overrides["precision"] = arguments.precision
        return cls(
            files=tuple(arguments.files),
            scale=arguments.scale,
            seeds=arguments.seeds,
            overrides=overrides,
            results=arguments.results,
            device=arguments.device,
            launcher=getattr(arguments, "launcher", "local"),
            storage=getattr(arguments, "storage", None),
        )


def compute_options(arguments: argparse.Namespace, *, is_sweep: bool) -> "ComputeOptions":
    """The options of `run` that say how runs are computed.

    Raises UserError for an option that has no effect on these files or with this launcher, and for
    a device that cannot be used.
    """
    from experiments.running.options import ComputeOptions

    _check_compute_options(arguments, is_sweep=is_sweep)
    minutes = arguments.checkpoint_minutes
    if minutes is None:
        minutes = 10 if arguments.launcher == "slurm" else 1
    options = ComputeOptions(
        device=arguments.device,
        launcher=arguments.launcher,
        jobs=arguments.workers if is_sweep else arguments.jobs,
        num_workers=arguments.num_workers,
        micro_batch=arguments.micro_batch,
        checkpoint_seconds=60 * minutes,
        compile=arguments.compile,
        cluster=arguments.cluster,
        dry_run=arguments.dry_run,
        wait=not arguments.no_wait,
        gpus=arguments.gpus,
        processes=arguments.processes or 1,
    )
    _check_device(options)
    return options


# option -> why it is refused
LOCAL_OPTIONS = {
    "jobs": "is for this machine; a cluster decides how many jobs run at a time",
    "gpus": "is for this machine; the cluster's file says how many GPUs a job gets",
    "processes": "is for this machine; tasks_per_node in the cluster's file divides a run",
}
CLUSTER_OPTIONS = {
    "cluster": "goes with --launcher slurm",
    "no_wait": "goes with --launcher slurm",
}
EXPERIMENT_OPTIONS = {
    "jobs": "is for experiments; for a sweep, --workers sets the trials at a time",
    "gpus": "is for experiments; a worker of a sweep takes its GPU from --device",
    "processes": "is for experiments; each trial of a sweep is computed by one process",
}
SWEEP_OPTIONS = {
    "workers": "is for sweeps; --jobs sets the runs at a time, and --num-workers the processes "
    "that decode images",
    "storage": "is for sweeps: Optuna's storage of the trials",
}


def _check_compute_options(arguments: argparse.Namespace, *, is_sweep: bool) -> None:
    """Raise UserError for an option without effect."""
    refuse_options(arguments, EXPERIMENT_OPTIONS if is_sweep else SWEEP_OPTIONS)
    is_local = arguments.launcher == "local"
    refuse_options(arguments, CLUSTER_OPTIONS if is_local else LOCAL_OPTIONS)
    if arguments.gpus is None:
        return
    if arguments.device not in ("auto", "cuda"):
        raise UserError(f"--gpus and --device {arguments.device} contradict each other; give one")
    if arguments.gpus != "all" and (arguments.jobs or 0) > len(arguments.gpus):
        raise UserError(
            f"--jobs {arguments.jobs}: {len(arguments.gpus)} GPUs are named with --gpus, and each "
            "run gets one of them; give at most that many jobs"
        )


def refuse_options(arguments: argparse.Namespace, reasons: dict[str, str]) -> None:
    """Raise UserError if an option is given that has no effect here. reasons: by option."""
    for name, reason in reasons.items():
        if getattr(arguments, name, None) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} {reason}")


def _check_device(options: "ComputeOptions") -> None:
    """Raise UserError for a device that this machine lacks, and for `--compile` without CUDA."""
    from experiments.planning.device import find_device, find_gpus

    if options.gpus is not None:
        find_gpus(options.gpus)
    if options.launcher == "slurm" or (options.device == "auto" and not options.compile):
        return
    device = find_device(options.device)
    if options.compile and not device.startswith("cuda"):
        raise UserError(f"--compile has an effect on CUDA only, and the device is {device}")


def charset_of(arguments: argparse.Namespace) -> "Charset":
    """The charset that `--charset` names. Raises UserError."""
    from core.text.charset import make_charset, resolve_charset

    try:
        return make_charset(resolve_charset(arguments.charset))
    except ValueError as error:
        raise UserError(f"--charset {arguments.charset}: {error}") from error


def processes_of(arguments: argparse.Namespace) -> int:
    """`--processes`, or one for each core."""
    from core.runtime.processes import cores

    return arguments.processes or cores()
