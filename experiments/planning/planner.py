"""Planning: experiment files become a plan of runs, in which equal runs appear once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import ContrastivePretrain, Evaluate, Finetune, Pretrain, Probe, StageConfig
from core.runtime.errors import UserError
from experiments.planning.changes import changes_layer
from experiments.planning.data_roots import resolve_root, with_boxes
from experiments.planning.diagnostics import Layer, Tree, source_of
from experiments.planning.plan import FILE, TRAIN, Cell, Plan, PlannedRun, filters_of, run_id
from experiments.planning.recipe import (
    check_primary,
    defines,
    encoder_methods,
    is_name,
    method_layer,
    read_probe,
    read_recipe,
    read_stage,
    recipe_layers,
    row_layers,
)
from experiments.planning.registry import expand
from experiments.planning.schema import Experiment, Recipe, read_experiment
from experiments.planning.substitution import absent_charset
from results.store import Store

# Values of init.encoder that are no files
SCRATCH = "scratch"  # random weights
TEACHER = "teacher"  # the teacher's weights

ROW_STAGES = ("pretrain", "finetune", "evaluate")  # of every row; it has any number of probes
TRANSFER_SEEDS = 100_000  # fine-tuning number t of seed s has seed s + t * TRANSFER_SEEDS

Precision = Callable[[], str]
SeedChoice = Sequence[int] | Mapping[str, Sequence[int]] | None


@dataclass(frozen=True)
class _PlannedRow:
    """One row of an experiment at one seed, with its settings.

    experiment: the name of the experiment's file.
    number: the number of the row in the file.
    seed: the seed.
    transfer: the number of the fine-tuning of this seed's encoder, from 0.
    label: the row's name for people.
    recipe: the merged layers.
    below: the layers that all rows of the experiment share.
    own: the layers of the row: its method's changes, then its own.
    """

    experiment: str
    number: int
    seed: int
    transfer: int
    label: str
    recipe: Recipe
    below: list[Layer]
    own: list[Layer]

    @property
    def layers(self) -> list[Layer]:
        return [*self.below, *self.own]

    def seed_of(self, stage: str) -> int:
        """The seed of a stage: pre-training has the row's seed, each further transfer another."""
        return self.seed if stage == "pretrain" else self.seed + TRANSFER_SEEDS * self.transfer


