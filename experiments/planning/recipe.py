"""Merging of layers of settings into a recipe, and of a recipe into the configs of the stages."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import Evaluate, Finetune, Probe, StageConfig
from core.runtime.errors import UserError
from core.synthetic.config import LANGUAGE_SPLITS
from experiments.planning.changes import changes_layer
from experiments.planning.diagnostics import COMMAND_LINE, Layer, Tree, explain, source_of
from experiments.planning.endpoints import RANDOM_LETTERS, check_endpoint
from experiments.planning.registry import registry
from experiments.planning.schema import (
    PROBE_INPUT,
    PROBE_INPUTS,
    Experiment,
    Recipe,
    Variant,
    file_layer,
    stage_model,
)
from experiments.planning.substitution import SYNTHETIC_PREFIXES, filled_in, with_substitutes

SHARED_SETTINGS = {  # key that a stage's section must not have -> where to set the value instead
    "precision": "precision",
    "encoder": "encoder",
    "seed": "seeds (or --seeds)",
}


def merge(below: Any, above: Any) -> Any:
    """Two trees as one. Mappings merge key by key; any other value of `above` replaces `below`."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merge(below.get(key), value) for key, value in above.items()}
    return above


def set_key(tree: Tree, key: str, value: Any, source: str) -> Tree:
    """A copy of `tree` with another value at a dotted key. Raises UserError.

    A section that is off (null) is turned on. Behind `methods.NAME.` the rest of the key stays
    one dotted key, because a method is itself a set of changes.

    tree: settings.
    key: the dotted key.
    value: the new value.
    source: where the value comes from, for the error message.
    """
    head, _, rest = key.partition(".")
    if not rest:
        return tree | {head: value}
    section = tree.get(head)
    if section is not None and not isinstance(section, dict):
        raise UserError(f"{source}: {key}: {head} is a single value, it has no {rest}")
    section = section or {}
    if head == "methods" and "." in rest:
        name, _, changed = rest.partition(".")
        return tree | {head: section | {name: (section.get(name) or {}) | {changed: value}}}
    return tree | {head: set_key(section, rest, value, source)}


def apply(layers: Sequence[Layer]) -> Tree:
    """The layers as one tree. The first layer is the lowest.

    A benchmark's name in `evaluate.subsets` is replaced by the subsets of the benchmark.
    """
    tree: Tree = {}
    for layer in layers:
        if not layer.dotted:
            tree = merge(tree, layer.tree)
            continue
        for key, value in layer.tree.items():
            tree = set_key(_with_subsets(tree, layer.source), key, value, layer.source)
    return _with_subsets(tree, layers[-1].source)


def _with_subsets(tree: Tree, source: str) -> Tree:
    evaluate = tree.get("evaluate")
    name = evaluate.get("subsets") if isinstance(evaluate, dict) else None
    if not isinstance(name, str):
        return tree
    benchmarks = tree.get("benchmarks") or {}
    if name not in benchmarks:
        raise UserError(
            f"{source}: evaluate.subsets: unknown benchmark {name!r}; "
            f"choose from {', '.join(benchmarks)}"
        )
    subsets = {subset: {"roots": [data]} for subset, data in benchmarks[name].items()}
    return tree | {"evaluate": tree["evaluate"] | {"subsets": subsets}}


def recipe_layers(path: Path, experiment: Experiment, scale: str, overrides: Tree) -> list[Layer]:
    """The layers below a row: base, scale, the experiment's settings, the command line.

    path: the experiment's file.
    experiment: its content.
    scale: the name of the scale profile.
    overrides: settings of the command line.
    """
    return [
        file_layer("base", experiment.base),
        file_layer("scales", scale),
        changes_layer(str(path), experiment.set),
        changes_layer(COMMAND_LINE, overrides),
    ]


def row_layers(path: Path, variant: Variant, below: Sequence[Layer]) -> list[Layer]:
    """The layers of a row: the changes of its method, then its own. Raises UserError."""
    source = f"{path}: {variant.name}"
    return [
        method_layer(variant.method, read_recipe(below), source, source),
        changes_layer(source, variant.set),
    ]


def method_layer(name: str | None, recipe: Recipe, source: str, user: str) -> Layer:
    """What a method changes in the recipe. Raises UserError for an unknown name.

    name: the method; None changes nothing.
    recipe: the recipe that defines the methods.
    source: the source of the layer.
    user: what names the method, for the error message.
    """
    if name is None:
        return changes_layer(source, {})
    if name not in recipe.methods:
        raise UserError(f"{user}: unknown method {name!r}; choose from {', '.join(recipe.methods)}")
    return changes_layer(source, recipe.methods[name])


def encoder_methods(recipe: Recipe) -> list[str]:
    """The methods that pre-train an encoder."""
    layers = {name: changes_layer(name, changes) for name, changes in recipe.methods.items()}
    return [name for name, layer in layers.items() if "init.encoder" not in layer.tree]


def read_recipe(layers: Sequence[Layer]) -> Recipe:
    """The merged layers as a recipe. The stages' sections are not checked. Raises UserError."""
    try:
        return Recipe.model_validate(apply(layers))
    except ValidationError as error:
        raise UserError(explain(error, Recipe, layers)) from error


