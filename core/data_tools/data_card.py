"""A data card: Markdown with front matter on one LMDB folder. Missing facts are named."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data_tools.build import RECORD, SKIPPED, describe_reasons
from core.data_tools.card_facts import (
    CardFacts,
    KnownSuspects,
    Overlap,
    card_facts,
    read_overlap,
    read_suspects,
    script_of,
)
from core.data_tools.check import check_root
from core.data_tools.check_report import RootReport
from core.runtime.yaml import dump_yaml
from core.text.charset import Charset
from core.text.markdown import code_span, escape, fenced, table

DEFAULT_LENGTH = 25  # of a recognizer, with the end mark
SHOWN_CHARACTERS = 200
SHOWN_KEYS = 10
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True)
class KnownData:
    """A data set of data.yaml.

    name: by which experiments can call it.
    title: what it is.
    published: who publishes it.
    sizes: numbers of images under which it is known.
    """

    name: str
    title: str
    published: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class CardOptions:
    """What the folder does not say.

    name: of the data set in data.yaml, or of its folder.
    known: the data set of data.yaml that it is taken for; None if it is none.
    license_id: as the owner states it; None if it is not stated.
    overlap, suspects: of files that the user names; None without them.
    """

    name: str
    known: KnownData | None = None
    license_id: str | None = None
    overlap: Overlap | None = None
    suspects: KnownSuspects | None = None


def describe_root(
    root: str,
    known: KnownData | None,
    *,
    license_id: str | None,
    suspects: Path | None,
    overlap: Path | None,
    processes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """The data card of an LMDB folder.

    root: the folder.
    known: the data set of data.yaml that it is taken for; None if it is none.
    license_id: as the owner of the data states it; None if it is not stated.
    suspects: suspects.json of `data suspects`.
    overlap: list of `data overlap`.
    processes: processes that read images.
    on_progress: called with the number of read images and their total.

    Raises UserError if the folder or one of the files cannot be used, or is about other data.
    """
    options = CardOptions(
        name=known.name if known else Path(root).resolve().name,
        known=known,
        license_id=license_id,
        overlap=read_overlap(overlap, root) if overlap else None,
        suspects=read_suspects(suspects, root) if suspects else None,
    )
    report = check_root(root, Charset(), DEFAULT_LENGTH, processes, on_progress)
    return data_card(report, card_facts(root), options)


def data_card(report: RootReport, facts: CardFacts, options: CardOptions) -> str:
    """The text of a data card.

    report: of `check_root`. facts: further facts. options: what the user and the suite know."""
    sections = [
        [f"# {escape(_title(options))}", "", *_summary(report, facts, options)],
        ["## Counts", "", *_counts(report, options)],
        ["## Images", "", *_images(report, facts)],
        ["## Labels", "", *_labels(report, facts)],
        ["## Known problems", "", *_problems(report, options)],
        ["## How it was made", "", *_origin(facts, options)],
        ["## How to use it in an experiment", "", *_use(report, options)],
        ["## License", "", *_license(facts, options)],
    ]
    text = "\n\n".join("\n".join(lines).rstrip() for lines in sections)
    return f"{_front_matter(report, options)}\n{text}\n"


def _front_matter(report: RootReport, options: CardOptions) -> str:
    size = next((name for limit, name in SIZES if report.images < limit), "n>1M")
    content: dict[str, Any] = {
        "license": options.license_id or "unknown",
        "pretty_name": options.name,
        "task_categories": ["image-to-text"],
        "tags": ["scene-text-recognition", "ocr", "lmdb"],
        "size_categories": [size],
    }
    return f"---\n{dump_yaml(content)}---\n"


def _title(options: CardOptions) -> str:
    return f"{options.known.title} ({options.name})" if options.known else options.name


def _summary(report: RootReport, facts: CardFacts, options: CardOptions) -> Iterator[str]:
    labels = "with their texts" if report.labeled else "without labels"
    yield (
        f"{report.images:,} images of single words or lines of text, {labels}, in one LMDB folder "
        "with the keys `image-000000001`, `label-000000001` and so on."
    )
    if options.known:
        yield ""
        yield (
            f"It is taken for {escape(options.known.title)} because of its folder. Counts and "
            "fingerprint below let you check that."
        )
    yield ""
    yield (
        f"Fingerprint of the content: {code_span(report.fingerprint)}. Data with another "
        "fingerprint differ. Data with this one have the same number of images, the same labels "
        "(100,000 of them, if there are more) and the same 64 images out of all."
    )
    if facts.boxes:
        yield ""
        yield f"Fingerprint of the boxes of characters: {code_span(facts.boxes)}."


def _counts(report: RootReport, options: CardOptions) -> Iterator[str]:
    labels = report.labels
    with_label = sum(labels.lengths.values())
    duplicates = report.duplicates
    rows = [
        ("images", f"{report.images:,}"),
        ("images with a label", f"{with_label:,}"),
        ("images without a label, or with an empty one", f"{labels.unlabeled:,}"),
        ("images that are missing", f"{report.missing_images.count:,}"),
        ("images that cannot be decoded", f"{report.undecodable.count:,}"),
        ("labels that are not UTF-8", f"{report.undecodable_labels.count:,}"),
        (
            "images that are copies of each other, byte by byte",
            f"{duplicates.images:,} ({duplicates.groups:,} different files)",
        ),
    ]
    yield from table(("what", "number"), rows)
    known_sizes = options.known.sizes if options.known else ()
    if known_sizes:
        sizes = " or ".join(f"{size:,}" for size in known_sizes)
        fits = "This is one of them" if report.images in known_sizes else "**This differs**"
        yield ""
        yield f"The data set of this name is known with {sizes} images. {fits}."


def _images(report: RootReport, facts: CardFacts) -> Iterator[str]:
    if not report.sizes:
        yield "No image can be decoded."
        return
    titles = {"width": "width, pixels", "height": "height, pixels", "ratio": "width / height"}
    percents = list(next(iter(report.sizes.values())).quantiles)
    names = {"0": "smallest", "50": "median", "100": "largest"}
    head = ("size", *(names.get(percent, f"{percent} %") for percent in percents))
    rows = [
        (titles[name], *(f"{sizes.quantiles[percent]:g}" for percent in percents))
        for name, sizes in report.sizes.items()
    ]
    yield from table(head, rows)
    yield ""
    yield "A column `5 %` has the size that 5 % of the images do not exceed."
    if facts.photos:
        yield ""
        yield (
            f"The words were cut from {facts.photos:,} photos, whose names are stored. Words of "
            "one photo are not independent."
        )


def _labels(report: RootReport, facts: CardFacts) -> Iterator[str]:
    lengths = report.labels.lengths
    if not lengths:
        yield "There are no labels: the data serve pre-training only."
        return
    yield from _lengths({int(length): count for length, count in lengths.items()})
    yield ""
    characters_of = Counter(map(script_of, facts.characters))
    scripts = [
        (escape(name), f"{count:,}", f"{characters_of[name]:,}")
        for name, count in facts.scripts.most_common()
    ]
    yield from table(("script or kind of character", "labels with it", "characters"), scripts)
    yield ""
    yield (
        "Languages are not recorded. Scripts follow from the characters. Many languages share one."
    )
    yield ""
    characters = "".join(sorted(facts.characters))
    shown = characters[:SHOWN_CHARACTERS]
    rest = f" and {len(characters) - len(shown):,} more" if len(characters) > len(shown) else ""
    yield f"{len(characters):,} different characters{', the first of them' if rest else ''}:"
    yield ""
    yield from fenced(_printable(shown))
    if rest:
        yield ""
        yield f"... {rest.strip()}; `run.py data charset` writes all of them."
    yield ""
    outside = report.labels.characters_outside
    if facts.white_space:
        yield f"- {facts.white_space:,} labels have white space, which no recognizer here predicts."
    if report.labels.over_long:
        yield (
            f"- {report.labels.over_long:,} labels are longer than {DEFAULT_LENGTH - 1} "
            "characters, the most that a recognizer with default settings predicts."
        )
    if report.labels.unknown_characters:
        marks = ", ".join(
            f"{code_span(mark)} ({count:,})"
            for mark, count in list(outside.items())[:SHOWN_KEYS]
            if not mark.isspace()
        )
        yield (
            f"- {report.labels.unknown_characters:,} labels have a character outside the default "
            f"set of 94 ASCII characters, white space included{': ' * bool(marks)}{marks}."
        )
    yield ""
    yield f"Some labels: {', '.join(map(code_span, facts.examples))}."


def _printable(text: str) -> str:
    """Characters in a line; those that are no visible text as their code points."""
    return "".join(
        mark if unicodedata.category(mark)[0] not in "CMZ" else f" U+{ord(mark):04X} "
        for mark in text
    )


def _lengths(lengths: dict[int, int]) -> Iterator[str]:
    total = sum(lengths.values())
    mean = sum(length * count for length, count in lengths.items()) / total
    yield (
        f"{total:,} labels of {min(lengths)} to {max(lengths)} characters, {mean:.1f} on average."
    )
    yield ""
    bins: dict[str, int] = {}
    for length, count in sorted(lengths.items()):
        name = str(length) if length <= 12 else "13 to 24" if length <= 24 else "25 and more"
        bins[name] = bins.get(name, 0) + count
    yield from table(("characters", *bins), [("labels", *(f"{n:,}" for n in bins.values()))])


def _problems(report: RootReport, options: CardOptions) -> Iterator[str]:
    if not report.problems:
        yield "- `run.py data check` finds no missing key and no broken image."
    for problem in report.problems:
        yield f"- {escape(problem)}."
    suspects = options.suspects
    if suspects is None:
        yield "- Label errors: not examined for this card (`--suspects`)."
    else:
        yield (
            f"- {suspects.count:,} of {suspects.images:,} labels are contradicted by a recognizer "
            f"with a confidence of at least {suspects.confidence:g} (protocol "
            f"{code_span(suspects.protocol)}, {code_span(suspects.file)}). They are likely errors, "
            "and not all of them are."
        )
    overlap = options.overlap
    if overlap is None:
        yield "- Overlap with other data: not examined for this card (`--overlap`)."
    else:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in overlap.kinds.items()) or "none"
        yield (
            f"- Overlap with other data: {counts} ({code_span(overlap.file)}: "
            f"{escape(overlap.title)}). Leave such images out of training with "
            "`finetune.data.filters`; otherwise test results are too good."
        )


def _origin(facts: CardFacts, options: CardOptions) -> Iterator[str]:
    if options.known:
        yield f"- Published by: {escape(options.known.published)}. Not checked by this card."
    record = facts.record
    if record is None:
        yield (
            f"- Not recorded: there is no {code_span(RECORD)} in the folder, which "
            "`run.py data build` writes."
        )
    else:
        yield (
            f"- Built by `run.py data build` from {code_span(str(record.get('source', '')))} "
            f"(format {code_span(str(record.get('format', '')))}): "
            f"{record.get('samples', 'unknown')} samples, {record.get('skipped', 'unknown')} "
            "skipped."
        )
        reasons = record.get("reasons")
        if isinstance(reasons, dict) and reasons:
            yield f"- Skipped, by reason: {escape(describe_reasons(reasons))}."
        chosen = record.get("options")
        if isinstance(chosen, dict) and chosen:
            listed = ", ".join(f"{name} {value}" for name, value in chosen.items())
            yield f"- Options of the build: {escape(listed)}."
    if facts.skipped is not None:
        yield f"- {code_span(SKIPPED)} lists {facts.skipped:,} skipped annotations with reasons."


def _use(report: RootReport, options: CardOptions) -> Iterator[str]:
    root = options.name if options.known else f"/data/{options.name}"
    if options.known:
        yield (
            f"{code_span(root)} is a name of `experiments/settings/data.yaml`; say where its "
            f"folder is with {code_span(f'LMIM_ROOT_{root.upper()}=/data/{root}')}."
        )
    else:
        yield f"Put the folder at {code_span(root)}, or write your own path."
    yield ""
    yield "To pre-train on it:" if not report.labeled else "To test a recognizer on it:"
    yield ""
    yield from fenced(experiment_lines(root, labeled=report.labeled), "yaml")
    if report.labeled:
        yield ""
        yield (
            "To train on it, set `finetune.data.roots` (with labels) or `pretrain.data.roots` "
            "(labels are not used) in the same way. Never train on what you test on."
        )


def experiment_lines(root: str, *, labeled: bool) -> str:
    """An experiment file that uses a root: as test set with labels, or for pre-training."""
    change: dict[str, Any] = (
        {"evaluate.subsets": {"mine": {"roots": [root]}}}
        if labeled
        else {"pretrain.data.roots": [root]}
    )
    content = {
        "title": "my data",
        "scale": "real",
        "seeds": [0],
        "set": change,
        "variants": [{"name": "LMIM"}],
    }
    return dump_yaml(content)


def _license(facts: CardFacts, options: CardOptions) -> Iterator[str]:
    if options.license_id:
        yield f"{code_span(options.license_id)}, as stated for this card."
    else:
        yield "Unknown: it was not stated for this card. Ask who publishes the data."
    if facts.license_file:
        name, line = facts.license_file
        yield ""
        yield f"The folder has a file {code_span(name)} that begins: {code_span(line)}."
