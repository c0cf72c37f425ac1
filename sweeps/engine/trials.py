"""A sweep's trials: which are taken, which are open, how each stands. Optuna keeps values, our own locks say who is at work.

RESULTS/sweeps/NAME.SCALE-HASH/   sweep.json journal.log trials/NUMBER/state.json, and what sweep-report writes

A trial is open from the moment it is drawn until it is complete, pruned or failed. One whose worker is gone (nobody holds its
lock) is gone on with by the next worker that looks, before any other is drawn: so none is lost, none counts twice, and the
total holds for any number of workers that come and go."""

import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from core.runtime.errors import UserError
from core.runtime.files import try_lock, write_text
from results.store import Run, State, Store
from sweeps.engine.samplers import make_pruner, make_sampler
from sweeps.engine.schema import Grid
from sweeps.engine.search import Search, recognizers, training_runs
from sweeps.engine.space import Values
from sweeps.engine.storage import JOURNAL, masked, open_storage, told

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings(
    "ignore", category=optuna.exceptions.ExperimentalWarning
)  # their arguments are pinned in the schema
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
UNSEEN_SECONDS = (
    600  # another machine's trial that says nothing for so long is gone, if its lock is free
)


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process holds."""

    number: int
    values: Values
    study: optuna.Study
    trial: optuna.Trial


class Trials:
    """A search's trials in a results folder. `url`: any storage of Optuna's in place of the folder's journal."""

    def __init__(self, search: Search, store: Store, url: str | None = None) -> None:
        self.search, self.store, self.url = search, store, url
        self.folder = store.root / "sweeps" / search.id

    @cached_property
    def storage(self) -> BaseStorage:
        """Raises UserError where it cannot be reached."""
        return open_storage(self.folder, self.url)

    def _told(self) -> Any:
        return told(self.folder, self.url)

    def study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """The study on its storage, for drawing with a sampler, or for anything else."""
        quiet = sampler or optuna.samplers.RandomSampler(seed=0)
        return optuna.load_study(
            storage=self.storage,
            sampler=quiet,
            pruner=make_pruner(self.search),
            study_name=self.folder.name,
        )

    def begin(self) -> None:
        """Make the sweep's folder and study, or find that they belong together. Raises UserError."""
        self.check_storage()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone(), self._told():
            name, direction = self.folder.name, self.search.sweep.direction
            study = optuna.create_study(
                storage=self.storage, study_name=name, direction=direction, load_if_exists=True
            )
            mark = self.kept().get("mark") or uuid.uuid4().hex
            if study.user_attrs.setdefault("results", mark) != mark:
                advice = "name that folder with --results, or another database"
                raise UserError(
                    f"--storage {masked(self.url)}: its trials are of another results folder; {advice}"
                )
            study.set_user_attr("results", mark)
            content = {"storage": masked(self.url), "mark": mark} | self.search.describe()
            write_text(
                self.folder / "sweep.json", json.dumps(content, indent=1, ensure_ascii=False)
            )

    def kept(self) -> dict[str, Any]:
        """What `begin` wrote into the folder; {} before."""
        try:
            return json.loads((self.folder / "sweep.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def check_storage(self) -> None:
        """Raise UserError if the trials of this sweep are kept elsewhere than said."""
        named, kept = masked(self.url), self.kept().get("storage")
        if kept not in (None, named):
            advice = "leave out --storage" if kept == JOURNAL else "name it with --storage"
            raise UserError(f"{self.folder.name}: its trials are kept in {kept}; {advice}")

    def begun(self) -> bool:
        """Whether this sweep has been run here."""
        return (self.folder / "sweep.json").exists()

    def all(self) -> list[FrozenTrial]:
        """Every trial, as the storage has it. Raises UserError."""
        if not self.begun():
            return []
        with self._told():
            return self.read()

    def read(self) -> list[FrozenTrial]:
        """Every trial of a sweep that was begun. Raises what the storage raises (`storage.STORAGE_ERRORS`)."""
        return self.study().get_trials(deepcopy=False)

    def place(self, number: int) -> Run:
        """A trial's folder: its lock, and its state as its worker tells it."""
        return Run(self.folder / "trials" / f"{number:04}")

    def state(self, trial: FrozenTrial) -> State:
        """How a trial stands: the storage's word where it is finished, else its worker's."""
        if trial.state in FINISHED:
            return State("complete", updated=_ended(trial))
        if trial.state == TrialState.FAIL:
            return State("failed", trial.user_attrs.get("reason", ""), updated=_ended(trial))
        if "drawn" not in trial.user_attrs:
            return State("planned", "is being drawn")
        place = self.place(trial.number)
        state = place.state()
        if state.name == "preempted" and self._elsewhere(trial):
            return place.last_written_state()
        return (
            State("preempted", "its worker is gone")
            if state.name in ("planned", "complete")
            else state
        )

    def _elsewhere(self, trial: FrozenTrial) -> bool:
        """Whether a trial seems to be computed on another machine, whose locks may not reach here."""
        told = self.place(trial.number).last_written_state()
        if told.name != "running" or told.process.startswith(f"{os.uname().nodename}:"):
            return False
        runs = [
            self.store.run(run).last_written_state().updated
            for run in trial.user_attrs.get("runs", [])
        ]
        return time.time() - max([told.updated, *runs]) < UNSEEN_SECONDS

    def _alone(self) -> Any:
        return waiting_lock(self.folder / ".lock")

    @contextmanager
    def take(self, since: float) -> Iterator[ClaimedTrial | None]:
        """Hold a trial: one whose worker is gone, or a new one; None where nothing is left to take now.

        since: failures from then on count against the sweep. Raises UserError if there are too many."""
        with ExitStack() as held:
            with self._alone():
                taken = self._resume(held) or self._draw(held, since)
            yield taken

    def _resume(self, held: ExitStack) -> ClaimedTrial | None:
        for number in [
            trial.number
            for trial in self.read()
            if not trial.state.is_finished() and not self._elsewhere(trial)
        ]:
            if not held.enter_context(self.place(number).lock()):
                continue
            trial = self.read()[
                number
            ]  # as it stands now that it is held: its worker may just have ended it
            if trial.state.is_finished():
                continue
            if "drawn" in trial.user_attrs:
                return self._taken(trial)
            if (
                taken := self._values_of(trial, held)
            ) is not None:  # its worker was killed while it was drawn
                return taken
        return None

    def _taken(self, trial: FrozenTrial) -> ClaimedTrial:
        values = {key: trial.params[key] for key in self.search.space if key in trial.params}
        self.place(trial.number).set_state("running", message="begins")
        study = self.study()  # a sampler of its own would go on drawing
        return ClaimedTrial(
            trial.number, values, study, optuna.Trial(study, trial._trial_id)
        )  # there is no public way back to it

    def _draw(self, held: ExitStack, since: float) -> ClaimedTrial | None:
        while True:
            trials = self.read()
            if not self._wanted(trials, since):
                return None
            number = self.study().ask().number
            if (taken := self._values_of(self.read()[number], held)) is not None:
                return taken

    def _values_of(self, trial: FrozenTrial, held: ExitStack) -> ClaimedTrial | None:
        """DropoutSeeds a trial's values, those that it lacks; None where no run can have them, and the trial fails."""
        number = trial.number
        held.enter_context(self.place(number).lock())
        drawing = optuna.Trial(self.study(make_sampler(self.search, number)), trial._trial_id)
        values = self.search.suggest(drawing)
        try:
            plan = self.search.plan(f"trial {number}", values, self.store)
        except UserError as error:
            drawing.set_user_attr("reason", str(error).removeprefix(f"{self.search.path}: "))
            self.study().tell(number, state=TrialState.FAIL)
            return None
        drawing.set_user_attr("runs", [run.id for run in training_runs(plan)])
        drawing.set_user_attr(
            "recognizers", {str(seed): run for seed, run in recognizers(plan).items()}
        )
        drawing.set_user_attr("drawn", True)
        return self._taken(self.read()[number])

    def _wanted(self, trials: list[FrozenTrial], since: float) -> bool:
        """Whether one more trial is to be drawn."""
        sweep = self.search.sweep
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        recent = [trial for trial in failed if _ended(trial) >= since]
        if len(recent) > max(5, sweep.trials):
            reason = recent[-1].user_attrs.get("reason", "")
            raise UserError(
                f"{self.search.path}: {len(recent)} trials failed, so no more are drawn; the last one: {reason}"
            )
        if sweep.budget.hours is not None and self.hours(trials) >= sweep.budget.hours:
            return False
        replaced = (
            [] if isinstance(sweep.sampler, Grid) else failed
        )  # a grid's point that fails is not tried again
        return len(trials) - len(replaced) < sweep.trials

    def hours(self, trials: list[FrozenTrial]) -> float:
        """What the trials took so far, one after another, without the time that they waited for one another's runs."""
        return sum(trial.user_attrs.get("seconds", 0.0) for trial in trials) / 3600

    def finish(
        self, taken: ClaimedTrial, state: TrialState, value: float | None = None, reason: str = ""
    ) -> None:
        """Tell the storage how a trial that is held ended."""
        if reason:
            taken.trial.set_user_attr("reason", reason)
        taken.study.tell(taken.number, value, state=state)
        self.place(taken.number).set_state(
            "failed" if state == TrialState.FAIL else "complete", message=reason
        )

    def over(self, trials: list[FrozenTrial]) -> bool:
        """Whether no trial is open and none will be drawn."""
        return all(trial.state.is_finished() for trial in trials) and not self._wanted(
            trials, time.time()
        )

    def collect(self) -> None:
        """Once the sweep is over: the checkpoints of pruned trials, which were kept for it, are deleted."""
        from core.runtime.artifacts import CHECKPOINT

        with self._alone():
            trials = self.read()
            if not self.over(trials):
                return
            pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
            for name in {
                run for trial in pruned for run in trial.user_attrs["recognizers"].values()
            }:
                place = self.store.run(name)
                with place.lock() as free:
                    mine = free and place.last_written_state().message.endswith(
                        f"{pruned_by(self.search)}; its checkpoint is kept"
                    )
                    if mine and (place.folder / CHECKPOINT).exists():  # nobody has gone on with it
                        (place.folder / CHECKPOINT).unlink()
                        place.set_state(
                            "preempted", message=f"{pruned_by(self.search)}; it would begin anew"
                        )


def pruned_by(search: Search) -> str:
    """What a run says whose trial was pruned."""
    return f"pruned by sweep {search.id}"


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting while others do."""
    while True:
        with try_lock(path) as free:
            if free:
                yield
                return
        time.sleep(0.05)


def _ended(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
