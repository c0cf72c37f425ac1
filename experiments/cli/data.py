"""`run.py data`: build, check and compare LMDB folders.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli.options import (
    add_command,
    add_reading,
    charset_of,
    positive,
    processes_of,
    progress_bar,
)

if TYPE_CHECKING:
    from core.data_tools.check_report import RootReport
    from core.data_tools.overlap import ImageHashes


def add_data_commands(commands: Any) -> None:
    """Add the parsers of `run.py data` to argparse's subparsers."""
    parser = commands.add_parser("data", help="build, check and compare LMDB folders")
    data = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(data)
    _add_check(data)
    _add_overlap(data)
    _add_charset(data)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="number of processes that read images (default: one for each core)",
    )


# Names of data sets and folders


@dataclass(frozen=True)
class FoundRoots:
    """The LMDB folders of one argument; `name` is the data set's name, if it is a known one."""

    name: str | None
    roots: list[str]


def _find(arguments: Sequence[str]) -> tuple[list[FoundRoots], list[str]]:
    """The roots of names and folders, and a sentence for each argument without any."""
    found = []
    missing = []
    for argument in arguments:
        try:
            found += _find_one(argument)
        except NoRootError as error:
            missing.append(str(error))
    return found, missing


class NoRootError(UserError):
    """A name or a folder has no LMDB folder."""


def _find_one(argument: str) -> list[FoundRoots]:
    """The roots of a name in `data.yaml` or of a folder. Raises NoRootError if there is none."""
    from core.data.lmdb_folder import find_roots
    from experiments.planning.registry import (
        data_set_name,
        describe_absence,
        locate,
        registry,
        unset_variable,
    )

    is_name = argument in registry() and not Path(argument).exists()
    name = argument if is_name else data_set_name(argument)
    folder = locate(argument) if is_name else argument
    if unset_variable(folder) or not Path(folder).exists():
        reasons = []
        if not is_name:
            unknown = "" if os.sep in folder else ", and no name in experiments/settings/data.yaml"
            reasons.append(f"{folder}: no such folder{unknown}")
        if name:
            reasons.append(describe_absence(name))
        raise NoRootError("; ".join(reasons))
    try:
        roots = find_roots(folder)
    except UserError as error:
        raise NoRootError(str(error)) from error
    if name:
        return [FoundRoots(name, roots)]
    return [FoundRoots(data_set_name(root), [root]) for root in roots]


def present_roots(argument: str) -> list[str]:
    """The LMDB folders of a name or folder. Raises NoRootError if there is none."""
    return [root for found in _find_one(argument) for root in found.roots]


# data build

BUILD = """Build an LMDB folder in the standard layout from annotated images.

SOURCE is an annotation file (text, TSV, CSV, JSON lines, MMOCR's JSON), a folder with one
(gt.txt, labels.tsv, labels.csv, annotation.json, ...), or a folder of images without labels.
OUT exists only when it is complete. If the command is interrupted, run it again to resume.
OUT/skipped.tsv lists skipped images with the reasons."""


