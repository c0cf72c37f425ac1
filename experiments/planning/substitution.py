"""Values of a stage that depend on its data: synthetic substitutes, epochs and the charset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.config import Finetune, StageConfig
from core.synthetic.vocabulary import vocabulary_characters
from experiments.planning.diagnostics import Tree
from experiments.planning.registry import expand, registry
from experiments.planning.schema import Recipe

SYNTHETIC_PREFIXES = {  # section of a recipe -> prefix of the roots that it defines
    "synthetic": "synthetic:",
    "synthetic_chinese": "synthetic_chinese:",
}
CHINESE_TRAINING_ROOT = f"{SYNTHETIC_PREFIXES['synthetic_chinese']}train"
FIRST_PLACEHOLDER = 0x4E00  # code point in place of the first character of an absent charset file


def filled_in(stage: str, recipe: Recipe, typed: Sequence[str]) -> Tree:
    """The settings of a stage, with its data substituted and its epochs and charset resolved.

    Invalid values stay unchanged; the config of the stage then reports them.

    stage: `pretrain`, `finetune` or `evaluate`.
    recipe: the recipe.
    typed: dotted keys of the command line. Values that they set are never substituted.
    """
    content = dict(getattr(recipe, stage))
    if stage == "evaluate":
        return content | {"subsets": _substituted_subsets(content.get("subsets"), recipe, typed)}
    for key in ("data", "validation"):
        if isinstance(content.get(key), dict):
            content[key] = _substituted(content[key], recipe, f"{stage}.{key}", typed)
    optimizer = content.get("optimizer")
    if isinstance(optimizer, dict) and not _is_typed(f"{stage}.optimizer.epochs", typed):
        epochs = optimizer.get("epochs")
        if isinstance(epochs, int | float) and not isinstance(epochs, bool):
            factor = getattr(recipe.epoch_multiplier, stage)
            content["optimizer"] = optimizer | {"epochs": epochs * factor}
    if not _is_typed(f"{stage}.charset", typed):
        content |= _charset(content, recipe)
    return content


def with_substitutes(settings: Tree, section: str, recipe: Recipe, typed: Sequence[str]) -> Tree:
    """A probe's settings with synthetic data in place of named data sets, where that is wanted.

    settings: of the probe. section: its dotted key. The others are those of `filled_in`.
    """
    changed: Tree = {}
    if isinstance(settings.get("data"), dict):
        changed["data"] = _substituted(settings["data"], recipe, f"{section}.data", typed)
    if "subsets" in settings:
        changed["subsets"] = _substituted_subsets(
            settings["subsets"], recipe, typed, f"{section}.subsets"
        )
    return settings | changed


def _is_typed(key: str, typed: Sequence[str]) -> bool:
    """Whether the command line sets the value at a dotted key, or a section above it."""
    return any(f"{key}.".startswith(f"{typed_key}.") for typed_key in typed)


def _substituted(data: Tree, recipe: Recipe, key: str, typed: Sequence[str]) -> Tree:
    """A data section with synthetic roots in place of named data sets, where that is wanted.

    data: the section.
    recipe: says whether data are substituted.
    key: the dotted key of the section.
    typed: dotted keys of the command line.
    """
    changed: Tree = {}
    substitute = recipe.substitute_synthetic and not _is_typed(f"{key}.roots", typed)
    if substitute and isinstance(data.get("roots"), list):
        changed["roots"] = _substitutes(data["roots"])
    if isinstance(data.get("mix"), dict):
        changed["mix"] = _substituted(data["mix"], recipe, f"{key}.mix", typed)
    return data | changed


def _substitutes(roots: list[Any]) -> list[Any]:
    """The roots with synthetic ones in place of named data sets, without duplicates."""
    if not all(isinstance(root, str) for root in roots):
        return roots  # invalid; the stage's config says so
    known = registry()
    substitutes = [known[root].synthetic_substitute if root in known else "" for root in roots]
    chosen = [new or root for new, root in zip(substitutes, roots, strict=True)]
    return list(dict.fromkeys(chosen))


def _substituted_subsets(
    subsets: Any, recipe: Recipe, typed: Sequence[str], key: str = "evaluate.subsets"
) -> Any:
    """Test subsets with substituted data. A substituted subset gets the name of its split."""
    if not isinstance(subsets, dict):
        return subsets
    result: Tree = {}
    for name, data in subsets.items():
        if not isinstance(data, dict):
            result[name] = data
            continue
        substituted = _substituted(data, recipe, f"{key}.{name}", typed)
        if substituted != data:
            _, _, split = substituted["roots"][0].partition(":")
            result[split] = substituted
        else:
            result[name] = data
    return result


def _charset(content: Tree, recipe: Recipe) -> Tree:
    """{"charset": characters} where the settings name a charset file, else {}.

    Synthetic Chinese words define their charset. If the file does not exist, placeholders
    take its place, as many as the data set has characters; so the run can be planned.
    """
    charset = content.get("charset")
    data = content.get("data")
    roots = data.get("roots") if isinstance(data, dict) else None
    if not isinstance(charset, str) or not charset.startswith("file:"):
        return {}
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        return {"charset": "ascii94"}  # so that the error message is about the roots
    if recipe.synthetic_chinese is not None and roots == [CHINESE_TRAINING_ROOT]:
        return {"charset": vocabulary_characters(recipe.synthetic_chinese)}
    path = _charset_path(charset)
    data_sets = [registry()[root] for root in roots if root in registry()]
    size = max((data_set.characters or 0 for data_set in data_sets), default=0)
    if path.is_file() or not size:
        return {"charset": f"file:{path}"}
    return {"charset": "".join(map(chr, range(FIRST_PLACEHOLDER, FIRST_PLACEHOLDER + size)))}


def _charset_path(charset: str) -> Path:
    return Path(expand(charset.removeprefix("file:")))


def absent_charset(recipe: Recipe, config: StageConfig) -> str:
    """A sentence if the charset of a config consists of placeholders, else an empty text."""
    charset = recipe.finetune.get("charset", "")
    if not isinstance(config, Finetune) or not charset.startswith("file:"):
        return ""
    path = _charset_path(charset)
    if path.is_file() or config.data.roots == (CHINESE_TRAINING_ROOT,):
        return ""
    return f"{path}: no such file; `run.py data charset ROOT --out FILE` makes it from labels"
