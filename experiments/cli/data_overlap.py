"""`run.py data overlap`: training images that are also in a test set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli import argument_types
from experiments.cli.conversion import processes_of
from experiments.cli.named_roots import add_processes_option, present_roots
from experiments.cli.options import add_command, add_json_option
from experiments.cli.output import print_json, progress_bar

MAX_THRESHOLD = 127  # bits

if TYPE_CHECKING:
    from core.data_tools.overlap import ImageHashes

OVERLAP = """Find images of the training root TRAIN that are also in the test root TEST: equal
files, and near duplicates (by a perceptual hash).

Writes a list of TRAIN's images to leave out, for `pretrain.data.filters` and
`finetune.data.filters`."""


def add_overlap_command(commands: Any) -> None:
    parser = add_command(commands, "overlap", overlap_command, OVERLAP)
    parser.add_argument(
        "train",
        type=argument_types.path_or_name,
        metavar="TRAIN",
        help="a folder or a name in data.yaml",
    )
    parser.add_argument(
        "test",
        type=argument_types.path_or_name,
        metavar="TEST",
        help="a folder or a name in data.yaml",
    )
    parser.add_argument(
        "--out",
        type=argument_types.output_file,
        metavar="FILE",
        help="the list (default: results/filters/TRAIN_without_TEST.tsv)",
    )
    parser.add_argument(
        "--threshold",
        type=argument_types.whole_number(0, MAX_THRESHOLD),
        metavar="BITS",
        help="near duplicates differ in at most BITS of 256 bits (default 48; "
        "unrelated images differ in about half of the bits)",
    )
    add_processes_option(parser)
    add_json_option(parser, "print the matches as JSON")


def overlap_command(arguments: argparse.Namespace) -> int:
    """Run `data overlap`; returns the exit code."""
    from core.data_tools.overlap import BITS, THRESHOLD, find_matches, write_filter

    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
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
        print_json(result)
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
