"""A model card: Markdown with front matter, from the record of a run. Missing facts are named."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.cards.comparison import compare_with_paper
from analysis.cards.front_matter import front_matter
from analysis.cards.lineage import CardRuns, RecordedRun, is_recognizer, last_part, method_of
from analysis.cards.loading import loading_section
from analysis.cards.measured import evaluation_result
from analysis.cards.paper_recipe import Difference, differences
from analysis.cards.results_section import results_section
from core.config import Finetune, Pretrain
from core.runtime.yaml import dump_yaml, read_yaml
from core.text.markdown import code_span, escape, fenced, table
from results.provenance import REPOSITORY

MISSING = "not recorded"
PAPER = "Linguistics-aware Masked Image Modeling for Self-supervised Scene Text Recognition"
PAPER_LINK = "[arXiv 2503.18746](https://arxiv.org/abs/2503.18746)"
PLACE_KEYS = ("roots", "filters")  # of a config: they can name folders of a user's machine
SUITE = "the suite *LMIM, re-run and checked*"


def model_card(runs: CardRuns, license_id: str | None, hub_folder: Path | None) -> str:
    """The text of a card.

    runs: what it is about.
    license_id: of the weights, as their owner states it; None if it is not stated.
    hub_folder: the folder that holds the weights and this card; None: the run's own.

    Raises UserError for a damaged record.
    """
    results = [evaluation_result(run) for run in runs.evaluations]
    title = f"{_kind(runs)} {runs.model.id}"
    sections = [
        [f"# {title}", "", *_summary(runs)],
        ["## May I compare its numbers with the paper's?", "", *_comparison(runs)],
        ["## What it is", "", *_description(runs)],
        ["## Results", "", *results_section(runs, results)],
        ["## Limits", "", *_limits(runs)],
        ["## How to load it", "", *loading_section(runs, hub_folder)],
        ["## Training data", "", *_data(runs)],
        ["## Recipe", "", *_recipe(runs)],
        ["## How it was computed", "", *_provenance(runs)],
        ["## License", "", *_license(license_id)],
        ["## Citation", "", *_citation()],
    ]
    text = "\n\n".join("\n".join(lines).rstrip() for lines in sections)
    return f"{front_matter(runs, results, title, license_id)}\n{text}\n"


def _kind(runs: CardRuns) -> str:
    method = method_of(runs)
    if is_recognizer(runs.model.config):
        return "Text recognizer" if method in ("none", MISSING) else f"{method} text recognizer"
    return f"{method} text image encoder"


def _summary(runs: CardRuns) -> Iterator[str]:
    what = (
        "reads one word from an image that is cut out around it"
        if is_recognizer(runs.model.config)
        else "turns an image of one word into features. It reads no text by itself"
    )
    yield (
        f"This model {what}. It was trained by {SUITE}, which re-runs the paper *{PAPER}* "
        f"(CVPR 2025, {PAPER_LINK}). It is **not** a model of the paper's authors."
    )


def _comparison(runs: CardRuns) -> Iterator[str]:
    comparison = compare_with_paper(runs)
    yield f"**{comparison.answer}.** {comparison.explanation}"
    yield ""
    rows = [
        (check.question, f"**{check.answer}**", escape(check.why)) for check in comparison.checks
    ]
    yield from table(("condition", "met?", "why"), rows)
    yield ""
    yield (
        "May I compare it with another run of this suite? Yes, if that run's card has the same "
        "fingerprints of test data, the same protocol and the same label policy. Two runs with one "
        "seed each do not tell which recipe is better: use several seeds of both. With numbers of "
        "other papers or programs? Only if they state the same test images, label version and "
        "scoring."
    )


def _description(runs: CardRuns) -> Iterator[str]:
    config = runs.model.config
    encoder = getattr(config, "encoder", None)
    if encoder is not None:
        height, width = encoder.image
        yield (
            f"- Encoder: vision transformer of width {encoder.width}, {encoder.depth} blocks, "
            f"{encoder.heads} heads, on {height} x {width} pixels in patches of "
            f"{encoder.patch[0]} x {encoder.patch[1]} (height x width)."
        )
    if isinstance(config, Finetune):
        decoder = config.decoder
        yield (
            "- Text: a CTC head on the columns of patches."
            if decoder is None
            else f"- Text: a Transformer decoder of width {decoder.width} with {decoder.layers} "
            "layers, one character after the other."
        )
        kind = "94 printable ASCII characters" if config.charset == "ascii94" else ""
        kind = kind or f"{len(config.charset):,} characters (listed in the config below)"
        yield (
            f"- It knows {kind}, but no white space. A word has at most {config.max_length - 1} "
            "characters."
        )
    yield f"- Pre-training: {_pretraining(runs)}"
    parameters = runs.model.metrics.get("parameters")
    yield (
        f"- Trained parameters: {parameters:,}."
        if parameters
        else (f"- Number of parameters: {MISSING}.")
    )


def _pretraining(runs: CardRuns) -> str:
    method = method_of(runs)
    if method == "none":
        return "none. The encoder started from random weights."
    if method == MISSING:
        source = runs.model.inputs.get("encoder", "")
        what = "a file of weights" if source.startswith("file:") else f"run {code_span(source)}"
        return f"from {what}, whose record is not in the results folder. The method is unknown."
    run = runs.pretraining
    assert run is not None
    what = {
        "LMIM": "LMIM, masked image modeling with a linguistic guidance branch",
        "MIM": "MIM, masked image modeling with one branch",
        "SeqCLR": "SeqCLR, contrastive learning of parts of words",
    }[method]
    config = run.config
    target = f"; target: {config.target.kind}" if isinstance(config, Pretrain) else ""
    return f"{what}{target} (run {code_span(run.id)})."


def _limits(runs: CardRuns) -> Iterator[str]:
    trained_on = [
        root
        for run in runs.trainings.values()
        for role in ("train", "mixed")
        for root in run.roots.get(role, [])
    ]
    if trained_on and all(root.is_rendered for root in trained_on):
        yield (
            "- It was trained on rendered words only: text drawn with fonts on simple backgrounds. "
            "On photographs it can be far worse than here, and this is not measured unless the "
            "results above name a test set of photographs."
        )
    seeds = len(runs.siblings) + 1
    others = f" The results folder has {seeds - 1} further seeds of this recipe." * (seeds > 1)
    yield (
        f"- It is one training with one seed.{others} How much another seed moves the numbers is "
        "not part of their intervals."
    )
    encoder = getattr(runs.model.config, "encoder", None)
    if encoder is not None and encoder.width < 384:
        yield (
            f"- It is small (encoder width {encoder.width}, {encoder.depth} blocks; the paper's "
            "has width 384 and 12). It is made for comparisons of methods, and not for use."
        )
    yield "- It was not examined for bias, for safety, or on languages that its data lack."


def _data(runs: CardRuns) -> Iterator[str]:
    rows = []
    for name, run in runs.trainings.items():
        for role, roots in run.roots.items():
            for root in roots:
                rows.append(
                    (
                        name,
                        role,
                        code_span(root.name or MISSING),
                        f"{root.images:,}" if root.images else MISSING,
                        code_span(root.fingerprint or MISSING),
                    )
                )
    if not rows:
        yield f"The data are {MISSING}."
        return
    yield from table(("training", "used for", "data set", "images", "fingerprint"), rows)
    yield ""
    yield (
        "A fingerprint is a hash of the content: equal fingerprints are equal data. "
        + _label_note(runs)
    )
    for name in runs.absent:
        yield f"\nThe record of the {name} is not in the results folder: its data are unknown."


def _label_note(runs: CardRuns) -> str:
    config = runs.model.config
    if not isinstance(config, Finetune):
        return "Pre-training uses no labels."
    dropped = {name: n for name, n in (runs.model.metrics.get("dropped") or {}).items() if n}
    listed = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in dropped.items())
    left_out = f" Labels that training left out: {listed}." if listed else ""
    if config.label_subset is None:
        return f"Fine-tuning used all labels that fit.{left_out}"
    size = config.label_subset
    part = f"{size.count:,} words" if size.count is not None else f"a share of {size.share:g}"
    return f"Fine-tuning used {part} of the labeled ones, drawn with the seed.{left_out}"


def _recipe(runs: CardRuns) -> Iterator[str]:
    found = differences(runs)
    if found:
        yield (
            f"{len(found)} settings differ from the paper's base recipe "
            "(`experiments/base/lmim.yaml` of the suite; of a teacher: its MIM). All others are "
            "equal. Data, precision and seed are listed elsewhere."
        )
        yield ""
        yield from table(("training", "setting", "this model", "paper"), map(_row, found))
    else:
        yield "All settings are those of the paper's base recipe."
    yield ""
    yield (
        "All settings as they were used. Folders are shown by their last name; fingerprints say "
        "what was in them."
    )
    for name, run in runs.trainings.items():
        yield ""
        yield f"<details><summary>{name}: {run.id}</summary>"
        yield ""
        config = _public(run.config.model_dump(mode="json"))
        yield from fenced(dump_yaml(config), "yaml")
        yield ""
        yield "</details>"


def _row(difference: Difference) -> tuple[str, str, str, str]:
    return (
        difference.training,
        code_span(difference.key),
        _value(difference.value),
        _value(difference.paper),
    )


def _value(value: Any) -> str:
    return "none" if value is None else code_span(json.dumps(value, ensure_ascii=False))


def _public(value: Any) -> Any:
    """A config whose folders are shortened to their last names."""
    if isinstance(value, Mapping):
        return {
            key: [last_part(root) for root in item]
            if key in PLACE_KEYS and isinstance(item, list)
            else _public(item)
            for key, item in value.items()
        }
    return value


def _provenance(runs: CardRuns) -> Iterator[str]:
    rows = [("", *(name for name in runs.trainings))]
    facts = {
        "run": lambda run: code_span(run.id),
        "seed": lambda run: _text(run.record.get("seed")),
        "precision": lambda run: _text(getattr(run.config, "precision", None)),
        "commit": _commit,
        "steps": lambda run: _number(run.metrics.get("steps")),
        "images seen": lambda run: _number(run.metrics.get("images_seen")),
        "started": lambda run: _text(run.record.get("started")),
        "duration": _duration,
        "hardware": _hardware,
        "versions": _versions,
    }
    rows += [
        (name, *(fact(run) for run in runs.trainings.values())) for name, fact in facts.items()
    ]
    yield from table(rows[0], rows[1:])
    for name in runs.absent:
        yield f"\nThe record of the {name} is not in the results folder."


def _text(value: object) -> str:
    return MISSING if value is None or value == "" else escape(str(value))


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else MISSING


def _commit(run: RecordedRun) -> str:
    code = run.record.get("code") or {}
    commit = code.get("commit")
    if not commit:
        return MISSING
    clean = {True: "", False: " with uncommitted changes", None: " (changes unknown)"}
    return code_span(str(commit)) + clean.get(code.get("clean"), "")


def _duration(run: RecordedRun) -> str:
    seconds = run.record.get("seconds")
    if not isinstance(seconds, int | float):
        return MISSING
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:,.0f} s"


def _hardware(run: RecordedRun) -> str:
    hardware = run.record.get("hardware") or {}
    if not hardware:
        return MISSING
    device = hardware.get("accelerator") or hardware.get("processor") or MISSING
    count = hardware.get("processes", 1)
    threads = hardware.get("threads")
    details = [f"{count} processes"] if count > 1 else []
    if not hardware.get("accelerator") and threads:
        details.append(f"{threads} threads" if threads > 1 else "1 thread")
    return escape(str(device)) + (f", {', '.join(details)}" if details else "")


def _versions(run: RecordedRun) -> str:
    versions = run.record.get("versions") or {}
    return escape(", ".join(f"{name} {text}" for name, text in versions.items())) or MISSING


def _license(license_id: str | None) -> Iterator[str]:
    if license_id:
        yield f"Weights: {code_span(license_id)}, as their owner stated for this card."
    else:
        yield (
            "The license of these weights is not stated. Ask their owner before you use them; the "
            "licenses of the training data can matter too."
        )
    yield ""
    yield "The code of the suite is under the MIT license."


def _citation() -> Iterator[str]:
    content = read_yaml(REPOSITORY / "CITATION.cff")
    (paper,) = content["references"]
    authors = " and ".join(
        f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]
    )
    yield "The method is the paper's:"
    yield ""
    entry = [
        "@inproceedings{lmim2025,",
        f"  title = {{{paper['title']}}},",
        f"  author = {{{authors}}},",
        f"  booktitle = {{{paper['collection-title']}}},",
        f"  year = {{{paper['year']}}}",
        "}",
    ]
    yield from fenced("\n".join(entry), "bibtex")
    yield ""
    yield (
        f"The model was made with *{escape(content['title'])}*, at the commit above; its file "
        "`CITATION.cff` says how to cite it."
    )
