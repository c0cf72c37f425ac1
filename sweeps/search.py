"""A sweep at a scale: its base row, its space in numbers, and what a trial computes. A trial is an experiment of one row."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from core.config import Finetune
from core.errors import UserError
from experiments.plan import Plan, PlannedRun
from experiments.planner import plan_experiments
from experiments.recipe import read_recipe, recipe_layers, row_layers
from experiments.roots import Root
from experiments.schema import EXAMPLE as EXPERIMENT
from experiments.schema import Experiment, Recipe, Tree, Variant, read_experiment
from results.provenance import REPOSITORY
from results.store import Store
from sweeps.schema import TESTS, Grid, Parameter, Plain, Sweep, as_list, read_sweep

Values = dict[str, Plain]  # of a trial, by dotted key, as Optuna knows them


@dataclass(frozen=True)
class Search:
    """A sweep, resolved. `space`: ranges in absolute numbers. `id` tells it from others: what it searches, from where, how."""

    path: Path
    sweep: Sweep
    experiment: Experiment
    variant: Variant
    scale: str
    overrides: Tree
    precision: str  # what `auto` means
    space: dict[str, Parameter]
    first: Values | None  # the base row's own values, where the space has them
    id: str

    @property
    def name(self) -> str:
        return self.path.stem

    def settings(self, values: Mapping[str, Plain]) -> Tree:
        """A trial's values as they are set."""
        return {key: self.space[key].value(value) for key, value in values.items()}

    def trial(self, name: str, values: Mapping[str, Plain], **changes: Any) -> Variant:
        """The row that a trial is."""
        settings = self.settings(values)
        below = {key: value for key, value in self.variant.set.items() if key not in settings | self.sweep.set}
        return self.variant.model_copy(update={"name": name, "set": below | settings, "reported": {}, "against": ()} | changes)

    def plan(self, name: str, values: Mapping[str, Plain], store: Store) -> Plan:
        """The runs of a trial. Raises UserError for values that no run can have."""
        alone = self.alone(self.trial(name, values))
        return plan_experiments(
            [(self.path, alone)], self.scale, store, precision=lambda: self.precision, overrides=self.overrides, seeds=None
        )

    def alone(self, *rows: Variant) -> Experiment:
        """The experiment of these rows, with the sweep's settings."""
        settings = self.experiment.set | self.sweep.set
        update = {"variants": rows, "seeds": self.sweep.seeds, "title": self.sweep.title, "table": None, "set": settings}
        return self.experiment.model_copy(update=update)

    def suggest(self, trial: optuna.Trial) -> Values:
        """Draw a trial's values, those first that others depend on."""
        drawn: Values = {}
        for key, parameter in self.space.items():
            if active(parameter, drawn):
                drawn[key] = _suggest(trial, key, parameter)
        return drawn


def _suggest(trial: optuna.Trial, key: str, parameter: Parameter) -> Plain:
    if parameter.real is not None:
        return trial.suggest_float(key, *parameter.real, log=parameter.log, step=parameter.step)
    if parameter.whole is not None:
        return trial.suggest_int(key, *parameter.whole, log=parameter.log, step=int(parameter.step or 1))
    return trial.suggest_categorical(key, parameter.choices())


def active(parameter: Parameter, drawn: Mapping[str, Plain]) -> bool:
    """Whether a parameter is searched beside the values drawn before it."""
    return all(other in drawn and drawn[other] in as_list(wanted) for other, wanted in parameter.when.items())


def training_runs(plan: Plan) -> list[PlannedRun]:
    """A trial's runs, inputs first: it reads no test."""
    return [run for run in plan.runs.values() if run.stage != "evaluate"]


def recognizers(plan: Plan) -> dict[int, str]:
    """Seed -> the fine-tuning run whose validation counts."""
    return {cell.seed: cell.trainings[-1] for cell in plan.cells}


def make_search(
    path: Path, scale: str | None, store: Store, *, precision: Callable[[], str], overrides: Tree, seeds: Sequence[int] | None
) -> Search:
    """A sweep file at a scale, checked against its base. Raises UserError."""
    sweep = read_sweep(path)
    if seeds:
        sweep = sweep.model_copy(update={"seeds": tuple(seeds)})
    if both := sorted(sweep.space.keys() & overrides.keys()):
        raise UserError(f"--set {both[0]}: the sweep searches this value; take it out of space in {path}, or leave out --set")
    experiment, variant = _base(path, sweep)
    scale = scale or sweep.scale or experiment.scale
    known: list[str] = []

    def once() -> str:
        known[:] = known or [precision()]
        return known[0]

    search = Search(path, sweep, experiment, variant, scale, overrides, "fp32", dict(sweep.space), None, "")
    base = search.alone(search.trial("base", {}))
    plan = plan_experiments([(path, base)], scale, store, precision=once, overrides=overrides, seeds=None)
    below = recipe_layers(path, base, scale, overrides)
    recipe = read_recipe([*below, *row_layers(path, base.variants[0], below)])
    search = replace(search, precision=once() if known else "fp32")
    _check_objective(path, plan)
    space: dict[str, Parameter] = {}
    first: Values = {}
    for key, parameter in sweep.space.items():
        own = own_value(plan, recipe, key)
        space[key] = _absolute(path, key, parameter, own)
        if active(parameter, first) and (value := _inside(space[key], own)) is not None:
            first[key] = value[0]
    whole = all(key in first or not active(parameter, first) for key, parameter in space.items())
    wanted = sweep.recipe_first and not isinstance(sweep.sampler, Grid)
    return replace(search, space=space, first=first if whole and wanted else None, id=_identity(search, space, plan))


