"""A plan: runs, cells, what they lack. A run's id is the hash of its resolved config, its inputs and its data."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.config import Evaluate, StageConfig, identity, peak_lr, steps
from experiments.planning.data_roots import Root
from experiments.planning.registry import expand
from experiments.planning.schema import Experiment, Tree
from results.store import State, Store


@dataclass(frozen=True)
class PlannedRun:
    """A stage with its inputs. `data` maps a role (train, mixed, validation, or a subset's name) to its roots."""

    id: str
    stage: str
    config: StageConfig
    inputs: dict[str, str]  # role -> id of a run, or file:PATH
    data: dict[str, tuple[Root, ...]]
    lacks: str = ""  # why it cannot run here, besides data and files
    rows: list[str] = field(default_factory=list)  # who needs it

    def images(self) -> int:
        """Images of one epoch, or of all subsets; as many as the registry expects where data are missing."""
        counts = {role: sum(root.images for root in roots) for role, roots in self.data.items()}
        if isinstance(self.config, Evaluate):
            return sum(counts.values())
        trained = [counts[role] for role in ("train", "mixed") if role in counts]
        return self.config.data.epoch(trained, self.config.optimizer.batch)

    def missing(self) -> list[str]:
        """Why the run cannot start here: everything that it needs and that is not there."""
        files = [
            name.removeprefix("file:") for name in self.inputs.values() if name.startswith("file:")
        ]
        absences = [root.missing for roots in self.data.values() for root in roots if root.missing]
        files += [expand(path) for paths in filters_of(self.config).values() for path in paths]
        absences += [f"{file}: no such file" for file in files if not Path(file).is_file()]
        return list(dict.fromkeys([*absences, *([self.lacks] if self.lacks else [])]))

    def waiting_for(self, store: Store) -> dict[str, State]:
        """The inputs that are not complete, as they stand."""
        inputs = [name for name in self.inputs.values() if not name.startswith("file:")]
        return {
            name: state for name in inputs if (state := store.run(name).state()).name != "complete"
        }


@dataclass(frozen=True)
class Cell:
    """One row of the experiment at one seed: the evaluation whose counts fill it, and the training runs below."""

    experiment: str
    variant: int
    seed: int
    trainings: tuple[str, ...]
    evaluate: str
    teacher: str = ""  # the teacher's run, or file:PATH
    teacher_images: int | None = None  # that a teacher's file was trained on
    encoder_file: str = ""  # a checkpoint that is fine-tuned


@dataclass
class Plan:
    """Runs in an order in which every input comes before its user."""

    scale: str
    experiments: dict[str, Experiment]
    overrides: Tree = field(default_factory=dict)  # settings of the command line
    about: str = ""  # what the scale profile says of itself
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stand_ins: bool = False  # rendered words are read in place of the paper's data

    def cells_of(self, experiment: str, variant: int) -> list[Cell]:
        """A row's cells, one for each seed."""
        return [
            cell for cell in self.cells if (cell.experiment, cell.variant) == (experiment, variant)
        ]

    def blocked_experiments(self) -> dict[str, str]:
        """Experiment -> the first thing that it needs and that is not here."""
        found: dict[str, str] = {}
        for cell in self.cells:
            for run in self._runs_of(cell):
                if missing := self.runs[run].missing():
                    found.setdefault(cell.experiment, missing[0])
        return found

    def without(self, experiments: Collection[str]) -> "Plan":
        """The plan of the other experiments."""
        kept = [cell for cell in self.cells if cell.experiment not in experiments]
        needed = {run for cell in kept for run in self._runs_of(cell)}
        others = {
            name: experiment
            for name, experiment in self.experiments.items()
            if name not in experiments
        }
        runs = {name: run for name, run in self.runs.items() if name in needed}
        return replace(self, experiments=others, cells=kept, runs=runs)

    def _runs_of(self, cell: Cell) -> list[str]:
        return [run for run in (cell.teacher, *cell.trainings, cell.evaluate) if run in self.runs]


# Where a config names data: they count by their fingerprints
PATHS: Any = {
    "data": {"roots": True, "filters": True, "mix": {"roots"}},
    "validation": True,
    "subsets": True,
}


def run_id(
    stage: str, config: StageConfig, inputs: dict[str, str], data: dict[str, tuple[Root, ...]]
) -> str:
    """STAGE-HASH. Paths do not enter: data count by their fingerprints, files by their content."""
    settings = identity(config, exclude=PATHS)
    contents: dict[str, object] = {
        role: [root.fingerprint for root in roots] for role, roots in data.items()
    }
    for role, filters in filters_of(config).items():
        contents[f"filters of {role}"] = [_content_of(f"file:{expand(path)}") for path in filters]
    named = {role: _content_of(name) for role, name in inputs.items()}
    whole = json.dumps([stage, settings, named, contents], sort_keys=True)
    return f"{stage}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def filters_of(config: StageConfig) -> dict[str, tuple[str, ...]]:
    """Role -> filter lists, of the roles that have some."""
    data = config.subsets if isinstance(config, Evaluate) else {"train": config.data}
    return {role: one.filters for role, one in data.items() if one.filters}


@cache
def _content_of(name: str) -> str:
    path = Path(name.removeprefix("file:"))
    if name.startswith("file:") and path.is_file():
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return name


def resolved_schedule(run: PlannedRun) -> dict[str, Any]:
    """The values a run will really use: peak learning rate, steps, images seen."""
    if isinstance(run.config, Evaluate):
        return {"images": run.images()}
    optimizer = run.config.optimizer
    _, total = steps(run.images(), optimizer.batch, optimizer.epochs)
    return {
        "peak_lr": round(peak_lr(optimizer.base_lr, optimizer.batch), 12),
        "batch": optimizer.batch,
        "epochs": optimizer.epochs,
        "steps": total,
        "images": total * min(optimizer.batch, run.images() or optimizer.batch),
    }
