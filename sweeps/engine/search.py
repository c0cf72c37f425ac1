"""A sweep at a scale: its base row, its space in numbers, and what a trial computes. A trial is an experiment of one row."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError

from core.config import Finetune, current_key
from core.runtime.errors import UserError
from experiments.planning.data_roots import Root, resolve_root
from experiments.planning.diagnostics import Tree
from experiments.planning.plan import Plan, PlannedRun
from experiments.planning.planner import plan_experiments
from experiments.planning.recipe import read_recipe, recipe_layers, row_layers
from experiments.planning.schema import EXAMPLE as EXPERIMENT
from experiments.planning.schema import Experiment, Recipe, Variant, read_experiment
from experiments.planning.substitution import SYNTHETIC_PREFIXES
from results.provenance import REPOSITORY
from results.store import Store
from sweeps.engine.parameter import Parameter, Plain
from sweeps.engine.schema import TESTS, Grid, Sweep, check_grid, nested, read_sweep
from sweeps.engine.space import Values, absolute, active, inside, own_value, within_reason

# What no trial may choose: data, and what reads them
NEVER = (
    *(
        "finetune.validation",
        "finetune.data",
        "pretrain.data",
        "evaluate",
        "init.recognizer",
        "benchmarks",
        "substitute_synthetic",
    ),
    *("synthetic", "synthetic_chinese"),
)


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
    notes: tuple[str, ...] = ()  # on parts of the space that were left out

    @property
    def name(self) -> str:
        return self.path.stem

    def describe(self) -> dict[str, Any]:
        """All of it, for the sweep's folder."""
        told = {
            name: getattr(self, name)
            for name in ("id", "scale", "overrides", "precision", "first", "notes")
        }
        models = {
            name: getattr(self, name).model_dump(mode="json", by_alias=True)
            for name in ("sweep", "experiment", "variant")
        }
        space = {key: one.model_dump(mode="json", by_alias=True) for key, one in self.space.items()}
        return told | {"file": str(self.path)} | models | {"space": space}

    @classmethod
    def restored(cls, content: Mapping[str, Any]) -> "Search":
        """The search that was described so. Raises UserError if it was not by this code."""
        try:
            return cls(
                path=Path(content["file"]),
                sweep=Sweep.model_validate(content["sweep"]),
                experiment=Experiment.model_validate(content["experiment"]),
                variant=Variant.model_validate(content["variant"]),
                space={key: Parameter.model_validate(one) for key, one in content["space"].items()},
                notes=tuple(content["notes"]),
                **{
                    name: content[name]
                    for name in ("id", "scale", "overrides", "precision", "first")
                },
            )
        except (KeyError, TypeError, ValidationError) as error:
            raise UserError(
                f"sweep.json of {content.get('id', 'a sweep')}: not of this code; run the sweep's command"
            ) from error

    def settings(self, values: Mapping[str, Plain]) -> Tree:
        """A trial's values as they are set."""
        return {key: self.space[key].value(value) for key, value in values.items()}

    def trial(self, name: str, values: Mapping[str, Plain]) -> Variant:
        """The row that a trial is: the base row's settings, the sweep's on top of them, then the trial's values."""
        asked = {
            key: value
            for key, value in self.sweep.set.items()
            if not any(nested(key, typed) for typed in self.overrides)
        }
        below = dict(self.variant.set)
        for layer in (asked, self.settings(values)):
            covered = [
                key for key in below if any(f"{key}.".startswith(f"{own}.") for own in layer)
            ]
            below = {key: value for key, value in below.items() if key not in covered} | layer
        return self.variant.model_copy(
            update={"name": name, "set": below, "reported": {}, "compare_with": ()}
        )

    def plan(self, name: str, values: Mapping[str, Plain], store: Store) -> Plan:
        """The runs of a trial. Raises UserError for values that no run can have."""
        alone = self.alone(self.trial(name, values))
        return plan_experiments(
            [(self.path, alone)],
            self.scale,
            store,
            precision=lambda: self.precision,
            overrides=self.overrides,
            seeds=None,
        )

    def alone(self, *rows: Variant) -> Experiment:
        """The experiment of these rows."""
        update = {
            "variants": rows,
            "seeds": self.sweep.seeds,
            "title": self.sweep.title,
            "table": None,
        }
        return self.experiment.model_copy(update=update)

    def suggest(self, trial: optuna.Trial) -> Values:
        """DropoutSeeds a trial's values, those first that others depend on."""
        drawn: Values = {}
        for key, parameter in self.space.items():
            if active(parameter, drawn):
                drawn[key] = _suggest(trial, key, parameter)
        return drawn


