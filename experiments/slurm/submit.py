"""Submits arrays of jobs to SLURM with submitit, and cancels submissions."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress

from submitit.core.job_environment import JobEnvironment

from core.runtime.errors import UserError
from core.runtime.files import try_lock
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.arrays import Array
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


def submit(
    arrays: Sequence[Array],
    store: Store,
    cluster: Cluster,
    resources: Mapping[str, Resources],
    options: ComputeOptions,
) -> list[Submission]:
    """Submit all arrays or none. Raises UserError with SLURM's message.

    arrays: parents before their children.
    store: the results folder.
    cluster: the settings of the cluster file.
    resources: stage -> resources of its jobs.
    options: how runs are computed.
    """
    submissions: dict[Array, Submission] = {}
    try:
        with clean_environment():
            for array in arrays:
                numbers = {parent: done.number for parent, done in submissions.items()}
                jobs = _run_jobs(array, store, cluster, resources[array.stage], options)
                after = array.earlier_jobs
                if array.parent is not None:
                    after = (numbers[array.parent],)
                submission = new_submission(array.stage, [run.id for run in array.runs], after)
                submissions[array] = submit_array(
                    submission,
                    jobs,
                    array.dependency(numbers),
                    store,
                    cluster,
                    resources[array.stage],
                )
    except BaseException:
        cancel_submissions(store, [*submissions.values(), *interrupted_submissions(store)])
        raise
    return list(submissions.values())


def _run_jobs(
    array: Array, store: Store, cluster: Cluster, resources: Resources, options: ComputeOptions
) -> list[RunJob]:
    in_job = options.in_job(resources.cpus_per_task)
    limits = job_limits(cluster, resources)
    return [RunJob(run, store.root, in_job, limits) for run in array.runs]


def job_limits(cluster: Cluster, resources: Resources) -> JobLimits:
    """The limits of a job with these resources."""
    return JobLimits(
        warning_seconds=cluster.warning_seconds,
        limit_seconds=60 * int(resources.time),
        max_idle_stops=cluster.lost_after_stops,
    )


def submit_array(
    submission: Submission,
    jobs: Sequence[Callable[[], str]],
    dependency: str | None,
    store: Store,
    cluster: Cluster,
    resources: Resources,
) -> Submission:
    """Submit jobs as one array. Returns the submission with its number.

    Raises UserError with SLURM's message.

    submission: the array, without a number.
    jobs: what submitit pickles and calls on the cluster.
    dependency: the value of sbatch's option --dependency.
    store: the results folder.
    cluster: the settings of the cluster file.
    resources: those of each job.
    """
    import submitit

    write_submission(store, submission)
    folder = jobs_folder(store).resolve() / submission.name
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):  # submitit prints the errors of sbatch
            executor = submitit.SlurmExecutor(
                folder, max_num_timeout=10**6, python=_python_command(resources)
            )
            executor.update_parameters(
                **executor_parameters(dependency, cluster, resources, submission.name)
            )
            submitted = executor.submit_array(jobs)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        delete_submission(store, submission)
        reason = slurm.reason_of(str(error)) or slurm.reason_of(printed.getvalue())
        raise UserError(
            f"sbatch refuses the jobs of stage {submission.stage}: {reason}; nothing was submitted"
        ) from error
    except (RuntimeError, FileNotFoundError) as error:
        delete_submission(store, submission)
        raise UserError(
            f"SLURM: {_reason_of_no_slurm(error)}; submit from a login node, "
            "or use --launcher local; nothing was submitted"
        ) from error
    number = submitted[0].job_id.partition("_")[0]
    return write_submission(store, with_number(submission, number))


def _reason_of_no_slurm(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) or "srun" in str(error):
        return "no srun and sbatch on this machine"
    return str(error)


def executor_parameters(
    dependency: str | None, cluster: Cluster, resources: Resources, name: str
) -> dict[str, object]:
    """The parameters of submitit's SlurmExecutor.

    dependency: the value of sbatch's option --dependency.
    cluster: the settings of the cluster file.
    resources: those of each job.
    name: the name of the jobs.
    """
    options = {key: value for key, value in resources.sbatch.items() if value is not False}
    further = {"requeue": True, "kill-on-invalid-dep": "yes", **options}
    repository = shlex.quote(str(REPOSITORY))
    set_path = f'export PYTHONPATH={repository}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    # srun does not take cpus-per-task from sbatch.
    srun_options = ["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_task}"]
    parameters: dict[str, object] = {
        "job_name": name,
        "time": resources.time,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks,
        "cpus_per_task": resources.cpus_per_task,
        "gpus_per_node": resources.gpus_per_node or None,
        "mem": resources.mem,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "dependency": dependency,
        "array_parallelism": resources.parallelism,
        "signal_delay_s": cluster.warning_seconds,
        "setup": [*resources.setup, set_path],
        "srun_args": srun_options,
        "additional_parameters": further,
    }
    parameters = {key: value for key, value in parameters.items() if value is not None}
    return parameters | {"wckey": None}  # without it submitit sets a wckey


def _python_command(resources: Resources) -> str:
    """The command of the job's interpreter.

    It ignores SLURM's warning signal until the job handles it. Otherwise the signal would kill
    an interpreter that is starting.
    """
    python = resources.python or shlex.quote(sys.executable)
    return f"""sh -c 'trap "" {JobEnvironment.USR_SIG}; exec "$@"' sh {python}"""


@contextmanager
def clean_environment() -> Iterator[None]:
    """Without the SLURM_ variables of the job that this process is in, if it is in one.

    The submitted jobs would inherit them. Variables that users set (SLURM_CONF, SBATCH_...) stay.
    """
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    set_by_user = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or name.startswith("SBATCH_")
    }
    with clean_env():
        os.environ.update(set_by_user)
        yield


@contextmanager
def submitting(store: Store) -> Iterator[None]:
    """The lock under which a command submits to a results folder.

    Raises UserError if another command has it.
    """
    with try_lock(jobs_folder(store) / ".lock") as is_free:
        if not is_free:
            raise UserError(
                f"{store.root}: another command submits to these results; try again after it"
            )
        yield


def cancel_submissions(store: Store, submissions: Iterable[Submission]) -> None:
    """Cancel submissions, and delete their folders if SLURM answered.

    They are cancelled by name, since an interrupted submission has no number.
    """
    for submission in submissions:
        with suppress(UserError):
            slurm.cancel(name=submission.name)
            delete_submission(store, submission)