class Planner:
    """Collects the runs and cells of experiments.

    scale: the scale profile.
    store: the results folder, for the paths of synthetic words.
    precision: returns the precision that `auto` means.
    name_experiments: put the experiment's name before the name of each row.
    """

    def __init__(
        self, scale: str, store: Store, precision: Precision, *, name_experiments: bool
    ) -> None:
        self.scale = scale
        self.store = store
        self.precision = precision
        self.name_experiments = name_experiments
        self.experiments: dict[str, Experiment] = {}
        self.primary: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.runs: dict[str, PlannedRun] = {}
        self.rows: dict[str, list[str]] = {}  # id of a run -> rows that need it
        self.cells: list[Cell] = []
        self.notes: list[str] = []
        self.description = ""
        self.substitute_synthetic = False

    def plan(self, overrides: Tree) -> Plan:
        """The plan of all experiments that were added. overrides: as they were typed."""
        return Plan(
            scale=self.scale,
            experiments=self.experiments,
            overrides=overrides,
            primary=self.primary,
            description=self.description,
            runs={
                name: replace(run, rows=tuple(self.rows[name])) for name, run in self.runs.items()
            },
            cells=tuple(self.cells),
            notes=tuple(self.notes),
            substitute_synthetic=self.substitute_synthetic,
            files=self.files,
        )

    def add(
        self, path: Path, experiment: Experiment, overrides: Tree, seeds: Sequence[int]
    ) -> None:
        """Add each row of an experiment at each seed. Raises UserError.

        path: the experiment's file.
        experiment: its content.
        overrides: settings of the command line.
        seeds: the seeds.
        """
        if path.stem in self.experiments:
            raise UserError(
                f"{path}: another file is named {path.stem} too, so their tables would mix; "
                "rename one"
            )
        below = recipe_layers(path, experiment, self.scale, overrides)
        shared = read_recipe(below)
        experiment = experiment.with_control(shared.control)
        self.experiments[path.stem] = experiment
        self.files[path.stem] = path
        self.primary[path.stem] = experiment.primary or shared.primary
        self.description = shared.description
        self.substitute_synthetic = shared.substitute_synthetic
        typed = changes_layer("", overrides).tree
        layers: list[list[Layer]] = []
        for variant in experiment.variants:
            own = row_layers(path, variant, below)
            self.notes += [
                f"--set {key} has no effect on row {variant.name!r}, which sets it"
                for key in typed
                if any(defines(layer, key) for layer in own)
            ]
            layers.append(own)
        recipes = [read_recipe([*below, *own]) for own in layers]
        source = str(path) if experiment.primary else source_of(below, ["primary"])
        check_primary(source, self.primary[path.stem], recipes)
        # Depth first: all rows of one seed, evaluations included, come before the next seed.
        for seed in seeds:
            for number, variant in enumerate(experiment.variants):
                for transfer in range(recipes[number].transfers):
                    self._add_row(
                        _PlannedRow(
                            experiment=path.stem,
                            number=number,
                            seed=seed,
                            transfer=transfer,
                            label=self._label(path.stem, variant.name, seed, transfer, len(seeds)),
                            recipe=recipes[number],
                            below=below,
                            own=layers[number],
                        )
                    )

    def _label(self, experiment: str, row: str, seed: int, transfer: int, seeds: int) -> str:
        """A row's name for people. seeds: the number of seeds of the experiment."""
        prefix = f"{experiment}: " if self.name_experiments else ""
        of_seed = f", seed {seed}" if seeds > 1 else ""
        of_transfer = f", transfer {transfer}" if transfer else ""
        return f"{prefix}{row}{of_seed}{of_transfer}"

    def _add_row(self, row: _PlannedRow) -> None:
        """Add the runs of a row and its cell."""
        init = row.recipe.init
        # Evaluation first: fine-tuning takes `last` from it, so a mistake is reported there.
        configs = {stage: self._config(stage, row) for stage in reversed(ROW_STAGES)}
        trainings: list[str] = []
        teacher = ""
        probes: dict[str, str] = {}
        if init.recognizer is not None:
            recognizer = f"{FILE}{expand(init.recognizer)}"
        else:
            encoder, teacher = self._encoder(row, configs["pretrain"])
            if init.encoder is None:
                trainings.append(encoder)
            inputs = {"encoder": encoder} if encoder else {}
            recognizer = self._add_run("finetune", configs["finetune"], inputs, row)
            trainings.append(recognizer)
            encoders = {"encoder": encoder, "recognizer": recognizer}
            probes = self._add_probes(row, configs, encoders)
        inputs = {"recognizer": recognizer}
        evaluation = self._add_run("evaluate", configs["evaluate"], inputs, row)
        encoder_file = "" if init.encoder in (None, SCRATCH, TEACHER) else init.encoder
        images_known = teacher.startswith(FILE) and not _names_other_teacher(row.layers)
        self.cells.append(
            Cell(
                experiment=row.experiment,
                variant=row.number,
                seed=row.seed,
                trainings=tuple(trainings),
                evaluate=evaluation,
                teacher=teacher,
                teacher_images=row.recipe.teacher.images if images_known else None,
                encoder_file=encoder_file or "",
                transfer=row.transfer,
                probes=probes,
            )
        )

    def _add_probes(
        self, row: _PlannedRow, configs: Mapping[str, StageConfig], encoders: Mapping[str, str]
    ) -> dict[str, str]:
        """Add the probes of a row. Returns name -> id.

        configs: stage -> config of the row.
        encoders: PROBE_INPUT -> id of a run, file:PATH, or empty for an untrained encoder.
        """
        finetune = configs["finetune"]
        evaluate = configs["evaluate"]
        assert isinstance(finetune, Finetune)
        assert isinstance(evaluate, Evaluate)
        added: dict[str, str] = {}
        for name, settings in row.recipe.probes.items():
            if settings is None:  # turned off
                continue
            config, probed = read_probe(
                name,
                row.recipe,
                finetune,
                evaluate,
                self._precision(row.recipe),
                row.seed,
                row.layers,
            )
            inputs = {"encoder": encoders[probed]} if encoders[probed] else {}
            added[name] = self._add_run("probe", config, inputs, row)
        return added

    def _config(self, stage: str, row: _PlannedRow) -> StageConfig:
        precision = self._precision(row.recipe)
        return read_stage(stage, row.recipe, precision, row.seed_of(stage), row.layers)

    def _precision(self, recipe: Recipe) -> str:
        return self.precision() if recipe.precision == "auto" else recipe.precision

    def _encoder(self, row: _PlannedRow, config: StageConfig) -> tuple[str, str]:
        """(encoder, teacher) of a row: id of a run, file:PATH, or empty where there is none.

        config: the config of the row's pre-training.
        """
        encoder = row.recipe.init.encoder
        if encoder is None:
            assert isinstance(config, Pretrain | ContrastivePretrain)
            teacher = self._teacher(row) if config.needs_teacher else ""
            inputs = {"teacher": teacher} if teacher else {}
            return self._add_run("pretrain", config, inputs, row), teacher
        if encoder == TEACHER:
            teacher = self._teacher(row)
            return teacher, teacher
        if encoder == SCRATCH:
            return "", ""
        if is_name(encoder):
            source = source_of(row.layers, ["init", "encoder"])
            raise UserError(
                f"{source}: init.encoder: {encoder}: neither scratch, teacher nor a file"
            )
        return f"{FILE}{expand(encoder)}", ""

    def _teacher(self, row: _PlannedRow) -> str:
        """The teacher of a row: id of its run, or file:PATH."""
        teacher = row.recipe.teacher
        if teacher.file is not None:
            return f"{FILE}{expand(teacher.file)}"
        if teacher.method is None:
            raise UserError(
                f"{row.label}: teacher: this row needs one; set teacher.file or teacher.method"
            )
        choices = encoder_methods(row.recipe)
        if teacher.method not in choices:
            source = source_of(row.layers, ["teacher", "method"])
            raise UserError(
                f"{source}: teacher.method: {teacher.method!r} is not a method that pre-trains an "
                f"encoder; choose from {', '.join(choices)}"
            )
        layers = _teacher_layers(row, teacher.method)
        recipe = read_recipe(layers)
        config = read_stage("pretrain", recipe, self._precision(recipe), row.seed, layers)
        assert isinstance(config, Pretrain | ContrastivePretrain)
        if config.needs_teacher:
            raise UserError(
                f"{row.label}: teacher.method {teacher.method}: it needs a teacher itself; "
                "choose MIM, or set teacher.file"
            )
        as_teacher = replace(row, label=f"teacher of {row.label}", recipe=recipe)
        return self._add_run("pretrain", config, {}, as_teacher)

    def _add_run(
        self, stage: str, config: StageConfig, inputs: Mapping[str, str], row: _PlannedRow
    ) -> str:
        """Add a run, unless an equal one is planned. Returns its id.

        stage: `pretrain`, `finetune` or `evaluate`.
        config: the config of the stage.
        inputs: role -> id of a run, or file:PATH.
        row: the row that needs the run.
        """
        roots = {
            role: tuple(
                root for name in names for root in resolve_root(name, row.recipe, self.store)
            )
            for role, names in _roots_by_role(config).items()
        }
        if isinstance(config, Probe) and config.needs_boxes:
            roots = {role: tuple(map(with_boxes, group)) for role, group in roots.items()}
        self._check_position_tables(config, inputs, row.label)
        _check_files(config, inputs)
        name = run_id(stage, config, inputs, roots)
        if name not in self.runs:
            unmet = absent_charset(row.recipe, config)
            self.runs[name] = PlannedRun(name, stage, config, inputs, roots, unmet)
            self.rows[name] = []
            for root in (root for group in roots.values() for root in group):
                if root.note and root.note not in self.notes:
                    self.notes.append(root.note)
        self.rows[name].append(row.label)
        return name

    def _check_position_tables(
        self, config: StageConfig, inputs: Mapping[str, str], label: str
    ) -> None:
        """Raise UserError if a run starts from weights with another position table."""
        if isinstance(config, Evaluate):
            return
        for role, name in inputs.items():
            if name not in self.runs or _keeps_position_table(role, config):
                continue
            source = self.runs[name].config
            assert not isinstance(source, Evaluate)
            if config.encoder.positions != source.encoder.positions:
                raise UserError(
                    f"{label}: encoder.positions is {config.encoder.positions}, but the teacher, "
                    f"whose weights the run starts from, has {source.encoder.positions}; "
                    "set one value for both with --set"
                )


