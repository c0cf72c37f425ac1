"""Writes the best trial of a sweep and its base row as an experiment file with new seeds."""

import json
import shlex
from pathlib import Path

from analysis.sweep_report.report import SweepReport
from core.runtime.files import write_text
from core.runtime.yaml import dump_yaml
from experiments.planning.diagnostics import Tree
from experiments.planning.planner import plan_experiments
from experiments.planning.schema import Experiment, Variant
from sweeps.engine.search import Search
from sweeps.engine.trials import Trials

NEW_SEEDS = 3  # seeds of the written experiment


def write_experiment(trials: Trials, report: SweepReport, out: Path) -> str:
    """Write the best trial and its base row as an experiment; returns the command that runs it.

    The seeds are new: neither row was chosen by them. Settings of the sweep's command line are
    written into the file if they give the same runs there. Otherwise the command has them.
    """
    search = trials.search
    experiment, typed = _with_typed_settings(trials, _best_experiment(search, report))
    options = [f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in typed.items()]
    command = " ".join(["python run.py", str(out), *options])
    first_seed = max(search.sweep.seeds) + 1
    seeds = tuple(range(first_seed, first_seed + NEW_SEEDS))
    content = experiment.model_copy(update={"seeds": seeds}).model_dump(
        mode="json", include={"title", "base", "scale", "seeds", "set"}, exclude_defaults=True
    )
    rows = [_row_content(row) for row in experiment.variants]
    status = report.status
    origin = f"trial {report.best.number} of {status.total}, the best by {status.objective}"
    head = [
        f"# Sweep {status.id}: {origin}.",
        f"#   {command}",
        f"# Cost: {NEW_SEEDS} seeds of each row. No row was chosen by these seeds.",
    ]
    text = dump_yaml(content | {"scale": search.scale, "variants": rows})
    write_text(out, "\n".join([*head, text]))
    return command


def _best_experiment(search: Search, report: SweepReport) -> Experiment:
    """The base row and the best trial; only the base row if the best trial has its values."""
    best = report.best
    base = search.row(search.variant.name, {})
    name = f"best of {search.name}"
    if base.name == name:
        name = f"{name} (sweep)"
    row = search.row(name, best.values).model_copy(update={"compare_with": base.name})
    is_base_row = search.base_values is not None and best.values == search.base_values
    experiment = search.experiment_with(*([base] if is_base_row else [base, row]))
    title = f"{search.sweep.title}, best of a sweep"
    return experiment.model_copy(update={"title": title, "scale": search.scale})


def _with_typed_settings(trials: Trials, experiment: Experiment) -> tuple[Experiment, Tree]:
    """The experiment with the settings of the command line, and those that it cannot contain."""
    typed = trials.search.overrides
    with_settings = experiment.model_copy(update={"set": experiment.set | typed})
    if _run_ids(trials, with_settings, {}) == _run_ids(trials, experiment, typed):
        return with_settings, {}
    return experiment, typed


def _run_ids(trials: Trials, experiment: Experiment, overrides: Tree) -> list[str]:
    """The runs of an experiment as it would be read from a file."""
    search = trials.search
    reread = Experiment.model_validate(experiment.model_dump())
    plan = plan_experiments(
        [(search.path, reread)],
        search.scale,
        trials.store,
        precision=lambda: search.precision,
        overrides=overrides,
        seeds=None,
    )
    return sorted(plan.runs)


def _row_content(row: Variant) -> Tree:
    return row.model_dump(
        mode="json", include={"name", "method", "set", "compare_with"}, exclude_defaults=True
    )
