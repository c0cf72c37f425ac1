"""The settings of a stored run as an experiment file, which plans the same run again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import Evaluate, Finetune, Probe, StageConfig, identity_fields
from core.runtime.errors import UserError
from core.runtime.validation import first_problem
from experiments.planning.changes import WHOLE_KEYS, changes_layer
from experiments.planning.diagnostics import Tree
from experiments.planning.endpoints import DEFAULT_ENDPOINT
from experiments.planning.plan import FILE, Plan, PlannedRun
from experiments.planning.planner import SCRATCH, TRANSFER_SEEDS, plan_experiments
from experiments.planning.recipe import (
    SHARED_SETTINGS,
    read_probe,
    read_recipe,
    read_stage,
    recipe_layers,
)
from experiments.planning.registry import registry
from experiments.planning.schema import (
    HERE,
    PROBE_INPUT,
    PROBE_INPUTS,
    Experiment,
    Recipe,
    stage_model,
)
from results.records import StoredRoot, StoredSettings, read_record
from results.store import MOVE_FOLDER, Store

TEACHER_METHOD = "stored_teacher"  # the method of the file that pre-trains the teacher


@dataclass(frozen=True)
class StoredExperiment:
    """A stored run as an experiment file.

    id: the run's id.
    scale: the scale profile that the file builds on.
    tree: the content of the file.
    difference: why planning the file here gives another id; empty if it gives the same.
    """

    id: str
    scale: str
    tree: Tree
    difference: str = ""

    @property
    def overrides(self) -> int:
        """The number of values that the file sets on top of its scale."""
        return len(self.tree.get("set", {})) + len(self.tree["variants"][0].get("set", {}))


@dataclass(frozen=True)
class _Source:
    """One stored run: its config, its inputs, and the contents of its data by role."""

    id: str
    stage: str
    config: StageConfig
    inputs: Mapping[str, str]
    data: Mapping[str, list[StoredRoot]]

    @property
    def seed(self) -> int:
        return 0 if isinstance(self.config, Evaluate) else self.config.seed


@dataclass
class _Lineage:
    """A run and the runs that it starts from: stage -> run; the teacher's is `teacher`.

    files: key of a recipe -> file, or `scratch`, in place of a run."""

    runs: dict[str, _Source] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    probed: str = PROBE_INPUTS[0]

    @property
    def row_seed(self) -> int:
        """The seed of the row: that of pre-training, whose fine-tunings can have others."""
        for stage in ("pretrain", "probe", "finetune"):
            if stage in self.runs:
                return self.runs[stage].seed
        return 0


def stored_experiment(store: Store, run_id: str) -> StoredExperiment:
    """The experiment file of a stored run: the changes to the scale that needs the fewest.

    Raises UserError if the run or one of its inputs has no record, or if no scale fits.
    """
    lineage = _lineage(store, run_id)
    candidates: list[StoredExperiment] = []
    errors: list[UserError] = []
    for scale in sorted(path.stem for path in (HERE / "scales").glob("*.yaml")):
        for own_teacher in (False, True) if "teacher" in lineage.runs else (False,):
            try:
                tree = _experiment_of(lineage, run_id, scale, own_teacher=own_teacher)
                plan = _planned(tree, scale, store, lineage)
            except UserError as error:
                errors.append(error)
                continue
            difference = _difference(lineage, plan, run_id)
            candidates.append(StoredExperiment(run_id, scale, tree, difference))
    if not candidates:
        raise UserError(f"{run_id}: its settings fit no scale of this version: {errors[0]}")
    return min(candidates, key=lambda found: (bool(found.difference), found.overrides))


# Reading records


def _read(store: Store, run_id: str) -> _Source:
    run = store.run(run_id)
    if Path(run_id).name != run_id or not (run.folder / "record.json").is_file():
        raise UserError(
            f"{run_id}: no complete run below {store.root / 'runs'}; name a run by its id "
            "(`status` lists them), and its folder with --results"
        )
    stored = read_record(run, StoredSettings)
    model = stage_model(stored.stage, stored.config)
    try:
        config = model.model_validate(stored.config)
    except ValidationError as error:
        raise UserError(
            f"{run.folder / 'record.json'}: config.{first_problem(error)}; this version cannot "
            f"read it; {MOVE_FOLDER}"
        ) from error
    return _Source(run_id, stored.stage, config, stored.inputs, stored.data)


def _lineage(store: Store, run_id: str) -> _Lineage:
    """A run, and the runs and files that it starts from. Raises UserError."""
    lineage = _Lineage()
    target = lineage.runs[run_id.partition("-")[0]] = _read(store, run_id)
    encoder = target
    if target.stage == "evaluate":
        encoder = _follow(store, lineage, target, "recognizer", "init.recognizer")
    if target.stage == "probe":
        encoder = _follow(store, lineage, target, "encoder", "init.encoder")
        if encoder.stage == "finetune":
            lineage.probed = PROBE_INPUTS[1]
    if encoder.stage == "finetune":
        encoder = _follow(store, lineage, encoder, "encoder", "init.encoder")
    if encoder.stage == "pretrain" and "teacher" in encoder.inputs:
        _follow(store, lineage, encoder, "teacher", "teacher.file")
    return lineage


def _follow(store: Store, lineage: _Lineage, source: _Source, role: str, key: str) -> _Source:
    """Add an input of a run to the lineage; returns it, or the run if the input is a file.

    key: the key of the recipe that names the file."""
    name = source.inputs.get(role, "")
    if not name or name.startswith(FILE):
        lineage.files[key] = name.removeprefix(FILE) or SCRATCH
        return source
    try:
        found = _read(store, name)
    except UserError as error:
        raise UserError(
            f"{source.id}: its {role} {name} has no record below {store.root / 'runs'}; an "
            "experiment file needs the settings of both, so copy its folder there too"
        ) from error
    lineage.runs["teacher" if role == "teacher" else found.stage] = found
    return found


# Writing an experiment


def _experiment_of(lineage: _Lineage, run_id: str, scale: str, *, own_teacher: bool) -> Tree:
    """The content of the file at a scale. Raises UserError if the scale does not fit.

    own_teacher: with the teacher's settings, in place of the scale's teacher."""
    shared = _shared_settings(lineage, scale)
    own = _row_settings(lineage, scale, shared)
    if own_teacher:
        own |= _teacher_settings(lineage, _recipe(scale, shared, own), _recipe(scale, shared, {}))
    row: Tree = {"name": run_id} | ({"set": own} if own else {})
    return {
        "title": f"settings of {run_id}",
        "scale": scale,
        "seeds": [lineage.row_seed],
        **({} if _recipe(scale, {}, {}).primary == DEFAULT_ENDPOINT else _PRIMARY),
        **({"set": shared} if shared else {}),
        "variants": [row],
    }


_PRIMARY = {"primary": DEFAULT_ENDPOINT}


def _recipe(scale: str, shared: Tree, own: Tree) -> Recipe:
    """A scale's recipe with the changes of a file and of its row."""
    experiment = Experiment.model_validate(
        {"title": "stored", "set": shared, "variants": [{"name": "stored"}]}
    )
    layers = recipe_layers(Path("stored"), experiment, scale, {})
    return read_recipe([*layers, changes_layer("stored", own)])