def _suggest(trial: optuna.Trial, key: str, parameter: Parameter) -> Plain:
    if parameter.real is not None:
        return trial.suggest_float(key, *parameter.real, log=parameter.log, step=parameter.step)
    if parameter.whole is not None:
        return trial.suggest_int(
            key, *parameter.whole, log=parameter.log, step=int(parameter.step or 1)
        )
    return trial.suggest_categorical(key, parameter.choices())


def training_runs(plan: Plan) -> list[PlannedRun]:
    """A trial's runs, inputs first: it reads no test."""
    return [run for run in plan.runs.values() if run.stage != "evaluate"]


def recognizers(plan: Plan) -> dict[int, str]:
    """Seed -> the fine-tuning run whose validation counts."""
    return {cell.seed: cell.trainings[-1] for cell in plan.cells}


def make_search(
    path: Path,
    scale: str | None,
    store: Store,
    *,
    precision: Callable[[], str],
    overrides: Tree,
    seeds: Sequence[int] | None,
) -> Search:
    """A sweep file at a scale, checked against its base. Raises UserError."""
    sweep = read_sweep(path)
    overrides = {current_key(key): value for key, value in overrides.items()}
    if seeds:
        sweep = sweep.model_copy(update={"seeds": tuple(seeds)})
    for key in sweep.space:
        if typed := [other for other in overrides if nested(key, other)]:
            raise UserError(
                f"--set {typed[0]}: the sweep searches {key}; take that out of space in {path}, or leave out --set"
            )
        if any(nested(key, place) for place in NEVER):
            reason = "what trials are read on, or trained on, is not for choosing by accuracy"
            raise UserError(f"{path}: space.{key}: {reason}; use an experiment with a row for each")
    experiment, variant = _base(path, sweep)
    scale = scale or sweep.scale or experiment.scale
    known: list[str] = []

    def automatic() -> str:
        known[:] = known or [precision()]
        return known[0]

    search = Search(
        path, sweep, experiment, variant, scale, overrides, "fp32", dict(sweep.space), None, ""
    )
    base = search.alone(search.trial("base", {}))
    plan = plan_experiments(
        [(path, base)], scale, store, precision=automatic, overrides=overrides, seeds=None
    )
    below = recipe_layers(path, base, scale, overrides)
    recipe = read_recipe([*below, *row_layers(path, base.variants[0], below)])
    search = replace(search, precision=automatic() if known else "fp32")
    _check_objective(path, plan, recipe, store)
    space: dict[str, Parameter] = {}
    first: Values = {}
    for key, parameter in sweep.space.items():
        own = own_value(plan, recipe, key)
        space[key] = absolute(path, key, parameter, own)
        if active(parameter, first) and (value := inside(space[key], own)) is not None:
            first[key] = value[0]
    search = replace(search, space=space, first=first)
    space, notes = within_reason(
        path, space, first, lambda name, values: _ids(search.plan(name, values, store))
    )
    search = replace(search, space=space)
    if isinstance(sweep.sampler, Grid):
        try:
            check_grid(space, sweep.trials)
        except ValueError as error:
            raise UserError(f"{path}: {error} that can be run") from error
    if not sweep.recipe_first or isinstance(sweep.sampler, Grid):
        search = replace(search, first=None)
    elif not _is_base(search, first, plan, store):
        search = replace(search, first=None)
        notes.append(
            "the base row's own values are not in the space, so no trial is compared with them"
        )
    search = replace(search, notes=(*plan.notes, *notes))
    return replace(search, id=_identity(search, plan))


