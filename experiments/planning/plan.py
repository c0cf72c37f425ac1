"""A plan: runs with their inputs, the cells of tables, and the requirements that are unmet."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.config import Evaluate, Finetune, Probe, StageConfig, identity_fields, peak_lr, steps
from experiments.planning.data_roots import Root
from experiments.planning.diagnostics import Tree
from experiments.planning.registry import expand
from experiments.planning.schema import Experiment
from results.store import State, Store

FILE = "file:"  # prefix of inputs that are files
TRAIN = "train"  # the role of training words


@dataclass(frozen=True)
class PlannedRun:
    """A stage with its inputs.

    id: STAGE-HASH.
    stage: `pretrain`, `finetune`, `evaluate` or `probe`.
    config: the config of the stage.
    inputs: role -> id of a run, or file:PATH.
    data: role (train, mixed, validation, or a subset's name) -> roots.
    unmet: a requirement that is unmet, besides data and files; empty if there is none.
    rows: the rows that need the run.
    """

    id: str
    stage: str
    config: StageConfig
    inputs: Mapping[str, str]
    data: Mapping[str, tuple[Root, ...]]
    unmet: str = ""
    rows: tuple[str, ...] = ()

    def images(self) -> int:
        """The images of one epoch, or of all test subsets; of a probe those of training and tests.

        Absent data count as expected."""
        counts = {role: sum(root.images for root in roots) for role, roots in self.data.items()}
        if isinstance(self.config, Probe) and self.config.images is not None:
            counts[TRAIN] = min(self.config.images, counts[TRAIN])
        if isinstance(self.config, Evaluate | Probe):
            return sum(counts.values())
        if isinstance(self.config, Finetune) and self.config.label_subset is not None:
            counts[TRAIN] = self.config.label_subset.size(counts[TRAIN])
        trained = [counts[role] for role in (TRAIN, "mixed") if role in counts]
        return self.config.data.epoch_size(trained, self.config.optimizer.batch)

    def unmet_requirements(self) -> list[str]:
        """One sentence for each thing that the run needs and that is absent."""
        files = [name.removeprefix(FILE) for name in self.inputs.values() if name.startswith(FILE)]
        files += [expand(path) for paths in filters_of(self.config).values() for path in paths]
        unmet = [root.unmet for roots in self.data.values() for root in roots if root.unmet]
        unmet += [
            f"{file}: a folder; name a file in it"
            if Path(file).is_dir()
            else f"{file}: no such file"
            for file in files
            if not Path(file).is_file()
        ]
        if self.unmet:
            unmet.append(self.unmet)
        return list(dict.fromkeys(unmet))

    def waiting_for(self, store: Store) -> dict[str, State]:
        """The inputs that are not complete: id -> state."""
        ids = [name for name in self.inputs.values() if not name.startswith(FILE)]
        states = {name: store.run(name).state() for name in ids}
        return {name: state for name, state in states.items() if state.name != "complete"}

    def as_json(self) -> dict[str, Any]:
        """What defines the run, for `config.json` and `record.json`."""
        return {
            "id": self.id,
            "stage": self.stage,
            "config": self.config.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "data": {role: [root.as_json() for root in roots] for role, roots in self.data.items()},
        }


@dataclass(frozen=True)
class Cell:
    """One row of an experiment at one seed: the evaluation that fills it, and its training runs.

    experiment: the name of the experiment's file.
    variant: the number of the row.
    seed: the seed.
    transfer: the number of the fine-tuning of this seed's encoder, from 0.
    trainings: ids of the training runs.
    evaluate: id of the evaluation.
    teacher: id of the teacher's run, or file:PATH.
    teacher_images: the number of images that a teacher's file was trained on.
    encoder_file: a checkpoint that is fine-tuned.
    probes: name -> id of the probe of the row's encoder.
    """

    experiment: str
    variant: int
    seed: int
    trainings: tuple[str, ...]
    evaluate: str
    teacher: str = ""
    teacher_images: int | None = None
    encoder_file: str = ""
    transfer: int = 0
    probes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Runs, each after its inputs, and the cells of tables that they fill.

    scale: the scale profile.
    experiments: name -> experiment.
    overrides: settings of the command line, as they were typed.
    primary: name of an experiment -> its primary endpoint.
    description: the scale profile's description of itself.
    runs: id -> run.
    cells: the cells of all experiments.
    notes: sentences for the user.
    substitute_synthetic: synthetic words replace the paper's data.
    files: name -> experiment file.
    """

    scale: str
    experiments: Mapping[str, Experiment]
    overrides: Tree = field(default_factory=dict)
    primary: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    runs: Mapping[str, PlannedRun] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()
    substitute_synthetic: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)

    def cells_of(self, experiment: str, variant: int) -> list[Cell]:
        """The cells of a row, one for each seed."""
        return [
            cell for cell in self.cells if (cell.experiment, cell.variant) == (experiment, variant)
        ]

    def blocked_experiments(self) -> dict[str, str]:
        """Experiment -> its first unmet requirement."""
        blocked: dict[str, str] = {}
        for cell in self.cells:
            for run in self._runs_of(cell):
                if unmet := self.runs[run].unmet_requirements():
                    blocked.setdefault(cell.experiment, unmet[0])
        return blocked

    def excluding(self, experiments: Collection[str]) -> "Plan":
        """The plan without some experiments."""
        cells = tuple(cell for cell in self.cells if cell.experiment not in experiments)
        needed = {run for cell in cells for run in self._runs_of(cell)}
        return replace(
            self,
            experiments={
                name: experiment
                for name, experiment in self.experiments.items()
                if name not in experiments
            },
            files={name: file for name, file in self.files.items() if name not in experiments},
            cells=cells,
            runs={name: run for name, run in self.runs.items() if name in needed},
        )

    def with_rows(self, rows: Collection[str]) -> "Plan":
        """The cells of some rows, and the runs that these need. All rows stay in the experiments.

        rows: names.
        """
        cells = tuple(
            cell
            for cell in self.cells
            if self.experiments[cell.experiment].variants[cell.variant].name in rows
        )
        needed = {run for cell in cells for run in self._runs_of(cell)}
        runs = {name: run for name, run in self.runs.items() if name in needed}
        return replace(self, cells=cells, runs=runs)

    def _runs_of(self, cell: Cell) -> list[str]:
        runs = (cell.teacher, *cell.trainings, cell.evaluate, *cell.probes.values())
        return [run for run in runs if run in self.runs]


