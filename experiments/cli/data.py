"""`run.py data`: build, check and compare LMDB folders. Heavy imports stay inside the functions, so that `--help` is quick."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError
from experiments.cli.options import (
    add_command,
    add_reading,
    charset_of,
    positive,
    processes_of,
    progress_bar,
)


def add_data_commands(commands: Any) -> None:
    """Add the parsers of these commands."""
    parser = commands.add_parser("data", help="build, check and compare LMDB folders")
    data = parser.add_subparsers(required=True, metavar="WHAT")
    _add_build(data)
    _add_check(data)
    _add_overlap(data)
    _add_charset(data)


def _find(names: Sequence[str]) -> tuple[list[tuple[str | None, list[str]]], list[str]]:
    """(registry name, LMDB folders) of each name or folder given, and a sentence for each that stands for nothing."""
    from core.data.lmdb_folder import find_roots
    from experiments.planning.registry import absent, locate, recognize, registry, unset_variable

    found: list[tuple[str | None, list[str]]] = []
    missing = []
    for name in names:
        known = name if name in registry() and not Path(name).exists() else recognize(name)
        place = locate(name) if known == name else name
        if unset_variable(place) or not Path(place).exists():
            unknown = "" if os.sep in place else ", and no name of experiments/settings/data.yaml"
            told = [] if known == name else [f"{place}: no such folder{unknown}"]
            missing.append("; ".join([*told, *([absent(known)] if known else [])]))
            continue
        try:
            roots = find_roots(place)
        except UserError as error:
            missing.append(str(error))
            continue
        if known:
            found.append((known, roots))
        else:
            found += [(recognize(root), [root]) for root in roots]
    return found, missing


def present_roots(name: str) -> list[str]:
    """The LMDB folders that a name or folder stands for. Raises UserError if there is none."""
    found, missing = _find([name])
    if missing:
        raise UserError(missing[0])
    return [root for _, roots in found for root in roots]


# data build

BUILD = """Annotated images -> an LMDB folder in the standard layout.

SOURCE is a folder with gt.txt, labels.tsv, labels.csv or annotation.json; such a file, or a .jsonl, itself; or a folder of
images without labels. Interrupted, the same command goes on; until it is whole, OUT does not exist. Skipped images are named
in OUT/skipped.tsv."""


def _add_build(commands: Any) -> None:
    parser = add_command(commands, "build", build_command, BUILD)
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("out", type=Path, metavar="OUT", help="the LMDB folder to make")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="where the images lie (default: beside the annotations)",
    )
    parser.add_argument(
        "--processes", type=positive, help="that read images (default: one for each core)"
    )
    parser.add_argument("--json", action="store_true")


def build_command(arguments: argparse.Namespace) -> int:
    from core.data_tools.annotations import find_annotation, source_items
    from core.data_tools.build import SKIPPED, build, describe

    folder, items = source_items(arguments.source)
    folder = arguments.images or folder
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    previous = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with progress_bar(f"building {arguments.out}") as show:
            done = build(
                items, folder, arguments.out, processes_of(arguments), lambda: stopped, show
            )
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
    if done is None:
        print(
            f"stopped; {arguments.out} is not made yet, the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    skipped = done.items - done.samples
    if arguments.json:
        print(
            json.dumps(
                {
                    "out": str(arguments.out),
                    "samples": done.samples,
                    "skipped": skipped,
                    "reasons": done.reasons,
                }
            )
        )
        return 0
    bare = " without labels" if find_annotation(arguments.source) is None else ""
    print(f"{arguments.out}: {done.samples:,} samples{bare}")
    if skipped:
        print(f"skipped {skipped:,}: {describe(done.reasons)}; named in {arguments.out / SKIPPED}")
    return 0


# data check

CHECK = """What is in LMDB folders: counts against known sizes, broken images, missing keys, labels, duplicates, a fingerprint.

