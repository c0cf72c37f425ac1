"""Experiment files -> a plan: pure, deduplicated (YAML by `schema.py`, settings by `recipe.py`, data by `roots.py`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.config import Evaluate, Finetune, Pretrain, StageConfig
from core.runtime.errors import UserError
from experiments.planning.data_roots import resolve_root
from experiments.planning.plan import Cell, Plan, PlannedRun, filters_of, run_id
from experiments.planning.recipe import (
    defines,
    is_name,
    method_delta,
    missing_charset,
    read_recipe,
    read_stage,
    recipe_layers,
    row_layers,
)
from experiments.planning.registry import expand
from experiments.planning.schema import (
    Experiment,
    Layer,
    Recipe,
    Tree,
    delta,
    experiment_files,
    read_experiment,
    source_of,
)
from results.store import Store

SCRATCH, TEACHER = (
    "scratch",
    "teacher",
)  # given encoders that are no files: weights drawn anew, the teacher's


class Planner:
    """Adds the cells of experiments to a plan."""

    def __init__(
        self, plan: Plan, store: Store, precision: Callable[[], str], several: bool
    ) -> None:
        """precision: what `auto` means here. several: experiments, so that rows are told by their experiment too."""
        self.plan, self.store, self.precision, self.several = plan, store, precision, several

    def add(
        self, path: Path, experiment: Experiment, overrides: Tree, seeds: Iterable[int]
    ) -> None:
        """Every variant of an experiment at every seed."""
        below = recipe_layers(path, experiment, self.plan.scale, overrides)
        recipe = read_recipe(below)
        self.plan.about, self.plan.stand_ins = recipe.about, recipe.stand_ins
        seeds = list(seeds)
        for number, variant in enumerate(experiment.variants):
            own = row_layers(path, variant, below)
            idle = [key for key in overrides if any(defines(layer, key) for layer in own)]
            self.plan.notes += [
                f"--set {key} does not reach row {variant.name!r}, which is defined by it"
                for key in idle
            ]
            made = read_recipe([*below, *own])
            for seed in seeds:
                row = f"{variant.name}, seed {seed}" if len(seeds) > 1 else variant.name
                row = f"{path.stem}: {row}" if self.several else row
                self._add_cell(path.stem, number, seed, made, below, own, row)

    def _add_cell(
        self,
        name: str,
        number: int,
        seed: int,
        recipe: Recipe,
        below: list[Layer],
        own: list[Layer],
        row: str,
    ) -> None:
        layers = [*below, *own]
        pretrain, finetune, evaluate = (
            read_stage(stage, recipe, self._precision(recipe), seed, layers)
            for stage in ("pretrain", "finetune", "evaluate")
        )
        trainings, teacher = [], ""
        if recipe.given.recognizer is not None:
            recognizer = f"file:{expand(recipe.given.recognizer)}"
        else:
            encoder = (
                {"encoder": f"file:{expand(recipe.given.encoder)}"} if recipe.given.encoder else {}
            )
            if recipe.given.encoder is None:
                teacher = (
                    self._teacher(recipe, seed, below, own, row) if pretrain.needs_teacher else ""
                )
                encoder = {
                    "encoder": self._add(
                        "pretrain", pretrain, {"teacher": teacher} if teacher else {}, recipe, row
                    )
                }
                trainings.append(encoder["encoder"])
            elif recipe.given.encoder == TEACHER:
                teacher = self._teacher(recipe, seed, below, own, row)
                encoder = {"encoder": teacher}
            elif recipe.given.encoder == SCRATCH:
                encoder = {}
            elif is_name(recipe.given.encoder):
                source = source_of(layers, ["given", "encoder"])
                raise UserError(
                    f"{source}: given.encoder: {recipe.given.encoder}: neither scratch, teacher nor a file"
                )
            recognizer = self._add("finetune", finetune, encoder, recipe, row)
            trainings.append(recognizer)
        last = self._add("evaluate", evaluate, {"recognizer": recognizer}, recipe, row)
        given = recipe.given.encoder if recipe.given.encoder not in (None, SCRATCH, TEACHER) else ""
        seen = (
            recipe.teacher.images
            if teacher.startswith("file:") and not _other_file(layers)
            else None
        )
        self.plan.cells.append(
            Cell(name, number, seed, tuple(trainings), last, teacher, seen, given or "")
        )

    def _precision(self, recipe: Recipe) -> str:
        return self.precision() if recipe.precision == "auto" else recipe.precision

    def _teacher(
        self, recipe: Recipe, seed: int, below: list[Layer], own: list[Layer], row: str
    ) -> str:
        """The teacher's run, or its file. What a row says of its method, pre-training, length or position table
        does not reach it, so that rows share one."""
        if recipe.teacher.file is not None:
            return f"file:{expand(recipe.teacher.file)}"
        if recipe.teacher.method is None:
            raise UserError(
                f"{row}: teacher: this row needs one; give teacher.file or teacher.method"
            )
        trained = [
            name for name, changes in recipe.methods.items() if "given.encoder" not in changes
        ]
        if recipe.teacher.method not in trained:
            place = f"{source_of([*below, *own], ['teacher', 'method'])}: teacher.method: {recipe.teacher.method}"
            raise UserError(
                f"{place}: no method of the recipe that trains an encoder; choose from {', '.join(trained)}"
            )
        source, changes = own[-1].source, own[-1].tree
        shared = {key: value for key, value in changes.items() if _reaches_teacher(key)}
        method = method_delta(recipe.teacher.method, recipe, source)
        layers = [*below, replace(own[-1], tree=shared), delta(f"teacher of {source}", method)]
        made = read_recipe(layers)
        config = read_stage("pretrain", made, self._precision(made), seed, layers)
        if config.needs_teacher:
            raise UserError(
                f"{row}: teacher.method {recipe.teacher.method}: it needs a teacher itself; choose MIM, or a file"
            )
        return self._add("pretrain", config, {}, made, f"teacher of {row}")

    def _check_tables(self, config: StageConfig, inputs: dict[str, str], row: str) -> None:
        """Raise UserError if a run takes over the weights of a planned one that has another position table."""
        if isinstance(config, Evaluate):
            return
        for role, name in inputs.items():
            if name not in self.plan.runs or _own_table(role, config):
                continue
            other = self.plan.runs[name].config
            assert not isinstance(other, Evaluate)
            own, theirs = config.encoder.positions, other.encoder.positions
            if own != theirs:
                told = f"is {own}, but the teacher, whose weights it begins with, has {theirs}; set one for both with --set"
                raise UserError(f"{row}: encoder.positions {told}")

    def _check_files(self, config: StageConfig, inputs: dict[str, str]) -> None:
        """Raise UserError if a checkpoint or filter list that is there is not what it is taken for."""
        files = {
            role: Path(name.removeprefix("file:"))
            for role, name in inputs.items()
            if name.startswith("file:")
        }
        for role, path in files.items():
            if not isinstance(config, Evaluate) and path.is_file():
                from core.checkpoints.released import (
                    check_encoder,
                )  # needs torch, which most plans do without

                check_encoder(path, config.encoder, _own_table(role, config))
        filters = [Path(expand(path)) for paths in filters_of(config).values() for path in paths]
        if there := [str(path) for path in filters if path.is_file()]:
            from core.data.word_images import read_filters

            read_filters(there)

    def _add(
        self, stage: str, config: StageConfig, inputs: dict[str, str], recipe: Recipe, row: str
    ) -> str:
        roots = {
            role: tuple(found for root in names for found in resolve_root(root, recipe, self.store))
            for role, names in _roles(config).items()
        }
        self._check_tables(config, inputs, row)
        self._check_files(config, inputs)
        name = run_id(stage, config, inputs, roots)
        if name not in self.plan.runs:
            self.plan.runs[name] = PlannedRun(
                name, stage, config, inputs, roots, missing_charset(recipe, config)
            )
            notes = [root.note for found in roots.values() for root in found if root.note]
            self.plan.notes += [note for note in notes if note not in self.plan.notes]
        self.plan.runs[name].rows.append(row)
        return name


def _other_file(layers: Iterable[Layer]) -> bool:
    """Whether a layer names another teacher's file and not how many images that one saw."""
    return any(
        "teacher.file" in layer.tree and "teacher.images" not in layer.tree
        for layer in layers
        if layer.dotted
    )


