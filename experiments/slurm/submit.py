"""A plan's open runs as arrays of jobs that wait for one another, handed to SLURM through submitit."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass

from submitit.core.job_environment import JobEnvironment

from core.runtime.errors import UserError
from core.runtime.files import try_lock
from experiments.planning.plan import PlannedRun
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import Cluster, Resources
from experiments.slurm.job import JobLimits, RunJob
from experiments.slurm.submissions import (
    Submission,
    delete_submission,
    interrupted_submissions,
    jobs_folder,
    new_submission,
    with_number,
    write_submission,
)
from results.provenance import REPOSITORY
from results.store import Store


@dataclass(frozen=True, eq=False)
class Array:
    """Runs of one stage that are submitted together.

    They wait for `parent` (each for the one in its own place where both have several, all for the one where that has one) or
    for jobs submitted before."""

    stage: str
    runs: tuple[PlannedRun, ...]
    parent: "Array | None" = None
    before: tuple[str, ...] = ()

    def dependency(self, numbers: Mapping["Array", str]) -> str | None:
        """As sbatch takes it; numbers: of the arrays already submitted."""
        if self.parent is not None:
            return (
                f"{'aftercorr' if len(self.parent.runs) > 1 else 'afterok'}:{numbers[self.parent]}"
            )
        return f"afterok:{':'.join(self.before)}" if self.before else None


def make_arrays(runs: Sequence[PlannedRun], jobs: Mapping[str, str], size: int) -> list[Array]:
    """Runs as arrays of at most `size`, parents first. jobs: run -> job, of those submitted before.

    Runs with the same kinds of descendants go together, so that place by place an array's jobs wait for its parent's. A run has
    one input at most that is a run: that makes a plan a forest."""
    wanted = {run.id for run in runs}
    children: dict[str, list[PlannedRun]] = {}
    for run in runs:
        for name in wanted.intersection(run.inputs.values()):
            children.setdefault(name, []).append(run)

    def kind(run: PlannedRun) -> tuple[object, ...]:
        return (run.stage, *sorted(kind(child) for child in children.get(run.id, [])))

    def grow(
        members: Sequence[PlannedRun], parent: Array | None, before: tuple[str, ...]
    ) -> Iterator[Array]:
        for start in range(0, len(members), size):
            array = Array(members[0].stage, tuple(members[start : start + size]), parent, before)
            yield array
            below = [sorted(children.get(run.id, []), key=kind) for run in array.runs]
            if len(array.runs) == 1:
                for group in _together(below[0], kind):
                    yield from grow(group, array, ())
            else:
                for place in range(len(below[0])):
                    yield from grow([one[place] for one in below], array, ())

    def earlier(run: PlannedRun) -> tuple[str, ...]:
        return tuple(sorted(jobs[name] for name in run.inputs.values() if name in jobs))

    roots = [run for run in runs if not wanted.intersection(run.inputs.values())]
    return [
        array
        for group in _together(roots, lambda run: (kind(run), earlier(run)))
        for array in grow(group, None, earlier(group[0]))
    ]


def _together(
    runs: Iterable[PlannedRun], key: Callable[[PlannedRun], object]
) -> list[list[PlannedRun]]:
    groups: dict[object, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def submit(
    arrays: Sequence[Array],
    store: Store,
    cluster: Cluster,
    resources: Mapping[str, Resources],
    options: ComputeOptions,
) -> list[Submission]:
    """Hand the arrays to SLURM: all, or none. Raises UserError with SLURM's message."""
    done: dict[Array, Submission] = {}
    try:
        with clean_environment():
            for array in arrays:
                numbers = {other: submission.number for other, submission in done.items()}
                done[array] = _submit_one(
                    array, numbers, store, cluster, resources[array.stage], options
                )
    except BaseException:
        cancel_submissions(store, [*done.values(), *interrupted_submissions(store)])
        raise
    return list(done.values())


def cancel_submissions(store: Store, submissions: Iterable[Submission]) -> None:
    """Cancel what was handed over, by name, for a number may not have been told, and forget it unless SLURM does not answer."""
    for submission in submissions:
        with suppress(UserError):
            slurm.cancel(name=submission.name)
            delete_submission(store, submission)


@contextmanager
def submitting(store: Store) -> Iterator[None]:
    """Let no other command submit to these results meanwhile. Raises UserError if one does."""
    with try_lock(jobs_folder(store) / ".lock") as alone:
        if not alone:
            raise UserError(
                f"{store.root}: another command submits to these results now; try again when it has"
            )
        yield


