"""What was handed to the cluster: one file for each array of jobs, beside their logs.

RESULTS/jobs/NAME/submission.json   runs of the array, in order; its number at the scheduler once it is known
RESULTS/jobs/NAME/NUMBER_log.out    what a job prints (submitit's names)
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from core.runtime.errors import UserError
from core.runtime.files import write_text
from results.store import Store

FILE = "submission.json"
DELETE_ATTEMPTS = 100  # 20 seconds: KillWait and some more


@dataclass(frozen=True)
class Submission:
    """An array of jobs, or one job. Without a number it was never handed over whole: its jobs, if any, find no work."""

    name: str
    stage: str
    runs: tuple[str, ...]
    submitted: float  # seconds since 1970, before sbatch was called
    number: str = ""
    after: tuple[str, ...] = field(default=())  # numbers that these jobs wait for

    def job(self, run: str) -> str:
        """The job that computes a run."""
        return f"{self.number}_{self.runs.index(run)}" if len(self.runs) > 1 else self.number


def jobs_folder(store: Store) -> Path:
    return store.root / "jobs"


def new_submission(stage: str, runs: Iterable[str], after: Iterable[str]) -> Submission:
    return Submission(
        f"lmim-{stage}-{uuid.uuid4().hex[:10]}", stage, tuple(runs), time.time(), after=tuple(after)
    )


def write_submission(store: Store, submission: Submission) -> Submission:
    """Keep it, before its jobs are handed over and again with their number."""
    write_text(jobs_folder(store) / submission.name / FILE, json.dumps(asdict(submission)))
    return submission


def with_number(submission: Submission, number: str) -> Submission:
    return replace(submission, number=number)


def _submissions(store: Store) -> Iterator[Submission]:
    for path in jobs_folder(store).glob(f"*/{FILE}"):
        try:
            content = json.loads(path.read_text())
            yield Submission(
                **content | {"runs": tuple(content["runs"]), "after": tuple(content["after"])}
            )
        except FileNotFoundError:  # forgotten by the command that made it, just now
            continue
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: not a file of this suite; delete its folder, and `scancel` its jobs"
            ) from error


def latest_submissions(store: Store) -> dict[str, Submission]:
    """Run -> the last submission it was in. Raises UserError for a damaged file."""
    found: dict[str, Submission] = {}
    for submission in _submissions(store):
        for run in submission.runs if submission.number else ():
            if run not in found or found[run].submitted < submission.submitted:
                found[run] = submission
    return found


def interrupted_submissions(store: Store) -> list[Submission]:
    """Those whose command was killed while it handed them over."""
    return [submission for submission in _submissions(store) if not submission.number]


def forget(store: Store, submission: Submission) -> None:
    """Delete the folder of a submission whose jobs were cancelled.

    A job that had just begun may write its log for some more seconds, so deleting is repeated until nothing is left."""
    folder = jobs_folder(store) / submission.name
    for _ in range(DELETE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)