def _shared_settings(lineage: _Lineage, scale: str) -> Tree:
    """What the file turns off of its scale: other runs, and values that depend on others."""
    recipe = _recipe(scale, {}, {})
    shared: Tree = {}
    if recipe.control is not None:
        shared["control"] = None
    kept = _probe_name(lineage, recipe)
    shared |= {f"probes.{name}": None for name in recipe.probes if name != kept}
    multiplier = recipe.epoch_multiplier.model_dump()
    shared |= {f"epoch_multiplier.{key}": 1 for key, factor in multiplier.items() if factor != 1}
    if recipe.substitute_synthetic and any(root in registry() for root in _roots(lineage)):
        shared["substitute_synthetic"] = False
    return shared


def _roots(lineage: _Lineage) -> Iterator[str]:
    """The names of all data in the configs of a lineage."""
    pending: list[Any] = [source.config.model_dump(mode="json") for source in lineage.runs.values()]
    while pending:
        tree = pending.pop()
        if isinstance(tree, dict):
            yield from tree.get("roots") or ()
            pending += tree.values()


def _probe_name(lineage: _Lineage, recipe: Recipe) -> str:
    """The probe's name: that of the scale's probe with such a head, or else the head's kind."""
    if "probe" not in lineage.runs:
        return ""
    config = lineage.runs["probe"].config
    assert isinstance(config, Probe)
    for name, settings in recipe.probes.items():
        if ((settings or {}).get("head") or {}).get("kind") == config.head.kind:
            return name
    return config.head.kind


