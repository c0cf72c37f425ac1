"""The LMDB folders that an argument of a command names: a folder, or a name in `data.yaml`."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.options import MAX_PROCESSES


@dataclass(frozen=True)
class FoundRoots:
    """The LMDB folders of one argument; `name` is the data set's name, if it is a known one."""

    name: str | None
    roots: list[str]


def find_all_roots(arguments: Sequence[str]) -> tuple[list[FoundRoots], list[str]]:
    """The roots of names and folders, and a sentence for each argument without any."""
    found = []
    missing = []
    for argument in arguments:
        try:
            found += find_named_roots(argument)
        except NoRootError as error:
            missing.append(str(error))
    return found, missing


class NoRootError(UserError):
    """A name or a folder has no LMDB folder."""


def find_named_roots(argument: str) -> list[FoundRoots]:
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
    """The LMDB folders of a name or folder. What is unusual about one is printed as a note.

    Raises NoRootError if there is none, and UserError if one cannot be used.
    """
    from core.data.lmdb_folder import root_irregularity

    roots = [root for found in find_named_roots(argument) for root in found.roots]
    for root in roots:
        if irregularity := root_irregularity(root):
            print(f"note: {irregularity}", file=sys.stderr)
    return roots


def names_of_roots(argument: str, roots: Sequence[str]) -> list[str]:
    """The names by which predictions can call these roots: of the data set, and of the folder.

    argument: of the command. roots: that it names."""
    known = [found.name for found in find_named_roots(argument) if found.name]
    return [*known, Path(roots[0]).resolve().name]


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=argument_types.whole_number(1, MAX_PROCESSES),
        metavar="N",
        help="processes that read images (default: one per core)",
    )
