"""Layers of settings -> a recipe -> each stage's config, with names of data filled in."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import Finetune, StageConfig
from core.runtime.errors import UserError
from core.synthetic import words as synthetic
from experiments.planning.registry import expand, registry
from experiments.planning.schema import (
    Experiment,
    Layer,
    Recipe,
    Tree,
    Variant,
    delta,
    explain,
    file_layer,
    source_of,
    stage_model,
)

RENDERED = {
    "rendered": "rendered:",
    "rendered_chinese": "rendered_chinese:",
}  # section of a recipe -> prefix of its splits
FIRST_CHARACTER = 0x4E00  # with it placeholders begin for characters that are not known here


def merge(below: Any, above: Any) -> Any:
    """Mappings merge key by key; anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merge(below.get(key), value) for key, value in above.items()}
    return above


def set_key(tree: Tree, key: str, value: Any, source: str) -> Tree:
    """`tree` with the value at a dotted key replaced; a section that is off (null) is turned on.

    What follows `methods.NAME.` stays one dotted key, for a method is a delta itself."""
    head, _, rest = key.partition(".")
    if not rest:
        return tree | {head: value}
    inner = tree.get(head)
    if inner is not None and not isinstance(inner, dict):
        raise UserError(f"{source}: {key}: {head} is a single value, it has no {rest}")
    name, _, own = rest.partition(".")
    if head == "methods" and own:
        inner = inner or {}
        return tree | {head: inner | {name: (inner.get(name) or {}) | {own: value}}}
    return tree | {head: set_key(inner or {}, rest, value, source)}


def apply(layers: Sequence[Layer]) -> Tree:
    """The layers, lowest first, as one tree; a benchmark named as `evaluate.subsets` stands there with its subsets."""
    tree: Tree = {}
    for layer in layers:
        if layer.dotted:
            for key, value in layer.tree.items():
                tree = set_key(_with_subsets(tree, layer.source), key, value, layer.source)
        else:
            tree = merge(tree, layer.tree)
    return _with_subsets(tree, layers[-1].source)


def _with_subsets(tree: Tree, source: str) -> Tree:
    evaluate = tree.get("evaluate")
    name = evaluate.get("subsets") if isinstance(evaluate, dict) else None
    if not isinstance(name, str):
        return tree
    benchmarks = tree.get("benchmarks") or {}
    if name not in benchmarks:
        raise UserError(
            f"{source}: evaluate.subsets: {name}: no benchmark of that name; choose from {', '.join(benchmarks)}"
        )
    subsets = {subset: {"roots": [data]} for subset, data in benchmarks[name].items()}
    return tree | {"evaluate": tree["evaluate"] | {"subsets": subsets}}


def recipe_layers(path: Path, experiment: Experiment, scale: str, overrides: Tree) -> list[Layer]:
    """Base, scale, the experiment's own settings, command line. What defines a row goes on top of these."""
    return [
        file_layer("base", experiment.base),
        file_layer("scales", scale),
        delta(str(path), experiment.set),
        delta("--set", overrides),
    ]


def row_layers(path: Path, variant: Variant, below: Sequence[Layer]) -> list[Layer]:
    """A row's method, then its own delta. Raises UserError if the recipe has no such method."""
    source = f"{path}: {variant.name}"
    return [
        delta(source, method_delta(variant.method, read_recipe(below), source)),
        delta(source, variant.set),
    ]


def method_delta(name: str | None, recipe: Recipe, source: str) -> Tree:
    """What a method of the recipe changes; nothing if `name` is None. Raises UserError for an unknown name."""
    if name is not None and name not in recipe.methods:
        raise UserError(
            f"{source}: method {name}: the recipe has none of that name; choose from {', '.join(recipe.methods)}"
        )
    return {} if name is None else recipe.methods[name]


def read_recipe(layers: Sequence[Layer]) -> Recipe:
    """The merged layers, checked as far as a recipe goes. Raises UserError."""
    try:
        return Recipe.model_validate(apply(layers))
    except ValidationError as error:
        raise UserError(explain(error, Recipe, layers)) from error


def read_stage(
    stage: str, recipe: Recipe, precision: str, seed: int, layers: Sequence[Layer]
) -> Any:
    """One stage's config of a recipe. Raises UserError naming file and key."""
    elsewhere = {"precision": "precision", "encoder": "encoder", "seed": "seeds (or --seeds)"}
    for key, right in elsewhere.items():
        if key in getattr(recipe, stage):
            raise UserError(
                f"{source_of(layers, [stage, key])}: {stage}.{key}: all stages share it; set {right} instead"
            )
    content = _filled_in(stage, recipe, _typed(layers)) | {"precision": precision}
    if stage != "evaluate":
        content |= {"encoder": recipe.encoder, "seed": seed}
    model = stage_model(stage, content)
    try:
        config = model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, layers, stage)) from error
    for place, root in _named_roots(config.model_dump(exclude={"charset"}), stage):
        if is_name(root) and root not in registry():
            near = get_close_matches(root, registry())
            advice = f"; did you mean {' or '.join(near)}?" if near else ""
            told = (
                f"{root}: neither a data set of experiments/settings/data.yaml nor a folder{advice}"
            )
            raise UserError(f"{source_of(layers, place.split('.'))}: {place}: {told}")
    return config


