"""The command `data suspects`: labels that a confident recognizer disagrees with."""

import argparse
import sys
from pathlib import Path
from typing import Any

from core.text.protocols import PROTOCOLS
from experiments.cli import argument_types
from experiments.cli.named_roots import names_of_roots, present_roots
from experiments.cli.options import add_command, add_json_option
from experiments.cli.output import print_json

MAX_IMAGES = 10_000
DEFAULT_IMAGES = 200

SUSPECTS = """List labels that a confident recognizer disagrees with: likely label errors.

The predictions come from `run.py peer`, or from any other recognizer that states confidences.
With --out, writes the list (suspects.csv, suspects.json) and pictures (suspects-1.png, ...)
into a folder that git does not track. Look at the pictures: many labels will be right."""


def add_suspects_command(commands: Any) -> None:
    """Add the parser of the command. commands: argparse's subparsers of `run.py data`."""
    parser = add_command(commands, "suspects", suspects_command, SUSPECTS)
    parser.add_argument(
        "root",
        type=argument_types.path_or_name,
        metavar="ROOT",
        help="the test set: an LMDB folder or a name in data.yaml",
    )
    parser.add_argument(
        "--predictions",
        required=True,
        type=argument_types.path,
        metavar="FILE",
        help="predictions for its images, with confidences",
    )
    parser.add_argument(
        "--protocol", choices=tuple(PROTOCOLS), default="waics", help="default: waics"
    )
    parser.add_argument(
        "--confidence",
        type=argument_types.real_number(0, 1),
        default=0.9,
        metavar="P",
        help="the least confidence (default 0.9)",
    )
    parser.add_argument(
        "--out", type=argument_types.folder, metavar="FOLDER", help="write lists and pictures"
    )
    parser.add_argument(
        "--images",
        type=argument_types.whole_number(1, MAX_IMAGES),
        metavar="N",
        help="pictures show the N most confident (default 200)",
    )
    add_json_option(parser)


def suspects_command(arguments: argparse.Namespace) -> int:
    """Run `data suspects`; returns the exit code."""
    from analysis.figures.suspects import write_pages
    from analysis.tables.prediction_files import read_prediction_file
    from analysis.tables.suspects import (
        check_folder,
        find_suspects,
        predictions_of_root,
        write_lists,
    )
    from core.data.word_images import WordImages
    from experiments.cli.conversion import refuse_options

    out: Path | None = arguments.out
    if out is None:
        refuse_options(arguments, {"images": "has an effect only with --out"})
    else:
        check_folder(out)
    content = read_prediction_file(arguments.predictions)
    roots = present_roots(arguments.root)
    names = names_of_roots(arguments.root, roots)
    images = WordImages(roots)
    subset, predictions = predictions_of_root(arguments.predictions, content.subsets, names, images)
    found = find_suspects(subset, predictions, PROTOCOLS[arguments.protocol], arguments.confidence)
    for note in content.notes:
        print(f"note: {note}", file=sys.stderr)
    if out is not None:
        count = arguments.images or DEFAULT_IMAGES
        written = [*write_lists(found, out), *write_pages(images, found, count, out)]
        print(*written, sep="\n", file=sys.stderr)
    if arguments.json:
        print_json(found.as_json())
        return 0
    print(found.summary())
    for suspect in found.suspects:
        print(suspect.line())
    return 0