def _own_table(role: str, config: StageConfig) -> bool:
    """Whether an input keeps its own position table: a teacher does whose weights are not trained on."""
    return role == "teacher" and isinstance(config, Pretrain) and config.start != TEACHER


def _reaches_teacher(key: str) -> bool:
    return key.partition(".")[0] not in ("pretrain", "length") and key != "encoder.positions"


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


def _common_scale(experiments: Sequence[Experiment]) -> str:
    """The scale that experiments are made for; the default one if they differ. Raises UserError if none is made for that."""
    scales = {experiment.scale for experiment in experiments}
    default = Experiment.model_fields["scale"].default
    if len(scales) > 1 and default not in scales:
        raise UserError(
            f"these files are made for different scales ({', '.join(sorted(scales))}); choose one with --scale"
        )
    return default if len(scales) > 1 else scales.pop()


def make_plan(
    files: Iterable[Path],
    scale: str | None,
    store: Store,
    *,
    precision: Callable[[], str],
    overrides: Tree,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] | None,
) -> Plan:
    """The graph of runs of some experiment files. scale: None is their own, or if these differ the default one, for those made
    for it. seeds: instead of the files' own, for all or by experiment. precision: finds out what `auto` means here.

    Raises UserError."""
    experiments = [(path, read_experiment(path)) for path in experiment_files(files)]
    common = scale or _common_scale([experiment for _, experiment in experiments])
    fitting = [
        (path, experiment)
        for path, experiment in experiments
        if scale or experiment.scale == common
    ]
    plan = plan_experiments(
        fitting, common, store, precision=precision, overrides=overrides, seeds=seeds
    )
    for path, experiment in experiments if scale is None else []:
        if experiment.scale != common:
            why = f"it is made for scale {experiment.scale}; give it alone, or choose a --scale for all"
            plan.notes.append(f"{path.stem} was left out: {why}")
    return plan


def plan_experiments(
    experiments: Sequence[tuple[Path, Experiment]],
    scale: str,
    store: Store,
    *,
    precision: Callable[[], str],
    overrides: Tree,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] | None,
) -> Plan:
    """The graph of runs of experiments, which may have been read elsewhere. Raises UserError."""
    plan = Plan(scale, {}, overrides)
    planner = Planner(plan, store, precision, several=len(experiments) > 1)
    for path, experiment in experiments:
        if path.stem in plan.experiments:
            raise UserError(
                f"{path}: another file named {path.stem} is given too; tables would mix, so rename one"
            )
        plan.experiments[path.stem] = experiment
        chosen = seeds.get(path.stem) if isinstance(seeds, Mapping) else seeds
        planner.add(path, experiment, overrides, chosen or experiment.seeds)
    return plan