def is_name(text: str) -> bool:
    """Whether a text is a bare word and no file or folder here, so that it can only be meant as a name."""
    return re.fullmatch(r"[\w-]+", text) is not None and not Path(text).exists()


def _named_roots(tree: Tree, place: str) -> Iterator[tuple[str, str]]:
    """(dotted key, root) of every root in a config."""
    for key, value in tree.items():
        if key == "roots":
            yield from ((f"{place}.roots", root) for root in value)
        elif isinstance(value, dict):
            yield from _named_roots(value, f"{place}.{key}")


def _typed(layers: Sequence[Layer]) -> list[str]:
    """Keys of the command line that no row defines."""
    typed: list[str] = []
    for layer in layers:
        typed = [key for key in typed if not defines(layer, key)]
        typed += layer.tree if layer.source == "--set" else ()
    return typed


def defines(layer: Layer, key: str) -> bool:
    """Whether a layer of dotted keys replaces the value at `key`."""
    return any(f"{key}.".startswith(f"{own}.") for own in layer.tree)


def _filled_in(stage: str, recipe: Recipe, typed: Iterable[str]) -> Tree:
    """A stage's settings with stand-ins for data, the epochs of its length, its charset; what is not valid stays as it is."""
    content = dict(getattr(recipe, stage))
    if stage == "evaluate":
        return content | {"subsets": _stand_in_subsets(content.get("subsets"), recipe, typed)}
    for key in ("data", "validation"):
        if isinstance(content.get(key), dict):
            content[key] = _stand_in(content[key], recipe, f"{stage}.{key}", typed)
    optimizer, factor = content.get("optimizer"), getattr(recipe.length, stage)
    if (
        isinstance(optimizer, dict)
        and isinstance(optimizer.get("epochs"), int | float)
        and not _names(typed, f"{stage}.optimizer.epochs")
    ):
        content["optimizer"] = optimizer | {"epochs": optimizer["epochs"] * factor}
    if not _names(typed, f"{stage}.charset"):
        content |= _charset(content, recipe)
    return content


def _names(typed: Iterable[str], place: str) -> bool:
    """Whether the command line names the value at a place; what it names is taken at its word."""
    return any(f"{place}.".startswith(f"{key}.") for key in typed)


def _replaces(recipe: Recipe, place: str, typed: Iterable[str]) -> bool:
    """Whether stand-ins are wanted at a place."""
    return recipe.stand_ins and not _names(typed, place)


def _stand_ins(roots: Any) -> list[Any]:
    """Roots with their stand-ins instead, each once."""
    found = [
        registry()[root].stand_in or root if isinstance(root, str) and root in registry() else root
        for root in roots
    ]
    return found if any(not isinstance(root, str) for root in found) else list(dict.fromkeys(found))


def _stand_in(data: Tree, recipe: Recipe, place: str, typed: Iterable[str]) -> Tree:
    changed: Tree = {}
    if isinstance(data.get("roots"), list) and _replaces(recipe, f"{place}.roots", typed):
        changed["roots"] = _stand_ins(data["roots"])
    if isinstance(data.get("mix"), dict):
        changed["mix"] = _stand_in(data["mix"], recipe, f"{place}.mix", typed)
    return data | changed


def _stand_in_subsets(subsets: Any, recipe: Recipe, typed: Iterable[str]) -> Any:
    """Subsets with stand-ins, which go under the name of the split that is really read."""
    if not isinstance(subsets, dict):
        return subsets
    found: Tree = {}
    for name, data in subsets.items():
        new = (
            _stand_in(data, recipe, f"evaluate.subsets.{name}", typed)
            if isinstance(data, dict)
            else data
        )
        if new != data:
            name = new["roots"][0].partition(":")[2]
        found[name] = new
    return found


def _charset(content: Tree, recipe: Recipe) -> Tree:
    """The charset instead of a file's name: rendered Chinese words have one of their own; placeholders where there is no file.

    {} where no file is named, or nothing is known of its characters."""
    named, data = content.get("charset"), content.get("data")
    roots = data.get("roots") if isinstance(data, dict) else None
    if not isinstance(named, str) or not named.startswith("file:"):
        return {}
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        return {
            "charset": "ascii94"
        }  # so that what is wrong with the data is told, and not the charset
    if recipe.rendered_chinese is not None and roots == [f"{RENDERED['rendered_chinese']}train"]:
        return {"charset": synthetic.characters(recipe.rendered_chinese)}
    path = Path(expand(named.removeprefix("file:")))
    sets = [registry()[root] for root in roots if root in registry()]
    expected = max((one.characters or 0 for one in sets), default=0)
    if path.is_file() or not expected:
        return {"charset": f"file:{path}"}
    return {"charset": "".join(map(chr, range(FIRST_CHARACTER, FIRST_CHARACTER + expected)))}


def missing_charset(recipe: Recipe, config: StageConfig) -> str:
    """Why a stage's charset holds placeholders, or nothing."""
    named = recipe.finetune.get("charset", "")
    if not isinstance(config, Finetune) or not named.startswith("file:"):
        return ""
    path = Path(expand(named.removeprefix("file:")))
    if path.is_file() or config.data.roots == (f"{RENDERED['rendered_chinese']}train",):
        return ""
    return f"{path}: no such file; `run.py data charset ROOT --out FILE` makes it of labels"
