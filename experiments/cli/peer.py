"""The command `peer`: read data sets with an independent recognizer, to check the scorer."""

import argparse
import sys
from pathlib import Path
from typing import Any

from core.peer import NOT_COMPARABLE, PPOCRV6
from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.named_roots import find_named_roots, present_roots
from experiments.cli.options import add_command, add_json_option
from experiments.cli.output import print_json, progress_bar
from experiments.cli.stop_signals import stop_signals

PEER = """Read data sets with an independent recognizer. It checks the scorer and is no baseline.

ppocrv6 is PP-OCRv6-small in the package rapidocr, an optional one:
    pip install --no-deps -r requirements-peer.txt
Its training data are unknown, so its scores are comparable with no other row.
If the command is interrupted, run it again to resume. `run.py score` scores the predictions."""


def add_peer_command(commands: Any) -> None:
    """Add the parser of the command to argparse's subparsers."""
    parser = add_command(commands, "peer", peer_command, PEER)
    parser.add_argument("peer", choices=(PPOCRV6,), help="the recognizer")
    parser.add_argument(
        "roots",
        nargs="+",
        type=argument_types.path_or_name,
        metavar="ROOT",
        help="an LMDB folder with labels, or a name in experiments/settings/data.yaml",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=argument_types.folder,
        metavar="FOLDER",
        help="where predictions.csv and record.json are written",
    )
    add_json_option(parser, "print the files and numbers of images as JSON")


def peer_command(arguments: argparse.Namespace) -> int:
    """Run `peer`; returns the exit code."""
    from core.peer.ppocrv6 import SHA256, find_model, load_model, package_versions
    from core.peer.reading import identity, read_roots
    from core.runtime.processes import cores

    model = find_model()
    out: Path = arguments.out
    roots = subset_roots(arguments.roots)
    about = identity(arguments.peer, SHA256, package_versions(), roots)
    with stop_signals() as should_stop, progress_bar(f"reading with {arguments.peer}") as show:
        result = read_roots(
            lambda: load_model(model, cores()), roots, out, about, show, should_stop
        )
    if result is None:
        print(f"stopped; run the same command again to finish {out}", file=sys.stderr)
        return 130
    if arguments.json:
        print_json(
            {
                "predictions": str(result.predictions),
                "images": result.images,
                "unusable": result.unusable,
                "seconds": round(result.seconds, 1),
                "comparability": NOT_COMPARABLE,
            }
        )
        return 0
    for subset, images in result.images.items():
        unusable = result.unusable[subset]
        wrong = f", {unusable:,} unreadable or without label count as wrong" if unusable else ""
        print(f"{subset}: {images:,} images{wrong}")
    print(f"{result.predictions}: score it with `run.py score`; {NOT_COMPARABLE}")
    return 0


def subset_roots(arguments: list[str]) -> dict[str, list[str]]:
    """Subset -> its LMDB folders. The subset is the data set's name, or else the folder's.

    Raises UserError if two folders have the same name.
    """
    subsets: dict[str, list[str]] = {}
    for argument in arguments:
        present_roots(argument)  # for its notes
        for found in find_named_roots(argument):
            name = found.name or Path(found.roots[0]).resolve().name
            if name in subsets:
                raise UserError(
                    f"{argument}: a second data set of the name {name}; read it into a folder of "
                    "its own"
                )
            subsets[name] = found.roots
    return subsets