def _row_settings(lineage: _Lineage, scale: str, shared: Tree) -> Tree:
    """The changes of the row: all values in which the runs differ from the scale."""
    recipe = _recipe(scale, shared, {})
    own: Tree = {}
    target = next(iter(lineage.runs.values()))
    if recipe.precision != target.config.precision:
        own["precision"] = target.config.precision
    own |= _encoder_settings(lineage, recipe)
    for stage in ("pretrain", "finetune", "evaluate"):
        if stage in lineage.runs:
            config = lineage.runs[stage].config
            base = read_stage(stage, recipe, config.precision, 0, [])
            own |= _changes(stage, config, base)
    finetune = lineage.runs.get("finetune")
    if finetune is not None:
        assert isinstance(finetune.config, Finetune)
        own["finetune.last_checkpoints"] = finetune.config.last_checkpoints
        if own.get("evaluate.last", 1) == finetune.config.last_checkpoints:
            del own["finetune.last_checkpoints"]
        if "pretrain" in lineage.runs:
            transfer, rest = divmod(finetune.seed - lineage.row_seed, TRANSFER_SEEDS)
            if transfer > 0 and not rest:
                own["transfers"] = transfer + 1
    own |= lineage.files
    if "probe" in lineage.runs:
        own |= _probe_settings(lineage, _recipe(scale, shared, own))
    return own


def _encoder_settings(lineage: _Lineage, recipe: Recipe) -> Tree:
    """The changes of the encoder that the runs share."""
    for stage in ("pretrain", "finetune", "probe"):
        config = lineage.runs[stage].config if stage in lineage.runs else None
        if config is not None and not isinstance(config, Evaluate):
            base = read_stage("pretrain", recipe, config.precision, 0, [])
            assert not isinstance(base, Evaluate)
            full = config.encoder.model_dump(mode="json")
            return _delta("encoder", full, base.encoder.model_dump(mode="json"), full)
    return {}


def _probe_settings(lineage: _Lineage, recipe: Recipe) -> Tree:
    """The changes of the probe. recipe: with the changes of the other stages."""
    config = lineage.runs["probe"].config
    assert isinstance(config, Probe)
    name = _probe_name(lineage, recipe)
    key = f"probes.{name}"
    if recipe.probes.get(name) is None:
        return {key: {PROBE_INPUT: lineage.probed} | _own_settings(config, brief=True)}
    finetune = read_stage("finetune", recipe, config.precision, 0, [])
    evaluate = read_stage("evaluate", recipe, config.precision, 0, [])
    assert isinstance(finetune, Finetune)
    assert isinstance(evaluate, Evaluate)
    base, probed = read_probe(name, recipe, finetune, evaluate, config.precision, 0, [])
    changes = _changes(key, config, base)
    return changes | ({} if probed == lineage.probed else {f"{key}.{PROBE_INPUT}": lineage.probed})


def _teacher_settings(lineage: _Lineage, row: Recipe, below: Recipe) -> Tree:
    """The teacher as a method of the file.

    row: the recipe of the row. Its encoder is the teacher's too, and its pre-training is not.
    below: the recipe without the changes of the row."""
    config = lineage.runs["teacher"].config
    assert not isinstance(config, Evaluate)
    of_row = read_stage("pretrain", row, config.precision, 0, [])
    assert not isinstance(of_row, Evaluate)
    full = config.encoder.model_dump(mode="json")
    method = _delta("encoder", full, of_row.encoder.model_dump(mode="json"), full)
    if full["positions"] != below.encoder.get("positions", "released"):
        method["encoder.positions"] = full["positions"]  # the row's is not the teacher's
    base = read_stage("pretrain", below, config.precision, 0, [])
    method |= _changes("pretrain", config, base)
    if config.precision != row.precision:
        method["precision"] = config.precision
    return {
        "teacher.file": None,
        "teacher.method": TEACHER_METHOD,
        f"methods.{TEACHER_METHOD}": method,
    }