def _base(path: Path, sweep: Sweep) -> tuple[Experiment, Variant]:
    """The row that trials start from."""
    places = [Path(sweep.experiment), path.parent / sweep.experiment, REPOSITORY / sweep.experiment]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{path}: experiment: {sweep.experiment}: no such file; name one like {EXPERIMENT}")
    experiment = read_experiment(found)
    names = [variant.name for variant in experiment.variants]
    name = sweep.variant or (names[0] if len(names) == 1 else None)
    if name not in names:
        problem = f"{name}: {found} has no row of that name" if name else f"missing; {found} has several rows"
        raise UserError(f"{path}: variant: {problem}; choose from {', '.join(names)}")
    return experiment, experiment.variants[names.index(name)]


def _check_objective(path: Path, plan: Plan) -> None:
    """Raise UserError unless every trial is validated, on images that are no test's."""
    for cell in plan.cells:
        config = plan.runs[cell.trainings[-1]].config if cell.trainings else None
        if not isinstance(config, Finetune):
            raise UserError(f"{path}: the base row trains nothing (given.recognizer); choose one that is fine-tuned")
        validation = plan.runs[cell.trainings[-1]].data.get("validation")
        if validation is None:
            advice = "name one with --set finetune.validation.roots=[...], which must be no test set"
            raise UserError(f"{path}: scale {plan.scale} has no validation set; {advice}")
        for subset, roots in plan.runs[cell.evaluate].data.items():
            if any(_same(one, other) for one in validation for other in roots):
                raise UserError(f"{path}: finetune.validation: this is the test set {subset}: it {TESTS}")


def _same(one: Root, other: Root) -> bool:
    return one.name == other.name or one.path == other.path or one.fingerprint == other.fingerprint


def own_value(plan: Plan, recipe: Recipe, key: str) -> Any:
    """The base row's value at a dotted key; None where it has none."""
    stage, *path = key.split(".")
    value: Any = recipe.model_dump()
    for run in plan.runs.values():
        if run.stage == stage and run.id in plan.cells[0].trainings:
            value = {stage: run.config.model_dump()}
    for part in (stage, *path):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _absolute(path: Path, key: str, parameter: Parameter, own: Any) -> Parameter:
    """A range as numbers of its own."""
    if not parameter.relative or parameter.real is None:
        return parameter
    if not isinstance(own, int | float) or isinstance(own, bool):
        raise UserError(f"{path}: space.{key}: relative: the base row has no number there; give the range itself")
    low, high = (float(f"{end * own:.6g}") for end in parameter.real)
    return parameter.model_copy(update={"real": (low, high), "relative": False})


def _inside(parameter: Parameter, own: Any) -> tuple[Plain] | None:
    """A base row's value as Optuna knows it, where the space has it."""
    if parameter.categorical is not None:
        found = [choice for choice in parameter.choices() if _fits(own, parameter.value(choice))]
        return (found[0],) if found else None
    low, high = parameter.real or parameter.whole or (0, 0)
    if not isinstance(own, int | float) or isinstance(own, bool) or not low <= own <= high:
        return None
    if parameter.step and abs((own - low) / parameter.step - round((own - low) / parameter.step)) > 1e-9:
        return None
    return (float(own) if parameter.real is not None else int(own),)


def _fits(own: Any, choice: Any) -> bool:
    """Whether a resolved value is what a choice sets: a section may set a part."""
    if isinstance(choice, dict) and isinstance(own, dict):
        return all(_fits(own.get(key), value) for key, value in choice.items())
    return bool(own == choice)


def _identity(search: Search, space: Mapping[str, Parameter], plan: Plan) -> str:
    """NAME.SCALE-HASH. The number of trials and the budget do not enter: more of both go on with the same search."""
    sweep = search.sweep
    told = {"objective", "direction", "sampler", "pruner", "recipe_first"}
    how = sweep.model_dump(mode="json", include=told, exclude_defaults=True)  # so a new option leaves ids as they were
    dimensions = {key: one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for key, one in space.items()}
    base = sorted(run.id for run in training_runs(plan))
    whole = json.dumps([how, dimensions, base], sort_keys=True)
    return f"{search.name}.{search.scale}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def edges(search: Search, store: Store) -> list[str]:
    """What is wrong at the ends of the space, one line each; trials there fail, and others take their place.

    Raises UserError where every end of a parameter is wrong."""
    notes = []
    for key, parameter in search.space.items():
        ends = list(parameter.real or parameter.whole or parameter.choices())
        wrong: list[str] = []
        for end in ends:
            values = (search.first or {}) | {key: end}
            for other, wanted in parameter.when.items():
                values[other] = as_list(wanted)[0]
            try:
                search.plan(f"{key}={end}", values, store)
            except UserError as error:
                wrong.append(f"{key}={end}: {error}")
        if len(wrong) == len(ends):
            raise UserError(f"{search.path}: space.{key}: no end of it can be run: {wrong[0]}")
        notes += wrong
    return notes


def missing(plan: Plan) -> list[str]:
    """What a trial needs and is not here."""
    return list(dict.fromkeys(text for run in training_runs(plan) for text in run.missing()))