def _add_build(commands: Any) -> None:
    parser = add_command(commands, "build", build_command, BUILD)
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("out", type=Path, metavar="OUT", help="the LMDB folder to make")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images (default: the annotation file's folder)",
    )
    _add_processes(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def build_command(arguments: argparse.Namespace) -> int:
    """Run `data build`; returns the exit code."""
    from core.data_tools.annotations import find_annotation_file, read_source
    from core.data_tools.build import SKIPPED, build, describe_reasons

    folder, annotations = read_source(arguments.source)
    out: Path = arguments.out
    with _stop_signals() as should_stop, progress_bar(f"building {out}") as show:
        built = build(
            annotations,
            arguments.images or folder,
            out,
            processes_of(arguments),
            should_stop=should_stop,
            on_progress=show,
        )
    if built is None:
        print(f"stopped; run the same command again to finish {out}", file=sys.stderr)
        return 130
    skipped = built.items - built.samples
    if arguments.json:
        result = {
            "out": str(out),
            "samples": built.samples,
            "skipped": skipped,
            "reasons": built.reasons,
        }
        print(json.dumps(result))
        return 0
    unlabeled = " without labels" if find_annotation_file(arguments.source) is None else ""
    print(f"{out}: {built.samples:,} samples{unlabeled}")
    if skipped:
        print(f"skipped {skipped:,}: {describe_reasons(built.reasons)}; listed in {out / SKIPPED}")
    return 0


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yields a function that tells whether one has arrived."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    previous = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield lambda: stopped
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


# data check

CHECK = """Check LMDB folders: counts against known sizes, broken images, missing keys, labels,
duplicates, and a fingerprint.

ROOT is an LMDB folder, a folder that contains some, or a name in experiments/settings/data.yaml.
Without ROOT all names are checked. The exit code is 1 if there is a problem or ROOT is missing."""


def _add_check(commands: Any) -> None:
    parser = add_command(commands, "check", check_command, CHECK)
    parser.add_argument("roots", nargs="*", metavar="ROOT")
    add_reading(parser)
    _add_processes(parser)
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")


@dataclass(frozen=True)
class CheckedRoot:
    """A root's report, and how its data set's size compares with the known sizes."""

    report: "RootReport"
    name: str | None  # of the data set
    known_sizes: tuple[int, ...]  # of the data set
    images_of_name: int  # images of the data set, in all its roots

    @property
    def has_known_size(self) -> bool:
        return self.images_of_name in self.known_sizes

    @property
    def problems(self) -> list[str]:
        problems = self.report.problems
        if self.name and self.known_sizes and not self.has_known_size:
            from experiments.planning.registry import registry

            sizes = " or ".join(f"{size:,}" for size in self.known_sizes)
            title = registry()[self.name].title
            problems.insert(
                0, f"{self.images_of_name:,} images, where {self.name} has {sizes} ({title})"
            )
        return problems

    def as_json(self) -> dict[str, Any]:
        return self.report.as_json() | {
            "problems": self.problems,
            "name": self.name,
            "known_sizes": list(self.known_sizes),
            "images_of_name": self.images_of_name,
        }


def check_command(arguments: argparse.Namespace) -> int:
    """Run `data check`; returns the exit code."""
    from experiments.cli.check_text import check_text
    from experiments.planning.registry import registry

    found, missing = _find(arguments.roots or list(registry()))
    failed = bool(missing and arguments.roots)
    checked: list[CheckedRoot] = []
    for roots in found:
        reports, unreadable = _check_roots(roots, arguments)
        known_sizes = registry()[roots.name].images if roots.name else ()
        images = sum(report.images for report in reports)
        checked += [CheckedRoot(report, roots.name, known_sizes, images) for report in reports]
        missing += unreadable
        failed = failed or bool(unreadable)
    if arguments.json:
        content = {"roots": [root.as_json() for root in checked], "missing": missing}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        texts = [
            check_text(root.report, root.problems, root.name if root.has_known_size else None)
            for root in checked
        ]
        texts += [f"missing or unusable  {sentence}" for sentence in missing]
        print("\n\n".join(texts))
    return 1 if failed or any(root.problems for root in checked) else 0


def _check_roots(
    found: FoundRoots, arguments: argparse.Namespace
) -> tuple[list["RootReport"], list[str]]:
    """The reports of the readable roots, and a sentence for each unreadable one."""
    from core.data_tools.check import check_root

    charset = charset_of(arguments)
    processes = processes_of(arguments)
    reports = []
    unreadable = []
    for root in found.roots:
        try:
            with progress_bar(f"checking {root}") as show:
                reports.append(check_root(root, charset, arguments.max_length, processes, show))
        except UserError as error:
            unreadable.append(str(error))
    return reports, unreadable


# data overlap

OVERLAP = """Find images of the training root TRAIN that are also in the test root TEST: equal
files, and near duplicates (by a perceptual hash).

Writes a list of TRAIN's images to leave out, for `pretrain.data.filters` and
`finetune.data.filters`."""


def _add_overlap(commands: Any) -> None:
    parser = add_command(commands, "overlap", overlap_command, OVERLAP)
    parser.add_argument("train", metavar="TRAIN", help="a folder or a name in data.yaml")
    parser.add_argument("test", metavar="TEST", help="a folder or a name in data.yaml")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the list (default: results/filters/TRAIN_without_TEST.tsv)",
    )
    parser.add_argument(
        "--threshold",
        type=int,
        metavar="BITS",
        help="near duplicates differ in at most BITS of 256 bits (default 48)",
    )
    _add_processes(parser)
    parser.add_argument("--json", action="store_true", help="print the matches as JSON")


