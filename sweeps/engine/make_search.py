"""Builds a `Search` from a sweep file, and checks that its validation sets are no test sets."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from core.config import Finetune
from core.runtime.errors import UserError
from core.runtime.former_keys import current_key, former_key, with_former_keys
from experiments.planning.data_roots import Root, resolve_root
from experiments.planning.diagnostics import Tree
from experiments.planning.plan import Plan, PlannedRun
from experiments.planning.planner import plan_experiments
from experiments.planning.recipe import read_recipe, recipe_layers, row_layers
from experiments.planning.schema import EXAMPLE, Experiment, Recipe, Variant, read_experiment
from experiments.planning.substitution import SYNTHETIC_PREFIXES
from results.provenance import REPOSITORY
from results.store import Store
from sweeps.engine.parameter import Parameter
from sweeps.engine.schema import (
    TEST_SET_ADVICE,
    GridConfig,
    Sweep,
    check_grid,
    keys_overlap,
    read_sweep,
)
from sweeps.engine.search import Search, training_runs
from sweeps.engine.space import (
    TrialValues,
    base_value,
    find_in_space,
    is_active,
    make_absolute,
    restrict_to_valid,
)

# Keys that no sweep may search: the data of training, validation and tests.
NOT_SEARCHABLE = (
    "finetune.validation",
    "finetune.data",
    "pretrain.data",
    "evaluate",
    "init.recognizer",
    "benchmarks",
    "substitute_synthetic",
    "synthetic",
    "synthetic_chinese",
)


def make_search(
    path: Path,
    scale: str | None,
    store: Store,
    *,
    precision: Callable[[], str],
    overrides: Tree,
    seeds: Sequence[int] | None,
) -> Search:
    """Read a sweep file, resolve its space at a scale, and check it against its base row.

    path: the sweep file.
    scale: the scale profile; None: that of the sweep file or of its experiment.
    store: the results folder.
    precision: called if the recipe's precision is `auto`.
    overrides: settings of the command line, dotted key -> value.
    seeds: seeds of the command line, instead of the file's.

    Raises UserError.
    """
    sweep = read_sweep(path)
    if seeds:
        sweep = sweep.model_copy(update={"seeds": tuple(seeds)})
    overrides = {current_key(key): value for key, value in overrides.items()}
    _check_keys(path, sweep, overrides)
    experiment, variant = _find_base_row(path, sweep)
    scale = scale or sweep.scale or experiment.scale
    search = Search(
        path=path,
        sweep=sweep,
        experiment=experiment,
        variant=variant,
        scale=scale,
        overrides=overrides,
        precision="fp32",
        space=dict(sweep.space),
        base_values=None,
        id="",
    )
    search, plan, recipe = _plan_base_row(search, store, precision)
    _check_validation_sets(path, plan, recipe, store)
    search = _resolve_space(search, plan, recipe, store)
    return replace(search, id=_search_id(search, plan))


def _check_keys(path: Path, sweep: Sweep, overrides: Tree) -> None:
    """Raise UserError for a searched key that is also typed, or that no sweep may search."""
    for key in sweep.space:
        if typed := [name for name in overrides if keys_overlap(key, name)]:
            raise UserError(
                f"--set {typed[0]}: the sweep searches {key}; remove it from space in {path}, "
                "or leave out --set"
            )
        if any(keys_overlap(key, name) for name in NOT_SEARCHABLE):
            raise UserError(
                f"{path}: space.{key}: data of training, validation or tests must not be chosen by "
                "accuracy; use an experiment with a row for each"
            )


def _find_base_row(path: Path, sweep: Sweep) -> tuple[Experiment, Variant]:
    """The experiment and the row that trials start from."""
    name = sweep.experiment
    candidates = [Path(name), path.parent / name, REPOSITORY / name]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(f"{path}: experiment: {name}: no such file; name one like {EXAMPLE}")
    experiment = read_experiment(file)
    rows = {variant.name: variant for variant in experiment.variants}
    row = sweep.variant
    if row is None and len(rows) == 1:
        row = next(iter(rows))
    if row is None or row not in rows:
        problem = f"{row}: {file} has no such row" if row else f"required; {file} has several rows"
        raise UserError(f"{path}: variant: {problem}; choose from {', '.join(rows)}")
    return experiment, rows[row]


def _plan_base_row(
    search: Search, store: Store, precision: Callable[[], str]
) -> tuple[Search, Plan, Recipe]:
    """The search with its precision, and the base row's runs and recipe."""
    automatic = cache(precision)
    path = search.path
    base = search.experiment_with(search.row("base", {}))
    plan = plan_experiments(
        [(path, base)],
        search.scale,
        store,
        precision=automatic,
        overrides=search.overrides,
        seeds=None,
    )
    layers = recipe_layers(path, base, search.scale, search.overrides)
    recipe = read_recipe([*layers, *row_layers(path, base.variants[0], layers)])
    is_automatic = automatic.cache_info().currsize > 0
    return replace(search, precision=automatic() if is_automatic else "fp32"), plan, recipe


