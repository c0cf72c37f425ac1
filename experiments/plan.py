"""YAML -> runs: pure, deduplicated. A run's id is the hash of its resolved config, its inputs and its data."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from core import synthetic
from core.config import Evaluate, Finetune, Pretrain, Rendered, peak_lr, steps
from core.data import read_filters
from core.errors import UserError
from core.released import check_encoder
from core.roots import find_roots, fingerprint, irregular
from experiments.datasets import absent, expand, locate, registry, unset_variable
from experiments.schema import (
    Experiment,
    Layer,
    Recipe,
    Tree,
    read_experiment,
    read_recipe,
    read_stage,
    recipe_layers,
)
from results.store import Store

RENDERED = "rendered:"
SCRATCH = "scratch"  # no encoder: its weights are drawn anew
StageConfig = Pretrain | Finetune | Evaluate


@dataclass(frozen=True)
class Root:
    """One LMDB root: where it lies, what is in it. `missing` says why it is not there; `images` is then what is expected."""

    path: str
    fingerprint: str
    images: int
    rendered: Rendered | None = None
    missing: str = ""
    note: str = ""  # what is odd about it


@dataclass(frozen=True)
class PlannedRun:
    """A stage with its inputs. `data` maps a role (train, mixed, validation, or a subset's name) to its roots."""

    id: str
    stage: str
    config: StageConfig
    inputs: dict[str, str]  # role -> id of a run, or file:PATH
    data: dict[str, tuple[Root, ...]]
    rows: list[str] = field(default_factory=list)  # who needs it

    def images(self) -> int:
        """Images of one epoch, or of all subsets; as many as the registry expects where data are missing."""
        counts = {role: sum(root.images for root in roots) for role, roots in self.data.items()}
        if isinstance(self.config, Evaluate):
            return sum(counts.values())
        trained = [counts[role] for role in ("train", "mixed") if role in counts]
        return self.config.data.epoch(trained, self.config.optimiser.batch)

    def missing(self) -> str:
        """Why the run cannot start here, or nothing."""
        files = [name.removeprefix("file:") for name in self.inputs.values() if name.startswith("file:")]
        absences = [root.missing for roots in self.data.values() for root in roots if root.missing]
        files += [expand(path) for paths in _filters(self.config).values() for path in paths]
        return next(iter([*absences, *(f"{file}: no such file" for file in files if not Path(file).is_file())]), "")


@dataclass(frozen=True)
class Cell:
    """One row of the experiment at one seed: the evaluation whose counts fill it, and the training runs below."""

    experiment: str
    variant: int
    seed: int
    trainings: tuple[str, ...]
    evaluate: str


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


def resolve_root(root: str, rendered: Rendered | None, store: Store) -> tuple[Root, ...]:
    """Where a root lies and what is in it; several where it is a folder of LMDBs.

    Raises UserError if it names a rendered split that is not made, or nothing that could be a folder."""
    if root.startswith(RENDERED):
        return (_rendered_root(root, rendered, store),)
    return _real_roots(root)


def _rendered_root(root: str, rendered: Rendered | None, store: Store) -> Root:
    split = root.removeprefix(RENDERED)
    sizes = synthetic.splits(rendered) if rendered else {}
    if rendered is None or split not in sizes:
        raise UserError(f"{root}: no such rendered split; there are {', '.join(sizes) or 'none in this scale profile'}")
    found = synthetic.fingerprint(rendered)
    return Root(str(store.data(found) / split), f"{found}/{split}", sizes[split], rendered)


@cache
def _real_roots(root: str) -> tuple[Root, ...]:
    named = root in registry()
    path = locate(root) if named else expand(root)
    missing = ""
    if variable := unset_variable(path):
        missing = f"{root}: the environment variable {variable} is not set"
    elif not Path(path).is_dir():
        missing = f"{path}: no LMDB here (data.mdb is missing)"
    if missing:
        sizes = registry()[root].images if named else ()
        return (Root(path, f"unknown:{root}", sizes[0] if sizes else 0, missing=absent(root) if named else missing),)
    return tuple(Root(found, *fingerprint(found), note=irregular(found)) for found in find_roots(path))


def run_id(stage: str, config: StageConfig, inputs: dict[str, str], data: dict[str, tuple[Root, ...]]) -> str:
    """STAGE-HASH. Paths do not enter: data count by their fingerprints, files by their content."""
    paths: Any = {"data": {"roots": True, "filters": True, "mix": {"roots"}}, "validation": True, "subsets": True}
    settings = config.model_dump(mode="json", exclude=paths)
    contents: dict[str, object] = {role: [root.fingerprint for root in roots] for role, roots in data.items()}
    for role, filters in _filters(config).items():
        contents[f"filters of {role}"] = [_content_of(f"file:{expand(path)}") for path in filters]
    named = {role: _content_of(name) for role, name in inputs.items()}
    identity = json.dumps([stage, settings, named, contents], sort_keys=True)
    return f"{stage}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _filters(config: StageConfig) -> dict[str, tuple[str, ...]]:
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


class Planner:
    """Adds the cells of experiments to a plan."""

    def __init__(self, plan: Plan, store: Store, precision: str) -> None:
        self.plan, self.store, self.precision = plan, store, precision

    def add(self, path: Path, experiment: Experiment, overrides: Tree, seeds: Iterable[int]) -> None:
        """Every variant of an experiment at every seed."""
        below = recipe_layers(experiment, self.plan.scale, overrides)
        self.plan.about = read_recipe(below).about
        seeds = list(seeds)
        for number, variant in enumerate(experiment.variants):
            idle = [key for key in overrides if key in variant.set]
            self.plan.notes += [f"--set {key} does not reach row {variant.name!r}, which is defined by it" for key in idle]
            layers = [*below, Layer(f"{path}: {variant.name}", variant.set, dotted=True)]
            recipe = read_recipe(layers)
            for seed in seeds:
                row = f"{variant.name}, seed {seed}" if len(seeds) > 1 else variant.name
                self._add_cell(path.stem, number, seed, recipe, layers, row)

    def _add_cell(self, name: str, number: int, seed: int, recipe: Recipe, layers: list[Layer], row: str) -> None:
        pretrain = read_stage("pretrain", recipe, self._precision(recipe), seed, layers)
        finetune = read_stage("finetune", recipe, self._precision(recipe), seed, layers)
        evaluate = read_stage("evaluate", recipe, self._precision(recipe), seed, layers)
        trainings = []
        if recipe.given.recognizer is not None:
            recognizer = f"file:{expand(recipe.given.recognizer)}"
        else:
            encoder = {"encoder": f"file:{expand(recipe.given.encoder)}"} if recipe.given.encoder else {}
            if recipe.given.encoder is None:
                teacher = {}
                if pretrain.target.kind == "mae_feature":
                    teacher["teacher"] = self._teacher(recipe, seed, layers, row)
                encoder = {"encoder": self._add("pretrain", pretrain, teacher, recipe, row)}
                trainings.append(encoder["encoder"])
            elif recipe.given.encoder == SCRATCH:
                encoder = {}
            recognizer = self._add("finetune", finetune, encoder, recipe, row)
            trainings.append(recognizer)
        last = self._add("evaluate", evaluate, {"recognizer": recognizer}, recipe, row)
        self.plan.cells.append(Cell(name, number, seed, tuple(trainings), last))

    def _precision(self, recipe: Recipe) -> str:
        return self.precision if recipe.precision == "auto" else recipe.precision

    def _teacher(self, recipe: Recipe, seed: int, layers: list[Layer], row: str) -> str:
        """The teacher's run, or its file. A row's delta on `pretrain` does not reach it, so that rows share one."""
        if recipe.teacher.file is not None:
            return f"file:{expand(recipe.teacher.file)}"
        if recipe.teacher.run is None:
            raise UserError(f"{row}: teacher: MAE features need one; give teacher.file or teacher.run")
        delta = {f"pretrain.{key}": value for key, value in recipe.teacher.run.items()}
        elsewhere = {key: value for key, value in layers[-1].tree.items() if key.partition(".")[0] != "pretrain"}
        own = replace(layers[-1], tree=elsewhere)
        with_teacher = [*layers[:-1], own, Layer("teacher.run", delta, dotted=True)]
        made = read_recipe(with_teacher)
        config = read_stage("pretrain", made, self._precision(made), seed, with_teacher)
        return self._add("pretrain", config, {}, made, f"teacher of {row}")

    def _check_files(self, config: StageConfig, inputs: dict[str, str]) -> None:
        """Raise UserError if a checkpoint or filter list that is there is not what it is taken for."""
        files = _given_files(name.removeprefix("file:") for name in inputs.values() if name.startswith("file:"))
        for path in files:
            if not isinstance(config, Evaluate):
                check_encoder(path, config.encoder)
        read_filters(map(str, _given_files(expand(path) for paths in _filters(config).values() for path in paths)))

    def _add(self, stage: str, config: StageConfig, inputs: dict[str, str], recipe: Recipe, row: str) -> str:
        roots = {
            role: tuple(found for root in names for found in resolve_root(root, recipe.rendered, self.store))
            for role, names in _roles(config).items()
        }
        self._check_files(config, inputs)
        name = run_id(stage, config, inputs, roots)
        if name not in self.plan.runs:
            self.plan.runs[name] = PlannedRun(name, stage, config, inputs, roots)
            notes = [root.note for found in roots.values() for root in found if root.note]
            self.plan.notes += [note for note in notes if note not in self.plan.notes]
        self.plan.runs[name].rows.append(row)
        return name


def _given_files(paths: Iterable[str]) -> list[Path]:
    return [path for path in map(Path, paths) if path.is_file()]


def _roles(config: StageConfig) -> dict[str, tuple[str, ...]]:
    """Role -> the roots that a config names for it."""
    if isinstance(config, Evaluate):
        return {name: data.roots for name, data in config.subsets.items()}
    roles: dict[str, tuple[str, ...]] = {"train": config.data.roots}
    if config.data.mix is not None:
        roles["mixed"] = config.data.mix.roots
    if isinstance(config, Finetune) and config.validation is not None:
        roles["validation"] = config.validation.roots
    return roles


def make_plan(
    files: Iterable[Path], scale: str | None, store: Store, *, precision: str, overrides: Tree, seeds: list[int] | None
) -> Plan:
    """The graph of runs of some experiment files. scale: None is their own; precision: what `auto` means here.

    Raises UserError."""
    experiments = [(path, read_experiment(path)) for path in files]
    scales = {scale} if scale else {experiment.scale for _, experiment in experiments}
    if len(scales) > 1:
        raise UserError(f"these files are made for different scales ({', '.join(sorted(scales))}); choose one with --scale")
    plan = Plan(scales.pop(), {}, overrides)
    planner = Planner(plan, store, precision)
    for path, experiment in experiments:
        if path.stem in plan.experiments:
            raise UserError(f"{path}: another file named {path.stem} is given too; tables would mix, so rename one")
        plan.experiments[path.stem] = experiment
        planner.add(path, experiment, overrides, seeds or experiment.seeds)
    return plan


def effective(run: PlannedRun) -> dict[str, Any]:
    """The values a run will really use: peak learning rate, steps, images seen."""
    if isinstance(run.config, Evaluate):
        return {"images": run.images()}
    optimiser = run.config.optimiser
    _, total = steps(run.images(), optimiser.batch, optimiser.epochs)
    return {
        "peak_lr": round(peak_lr(optimiser.base_lr, optimiser.batch), 12),
        "batch": optimiser.batch,
        "epochs": optimiser.epochs,
        "steps": total,
        "images": total * min(optimiser.batch, run.images() or optimiser.batch),
    }
