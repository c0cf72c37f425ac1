"""`run.py data card`: a card of an LMDB folder."""

import argparse
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.conversion import processes_of
from experiments.cli.named_roots import FoundRoots, add_processes_option, find_named_roots
from experiments.cli.options import add_command, add_license_option
from experiments.cli.output import print_or_write, progress_bar

if TYPE_CHECKING:
    from core.data_tools.data_card import KnownData

SHOWN_ROOTS = 3  # in a message

CARD = """Write a data card (Markdown with YAML front matter) of an LMDB folder.

It has counts, sizes of images, lengths and characters of labels, unreadable images, a fingerprint,
the license as far as it is stated, how the folder was made, and how to use it."""


def add_data_card_command(commands: Any) -> None:
    """Add the parser of `data card`."""
    parser = add_command(commands, "card", data_card_command, CARD)
    parser.add_argument(
        "root",
        type=argument_types.path_or_name,
        metavar="ROOT",
        help="an LMDB folder or a name in data.yaml",
    )
    parser.add_argument(
        "--out",
        type=argument_types.output_file,
        metavar="FILE",
        help="the card (default: standard output)",
    )
    add_license_option(parser, "of the data")
    parser.add_argument(
        "--suspects",
        type=argument_types.path,
        metavar="FILE",
        help="suspects.json of `data suspects` for this root",
    )
    parser.add_argument(
        "--overlap",
        type=argument_types.path,
        metavar="FILE",
        help="list of `data overlap` with this root as TRAIN",
    )
    add_processes_option(parser)


def data_card_command(arguments: argparse.Namespace) -> int:
    """Run `data card`; returns the exit code."""
    from core.data_tools.data_card import describe_root

    found, root = _one_root(arguments.root)
    with progress_bar(f"reading {root}") as show:
        text = describe_root(
            root,
            _known_data(found.name),
            license_id=arguments.license,
            suspects=arguments.suspects,
            overlap=arguments.overlap,
            processes=processes_of(arguments),
            on_progress=show,
        )
    print_or_write(text, arguments.out)
    return 0


def _one_root(argument: str) -> tuple[FoundRoots, str]:
    """The LMDB folder of the argument. Raises UserError unless there is exactly one."""
    found = find_named_roots(argument)
    roots = [root for one in found for root in one.roots]
    if len(roots) > 1:
        more = ", ..." if len(roots) > SHOWN_ROOTS else ""
        raise UserError(
            f"{argument}: holds {len(roots)} LMDB folders "
            f"({', '.join(roots[:SHOWN_ROOTS])}{more}); name one of them"
        )
    return found[0], roots[0]


def _known_data(name: str | None) -> "KnownData | None":
    """The data set of data.yaml. name: its name, if it has one."""
    from core.data_tools.data_card import KnownData
    from experiments.planning.registry import registry

    if name is None:
        return None
    data_set = registry()[name]
    return KnownData(name, data_set.title, data_set.published, data_set.images)