def _resolve_space(search: Search, plan: Plan, recipe: Recipe, store: Store) -> Search:
    """The search with its space in absolute numbers, its base values and its notes.

    plan, recipe: those of the base row.
    """
    path = search.path
    sweep = search.sweep
    space: dict[str, Parameter] = {}
    base_values: TrialValues = {}
    for key, parameter in sweep.space.items():
        base = base_value(plan, recipe, key)
        space[key] = make_absolute(path, key, parameter, base)
        value = find_in_space(space[key], base)
        if is_active(parameter, base_values) and value is not None:
            base_values[key] = value[0]
    wide = replace(search, space=space)

    def find_runs(name: str, values: TrialValues) -> list[str]:
        return _run_ids(wide.plan(name, values, store))

    valid, notes = restrict_to_valid(path, space, base_values, find_runs)
    search = replace(search, space=valid, notes=(*plan.notes, *notes))
    is_grid = isinstance(sweep.sampler, GridConfig)
    if is_grid:
        try:
            check_grid(valid, sweep.trials)
        except ValueError as error:
            raise UserError(f"{path}: {error} that can be run") from error
    if not sweep.recipe_first or is_grid:
        return search
    if _is_base_row(search, base_values, plan, store):
        return replace(search, base_values=base_values)
    note = "the base row's values are not in the space, so no trial is compared with them"
    return replace(search, notes=(*search.notes, note))


def _is_base_row(search: Search, values: TrialValues, plan: Plan, store: Store) -> bool:
    """Whether a trial with these values has the base row's runs."""
    for key, parameter in search.space.items():
        if key not in values and is_active(parameter, values):
            return False
    return _run_ids(search.plan("first", values, store)) == _run_ids(plan)


def _run_ids(plan: Plan) -> list[str]:
    return sorted(run.id for run in training_runs(plan))


def _check_validation_sets(path: Path, plan: Plan, recipe: Recipe, store: Store) -> None:
    """Raise UserError unless each seed is validated on images of no test and no training set."""
    names = {name for subsets in recipe.benchmarks.values() for name in subsets.values()}
    for cell in plan.cells:
        run = plan.runs[cell.trainings[-1]] if cell.trainings else None
        if run is None or not isinstance(run.config, Finetune):
            raise UserError(
                f"{path}: the base row trains nothing (init.recognizer); "
                "choose a row that is fine-tuned"
            )
        if "validation" not in run.data:
            raise UserError(
                f"{path}: scale {plan.scale} has no validation set; "
                "name one with --set finetune.validation.roots=[...], which must be no test set"
            )
        benchmarks = {name: resolve_root(name, recipe, store) for name in sorted(names)}
        tests = dict(plan.runs[cell.evaluate].data) | benchmarks
        for root in run.data["validation"]:
            _check_validation_root(path, root, run, tests.items())


def _check_validation_root(
    path: Path, root: Root, run: PlannedRun, tests: Iterable[tuple[str, Sequence[Root]]]
) -> None:
    """Raise UserError for a validation root that is a test set or a training set.

    path: the sweep file.
    root: the validation root.
    run: the fine-tuning run that it validates.
    tests: (name, roots) of each test set.
    """
    key = f"{path}: finetune.validation: {root.name}"
    same = [name for name, roots in tests if any(_is_same(root, test) for test in roots)]
    if name := next(iter(same), _synthetic_test(root)):
        raise UserError(f"{key} is the test set {name}: it {TEST_SET_ADVICE}")
    training = [data for role in ("train", "mixed") for data in run.data.get(role, ())]
    if any(_is_same(root, data) for data in training):
        raise UserError(
            f"{key} is trained on, so its accuracy does not measure generalization; "
            "name another set"
        )


def _synthetic_test(root: Root) -> str:
    """The name of a synthetic test subset, even if the row does not use it; else ""."""
    prefix, _, split = root.name.partition(":")
    is_synthetic = f"{prefix}:" in SYNTHETIC_PREFIXES.values()
    return split if is_synthetic and split not in ("train", "validation") else ""


def _is_same(first: Root, second: Root) -> bool:
    return (
        first.name == second.name
        or first.path == second.path
        or first.fingerprint == second.fingerprint
    )


def _search_id(search: Search, plan: Plan) -> str:
    """NAME.SCALE-HASH.

    The number of trials and the budget are no part of it: a search with more of them continues.
    Values that are defaults are no part of it, so a new option leaves ids as they are.
    """
    method = search.sweep.model_dump(
        mode="json",
        include={"objective", "direction", "sampler", "pruner", "recipe_first"},
        exclude_defaults=True,
    )
    space = {former_key(key): _former_fields(parameter) for key, parameter in search.space.items()}
    content = json.dumps([method, space, _run_ids(plan)], sort_keys=True)
    return f"{search.name}.{search.scale}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _former_fields(parameter: Parameter) -> Tree:
    """A parameter's fields with keys in the spelling of version 0.1, for the id."""
    fields = parameter.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if "when" in fields:
        fields["when"] = {former_key(key): value for key, value in fields["when"].items()}
    return {name: with_former_keys(value) for name, value in fields.items()}
