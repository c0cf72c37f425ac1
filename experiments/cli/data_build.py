"""`run.py data build`: an LMDB folder from annotated images, photos or Parquet files.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from core.data_tools.annotations import some_names
from core.data_tools.reading import FORMATS, Margin, Reading
from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.conversion import processes_of
from experiments.cli.named_roots import add_processes_option
from experiments.cli.options import add_command, add_json_option
from experiments.cli.output import print_json, progress_bar
from experiments.cli.stop_signals import stop_signals

BUILD = """Build an LMDB folder in the standard layout from annotated images, photos or Parquet.

SOURCE is an annotation file, a folder with one (gt.txt, labels.tsv, annotation.json, gt.mat, ...),
a folder of images, or Parquet files (a file, a folder, or a quoted pattern with *). The formats are
in core/data_tools/README.md. Labels may be in text files beside images: word_1.txt for word_1.png.
With --boxes, SOURCE is an LMDB folder: boxes and names of photos are stored beside its labels.
OUT exists only when it is complete. If the command is interrupted, run it again to resume.
OUT/skipped.tsv lists skipped images with the reasons, and OUT/build.json says how OUT was made."""
MARGIN = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(px)?", re.ASCII)
MAX_MARGIN = {"height": 2.0, "px": 1000.0}


def margin(text: str) -> Margin:
    """Argument type: a share of the height such as 0.1, or pixels such as 3px."""
    match = MARGIN.fullmatch(text)
    unit = "px" if match and match[2] else "height"
    if not match or float(match[1]) > MAX_MARGIN[unit]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share of the height from 0 to {MAX_MARGIN['height']:g}, such as 0.1, "
            f"and no number of pixels from 0 to {MAX_MARGIN['px']:g}, such as 3px"
        )
    return Margin(float(match[1]), "px" if match[2] else "height")


def add_build_command(commands: Any) -> None:
    """Add the parser of `data build`."""
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
    _add_reading_options(parser.add_argument_group("what the content of SOURCE does not say"))
    parser.add_argument_group("boxes of characters").add_argument(
        "--boxes",
        type=argument_types.path,
        metavar="FILE",
        help="JSON lines with the boxes of the words' characters",
    )
    add_processes_option(parser)
    add_json_option(parser, "print the result as JSON")


def _add_reading_options(group: Any) -> None:
    group.add_argument(
        "--format",
        choices=tuple(FORMATS),
        metavar="NAME",
        help=f"{', '.join(FORMATS)} (default: found by the content)",
    )
    group.add_argument(
        "--image-column",
        type=argument_types.not_empty,
        metavar="NAME",
        help="column or key of images, in Parquet, CSV, TSV and JSON",
    )
    group.add_argument(
        "--text-column",
        type=argument_types.not_empty,
        metavar="NAME",
        help="column or key of labels",
    )
    group.add_argument(
        "--split",
        type=argument_types.not_empty,
        metavar="NAME",
        help="only this part of Parquet shards, TextOCR, COCO-Text or a file of boxes",
    )
    group.add_argument(
        "--margin",
        type=margin,
        metavar="SIZE",
        help="widen crops from photos on each side: 0.1 of the word's height, or 3px (default 0)",
    )


def build_command(arguments: argparse.Namespace) -> int:
    """Run `data build`; returns the exit code."""
    is_lmdb = (arguments.source / "data.mdb").is_file()
    if arguments.boxes is not None:
        return _add_boxes(arguments, is_lmdb)
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
    for option in ("images", "processes", "format", "image_column", "text_column", "margin"):
        if getattr(arguments, option) is not None:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag}: it has no effect with --boxes; leave it out")
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


def _reading_options(arguments: argparse.Namespace) -> dict[str, str]:
    """The options that say how the source was read, as they were given."""
    margin = arguments.margin
    return {
        "format": arguments.format or "",
        "image_column": arguments.image_column or "",
        "text_column": arguments.text_column or "",
        "split": arguments.split or "",
        "margin": "" if margin is None else f"{margin.size:g} {margin.unit}",
    }


def _build_images(arguments: argparse.Namespace) -> int:
    """Run `data build` on annotations or images; returns the exit code."""
    from core.data_tools.build import RECORD, SKIPPED, build, describe_reasons
    from core.data_tools.sources import find_source
    from core.runtime.files import write_text

    reading = Reading(
        format=arguments.format,
        image_column=arguments.image_column,
        text_column=arguments.text_column,
        split=arguments.split,
        margin=arguments.margin,
    )
    source = find_source(arguments.source, reading)
    for note in source.notes:
        print(note, file=sys.stderr)
    out: Path = arguments.out
    with stop_signals() as should_stop, progress_bar(f"building {out}") as show:
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
    result = {
        "format": source.format,
        "samples": built.samples,
        "skipped": skipped,
        "reasons": built.reasons,
    }
    chosen = {name: value for name, value in _reading_options(arguments).items() if value}
    record = result | {"source": arguments.source.name, "options": chosen}
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if arguments.json:
        print_json({"out": str(out), **result})
        return 0
    unlabeled = "" if source.labeled else " without labels"
    print(f"{out}: {built.samples:,} samples{unlabeled} (format: {source.format})")
    if skipped:
        print(f"skipped {skipped:,}: {describe_reasons(built.reasons)}; listed in {out / SKIPPED}")
    return 0
