"""A sweep at one scale, with its base row and its space in absolute numbers.

A trial is an experiment with one row: the base row with the sweep's settings and the trial's
values. `make_search.py` builds a `Search` from a sweep file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError

from core.runtime.errors import UserError
from experiments.planning.diagnostics import Tree
from experiments.planning.plan import Plan, PlannedRun
from experiments.planning.planner import plan_experiments
from experiments.planning.schema import Experiment, Variant
from results.store import Store
from sweeps.engine.parameter import Parameter, Scalar
from sweeps.engine.schema import Sweep, keys_overlap
from sweeps.engine.space import TrialValues, is_active


@dataclass(frozen=True)
class Search:
    """A sweep, resolved at one scale.

    path: the sweep file.
    sweep: its content.
    experiment, variant: the base row.
    scale: the scale profile.
    overrides: settings of the command line, dotted key -> value.
    precision: what `auto` means on this device.
    space: dotted key -> parameter, with ranges in absolute numbers.
    base_values: the base row's values, for the first trial; None if the space lacks one of them or
        if the sweep does not start with them.
    id: NAME.SCALE-HASH; the hash covers the space, the sampler, the pruner and the base row's runs.
    notes: sentences for the user, e.g. on parts of the space that were left out.
    """

    path: Path
    sweep: Sweep
    experiment: Experiment
    variant: Variant
    scale: str
    overrides: Tree
    precision: str
    space: dict[str, Parameter]
    base_values: TrialValues | None
    id: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem

    def as_json(self) -> dict[str, Any]:
        """The whole search, for `sweep.json`; the inverse of `from_json`."""
        return {
            "id": self.id,
            "scale": self.scale,
            "overrides": self.overrides,
            "precision": self.precision,
            "first": self.base_values,
            "notes": self.notes,
            "file": str(self.path),
            "sweep": self.sweep.model_dump(mode="json", by_alias=True),
            "experiment": self.experiment.model_dump(mode="json", by_alias=True),
            "variant": self.variant.model_dump(mode="json", by_alias=True),
            "space": {
                key: parameter.model_dump(mode="json", by_alias=True)
                for key, parameter in self.space.items()
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Search":
        """The search that `as_json` described. Raises UserError for other content."""
        try:
            return cls(
                path=Path(content["file"]),
                sweep=Sweep.model_validate(content["sweep"]),
                experiment=Experiment.model_validate(content["experiment"]),
                variant=Variant.model_validate(content["variant"]),
                scale=content["scale"],
                overrides=content["overrides"],
                precision=content["precision"],
                space={
                    key: Parameter.model_validate(parameter)
                    for key, parameter in content["space"].items()
                },
                base_values=content["first"],
                id=content["id"],
                notes=tuple(content["notes"]),
            )
        except (KeyError, TypeError, ValidationError) as error:
            raise UserError(
                f"sweep.json of {content.get('id', 'a sweep')}: written by another version; "
                "run the sweep again"
            ) from error

    def settings(self, values: Mapping[str, Scalar]) -> Tree:
        """A trial's values as settings: named choices are replaced by their values."""
        return {key: self.space[key].value(value) for key, value in values.items()}

    def row(self, name: str, values: Mapping[str, Scalar]) -> Variant:
        """A trial as a row: base row, then the sweep's `set`, then the trial's values.

        A setting of the command line replaces the sweep's setting of the same key.
        """
        shared = {
            key: value
            for key, value in self.sweep.set.items()
            if not any(keys_overlap(key, typed) for typed in self.overrides)
        }
        settings = dict(self.variant.set)
        for layer in (shared, self.settings(values)):
            settings = _without_covered(settings, layer) | layer
        changes = {"name": name, "set": settings, "reported": {}, "compare_with": ()}
        return self.variant.model_copy(update=changes)

    def experiment_with(self, *rows: Variant) -> Experiment:
        """The base experiment with these rows only."""
        changes = {
            "variants": rows,
            "seeds": self.sweep.seeds,
            "title": self.sweep.title,
            "table": None,
        }
        return self.experiment.model_copy(update=changes)

    def plan(self, name: str, values: Mapping[str, Scalar], store: Store) -> Plan:
        """The runs of a trial. Raises UserError for values that no run can have."""
        experiment = self.experiment_with(self.row(name, values))
        return plan_experiments(
            [(self.path, experiment)],
            self.scale,
            store,
            precision=lambda: self.precision,
            overrides=self.overrides,
            seeds=None,
        )

    def suggest(self, trial: optuna.Trial) -> TrialValues:
        """Ask Optuna for a trial's values; parameters whose conditions are not met have none."""
        values: TrialValues = {}
        for key, parameter in self.space.items():
            if is_active(parameter, values):
                values[key] = _suggest(trial, key, parameter)
        return values


def _without_covered(settings: Tree, layer: Tree) -> Tree:
    """The settings without those at or below a key of the layer."""
    return {
        key: value
        for key, value in settings.items()
        if not any(f"{key}.".startswith(f"{upper}.") for upper in layer)
    }


def _suggest(trial: optuna.Trial, key: str, parameter: Parameter) -> Scalar:
    if parameter.float_range is not None:
        low, high = parameter.float_range
        return trial.suggest_float(key, low, high, log=parameter.log, step=parameter.step)
    if parameter.int_range is not None:
        first, last = parameter.int_range
        step = int(parameter.step or 1)
        return trial.suggest_int(key, first, last, log=parameter.log, step=step)
    return trial.suggest_categorical(key, parameter.choices())


def training_runs(plan: Plan) -> list[PlannedRun]:
    """A trial's runs, inputs first. A trial is never evaluated on test sets."""
    return [run for run in plan.runs.values() if run.stage != "evaluate"]


def recognizer_runs(plan: Plan) -> dict[int, str]:
    """Seed -> id of the fine-tuning run whose validation accuracy counts."""
    return {cell.seed: cell.trainings[-1] for cell in plan.cells}


def unmet_requirements(plan: Plan) -> list[str]:
    """One sentence for each thing that a trial needs and that is absent."""
    runs = training_runs(plan)
    return list(dict.fromkeys(text for run in runs for text in run.unmet_requirements()))