# The fields of a config that name data. They enter an id by the data's fingerprints instead.
DATA_FIELDS: Any = {
    "data": {"roots": True, "filters": True, "mix": {"roots"}},
    "validation": True,
    "subsets": True,
}


def run_id(
    stage: str,
    config: StageConfig,
    inputs: Mapping[str, str],
    data: Mapping[str, tuple[Root, ...]],
) -> str:
    """STAGE-HASH. Paths do not enter: data count by fingerprint, files by content. Boxes of
    characters count where the run reads them.

    stage: `pretrain`, `finetune` or `evaluate`.
    config: the config of the stage.
    inputs: role -> id of a run, or file:PATH.
    data: role -> roots.
    """
    settings = identity_fields(config, exclude=DATA_FIELDS)
    contents: dict[str, list[str]] = {
        role: [root.content for root in roots] for role, roots in data.items()
    }
    for role, filters in filters_of(config).items():
        contents[f"filters of {role}"] = [_content_of(f"{FILE}{expand(path)}") for path in filters]
    input_contents = {role: _content_of(name) for role, name in inputs.items()}
    text = json.dumps([stage, settings, input_contents, contents], sort_keys=True)
    return f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def filters_of(config: StageConfig) -> dict[str, tuple[str, ...]]:
    """Role -> paths of filter lists, for the roles that have some."""
    sections = dict(config.subsets) if isinstance(config, Evaluate | Probe) else {}
    if not isinstance(config, Evaluate):
        sections[TRAIN] = config.data
    return {role: section.filters for role, section in sections.items() if section.filters}


@cache
def _content_of(name: str) -> str:
    """An input as it enters an id: the hash of a file, else its name."""
    path = Path(name.removeprefix(FILE))
    if name.startswith(FILE) and path.is_file():
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return name


@dataclass(frozen=True)
class ResolvedSchedule:
    """The resolved size of a run.

    images: the images that the run sees, in all epochs or in all test subsets.
    peak_lr, batch, epochs, steps: of a training run; None for an evaluation or a probe.
    """

    images: int
    peak_lr: float | None = None
    batch: int | None = None
    epochs: float | None = None
    steps: int | None = None

    def as_json(self) -> dict[str, float]:
        """The values that are not None."""
        values = {
            "peak_lr": self.peak_lr,
            "batch": self.batch,
            "epochs": self.epochs,
            "steps": self.steps,
            "images": self.images,
        }
        return {name: value for name, value in values.items() if value is not None}


def resolved_schedule(run: PlannedRun) -> ResolvedSchedule:
    """The schedule of a run. Raises UserError if training is less than one step."""
    if isinstance(run.config, Evaluate | Probe):
        return ResolvedSchedule(run.images())
    optimizer = run.config.optimizer
    _, total = steps(run.images(), optimizer.batch, optimizer.epochs)
    return ResolvedSchedule(
        images=total * min(optimizer.batch, run.images() or optimizer.batch),
        peak_lr=round(peak_lr(optimizer.base_lr, optimizer.batch), 12),
        batch=optimizer.batch,
        epochs=optimizer.epochs,
        steps=total,
    )