def _own_settings(config: StageConfig, *, brief: bool = False) -> Tree:
    """The settings of a stage that its section holds. brief: those that are no defaults."""
    values = config.model_dump(mode="json", exclude_defaults=brief)
    return {key: value for key, value in values.items() if key not in SHARED_SETTINGS}


def _changes(section: str, config: StageConfig, base: StageConfig) -> Tree:
    """Dotted key -> value for the settings of a section in which a config differs from `base`."""
    return _delta(
        section, _own_settings(config), _own_settings(base), _own_settings(config, brief=True)
    )


def _delta(key: str, wanted: Any, base: Any, brief: Any) -> Tree:
    """Dotted key -> value for each value that differs from `base`.

    brief: `wanted` without defaults, for sections that replace the former one as a whole."""
    if wanted == base:
        return {}
    if not isinstance(wanted, dict):
        return {key: wanted}
    whole = "kind" in wanted or key.endswith(WHOLE_KEYS)
    if whole or not isinstance(base, dict):
        kind = {"kind": wanted["kind"]} if "kind" in wanted else {}
        values = kind | (brief if isinstance(brief, dict) else {})
        return {key: values or wanted}
    changes: Tree = {}
    for name, value in wanted.items():
        inner = brief.get(name) if isinstance(brief, dict) else None
        changes |= _delta(f"{key}.{name}", value, base.get(name), inner)
    changes |= {f"{key}.{name}": None for name in base if name not in wanted and base[name]}
    return changes


# Checking


def _planned(tree: Tree, scale: str, store: Store, lineage: _Lineage) -> Plan:
    target = next(iter(lineage.runs.values()))
    return plan_experiments(
        [(Path("stored.yaml"), Experiment.model_validate(tree))],
        scale,
        store,
        precision=lambda: target.config.precision,
        overrides={},
        seeds=None,
    )


def _difference(lineage: _Lineage, plan: Plan, run_id: str) -> str:
    """Why a plan does not have the run: one sentence; empty if it has it."""
    if run_id in plan.runs:
        return ""
    for role in ("teacher", "pretrain", "finetune", "evaluate", "probe"):
        source = lineage.runs.get(role)
        if source is None or source.id in plan.runs:
            continue
        runs = [run for run in plan.runs.values() if run.stage == source.stage]
        equal = [run for run in runs if _settings(run.config) == _settings(source.config)]
        if equal:
            return _data_difference(source, equal[0], plan.scale)
        return (
            f"{source.id}: its settings cannot be expressed as changes to scale {plan.scale}: "
            f"{_first_other_key(source, runs) if runs else 'such a run is not planned'}"
        )
    return f"{run_id}: its inputs are other files or runs than this file names"


def _settings(config: StageConfig) -> Tree:
    """The settings that enter an id, without the names of data."""
    return identity_fields(config, exclude={"data", "subsets", "validation"})


def _data_difference(source: _Source, planned: PlannedRun, scale: str) -> str:
    """The first data set that is not here what it was when the run was computed."""
    for role, roots in planned.data.items():
        stored = source.data.get(role, [])
        if [root.content for root in roots] == [root.content for root in stored]:
            continue
        if unmet := next((root.unmet for root in roots if root.unmet), ""):
            return f"{source.id}: its data are absent here, so its id cannot be checked: {unmet}"
        was = ", ".join(root.content for root in stored) or "none"
        now = ", ".join(root.content for root in roots)
        return (
            f"{source.id}: its data {role!r} have the content {was}, which neither scale {scale} "
            f"nor a data set here has ({now}): the record does not hold settings of rendered "
            "words, so give those that were set with --set"
        )
    return f"{source.id}: a file that it used is absent here or has changed"


def _first_other_key(source: _Source, runs: list[PlannedRun]) -> str:
    """A setting that differs: its key, and both values."""
    wanted = source.config.model_dump(mode="json")
    for run in runs:
        given = run.config.model_dump(mode="json")
        for key, value in wanted.items():
            if given.get(key) != value:
                return f"{key} is {value!r}, and there it is {given.get(key)!r}"
    return "an option that this version does not have"
