"""The files of what was submitted to the cluster: one for each array of jobs, beside their output.

RESULTS/jobs/NAME/submission.json   the runs of the array in order, and its number in SLURM
RESULTS/jobs/NAME/NUMBER_log.out    the output of a job (submitit's names)
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.runtime.errors import UserError
from core.runtime.files import write_text
from results.store import Store

FILE = "submission.json"
DELETE_ATTEMPTS = 100  # 0.2 s apart: longer than SLURM's KillWait


@dataclass(frozen=True)
class Submission:
    """An array of jobs, or one job.

    name: the name of its jobs and of its folder.
    stage: the stage of its runs.
    runs: ids, in the order of the array.
    submitted: seconds since 1970, before sbatch was called.
    number: of the array in SLURM. "": the submission was interrupted.
    after: numbers of the arrays that its jobs wait for."""

    name: str
    stage: str
    runs: tuple[str, ...]
    submitted: float
    number: str = ""
    after: tuple[str, ...] = ()

    def job(self, run: str) -> str:
        """The job that computes a run."""
        return f"{self.number}_{self.runs.index(run)}" if len(self.runs) > 1 else self.number


def jobs_folder(store: Store) -> Path:
    """The folder of all submissions."""
    return store.root / "jobs"


def new_submission(stage: str, runs: Iterable[str], after: Iterable[str]) -> Submission:
    """A submission with a new name and without a number."""
    name = f"lmim-{stage}-{uuid.uuid4().hex[:10]}"
    return Submission(name, stage, tuple(runs), time.time(), after=tuple(after))


def write_submission(store: Store, submission: Submission) -> Submission:
    """Write the file of a submission: before sbatch is called, and again with its number."""
    write_text(jobs_folder(store) / submission.name / FILE, json.dumps(asdict(submission)))
    return submission


def with_number(submission: Submission, number: str) -> Submission:
    """The submission with SLURM's number."""
    return replace(submission, number=number)


def _submissions(store: Store) -> Iterator[Submission]:
    for path in jobs_folder(store).glob(f"*/{FILE}"):
        try:
            content = json.loads(path.read_text())
            content["runs"] = tuple(content["runs"])
            content["after"] = tuple(content["after"])
            yield Submission(**content)
        except FileNotFoundError:  # deleted by the command that created it
            continue
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: not a file of this suite; "
                "cancel its jobs with `scancel` and move its folder aside"
            ) from error


def latest_submissions(store: Store) -> dict[str, Submission]:
    """Run -> its last submission. Raises UserError for a damaged file."""
    latest: dict[str, Submission] = {}
    for submission in _submissions(store):
        for run in submission.runs if submission.number else ():
            if run not in latest or latest[run].submitted < submission.submitted:
                latest[run] = submission
    return latest


def interrupted_submissions(store: Store) -> list[Submission]:
    """The submissions whose command was killed before it wrote SLURM's number."""
    return [submission for submission in _submissions(store) if not submission.number]


def delete_submission(store: Store, submission: Submission) -> None:
    """Delete the folder of a submission whose jobs were cancelled.

    A job that had just started may write its output for some seconds, so the deletion is repeated
    until the folder is gone."""
    folder = jobs_folder(store) / submission.name
    for _ in range(DELETE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)