@contextmanager
def clean_environment() -> Iterator[None]:
    """As on the login node: a job that submits would hand on its own SLURM_ variables. What the user sets stays."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or name.startswith("SBATCH_")
    }
    with clean_env():
        os.environ.update(kept)
        yield


def parameters(
    dependency: str | None, cluster: Cluster, asked: Resources, name: str
) -> dict[str, object]:
    """What submitit's SlurmExecutor is told."""
    own = {key: value for key, value in asked.sbatch.items() if value is not False}
    further: dict[str, object] = {"requeue": True, "kill-on-invalid-dep": "yes", **own}
    path = shlex.quote(str(REPOSITORY))
    told: dict[str, object] = {
        "job_name": name,
        "time": asked.time,
        "nodes": asked.nodes,
        "ntasks_per_node": asked.tasks,
        "cpus_per_task": asked.cpus_per_task,
        "gpus_per_node": asked.gpus_per_node or None,
        "mem": asked.mem,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "dependency": dependency,
        "array_parallelism": asked.parallelism,
        "signal_delay_s": cluster.warning_seconds,
        "setup": [*asked.setup, f'export PYTHONPATH={path}"${{PYTHONPATH:+:$PYTHONPATH}}"'],
        "srun_args": [
            "--kill-on-bad-exit=1",
            f"--cpus-per-task={asked.cpus_per_task}",
        ],  # srun does not take it from sbatch
        "wckey": None,
        "additional_parameters": further,
    }
    return {key: value for key, value in told.items() if value is not None or key == "wckey"}


def _python(asked: Resources) -> str:
    """The interpreter's command; the warning signal is ignored until it can answer, instead of killing it while it starts."""
    return f'sh -c \'trap "" {JobEnvironment.USR_SIG}; exec "$@"\' sh {asked.python or shlex.quote(sys.executable)}'


def job_limits(cluster: Cluster, requested: Resources) -> JobLimits:
    """The limits of a job that requests these resources."""
    return JobLimits(
        warning_seconds=cluster.warning_seconds,
        limit_seconds=60 * int(requested.time),
        max_idle_stops=cluster.lost_after_stops,
    )


def _submit_one(
    array: Array,
    numbers: Mapping[Array, str],
    store: Store,
    cluster: Cluster,
    asked: Resources,
    options: ComputeOptions,
) -> Submission:
    after = (numbers[array.parent],) if array.parent is not None else array.before
    submission = new_submission(array.stage, [run.id for run in array.runs], after)
    in_job = options.in_job(asked.cpus_per_task)
    limits = job_limits(cluster, asked)
    jobs = [RunJob(run, store.root, in_job, limits) for run in array.runs]
    return submit_array(submission, jobs, array.dependency(numbers), store, cluster, asked)


def submit_array(
    submission: Submission,
    jobs: Sequence[Callable[[], str]],
    dependency: str | None,
    store: Store,
    cluster: Cluster,
    asked: Resources,
) -> Submission:
    """Submit jobs as one array; returns the submission with its number. Raises UserError with SLURM's message."""
    import submitit

    write_submission(store, submission)
    folder, errors = jobs_folder(store).resolve() / submission.name, io.StringIO()
    try:
        with redirect_stderr(errors):  # submitit prints what sbatch says; it is told below
            executor = submitit.SlurmExecutor(folder, max_num_timeout=10**6, python=_python(asked))
            executor.update_parameters(**parameters(dependency, cluster, asked, submission.name))
            submitted = executor.submit_array(jobs)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        delete_submission(store, submission)
        reason = slurm.reason_of(str(error)) or slurm.reason_of(errors.getvalue())
        raise UserError(
            f"sbatch refuses the jobs of stage {submission.stage}: {reason}; nothing was submitted"
        ) from error
    except (RuntimeError, FileNotFoundError) as error:
        delete_submission(store, submission)
        reason = (
            "no srun and sbatch here"
            if "srun" in str(error) or isinstance(error, FileNotFoundError)
            else str(error)
        )
        raise UserError(
            f"SLURM: {reason}; submit from a login node, or use --launcher local; nothing was submitted"
        ) from error
    return write_submission(store, with_number(submission, submitted[0].job_id.partition("_")[0]))
