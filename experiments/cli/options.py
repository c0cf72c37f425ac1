"""Groups of options that several commands share."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from core.runtime.errors import UserError
from experiments.cli import argument_types

Command = Callable[[argparse.Namespace], int]

MAX_PROCESSES = 1024  # of one machine or one command; more is a slip of the pen
MAX_RUN_PROCESSES = 64
MAX_NUM_WORKERS = 256
MAX_MICRO_BATCH = 65_536
MAX_CHECKPOINT_MINUTES = 1440.0
DEFAULT_CHARSET = "ascii94"
DEFAULT_LENGTH = 25  # with the end mark
MAX_LENGTH = 200  # the limit of a recognizer's max_length
DEVICE_HELP = "auto (default), cpu, cuda, or one GPU such as cuda:1"


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors that name the command."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` lists what it takes")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, except that unknown options are errors of the command itself."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


def add_command(commands: Any, name: str, command: Command, text: str) -> CommandParser:
    """Add a command to argparse's subparsers.

    name: the command's word.
    command: runs it, and returns the exit code.
    text: one or more sentences for `--help`.
    """
    first_sentence = re.split(r"(?<=\.)\s", text)[0]
    parser: CommandParser = commands.add_parser(
        name,
        help=" ".join(first_sentence.split()),
        description=text,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


# Options: what is planned


def add_plan_options(
    parser: argparse.ArgumentParser, *, storage: bool = True, device: bool = True
) -> None:
    """Files, and the options that say what is computed and where the results are.

    storage: with `--storage`, for commands that also take sweeps.
    device: with `--device`, for commands that compute nothing.
    """
    parser.usage = f"{parser.prog} FILE [FILE ...] [options]"
    parser.add_argument(
        "files",
        nargs="+",
        type=argument_types.path,
        metavar="FILE",
        help="experiment files, or one sweep" if storage else "experiment files",
    )
    group = parser.add_argument_group("what is computed")
    group.add_argument(
        "--scale",
        type=argument_types.not_empty,
        metavar="NAME",
        help="a file in experiments/scales: smoke, mini (often the default), small, paper, ...",
    )
    group.add_argument(
        "--seeds",
        type=argument_types.seeds,
        metavar="0,1,2",
        help="instead of the files' seeds; also ranges, as 0-79 (compare: only these)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value, e.g. pretrain.mask.ratio=0.7",
    )
    group.add_argument(
        "--precision", choices=("fp32", "bf16"), help="instead of the scale's precision"
    )
    if device:
        group.add_argument(
            "--device",
            type=argument_types.device_name,
            default="auto",
            help="as given to run: it decides the precision of a scale with precision: auto",
        )
    group = parser.add_argument_group("results")
    add_results_option(group)
    if storage:
        group.add_argument(
            "--storage",
            type=argument_types.not_empty,
            metavar="URL",
            help="sweep: Optuna's storage (default: a journal in the results folder)",
        )


def add_results_option(parser: Any, text: str = "folder of the results (default: results)") -> None:
    """`--results`. parser: a parser or a group of options. text: its help."""
    parser.add_argument(
        "--results",
        type=argument_types.folder,
        default=Path("results"),
        metavar="DIR",
        help=text,
    )


def add_device_option(parser: Any) -> None:
    """`--device` of a command that computes. parser: a parser or a group of options."""
    parser.add_argument(
        "--device", type=argument_types.device_name, default="auto", help=DEVICE_HELP
    )


def add_launcher_option(parser: Any, text: str) -> None:
    """`--launcher`. parser: a parser or a group of options. text: its help."""
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help=text)


def add_license_option(parser: Any, whose: str) -> None:
    """`--license`. parser: a parser or a group of options. whose: license it is."""
    parser.add_argument(
        "--license",
        type=argument_types.license_name,
        metavar="ID",
        help=f"license {whose}, such as cc-by-4.0 (default: the card says that it is not stated)",
    )


def add_json_option(parser: Any, text: str = "print JSON on standard output") -> None:
    """`--json`. parser: a parser or a group of options. text: its help."""
    parser.add_argument("--json", action="store_true", help=text)


# Options: how it is computed


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """The options of `run` that say how runs are computed."""
    group = parser.add_argument_group("how it is computed")
    add_device_option(group)
    group.add_argument(
        "--num-workers",
        "--readers",  # the name of version 0.1
        type=argument_types.whole_number(0, MAX_NUM_WORKERS),
        metavar="N",
        help="processes that decode images, per run (default: 0 on CPU, 8 on GPU)",
    )
    group.add_argument(
        "--micro-batch",
        type=argument_types.whole_number(1, MAX_MICRO_BATCH),
        metavar="N",
        help="images per forward pass; gradients accumulate to the config's batch",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=argument_types.real_number(0, MAX_CHECKPOINT_MINUTES),
        metavar="M",
        help="time between checkpoints (default: 1 on this machine, 10 in jobs)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="CUDA: compile encoder blocks with torch.compile (not yet tried on a GPU)",
    )
    _add_local_options(parser)
    group = parser.add_argument_group("with --launcher slurm")
    group.add_argument(
        "--cluster",
        type=argument_types.path,
        metavar="FILE",
        help="what jobs request (default: experiments/settings/cluster.yaml)",
    )
    group.add_argument(
        "--no-wait", action="store_true", help="return as soon as the jobs are submitted"
    )


def _add_local_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("experiments on this machine")
    group.add_argument(
        "--jobs",
        type=argument_types.whole_number(1, MAX_PROCESSES),
        metavar="N",
        help="runs at a time (default: one per core on CPU, one per GPU that --gpus names, else 1)",
    )
    group.add_argument(
        "--gpus",
        type=argument_types.gpus,
        metavar="0,1,2,3",
        help="each run gets one of these GPUs; all: every GPU of this machine",
    )
    group.add_argument(
        "--processes",
        type=argument_types.whole_number(1, MAX_RUN_PROCESSES),
        metavar="N",
        help="divide each run over N processes (default 1)",
    )
    group = parser.add_argument_group("sweeps")
    group.add_argument(
        "--workers",
        type=argument_types.whole_number(1, MAX_PROCESSES),
        metavar="N",
        help="trials at a time (default: one per core on CPU, one on GPU, 4 jobs with slurm)",
    )


# Options: what a recognizer can express


def add_recognizer_options(parser: Any) -> None:
    """`--charset` and `--max-length`: which labels a recognizer can express.

    parser: a parser, or a group of its options.
    """
    parser.add_argument(
        "--charset",
        type=argument_types.charset_source,
        default=DEFAULT_CHARSET,
        help="characters that a recognizer knows: ascii94 (default) or file:PATH",
    )
    parser.add_argument(
        "--max-length",
        type=argument_types.whole_number(2, MAX_LENGTH),
        default=DEFAULT_LENGTH,
        metavar="N",
        help="characters of a word, with the end mark (default 25; Chinese benchmark: 40)",
    )