def _check_files(config: StageConfig, inputs: Mapping[str, str]) -> None:
    """Raise UserError if a checkpoint or filter list exists and is not valid."""
    if not isinstance(config, Evaluate):
        for role, name in inputs.items():
            path = Path(name.removeprefix(FILE))
            if name.startswith(FILE) and path.is_file():
                # needs torch, whose import takes seconds; most plans do without
                from core.checkpoints.load import check_encoder

                check_encoder(path, config.encoder, _keeps_position_table(role, config))
    filters = [Path(expand(path)) for paths in filters_of(config).values() for path in paths]
    if existing := [str(path) for path in filters if path.is_file()]:
        from core.data.word_images import read_filters

        read_filters(existing)


def _teacher_layers(row: _PlannedRow, method: str) -> list[Layer]:
    """The settings of a row's teacher.

    A row's changes of its method, pre-training, epochs and position table do not apply to the
    teacher, so that rows share one teacher.
    """
    changes = row.own[-1]
    shared = {key: value for key, value in changes.tree.items() if _applies_to_teacher(key)}
    source = f"teacher of {changes.source}"
    return [
        *row.below,
        replace(changes, tree=shared),
        method_layer(method, row.recipe, source, changes.source),
    ]


def _names_other_teacher(layers: Iterable[Layer]) -> bool:
    """Whether a layer names another teacher file and not how many images it was trained on."""
    return any(
        "teacher.file" in layer.tree and "teacher.images" not in layer.tree
        for layer in layers
        if layer.dotted
    )


