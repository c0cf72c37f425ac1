"""The YAML front matter of a model card, as model hubs read it."""

import re
from typing import Any

from analysis.cards.lineage import RENDERED, CardRuns, is_recognizer, method_of
from analysis.cards.measured import EvaluationResult
from core.runtime.yaml import dump_yaml

UNKNOWN_LICENSE = "unknown"
RENDERED_WORDS = "rendered-words"
TAGS = ("scene-text-recognition", "ocr", "self-supervised-learning", "masked-image-modeling")


def front_matter(
    runs: CardRuns, results: list[EvaluationResult], title: str, license_id: str | None
) -> str:
    """The front matter with its lines `---`.

    results: of the evaluations. title: of the card. license_id: of the weights, if it is stated."""
    content: dict[str, Any] = {
        "license": license_id or UNKNOWN_LICENSE,
        "library_name": "pytorch",
        "pipeline_tag": "image-to-text"
        if is_recognizer(runs.model.config)
        else ("image-feature-extraction"),
        "tags": [*TAGS, *_method_tag(runs)],
        "datasets": data_names(runs),
    }
    if results:
        content["metrics"] = ["accuracy"]
        content["model-index"] = [{"name": title, "results": _model_index(results)}]
    return f"---\n{dump_yaml(content)}---\n"


def _method_tag(runs: CardRuns) -> list[str]:
    method = method_of(runs)
    return [method.lower()] if method in ("LMIM", "MIM", "SeqCLR") else []


def data_names(runs: CardRuns) -> list[str]:
    """Names of the data sets that the model was trained on, as identifiers."""
    roots = (
        root.data_set
        for run in runs.trainings.values()
        for role in ("train", "mixed")
        for root in run.roots.get(role, [])
    )
    return list(dict.fromkeys(map(data_name, roots)))


def data_name(root: str) -> str:
    """A root as an identifier; rendered words have one name."""
    if root.startswith(RENDERED):
        chinese = "-chinese" if root.startswith(f"{RENDERED}_chinese") else ""
        return f"{RENDERED_WORDS}{chinese}"
    return re.sub(r"[^\w.-]+", "-", root) or "not-recorded"


def _model_index(results: list[EvaluationResult]) -> list[dict[str, Any]]:
    """An entry for each test set: hubs compare entries by data set and metric."""
    return [
        {
            "task": {"type": "image-to-text", "name": "scene text recognition"},
            "dataset": {
                "type": "/".join(dict.fromkeys(data_name(root.data_set) for root in subset.roots)),
                "name": f"{subset.name} ({subset.images:,} images"
                + (", rendered words)" if all(root.is_rendered for root in subset.roots) else ")"),
                "split": subset.name,
                "revision": ", ".join(root.fingerprint for root in subset.roots),
            },
            "metrics": [
                {
                    "type": "accuracy",
                    "name": f"word accuracy in percent, protocol {result.readings.protocol}",
                    "value": round(100 * subset.estimate.value, 2),
                }
            ],
        }
        for result in results
        for subset in result.subsets
    ]
