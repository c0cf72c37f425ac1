"""The commands `card` and `export`, which describe a model and hand it to others.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.options import add_command, add_license_option, add_results_option
from experiments.cli.output import print_or_write

CARD = """Write a model card (Markdown with YAML front matter) from the record of a run.

It says what the model is, how it was made, what was measured, with which intervals, whether the
numbers may be compared with the paper's, and how to load it. Missing facts are named as missing.
The card of a fine-tuning has all evaluations and probes that are recorded for it."""
EXPORT = """Export the weights of a run or file.

OUT.pth: a checkpoint with the names of the released code, which is a pickle.
--hub DIR: a folder for model hubs: model.safetensors, config.json, README.md (the card)."""


def add_card_commands(commands: Any) -> None:
    """Add the parsers of these commands to argparse's subparsers."""
    _add_card(commands)
    _add_export(commands)


# card


def _add_card(commands: Any) -> None:
    parser = add_command(commands, "card", card_command, CARD)
    parser.add_argument(
        "run",
        type=argument_types.not_empty,
        metavar="RUN",
        help="id of a pretrain, finetune or evaluate run",
    )
    add_results_option(parser)
    parser.add_argument(
        "--out",
        type=argument_types.output_file,
        metavar="FILE",
        help="the card (default: standard output)",
    )
    add_license_option(parser, "of the weights")


def card_command(arguments: argparse.Namespace) -> int:
    """Run `card`; returns the exit code."""
    from analysis.cards.lineage import find_card_runs
    from analysis.cards.model_card import model_card
    from results.store import Store

    runs = find_card_runs(Store(arguments.results), arguments.run)
    text = model_card(runs, arguments.license, None)
    print_or_write(text, arguments.out)
    return 0


# export


def _add_export(commands: Any) -> None:
    parser = add_command(commands, "export", export_command, EXPORT)
    parser.add_argument(
        "model",
        type=argument_types.path_or_name,
        metavar="RUN_OR_FILE",
        help="a run's id, or (for OUT.pth) a .safetensors file",
    )
    parser.add_argument(
        "out",
        nargs="?",
        type=argument_types.output_file,
        metavar="OUT.pth",
        help="the checkpoint to write",
    )
    parser.add_argument(
        "--hub",
        type=argument_types.folder,
        metavar="DIR",
        help="the folder to write instead; absent or empty",
    )
    add_license_option(parser, "of the weights")
    add_results_option(parser)


def export_command(arguments: argparse.Namespace) -> int:
    """Run `export`; returns the exit code."""
    from core.checkpoints.export import export_released
    from experiments.cli.conversion import refuse_options
    from experiments.running.find_model import find_model

    if (arguments.out is None) == (arguments.hub is None):
        raise UserError("export writes OUT.pth or the folder of --hub DIR; give one of both")
    if arguments.hub is not None:
        return _export_hub(arguments.model, arguments.results, arguments.hub, arguments.license)
    refuse_options(arguments, {"license": "goes with --hub: a checkpoint has no card"})
    weights = find_model(arguments.model, arguments.results)
    count, absent = export_released(weights, arguments.out)
    without = f"; without {absent}" if absent else ""
    print(f"{arguments.out}: {count} weights of {weights} under the released names{without}")
    return 0


def _export_hub(model: str, results: Path, out: Path, license_id: str | None) -> int:
    """Run `export --hub`; returns the exit code."""
    from analysis.cards.lineage import find_card_runs
    from analysis.cards.model_card import model_card
    from core.checkpoints.hub import check_hub_folder, write_hub_folder
    from experiments.running.find_model import find_model
    from results.store import Store

    if Path(model).is_file():
        raise UserError(
            f"{model}: --hub needs the id of a run, whose record makes the card; a file has none"
        )
    check_hub_folder(out)
    runs = find_card_runs(Store(results), model)
    weights = find_model(runs.model.id, results)
    card = model_card(runs, license_id, out)
    for path in write_hub_folder(weights, runs.model.id, card, out):
        print(path)
    return 0
