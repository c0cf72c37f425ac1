"""`run.py data`: build, check and compare LMDB folders, and collect their characters.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.data_tools.annotations import some_names
from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.conversion import processes_of
from experiments.cli.data_check import add_check_command
from experiments.cli.data_overlap import add_overlap_command
from experiments.cli.named_roots import add_processes_option, present_roots
from experiments.cli.options import add_command, add_json_option
from experiments.cli.output import print_json, progress_bar

MAX_COUNT = 10**9


def add_data_commands(commands: Any) -> None:
    """Add the parsers of `run.py data` to argparse's subparsers."""
    parser = commands.add_parser("data", help="build, check and compare LMDB folders")
    data = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(data)
    add_check_command(data)
    add_overlap_command(data)
    _add_charset(data)


# data build

BUILD = """Build an LMDB folder in the standard layout from annotated images.

SOURCE is an annotation file (text, TSV, CSV, JSON lines, MMOCR's JSON), a folder with one
(gt.txt, labels.tsv, labels.csv, annotation.json, ...), or a folder of images. There, a label may be
in a text file beside its image: word_1.txt or gt_word_1.txt for word_1.png.
With --boxes, SOURCE is an LMDB folder: boxes and names of photos are stored beside its labels.
OUT exists only when it is complete. If the command is interrupted, run it again to resume.
OUT/skipped.tsv lists skipped images with the reasons."""


def _add_build(commands: Any) -> None:
    parser = add_command(commands, "build", build_command, BUILD)
    parser.add_argument("source", type=argument_types.path, metavar="SOURCE")
    parser.add_argument(
        "out", type=argument_types.folder, metavar="OUT", help="the LMDB folder to make"
    )
    parser.add_argument(
        "--images",
        type=argument_types.path,
        metavar="DIR",
        help="folder of the images (default: the annotation file's folder)",
    )
    parser.add_argument(
        "--boxes",
        type=argument_types.path,
        metavar="FILE",
        help="JSON lines with the boxes of the words' characters",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which words of FILE, if it has several splits",
    )
    add_processes_option(parser)
    add_json_option(parser, "print the result as JSON")


def build_command(arguments: argparse.Namespace) -> int:
    """Run `data build`; returns the exit code."""
    is_lmdb = (arguments.source / "data.mdb").is_file()
    if arguments.boxes is not None:
        return _add_boxes(arguments, is_lmdb)
    if arguments.split is not None:
        raise UserError("--split: it chooses words of a file of boxes; name the file with --boxes")
    if is_lmdb:
        raise UserError(
            f"{arguments.source}: already an LMDB folder; --boxes FILE adds boxes to its words"
        )
    return _build_images(arguments)


def _add_boxes(arguments: argparse.Namespace, is_lmdb: bool) -> int:
    """Run `data build --boxes`; returns the exit code. is_lmdb: whether SOURCE is one."""
    from core.data_tools.add_boxes import WITHOUT_BOXES, add_boxes

    if not is_lmdb:
        raise UserError(
            f"{arguments.source}: no LMDB folder, to which --boxes adds; build it first without "
            "--boxes"
        )
    for option in ("images", "processes"):
        if getattr(arguments, option) is not None:
            raise UserError(f"--{option}: it has no effect with --boxes; leave it out")
    out: Path = arguments.out
    added = add_boxes(str(arguments.source), arguments.boxes, arguments.split, out)
    with_boxes = added.samples - len(added.problems)
    if arguments.json:
        result = {
            "out": str(out),
            "samples": added.samples,
            "boxes": with_boxes,
            "photos": added.photos,
            "without_boxes": added.problems,
        }
        print_json(result)
        return 0
    photos = f", {added.photos:,} with the name of their photo" if added.photos else ""
    print(f"{out}: {added.samples:,} samples, {with_boxes:,} with boxes{photos}")
    if added.problems:
        numbers = some_names([str(number) for number in sorted(added.problems)])
        print(
            f"without boxes: {len(added.problems):,} samples (numbers {numbers}); "
            f"reasons in {out / WITHOUT_BOXES}"
        )
    return 0


def _build_images(arguments: argparse.Namespace) -> int:
    """Run `data build` on annotations or images; returns the exit code."""
    from core.data_tools.build import SKIPPED, build, describe_reasons
    from core.data_tools.sources import find_source

    source = find_source(arguments.source)
    for note in source.notes:
        print(note, file=sys.stderr)
    out: Path = arguments.out
    with _stop_signals() as should_stop, progress_bar(f"building {out}") as show:
        built = build(
            source.annotations,
            arguments.images or source.folder,
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
        print_json(result)
        return 0
    unlabeled = "" if source.labeled else " without labels"
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


# data charset

CHARSET = (
    """Collect the characters of all labels, in a file for `--set finetune.charset=file:PATH`."""
)


def _add_charset(commands: Any) -> None:
    parser = add_command(commands, "charset", charset_command, CHARSET)
    parser.add_argument(
        "roots",
        nargs="+",
        type=argument_types.path_or_name,
        metavar="ROOT",
        help="a folder or a name in experiments/settings/data.yaml",
    )
    parser.add_argument(
        "--out",
        type=argument_types.output_file,
        metavar="FILE",
        help="the file, one line of characters in UTF-8 (default: standard output)",
    )
    parser.add_argument(
        "--min-count",
        "--least",  # the name of version 0.1
        type=argument_types.whole_number(1, MAX_COUNT),
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
    controls = {mark for mark in counts if unicodedata.category(mark) == "Cc"}
    printable = {mark: count for mark, count in counts.items() if mark not in controls}
    frequent = sorted(mark for mark, count in printable.items() if count >= arguments.min_count)
    if not frequent:
        raise UserError(f"--min-count {arguments.min_count}: no character is in that many labels")
    charset = Charset("".join(frequent))
    if arguments.out is None:
        print(charset.characters)
    else:
        write_text(arguments.out, charset.characters + "\n")
    print(
        f"{len(frequent):,} characters, {charset.classes:,} classes; "
        f"{len(printable) - len(frequent):,} rarer characters left out"
        + (f"; {len(controls)} control characters left out" if controls else ""),
        file=sys.stderr,
    )
    return 0