ROOT is a folder (or one that holds several), or a name of experiments/settings/data.yaml. Without ROOT: every name, and what is
missing. Exit code 1 where something is wrong, or a ROOT missing."""


def _add_check(commands: Any) -> None:
    parser = add_command(commands, "check", check_command, CHECK)
    parser.add_argument("roots", nargs="*", metavar="ROOT")
    add_reading(parser)
    parser.add_argument(
        "--processes", type=positive, help="that decode images (default: one for each core)"
    )
    parser.add_argument("--json", action="store_true")


def check_command(arguments: argparse.Namespace) -> int:
    from core.data_tools.check import check_root
    from experiments.planning.registry import registry

    found, missing = _find(arguments.roots or list(registry()))
    charset, reports, wrong = charset_of(arguments), [], bool(missing and arguments.roots)
    for name, roots in found:
        checked = []
        for root in roots:
            try:
                with progress_bar(f"checking {root}") as show:
                    report = check_root(
                        root, charset, arguments.max_length, processes_of(arguments), show
                    )
            except UserError as error:
                missing.append(str(error))
                wrong = True
            else:
                checked.append(report | {"name": name})
        known = registry()[name].images if name else ()
        total = sum(report["images"] for report in checked)
        for report in checked:
            report |= {"known_sizes": list(known), "images_of_name": total}
            if name and known and total not in known:
                sizes = " or ".join(f"{size:,}" for size in known)
                report["problems"].insert(
                    0, f"{total:,} images, where {name} has {sizes} ({registry()[name].what})"
                )
        reports += checked
    if arguments.json:
        print(json.dumps({"roots": reports, "missing": missing}, indent=1, ensure_ascii=False))
    else:
        print(
            "\n\n".join(
                [
                    *map(_check_text, reports),
                    *(f"missing or unusable  {sentence}" for sentence in missing),
                ]
            )
        )
    return 1 if wrong or any(report["problems"] for report in reports) else 0


def _check_text(report: dict[str, Any]) -> str:
    known = (
        f", as {report['name']} should have"
        if report["images_of_name"] in report["known_sizes"]
        else ""
    )
    lines = [
        f"{report['root']}: {report['images']:,} images{known}; fingerprint {report['fingerprint']}",
        *(f"  problem  {problem}" for problem in report["problems"]),
        *(f"  note     {note}" for note in report["notes"]),
    ]
    for name, values in report["sizes"].items():
        title = "width / height" if name == "ratio" else f"{name} in pixels"
        lines += _bars(f"{title}, median {values['median']:g}", values["histogram"])
    lengths = report["labels"]["lengths"]
    if lengths:
        lines += _bars("label length", lengths)
    outside = report["labels"]["characters_outside"]
    if outside:
        shown = ", ".join(f"{mark!r} x {count}" for mark, count in list(outside.items())[:20])
        lines.append(
            f"  characters outside the charset, by labels: {shown}"
            + (", ..." if len(outside) > 20 else "")
        )
    if report["labeled"]:
        for name, counts in report["labels"]["protocols"].items():
            lines.append(
                f"  protocol {name:21} alters {counts['altered']:,} labels and leaves nothing of {counts['empty']:,}"
            )
    return "\n".join(lines)


def _bars(title: str, histogram: dict[str, int], rows: int = 16) -> list[str]:
    """A histogram in lines of text; what does not fit is added up in the last one."""
    entries = list(histogram.items())
    if len(entries) > rows:
        rest = entries[rows - 1 :]
        entries = [
            *entries[: rows - 1],
            (f"{rest[0][0]} and more", sum(count for _, count in rest)),
        ]
    most, width = max(count for _, count in entries), max(len(value) for value, _ in entries)
    bars = [
        f"    {value:>{width}} {'#' * -(-40 * count // most)} {count:,}" for value, count in entries
    ]
    return [f"  {title}", *bars]


# data overlap

OVERLAP = """Images of the training root A that are also in the test root B: equal files, and near duplicates (perceptual hash).

Writes a list of A's images to leave out, which `pretrain.data.filters` and `finetune.data.filters` accept."""


