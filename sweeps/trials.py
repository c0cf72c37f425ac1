"""A sweep's trials: which are taken, which are open, how each stands. Optuna keeps values, our own locks say who is at work.

RESULTS/sweeps/NAME.SCALE-HASH/   sweep.json journal.log trials/NUMBER/state.json, and what sweep-report writes

A trial is open from the moment it is drawn until it is complete, pruned or failed. One whose worker is gone (nobody holds its
lock) is gone on with by the next worker that looks, before any other is drawn: so none is lost, none counts twice, and the
total holds for any number of workers that come and go."""

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from core.errors import UserError
from core.files import try_lock, write_text
from core.randomness import derive_seed
from results.store import Run, State, Store
from sweeps.schema import Gp, Grid, Halving, Median, RandomSearch
from sweeps.search import Search, Values, recognizers, training_runs

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # their arguments are pinned in the schema
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
UNSEEN_SECONDS = 600  # another machine's trial that says nothing for so long is gone, if its lock is free
JOURNAL = "journal.log"


@dataclass(frozen=True)
class Taken:
    """A trial that this process holds."""

    number: int
    values: Values
    study: optuna.Study
    trial: optuna.Trial


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Of one trial, with a seed of its own: what is drawn depends on the sweep's seed, the trial's number and the trials that
    have finished; not on which worker draws, nor on how often it was begun again."""
    how = search.sweep.sampler
    seed = derive_seed(how.seed, "sweep", number) % 2**32
    arguments = how.model_dump(exclude={"kind", "seed"})
    if isinstance(how, RandomSearch):
        return optuna.samplers.RandomSampler(seed=seed)
    if isinstance(how, Grid):
        points = {key: one.grid() for key, one in search.space.items()}
        return optuna.samplers.GridSampler(points, seed=how.seed % 2**32)  # its seed also numbers the points
    if isinstance(how, Gp):
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False, **arguments)
    return optuna.samplers.TPESampler(seed=seed, **arguments)


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """As the sweep has it; steps are per cent of a trial's fine-tuning."""
    how = search.sweep.pruner
    if how is None:
        return optuna.pruners.NopPruner()
    arguments = how.model_dump(exclude={"kind", "at"})
    if isinstance(how, Median):
        return optuna.pruners.MedianPruner(**arguments)
    if isinstance(how, Halving):
        return optuna.pruners.SuccessiveHalvingPruner(**arguments)
    return optuna.pruners.HyperbandPruner(**arguments)