def _keeps_position_table(role: str, config: StageConfig) -> bool:
    """Whether an input keeps its own position table: a teacher that only computes features does."""
    return role == "teacher" and isinstance(config, Pretrain) and config.start != TEACHER


def _applies_to_teacher(key: str) -> bool:
    section, _, _ = key.partition(".")
    return section not in ("pretrain", "epoch_multiplier") and key != "encoder.positions"


def _roots_by_role(config: StageConfig) -> dict[str, tuple[str, ...]]:
    """Role -> the roots that a config names for it."""
    if isinstance(config, Evaluate):
        return {name: data.roots for name, data in config.subsets.items()}
    if isinstance(config, Probe):
        subsets = {name: data.roots for name, data in config.subsets.items()}
        return {TRAIN: config.data.roots, **subsets}
    roles: dict[str, tuple[str, ...]] = {TRAIN: config.data.roots}
    if config.data.mix is not None:
        roles["mixed"] = config.data.mix.roots
    if isinstance(config, Finetune) and config.validation is not None:
        roles["validation"] = config.validation.roots
    return roles


def _common_scale(experiments: Sequence[Experiment]) -> str:
    """The scale that all experiments name; the default scale if they differ.

    Raises UserError if they differ and none names the default scale.
    """
    scales = {experiment.scale for experiment in experiments}
    default: str = Experiment.model_fields["scale"].default
    if len(scales) > 1 and default not in scales:
        raise UserError(
            f"the files name different scales ({', '.join(sorted(scales))}); "
            "choose one with --scale"
        )
    return default if len(scales) > 1 else scales.pop()


def make_plan(
    files: Iterable[Path],
    scale: str | None,
    store: Store,
    *,
    precision: Precision,
    overrides: Tree,
    seeds: SeedChoice,
) -> Plan:
    """The plan of some experiment files. Raises UserError.

    files: the experiment files.
    scale: the scale profile. None is the files' own; if they differ, the default scale, and files
        of another scale are left out with a note.
    store: the results folder.
    precision: returns the precision that `auto` means.
    overrides: settings of the command line, dotted key -> value.
    seeds: seeds in place of the files' own, for all files or by the name of the file.
    """
    experiments = [(path, read_experiment(path)) for path in files]
    common = scale or _common_scale([experiment for _, experiment in experiments])
    fitting = [
        (path, experiment)
        for path, experiment in experiments
        if scale or experiment.scale == common
    ]
    plan = plan_experiments(
        fitting, common, store, precision=precision, overrides=overrides, seeds=seeds
    )
    left_out = tuple(
        f"{path.stem} was left out: it is made for scale {experiment.scale}; "
        "run it alone, or choose a --scale for all"
        for path, experiment in experiments
        if scale is None and experiment.scale != common
    )
    return replace(plan, notes=(*plan.notes, *left_out))


def plan_experiments(
    experiments: Sequence[tuple[Path, Experiment]],
    scale: str,
    store: Store,
    *,
    precision: Precision,
    overrides: Tree,
    seeds: SeedChoice,
) -> Plan:
    """The plan of experiments that need not be files. Raises UserError.

    experiments: (path, content); the path names the experiment in tables and messages.
    scale, store, precision, overrides, seeds: as in `make_plan`.
    """
    planner = Planner(scale, store, precision, name_experiments=len(experiments) > 1)
    for path, experiment in experiments:
        chosen = seeds.get(path.stem) if isinstance(seeds, Mapping) else seeds
        planner.add(path, experiment, overrides, chosen or experiment.seeds)
    return planner.plan(overrides)
