"""The folder of a sweep in the results, and Optuna's study of its trials.

RESULTS/sweeps/NAME.SCALE-HASH/   sweep.json, journal.log, trials/NUMBER/state.json, and the files
                                  that sweep-report writes
"""

import json
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from core.runtime.errors import UserError
from core.runtime.files import try_lock, write_text
from results.store import Run, Store
from sweeps.engine.samplers import make_pruner
from sweeps.engine.search import Search
from sweeps.engine.storage import JOURNAL, explained_errors, open_storage, without_password

optuna.logging.set_verbosity(optuna.logging.ERROR)
# Arguments of samplers and pruners are experimental in Optuna; the schema fixes their values.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

LOCK_POLL_SECONDS = 0.05


class SweepFolder:
    """The folder and the study of one search in one results folder."""

    def __init__(self, search: Search, store: Store, url: str | None = None) -> None:
        """url: Optuna's storage; None: the journal in the sweep's folder."""
        self.search = search
        self.store = store
        self.url = url
        self.folder = store.root / "sweeps" / search.id

    @cached_property
    def storage(self) -> BaseStorage:
        """Optuna's storage. Raises UserError if it cannot be opened."""
        return open_storage(self.folder, self.url)

    def study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """Optuna's study. Only a study with a sampler may suggest values."""
        return optuna.load_study(
            storage=self.storage,
            sampler=sampler or optuna.samplers.RandomSampler(seed=0),
            pruner=make_pruner(self.search),
            study_name=self.folder.name,
        )

    def create(self) -> None:
        """Create the sweep's folder and study; if they exist, check that they belong together.

        Raises UserError.
        """
        self.check_storage()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.claim_lock(), self._explained_errors():
            study = optuna.create_study(
                storage=self.storage,
                study_name=self.folder.name,
                direction=self.search.sweep.direction,
                load_if_exists=True,
            )
            mark = self.description().get("mark") or uuid.uuid4().hex
            if study.user_attrs.get("results", mark) != mark:
                raise UserError(
                    f"--storage {without_password(self.url)}: its trials belong to another results "
                    "folder; name that folder with --results, or another database"
                )
            study.set_user_attr("results", mark)
            content = {"storage": without_password(self.url), "mark": mark}
            text = json.dumps(content | self.search.as_json(), indent=1, ensure_ascii=False)
            write_text(self.folder / "sweep.json", text)

    def description(self) -> dict[str, Any]:
        """The content of sweep.json, which `create` writes; {} if there is none."""
        try:
            text = (self.folder / "sweep.json").read_text(encoding="utf-8")
            content: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            return {}
        return content

    def exists(self) -> bool:
        """Whether this sweep has been run in this results folder."""
        return (self.folder / "sweep.json").exists()

    def check_storage(self) -> None:
        """Raise UserError if the trials are in another storage than the named one."""
        used = self.description().get("storage")
        if used not in (None, without_password(self.url)):
            advice = "leave out --storage" if used == JOURNAL else "name it with --storage"
            raise UserError(f"{self.folder.name}: its trials are in {used}; {advice}")

    def _explained_errors(self) -> AbstractContextManager[None]:
        return explained_errors(self.folder, self.url)

    def claim_lock(self) -> AbstractContextManager[None]:
        """The lock under which workers claim trials."""
        return blocking_lock(self.folder / ".lock")

    def all(self) -> list[FrozenTrial]:
        """Every trial as the storage has it; [] before `create`. Raises UserError."""
        if not self.exists():
            return []
        with self._explained_errors():
            return self.fetch()

    def fetch(self) -> list[FrozenTrial]:
        """Every trial as the storage has it. Raises the storage's errors (STORAGE_ERRORS)."""
        return self.study().get_trials(deepcopy=False)

    def trial_folder(self, number: int) -> Run:
        """A trial's folder, with its lock and the state that its worker writes."""
        return Run(self.folder / "trials" / f"{number:04}")


@contextmanager
def blocking_lock(path: Path) -> Iterator[None]:
    """Lock a file; wait while another process has the lock."""
    while True:
        with try_lock(path) as free:
            if free:
                yield
                return
        time.sleep(LOCK_POLL_SECONDS)