def read_stage(
    stage: str, recipe: Recipe, precision: str, seed: int, layers: Sequence[Layer]
) -> StageConfig:
    """The config of one stage. Raises UserError with file and key.

    stage: `pretrain`, `finetune` or `evaluate`.
    recipe: the merged layers.
    precision: `fp32` or `bf16`.
    seed: the seed of a training stage.
    layers: the layers, for error messages and for the keys that were typed.
    """
    for key, instead in SHARED_SETTINGS.items():
        if key in getattr(recipe, stage):
            source = source_of(layers, [stage, key])
            raise UserError(f"{source}: {stage}.{key}: all stages share it; set {instead} instead")
    content = filled_in(stage, recipe, _typed_keys(layers)) | {"precision": precision}
    if stage != "evaluate":
        content |= {"encoder": recipe.encoder, "seed": seed}
    if stage == "finetune":
        content.setdefault("last_checkpoints", recipe.evaluate.get("last", 1))
    model = stage_model(stage, content)
    try:
        config = model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, layers, stage)) from error
    _check_roots(stage, config, layers)
    return config


def read_probe(
    name: str,
    recipe: Recipe,
    finetune: Finetune,
    evaluate: Evaluate,
    precision: str,
    seed: int,
    layers: Sequence[Layer],
) -> tuple[Probe, str]:
    """The config of a probe, and which encoder it probes. Raises UserError with file and key.

    name: of the probe in the recipe.
    recipe: the merged layers.
    finetune, evaluate: of the row. Words, charset and protocol are theirs unless the probe names
        others.
    precision: `fp32` or `bf16`.
    seed: of the row.
    layers: the layers, for error messages and for the keys that were typed.
    """
    section = f"probes.{name}"
    settings = dict(recipe.probes[name] or {})
    probed = settings.pop(PROBE_INPUT, PROBE_INPUTS[0])
    if probed not in PROBE_INPUTS:
        source = source_of(layers, ["probes", name, PROBE_INPUT])
        choices = " or ".join(PROBE_INPUTS)
        raise UserError(f"{source}: {section}.{PROBE_INPUT}: {probed!r} is not {choices}")
    for key, instead in SHARED_SETTINGS.items():
        if key in settings:
            source = source_of(layers, ["probes", name, key])
            raise UserError(f"{source}: {section}.{key}: all stages share it; set {instead}")
    content = {
        "data": finetune.data,
        "charset": finetune.charset,
        "max_length": finetune.max_length,
        "subsets": evaluate.subsets,
        "protocol": evaluate.protocol,
        **_own_words(settings.get("head")),
        **with_substitutes(settings, section, recipe, _typed_keys(layers)),
        "encoder": recipe.encoder,
        "precision": precision,
        "seed": seed,
    }
    try:
        config = Probe.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, Probe, layers, section)) from error
    _check_roots(section, config, layers)
    return config, probed


def _own_words(head: object) -> Tree:
    """Words that a head is trained and tested on if its probe names none: hidden letters have own.

    head: the section of the recipe."""
    if not isinstance(head, dict) or head.get("kind") != "hidden_letter":
        return {}
    roots = {name: f"{SYNTHETIC_PREFIXES['synthetic']}{name}" for name in LANGUAGE_SPLITS}
    return {
        "data": {"roots": [roots["language_train"]]},
        "subsets": {
            "words": {"roots": [roots["language_words"]]},
            RANDOM_LETTERS: {"roots": [roots["random_letters"]]},
        },
    }


def check_primary(source: str, primary: str, recipes: Sequence[Recipe]) -> None:
    """Raise UserError unless the rows can have the primary endpoint.

    source: where it is declared.
    primary: its name.
    recipes: of the rows.
    """
    heads: dict[str, str] = {}
    for recipe in recipes:
        for name, settings in recipe.probes.items():
            head = (settings or {}).get("head")
            if isinstance(head, dict):
                heads[name] = str(head.get("kind"))
    try:
        check_endpoint(primary, heads)
    except ValueError as error:
        raise UserError(f"{source}: primary: {error}") from error


def _check_roots(stage: str, config: StageConfig, layers: Sequence[Layer]) -> None:
    """Raise UserError for a root that is neither a known name nor a folder."""
    for key, root in _roots_in(config.model_dump(exclude={"charset"}), stage):
        if is_name(root) and root not in registry():
            similar = get_close_matches(root, registry())
            advice = f"; did you mean {' or '.join(similar)}?" if similar else ""
            raise UserError(
                f"{source_of(layers, key.split('.'))}: {key}: {root}: "
                f"neither a data set of experiments/settings/data.yaml nor a folder{advice}"
            )


def is_name(text: str) -> bool:
    """Whether a text can only be a name: one word that is no file or folder here."""
    return re.fullmatch(r"[\w-]+", text) is not None and not Path(text).exists()


def _roots_in(tree: Tree, prefix: str) -> Iterator[tuple[str, str]]:
    """(dotted key, root) of each root in a config."""
    for key, value in tree.items():
        if key == "roots":
            yield from ((f"{prefix}.roots", root) for root in value)
        elif isinstance(value, dict):
            yield from _roots_in(value, f"{prefix}.{key}")


def _typed_keys(layers: Sequence[Layer]) -> list[str]:
    """The keys of the command line that no row defines."""
    typed: list[str] = []
    for layer in layers:
        typed = [key for key in typed if not defines(layer, key)]
        if layer.source == COMMAND_LINE:
            typed += layer.tree
    return typed


def defines(layer: Layer, key: str) -> bool:
    """Whether a layer of dotted keys replaces the value at `key`."""
    return any(f"{key}.".startswith(f"{defined}.") for defined in layer.tree)
