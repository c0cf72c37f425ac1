"""`run.py data check`: reports on LMDB folders."""

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.conversion import charset_of, processes_of
from experiments.cli.named_roots import FoundRoots, add_processes_option, find_all_roots
from experiments.cli.options import add_command, add_json_option, add_recognizer_options
from experiments.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from core.data_tools.check_report import RootReport

CHECK = """Check LMDB folders: counts against known sizes, broken images, missing keys, labels,
duplicates, and a fingerprint.

ROOT is an LMDB folder, a folder that contains some, or a name in experiments/settings/data.yaml.
Without ROOT all names are checked. The exit code is 1 if there is a problem or ROOT is missing."""


def add_check_command(commands: Any) -> None:
    parser = add_command(commands, "check", check_command, CHECK)
    parser.add_argument("roots", nargs="*", type=argument_types.path_or_name, metavar="ROOT")
    add_recognizer_options(parser)
    add_processes_option(parser)
    add_json_option(parser, "print the reports as JSON")


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
    from experiments.planning.registry import can_be_built, registry

    # The words of a set that a run builds are checked under their own name.
    names = [name for name in registry() if not can_be_built(name)]
    found, missing = find_all_roots(arguments.roots or names)
    unusable = list(missing) if arguments.roots else []
    checked: list[CheckedRoot] = []
    for roots in found:
        reports, unreadable = _check_roots(roots, arguments)
        known_sizes = registry()[roots.name].images if roots.name else ()
        images = sum(report.images for report in reports)
        checked += [CheckedRoot(report, roots.name, known_sizes, images) for report in reports]
        missing += unreadable
        unusable += unreadable
    for sentence in unusable:
        print(f"error: {sentence}", file=sys.stderr)
    if arguments.json:
        content = {"roots": [root.as_json() for root in checked], "missing": missing}
        print_json(content)
    else:
        texts = [
            check_text(root.report, root.problems, root.name if root.has_known_size else None)
            for root in checked
        ]
        texts += [f"missing or unusable  {sentence}" for sentence in missing]
        print("\n\n".join(texts))
    return 1 if unusable or any(root.problems for root in checked) else 0


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
