"""`run.py data`: build, check, compare and describe LMDB folders; collect their characters.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import sys
import unicodedata
from typing import Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.data_build import add_build_command
from experiments.cli.data_card import add_data_card_command
from experiments.cli.data_check import add_check_command
from experiments.cli.data_overlap import add_overlap_command
from experiments.cli.named_roots import present_roots
from experiments.cli.options import add_command

MAX_COUNT = 10**9


def add_data_commands(commands: Any) -> Any:
    """Add the parsers of `run.py data` to argparse's subparsers; returns those of `data`."""
    parser = commands.add_parser("data", help="build, check and compare LMDB folders")
    data = parser.add_subparsers(required=True, metavar="COMMAND")
    add_build_command(data)
    add_check_command(data)
    add_overlap_command(data)
    add_data_card_command(data)
    _add_charset(data)
    return data


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