class Trials:
    """A search's trials in a results folder. `url`: any storage of Optuna's in place of the folder's journal."""

    def __init__(self, search: Search, store: Store, url: str | None = None, folder: Path | None = None) -> None:
        self.search, self.store, self.url = search, store, url
        self.folder = folder or store.root / "sweeps" / search.id

    @cached_property
    def storage(self) -> BaseStorage:
        """Raises UserError where it cannot be reached or read."""
        if self.url is None:
            path = self.folder / JOURNAL
            with self._told():
                return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
        with self._told():
            return RDBStorage(self.url, engine_kwargs={"pool_pre_ping": True})

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what is wrong with the storage in one sentence."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (OptunaError, SQLAlchemyError, ImportError) as error:
            cause = error.__cause__ or error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise UserError(f"--storage {masked(self.url)}: {reason}") from error
        except (ValueError, KeyError) as error:
            if self.url is not None:
                raise UserError(f"--storage {masked(self.url)}: {error}") from error
            advice = "delete its folder; finished runs are kept, so the trials are computed again in moments"
            raise UserError(f"{self.folder / JOURNAL}: damaged ({error}); {advice}") from error

    def study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """The study on its storage, for drawing with a sampler, or for anything else."""
        quiet = sampler or optuna.samplers.RandomSampler(seed=0)
        with self._told():
            return optuna.load_study(
                storage=self.storage, sampler=quiet, pruner=make_pruner(self.search), study_name=self.folder.name
            )

    def begin(self) -> None:
        """Make the sweep's folder; mend a journal whose writer was killed in the middle of a line. Raises UserError."""
        self.check_storage()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self.url is None:
                _mend(self.folder / JOURNAL)
            with self._told():
                optuna.create_study(
                    storage=self.storage,
                    study_name=self.folder.name,
                    direction=self.search.sweep.direction,
                    load_if_exists=True,
                )
            write_text(self.folder / "sweep.json", json.dumps(self.describe(), indent=1, ensure_ascii=False))

    def check_storage(self) -> None:
        """Raise UserError if the trials of this sweep are kept elsewhere than said."""
        try:
            kept = json.loads((self.folder / "sweep.json").read_text(encoding="utf-8")).get("storage")
        except (OSError, ValueError):
            return
        if kept != masked(self.url):
            advice = "leave out --storage" if kept == JOURNAL else "name it with --storage"
            raise UserError(f"{self.folder.name}: its trials are kept in {kept}; {advice}")

    def describe(self) -> dict[str, Any]:
        """What makes the sweep what it is, for its folder."""
        search = self.search
        return {
            "id": search.id,
            "file": str(search.path),
            "scale": search.scale,
            "sweep": search.sweep.model_dump(mode="json", by_alias=True, exclude_none=True),
            "space": {key: one.model_dump(mode="json", by_alias=True, exclude_none=True) for key, one in search.space.items()},
            "base": search.variant.model_dump(mode="json"),
            "overrides": search.overrides,
            "precision": search.precision,
            "first": search.first,
            "storage": masked(self.url),
        }

    def place(self, number: int) -> Run:
        """A trial's folder: its lock, and its state as its worker tells it."""
        return Run(self.folder / "trials" / f"{number:04}")

    def begun(self) -> bool:
        """Whether this sweep has been run here."""
        return (self.folder / "sweep.json").exists()

    def all(self) -> list[FrozenTrial]:
        """Every trial, as the storage has it."""
        if not self.begun():
            return []
        with self._told():
            return self.study().get_trials(deepcopy=False)

    def state(self, trial: FrozenTrial) -> State:
        """How a trial stands: the storage's word where it is finished, else its worker's."""
        place = self.place(trial.number)
        if trial.state in FINISHED:
            return State("complete", "pruned" if trial.state == TrialState.PRUNED else "", updated=_ended(trial))
        if trial.state == TrialState.FAIL:
            return State("failed", trial.user_attrs.get("reason", ""), updated=_ended(trial))
        state = place.state()
        if state.name == "preempted" and self._elsewhere(trial):
            return place.told()
        return State("preempted", "its worker is gone") if state.name in ("planned", "complete") else state

    def _elsewhere(self, trial: FrozenTrial) -> bool:
        """Whether a trial seems to be computed on another machine, whose locks may not reach here."""
        told = self.place(trial.number).told()
        if told.name != "running" or told.process.startswith(f"{os.uname().nodename}:"):
            return False
        runs = [self.store.run(run).told().updated for run in trial.user_attrs.get("runs", [])]
        return time.time() - max([told.updated, *runs]) < UNSEEN_SECONDS

    def _alone(self) -> Any:
        return waiting_lock(self.folder / ".lock")

    @contextmanager
    def take(self, since: float) -> Iterator[Taken | None]:
        """Hold a trial: one whose worker is gone, or a new one; None where nothing is left to take now.

        since: failures from then on count against the sweep. Raises UserError if there are too many."""
        with ExitStack() as held:
            with self._alone():
                taken = self._resume(held) or self._draw(held, since)
            yield taken

    def _resume(self, held: ExitStack) -> Taken | None:
        study = self.study()
        for trial in self.all():
            place = self.place(trial.number)
            if trial.state.is_finished() or self._elsewhere(trial) or not held.enter_context(place.lock()):
                continue
            if "drawn" not in trial.user_attrs:  # killed between its first value and its last
                self._fail(study, trial.number, "its worker was killed while it was drawn")
                continue
            return self._taken(trial, study)
        return None

    def _taken(self, trial: FrozenTrial, study: optuna.Study) -> Taken:
        values = {key: trial.params[key] for key in self.search.space if key in trial.params}
        self.place(trial.number).set_state("running", message="begins")
        return Taken(trial.number, values, study, optuna.Trial(study, trial._trial_id))  # there is no public way back to it

    def _draw(self, held: ExitStack, since: float) -> Taken | None:
        while True:
            trials = self.all()
            if not self._wanted(trials, since):
                return None
            number = len(trials)
            study = self.study(make_sampler(self.search, number))
            if not trials and self.search.first is not None:
                study.enqueue_trial(self.search.first)
            trial = study.ask()
            values = self.search.suggest(trial)
            quiet = self.study()  # a sampler of its own would go on drawing
            try:
                plan = self.search.plan(f"trial {trial.number}", values, self.store)
            except UserError as error:
                self._fail(quiet, trial.number, str(error))
                continue
            trial.set_user_attr("runs", [run.id for run in training_runs(plan)])
            trial.set_user_attr("recognizers", {str(seed): run for seed, run in recognizers(plan).items()})
            trial.set_user_attr("drawn", True)
            held.enter_context(self.place(trial.number).lock())
            return self._taken(self.all()[trial.number], quiet)

    def _wanted(self, trials: list[FrozenTrial], since: float) -> bool:
        """Whether one more trial is to be drawn."""
        sweep = self.search.sweep
        failed = [trial for trial in trials if trial.state == TrialState.FAIL and "reason" in trial.user_attrs]
        if isinstance(sweep.sampler, Grid):
            return len(trials) < sweep.trials  # a point that fails is not tried again
        recent = [trial for trial in failed if _ended(trial) >= since]
        if len(recent) > max(2, sweep.trials // 2):
            reason = recent[-1].user_attrs["reason"]
            raise UserError(f"{self.search.path}: {len(recent)} trials failed, so no more are drawn; the last one: {reason}")
        if sweep.budget.hours is not None and self.hours(trials) >= sweep.budget.hours:
            return False
        return len(trials) - sum(trial.state == TrialState.FAIL for trial in trials) < sweep.trials

    def hours(self, trials: list[FrozenTrial]) -> float:
        """What the trials took so far, one after another, shared stages once."""
        return sum(trial.user_attrs.get("seconds", 0.0) for trial in trials) / 3600

    def _fail(self, study: optuna.Study, number: int, reason: str) -> None:
        optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id).set_user_attr("reason", reason)
        study.tell(number, state=TrialState.FAIL)

    def finish(self, taken: Taken, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """Tell the storage how a trial that is held ended."""
        with self._told():
            if state == TrialState.FAIL:
                self._fail(taken.study, taken.number, reason)
            else:
                taken.study.tell(taken.number, value, state=state)
        self.place(taken.number).set_state("failed" if state == TrialState.FAIL else "complete", message=reason)

    def over(self, trials: list[FrozenTrial]) -> bool:
        """Whether no trial is open and none will be drawn."""
        return all(trial.state.is_finished() for trial in trials) and not self._wanted(trials, time.time())

    def collect(self) -> None:
        """Once the sweep is over: the checkpoints of pruned trials, which were kept for it, are deleted."""
        from core.loop import CHECKPOINT

        with self._alone():
            trials = self.all()
            if not self.over(trials):
                return
            pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
            for name in {run for trial in pruned for run in trial.user_attrs["recognizers"].values()}:
                place = self.store.run(name)
                with place.lock() as free:
                    if free and place.told().name == "preempted" and (place.folder / CHECKPOINT).exists():
                        (place.folder / CHECKPOINT).unlink()
                        place.set_state("preempted", message=f"pruned by sweep {self.search.name}; it would begin anew")


def masked(url: str | None) -> str:
    """A storage's name without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url is None:
        return JOURNAL
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise UserError(f"--storage {url}: not an address like sqlite:///sweep.db or postgresql://user@host/db") from error


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting while others do."""
    while True:
        with try_lock(path) as free:
            if free:
                yield
                return
        time.sleep(0.05)


def _mend(journal: Path) -> None:
    """Cut off a last line that was never finished."""
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()
    try:
        if journal.exists() and (text := journal.read_bytes()) and not text.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)
    finally:
        lock.release()


def _ended(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
