"""YAML -> runs: pure, deduplicated. A run's id is the hash of its resolved config, its inputs and its data."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from core import synthetic
from core.config import Data, Evaluate, Finetune, Pretrain, Rendered, peak_lr, steps
from core.data import fingerprint
from core.errors import UserError
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
StageConfig = Pretrain | Finetune | Evaluate


@dataclass(frozen=True)
class Root:
    """One LMDB root: where it lies, what is in it. `images` 0: not there yet, and `missing` says why."""

    path: str
    fingerprint: str
    images: int
    rendered: Rendered | None = None
    missing: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """A stage with its inputs. `data` maps a role (train, validation, or a subset's name) to its roots."""

    id: str
    stage: str
    config: StageConfig
    inputs: dict[str, str]  # role -> id of a run, or file:PATH
    data: dict[str, tuple[Root, ...]]
    expected_images: int | None
    rows: list[str] = field(default_factory=list)  # who needs it

    def images(self) -> int:
        """Images of one epoch, or of all subsets; the profile's expectation where data are missing."""
        roots = [root for role, roots in self.data.items() if role != "validation" for root in roots]
        counted = sum(root.images for root in roots)
        return counted if all(root.images for root in roots) else self.expected_images or 0

    def missing(self) -> str:
        """Why the run cannot start here, or nothing."""
        files = [name.removeprefix("file:") for name in self.inputs.values() if name.startswith("file:")]
        absent = [f"{file}: no such file" for file in files if not Path(file).is_file()]
        return next(iter([root.missing for roots in self.data.values() for root in roots if root.missing] + absent), "")


@dataclass(frozen=True)
class Cell:
    """One row of the experiment at one seed: the evaluation whose counts fill it, and the stages below."""

    experiment: str
    variant: int
    seed: int
    pretrain: str
    finetune: str
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


def expand(root: str) -> str:
    """A root with its environment variables and `~` filled in, where they are set."""
    return os.path.expanduser(os.path.expandvars(root))


@cache
def _real_root(root: str) -> Root:
    path = expand(root)
    unset = re.findall(r"\$\{?(\w+)", path)
    if unset:
        return Root(path, f"unknown:{root}", 0, missing=f"{root}: the environment variable {unset[0]} is not set")
    if not (Path(path) / "data.mdb").is_file():
        return Root(path, f"unknown:{root}", 0, missing=f"{path}: no LMDB here (data.mdb is missing)")
    found, images = fingerprint(path)
    return Root(path, found, images)


def resolve_root(root: str, rendered: Rendered | None, store: Store) -> Root:
    """Where a root lies and what is in it. Raises UserError if it names a rendered split that is not made."""
    if not root.startswith(RENDERED):
        return _real_root(root)
    split = root.removeprefix(RENDERED)
    sizes = synthetic.splits(rendered) if rendered else {}
    if rendered is None or split not in sizes:
        raise UserError(f"{root}: no such rendered split; there are {', '.join(sizes) or 'none in this scale profile'}")
    found = synthetic.fingerprint(rendered)
    return Root(str(store.data(found) / split), f"{found}/{split}", sizes[split], rendered)


def run_id(stage: str, config: StageConfig, inputs: dict[str, str], data: dict[str, tuple[Root, ...]]) -> str:
    """STAGE-HASH. Paths do not enter: data count by their fingerprints, files by their content."""
    settings = config.model_dump(mode="json", exclude={"data", "validation", "subsets"})
    contents = {role: [root.fingerprint for root in roots] for role, roots in data.items()}
    named = {role: _content_of(name) for role, name in inputs.items()}
    identity = json.dumps([stage, settings, named, contents], sort_keys=True)
    return f"{stage}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


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
        inputs = {}
        if pretrain.target.kind == "mae_feature":
            inputs["teacher"] = self._teacher(recipe, seed, layers, row)
        first = self._add("pretrain", pretrain, inputs, {"train": pretrain.data}, recipe, row)
        roles = {"train": finetune.data} | ({"validation": finetune.validation} if finetune.validation else {})
        second = self._add("finetune", finetune, {"encoder": first}, roles, recipe, row)
        third = self._add("evaluate", evaluate, {"recognizer": second}, evaluate.subsets, recipe, row)
        self.plan.cells.append(Cell(name, number, seed, first, second, third))

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
        return self._add("pretrain", config, {}, {"train": config.data}, made, f"teacher of {row}")

    def _add(
        self, stage: str, config: StageConfig, inputs: dict[str, str], data: dict[str, Data], recipe: Recipe, row: str
    ) -> str:
        roots = {
            role: tuple(resolve_root(root, recipe.rendered, self.store) for root in value.roots) for role, value in data.items()
        }
        expected = sum(value.expected_images or 0 for role, value in data.items() if role != "validation") or None
        name = run_id(stage, config, inputs, roots)
        run = self.plan.runs.setdefault(name, PlannedRun(name, stage, config, inputs, roots, expected))
        run.rows.append(row)
        return name


def make_plan(
    files: Iterable[Path], scale: str, store: Store, *, precision: str, overrides: Tree, seeds: list[int] | None
) -> Plan:
    """The graph of runs of some experiment files. precision: what `auto` means here. Raises UserError."""
    plan = Plan(scale, {}, overrides)
    planner = Planner(plan, store, precision)
    for path in files:
        experiment = read_experiment(path)
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