def overlap_command(arguments: argparse.Namespace) -> int:
    """Run `data overlap`; returns the exit code."""
    from core.data_tools.overlap import BITS, THRESHOLD, find_matches, write_filter

    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    if not 0 <= threshold < BITS // 2:
        raise UserError(
            f"--threshold {threshold}: choose 0 to {BITS // 2 - 1}; "
            f"unrelated images differ in about half of {BITS} bits"
        )
    train_roots = present_roots(arguments.train)
    test_roots = present_roots(arguments.test)
    processes = processes_of(arguments)
    train = _hash(train_roots, processes)
    test = _hash(test_roots, processes)
    matches = find_matches(train, test, threshold)
    name = f"{Path(arguments.train).name}_without_{Path(arguments.test).name}.tsv"
    out: Path = arguments.out or Path("results", "filters", name)
    write_filter(out, train_roots, test_roots, matches, threshold)
    exact = sum(match.exact for match in matches)
    near = len(matches) - exact
    unreadable = train.unreadable + test.unreadable
    if arguments.json:
        result = {
            "images": len(train),
            "against": len(test),
            "exact": exact,
            "near": near,
            "threshold": threshold,
            "bits": BITS,
            "unreadable": unreadable,
            "filter": str(out),
            "matches": [match.as_json() for match in matches],
        }
        print(json.dumps(result))
        return 0
    print(
        f"{len(train):,} training images compared with {len(test):,} test images: "
        f"{exact:,} equal files, {near:,} near duplicates"
    )
    print(f"(at most {threshold} of {BITS} bits differ; {unreadable:,} images cannot be read)")
    print(f"{out} lists them; leave them out with --set 'finetune.data.filters=[{out}]'")
    return 0


def _hash(roots: list[str], processes: int) -> "ImageHashes":
    from core.data.word_images import WordImages
    from core.data_tools.overlap import hash_roots

    with progress_bar(f"hashing {', '.join(roots)}", len(WordImages(roots))) as show:
        return hash_roots(roots, processes, show)


# data charset

CHARSET = (
    """Collect the characters of all labels, in a file for `--set finetune.charset=file:PATH`."""
)


def _add_charset(commands: Any) -> None:
    parser = add_command(commands, "charset", charset_command, CHARSET)
    parser.add_argument(
        "roots",
        nargs="+",
        metavar="ROOT",
        help="a folder or a name in experiments/settings/data.yaml",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the file, one line of characters in UTF-8 (default: standard output)",
    )
    parser.add_argument(
        "--min-count",
        "--least",  # the name of version 0.1
        type=positive,
        default=1,
        metavar="N",
        help="leave out characters that fewer than N labels contain (default 1)",
    )


def charset_command(arguments: argparse.Namespace) -> int:
    """Run `data charset`; returns the exit code."""
    from core.data.word_images import WordImages
    from core.runtime.files import write_text
    from core.text.charset import Charset, count_characters

    roots = [root for argument in arguments.roots for root in present_roots(argument)]
    counts = count_characters(label for label in WordImages(roots).labels() if label)
    if not counts:
        raise UserError(f"{', '.join(arguments.roots)}: no labels, so no characters")
    frequent = sorted(mark for mark, count in counts.items() if count >= arguments.min_count)
    if not frequent:
        raise UserError(f"--min-count {arguments.min_count}: no character is in that many labels")
    charset = Charset("".join(frequent))
    if arguments.out is None:
        print(charset.characters)
    else:
        write_text(arguments.out, charset.characters + "\n")
    print(
        f"{len(frequent):,} characters, {charset.classes:,} classes; "
        f"{len(counts) - len(frequent):,} rarer characters left out",
        file=sys.stderr,
    )
    return 0