def _is_base(search: Search, first: Values, plan: Plan, store: Store) -> bool:
    """Whether a trial of these values is the base row."""
    if any(
        key not in first and active(parameter, first) for key, parameter in search.space.items()
    ):
        return False
    return _ids(search.plan("first", first, store)) == _ids(plan)


def _ids(plan: Plan) -> list[str]:
    return sorted(run.id for run in training_runs(plan))


def _base(path: Path, sweep: Sweep) -> tuple[Experiment, Variant]:
    """The row that trials start from."""
    places = [Path(sweep.experiment), path.parent / sweep.experiment, REPOSITORY / sweep.experiment]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"{path}: experiment: {sweep.experiment}: no such file; name one like {EXPERIMENT}"
        )
    experiment = read_experiment(found)
    names = [variant.name for variant in experiment.variants]
    name = sweep.variant or (names[0] if len(names) == 1 else None)
    if name not in names:
        problem = (
            f"{name}: {found} has no row of that name"
            if name
            else f"missing; {found} has several rows"
        )
        raise UserError(f"{path}: variant: {problem}; choose from {', '.join(names)}")
    return experiment, experiment.variants[names.index(name)]


def _check_objective(path: Path, plan: Plan, recipe: Recipe, store: Store) -> None:
    """Raise UserError unless every trial is validated, on images that are no test's and that it is not trained on."""
    named = {data for subsets in recipe.benchmarks.values() for data in subsets.values()}
    for cell in plan.cells:
        run = plan.runs[cell.trainings[-1]] if cell.trainings else None
        if run is None or not isinstance(run.config, Finetune):
            raise UserError(
                f"{path}: the base row trains nothing (init.recognizer); choose one that is fine-tuned"
            )
        if "validation" not in run.data:
            advice = (
                "name one with --set finetune.validation.roots=[...], which must be no test set"
            )
            raise UserError(f"{path}: scale {plan.scale} has no validation set; {advice}")
        tests = dict(plan.runs[cell.evaluate].data) | {
            name: resolve_root(name, recipe, store) for name in sorted(named)
        }
        for root in run.data["validation"]:
            same = (
                name for name, roots in tests.items() if any(_same(root, other) for other in roots)
            )
            if name := next(same, _synthetic_test(root)):
                raise UserError(
                    f"{path}: finetune.validation: {root.name} is the test set {name}: it {TESTS}"
                )
            if any(
                _same(root, other)
                for role in ("train", "mixed")
                for other in run.data.get(role, ())
            ):
                raise UserError(
                    f"{path}: finetune.validation: {root.name} is trained on, so it says nothing; name another set"
                )


def _synthetic_test(root: Root) -> str:
    """The name of a synthetic test subset, also of one that the row does not read."""
    prefix, _, split = root.name.partition(":")
    is_test = split not in ("train", "validation")
    return split if f"{prefix}:" in SYNTHETIC_PREFIXES.values() and is_test else ""


def _same(one: Root, other: Root) -> bool:
    return one.name == other.name or one.path == other.path or one.fingerprint == other.fingerprint


def _identity(search: Search, plan: Plan) -> str:
    """NAME.SCALE-HASH. The number of trials and the budget do not enter: more of both go on with the same search."""
    sweep = search.sweep
    told = {"objective", "direction", "sampler", "pruner", "recipe_first"}
    how = sweep.model_dump(
        mode="json", include=told, exclude_defaults=True
    )  # so a new option leaves ids as they were
    dimensions = {
        key: one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for key, one in search.space.items()
    }
    whole = json.dumps([how, dimensions, _ids(plan)], sort_keys=True)
    return f"{search.name}.{search.scale}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def missing(plan: Plan) -> list[str]:
    """What a trial needs and is not here."""
    return list(
        dict.fromkeys(text for run in training_runs(plan) for text in run.unmet_requirements())
    )