def _add_overlap(commands: Any) -> None:
    parser = add_command(commands, "overlap", overlap_command, OVERLAP)
    parser.add_argument("train", metavar="A")
    parser.add_argument("test", metavar="B")
    parser.add_argument(
        "--out", type=Path, help="the list (default: results/filters/A_without_B.tsv)"
    )
    parser.add_argument(
        "--threshold",
        type=int,
        metavar="BITS",
        help="near: at most so many of 256 bits differ (default 48)",
    )
    parser.add_argument(
        "--processes", type=positive, help="that read images (default: one for each core)"
    )
    parser.add_argument("--json", action="store_true")


def overlap_command(arguments: argparse.Namespace) -> int:
    from core.data.word_images import WordImages
    from core.data_tools.overlap import BITS, THRESHOLD, find_matches, hash_roots, write_filter

    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    if not 0 <= threshold < BITS // 2:
        raise UserError(
            f"--threshold {threshold}: of {BITS} bits, unrelated images differ in about half; 0 to {BITS // 2 - 1}"
        )
    train, test = present_roots(arguments.train), present_roots(arguments.test)
    hashes = []
    for roots in (train, test):
        with progress_bar(f"hashing {', '.join(roots)}", len(WordImages(roots))) as show:
            hashes.append(hash_roots(roots, processes_of(arguments), show))
    matches = find_matches(hashes[0], hashes[1], threshold)
    name = f"{Path(arguments.train).name}_without_{Path(arguments.test).name}.tsv"
    out = arguments.out or Path("results", "filters", name)
    write_filter(out, train, test, matches, threshold)
    exact = sum(match.exact for match in matches)
    counts = {
        "images": len(hashes[0][1]),
        "against": len(hashes[1][1]),
        "exact": exact,
        "near": len(matches) - exact,
    }
    unreadable = [int((files == 0).sum()) for _, files in hashes]
    if arguments.json:
        result = counts | {
            "threshold": threshold,
            "bits": BITS,
            "unreadable": sum(unreadable),
            "filter": str(out),
        }
        print(json.dumps(result | {"matches": [vars(match) for match in matches]}))
        return 0
    print(
        f"{counts['images']:,} images against {counts['against']:,}: {exact:,} equal files, {counts['near']:,} near duplicates"
    )
    print(
        f"(at most {threshold} of {BITS} bits differ; {sum(unreadable):,} images could not be read)"
    )
    print(f"{out} lists them; leave them out with --set 'finetune.data.filters=[{out}]'")
    return 0


# data charset


def _add_charset(commands: Any) -> None:
    parser = add_command(
        commands,
        "charset",
        charset_command,
        "The characters of all labels, as a file that --set finetune.charset=file:PATH takes.",
    )
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="one line of characters, UTF-8 (default: to standard output)",
    )
    parser.add_argument(
        "--least",
        type=positive,
        default=1,
        metavar="N",
        help="leave out characters that fewer labels have",
    )


def charset_command(arguments: argparse.Namespace) -> int:
    from core.data.word_images import WordImages
    from core.runtime.files import write_text
    from core.text.charset import Charset, count_characters

    found = count_characters(
        label
        for label in WordImages(
            [root for name in arguments.roots for root in present_roots(name)]
        ).labels()
        if label
    )
    if not found:
        raise UserError(f"{', '.join(arguments.roots)}: no labels here, so no characters")
    kept = Charset(
        "".join(sorted(mark for mark, count in found.items() if count >= arguments.least))
    )
    if not kept.characters:
        raise UserError(f"--least {arguments.least}: no character is in so many labels")
    if arguments.out is None:
        print(kept.characters)
    else:
        write_text(arguments.out, kept.characters + "\n")
    left = len(found) - len(kept.characters)
    print(
        f"{len(kept.characters):,} characters, {kept.classes:,} classes; {left:,} rarer ones left out",
        file=sys.stderr,
    )
    return 0
