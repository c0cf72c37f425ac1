"""The commands `import` and `predict`, which work on files of weights.

Heavy imports are inside the functions, so that `--help` is quick.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.cli import argument_types
from experiments.cli.options import (
    add_command,
    add_device_option,
    add_json_option,
    add_results_option,
)
from experiments.cli.output import print_json

if TYPE_CHECKING:
    from core.checkpoints.released import ImportedCheckpoint

PROTOCOL_NAMES = tuple(PROTOCOLS)
SHOWN_NAMES = 3  # of the weights that an import ignores


def add_model_commands(commands: Any) -> None:
    """Add the parsers of these commands to argparse's subparsers."""
    _add_import(commands)
    _add_predict(commands)


# import


def _add_import(commands: Any) -> None:
    text = (
        "Convert a checkpoint of LMIM or MAERec (.pth) to safetensors.\n"
        "No code in the checkpoint is executed."
    )
    parser = add_command(commands, "import", import_command, text)
    parser.add_argument("checkpoint", type=argument_types.path, metavar="CHECKPOINT")
    parser.add_argument("out", type=argument_types.output_file, metavar="OUT.safetensors")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what the file does not state, or states wrongly: encoder.heads=6, "
        "charset=file:PATH, ...",
    )
    parser.add_argument(
        "--state",
        metavar="KEY",
        help="which state dict to take, where the file has several: model, model_ema, teacher, ...",
    )
    add_json_option(parser)


def import_command(arguments: argparse.Namespace) -> int:
    """Run `import`; returns the exit code."""
    from core.checkpoints.released import read_released
    from core.runtime import safetensors_io
    from experiments.planning.changes import parse_overrides

    out: Path = arguments.out
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: the name of the imported file must end in .safetensors")
    imported = read_released(arguments.checkpoint, parse_overrides(arguments.set), arguments.state)
    metadata = imported.metadata()
    safetensors_io.save(out, imported.weights, metadata)
    config: dict[str, Any] = metadata["config"]
    if arguments.json:
        print_json(
            {
                "kind": imported.kind,
                "state": imported.source.state,
                "other_states": imported.alternatives,
                "matched": len(imported.matched),
                "missing": imported.missing,
                "ignored": imported.ignored,
                "assumed": imported.assumed,
                "config": config,
                "out": str(out),
            }
        )
    else:
        print(f"{arguments.checkpoint}: {imported.kind}, epoch {imported.source.epoch}")
        print(*_import_lines(imported, config), sep="\n")
        print(f"written  {out}")
    return 0


def _import_lines(imported: "ImportedCheckpoint", config: dict[str, Any]) -> list[str]:
    """What was done with each weight, and the sizes of the model. config: of the model."""
    total = len(imported.matched) + len(imported.ignored)
    others = ", ".join(imported.alternatives)
    choice = f" (also in the file: {others}; choose with --state)" if others else ""
    lines = [
        f"state    {imported.source.state}{choice}",
        f"matched  {len(imported.matched)} of {total} weights",
    ]
    for reason in dict.fromkeys(imported.ignored.values()):
        names = [name for name, why in imported.ignored.items() if why == reason]
        more = ", ..." if len(names) > SHOWN_NAMES else ""
        lines.append(f"ignored  {len(names)} ({', '.join(names[:SHOWN_NAMES])}{more}): {reason}")
    lines.append(f"missing  {', '.join(imported.missing) or 'nothing'}")
    lines += [f"sizes    {name}: {json.dumps(value)}" for name, value in config.items()]
    lines += [
        f"assumed  {key}={json.dumps(value)} (the file does not state it; "
        f"if it is wrong, use --set {key}=...)"
        for key, value in imported.assumed.items()
    ]
    return lines


# predict


def _add_predict(commands: Any) -> None:
    text = "Recognize the words on images; print the text and the confidence of each."
    parser = add_command(commands, "predict", predict_command, text)
    parser.add_argument("images", nargs="+", type=argument_types.path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--model",
        required=True,
        type=argument_types.path_or_name,
        metavar="RUN_OR_FILE",
        help="id of a finetune or evaluate run, or a recognizer's file",
    )
    add_results_option(parser)
    add_device_option(parser)
    add_json_option(parser)


def predict_command(arguments: argparse.Namespace) -> int:
    """Run `predict`; returns the exit code: 1 if there is an image without a prediction."""
    import torch

    from core.training.predict import find_images, predict
    from experiments.planning.device import find_device
    from experiments.running.find_model import find_model

    weights = find_model(arguments.model, arguments.results)
    images = find_images(arguments.images)
    device = torch.device(find_device(arguments.device))
    failed = False
    results: list[dict[str, Any]] = []
    for image, text, confidence in predict(weights, images, device):
        row: dict[str, Any] = {"image": str(image)}
        problem = ""
        if text is None:
            problem = "cannot be read or decoded"
        else:
            row |= {"text": text, "confidence": round(confidence, 6)}
            if not math.isfinite(confidence):
                problem = f"{weights} computes NaN or infinity for it; the text has no meaning"
            if not arguments.json:
                print(f"{image}\t{text}\t{confidence:.3f}")
        results.append(row | ({"error": problem} if problem else {}))
        if problem:
            failed = True
            print(f"{image}: {problem}", file=sys.stderr)
    if arguments.json:
        print_json(results)
    return 1 if failed else 0
