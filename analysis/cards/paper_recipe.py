"""How the settings of a run differ from the paper's base recipe."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from analysis.cards.lineage import CardRuns, RecordedRun
from core.config import StageConfig
from experiments.planning.recipe import method_layer, read_recipe, read_stage
from experiments.planning.schema import file_layer

BASE = "lmim"  # experiments/base/lmim.yaml
TEACHER_METHOD = "MIM"
# Settings that say where or with which random numbers a run was computed, and data, which the
# card shows apart.
NOT_COMPARED = ("seed", "precision", "data", "validation")
# Values that the paper's own tables have besides those of the base recipe: setting -> values. A run
# with one of them is another row of the paper.
STUDIED: dict[str, tuple[Any, ...]] = {
    "mask.kind": ("block",),
    "mask.ratio": (0.6, 0.75, 0.9),
    "guidance": (None,),
    "guidance.strength": ("weak", "strong"),
    "alignment": (None,),
    "target": (None,),
    "target.kind": ("pixel", "random_feature"),
    "target.normalized": (True,),
    "decoder.order": ("CA-SA-FFN", "SA-FFN"),
    "optimizer.epochs": (10, 20, 60),
}


@dataclass(frozen=True)
class Difference:
    """A setting of a run that differs from the paper's base recipe.

    training: `fine-tuning`, `pre-training` or `teacher`.
    key: of the setting in its stage.
    value, paper: both values; None is a part that does not exist.
    """

    training: str
    key: str
    value: Any
    paper: Any

    @property
    def is_studied(self) -> bool:
        """Whether the paper's tables vary this setting, and have this value."""
        return self.value in STUDIED.get(self.key, ())


def differences(runs: CardRuns) -> list[Difference]:
    """All settings of a model's trainings that differ from the paper's base recipe.

    The encoder of a fine-tuning is that of its pre-training; its settings are listed once."""
    found: list[Difference] = []
    for name, run in runs.trainings.items():
        has_other = name == "fine-tuning" and runs.pretraining is not None
        found += [
            difference
            for difference in _differences(name, run)
            if not (has_other and difference.key.startswith("encoder."))
        ]
    return found


def _differences(name: str, run: RecordedRun) -> Iterator[Difference]:
    paper = _paper_config(run.stage, TEACHER_METHOD if name == "teacher" else None)
    values = run.config.model_dump(mode="json", exclude=set(NOT_COMPARED))
    for key, value, of_paper in _unequal("", values, paper):
        yield Difference(name, key, value, of_paper)


@cache
def _paper_config(stage: str, method: str | None) -> dict[str, Any]:
    """The settings of a stage in the paper's base recipe."""
    base = file_layer("base", BASE)
    method_of_base = method_layer(method, read_recipe([base]), base.source, base.source)
    layers = [base, method_of_base]
    config: StageConfig = read_stage(stage, read_recipe(layers), "fp32", 0, layers)
    return config.model_dump(mode="json", exclude=set(NOT_COMPARED))


def _unequal(key: str, value: Any, paper: Any) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value, the paper's value) of each setting that differs."""
    if isinstance(value, dict) and isinstance(paper, dict):
        for name in dict.fromkeys((*value, *paper)):
            inner = f"{key}.{name}" if key else name
            yield from _unequal(inner, value.get(name), paper.get(name))
    elif value != paper:
        yield key, value, paper
