"""Commands on stored predictions and checkpoints. Heavy imports stay inside the functions, so that `--help` is quick."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.cli.options import add_command

PROTOCOL_NAMES = tuple(PROTOCOLS)


def add_model_commands(commands: Any) -> None:
    """Add the parsers of these commands."""
    _add_import(commands)
    _add_export(commands)
    _add_predict(commands)


# import, export


def _add_import(commands: Any) -> None:
    text = "A checkpoint of LMIM or MAERec (.pth) -> our safetensors; nothing in it is executed."
    parser = add_command(commands, "import", import_command, text)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    said = "what the file does not say or says wrongly: encoder.heads=6, charset=file:PATH, ..."
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=said)
    parser.add_argument("--json", action="store_true")


def _add_export(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        export_command,
        "Our safetensors -> a checkpoint under the released code's names.",
    )
    parser.add_argument("model", metavar="RUN_OR_FILE", help="a run's id, or a .safetensors file")
    parser.add_argument("out", type=Path, metavar="OUT.pth")
    add_results(parser)


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where runs lie (default: results)",
    )


def import_command(arguments: argparse.Namespace) -> int:
    from core.checkpoints.released import read_released
    from core.runtime import safetensors_io
    from experiments.planning.schema import parse_overrides

    if arguments.out.suffix != ".safetensors":
        raise UserError(
            f"{arguments.out}: the imported file must end in .safetensors, for that is how it is told from a .pth"
        )
    imported = read_released(arguments.checkpoint, parse_overrides(arguments.set))
    metadata = imported.metadata()
    safetensors_io.save(arguments.out, imported.weights, metadata)
    if arguments.json:
        report = {
            "kind": imported.kind,
            "matched": len(imported.matched),
            "missing": imported.missing,
            "ignored": imported.ignored,
        }
        print(
            json.dumps(
                report
                | {
                    "assumed": imported.assumed,
                    "config": metadata["config"],
                    "out": str(arguments.out),
                },
                indent=1,
            )
        )
        return 0
    print(f"{arguments.checkpoint}: {imported.kind}, epoch {imported.source.epoch}")
    print(
        f"matched  {len(imported.matched)} of {len(imported.matched) + len(imported.ignored)} weights"
    )
    for reason in dict.fromkeys(imported.ignored.values()):
        names = [name for name, why in imported.ignored.items() if why == reason]
        print(
            f"ignored  {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): {reason}"
        )
    print(f"missing  {', '.join(imported.missing) or 'nothing'}")
    for name, value in metadata["config"].items():
        print(f"sizes    {name}: {json.dumps(value)}")
    for key, value in imported.assumed.items():
        print(
            f"assumed  {key}={json.dumps(value)} (no checkpoint says it; --set {key}=... if it was another)"
        )
    print(f"written  {arguments.out}")
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    from core.checkpoints.released import export_released
    from experiments.running.find_model import find_model

    path = find_model(arguments.model, arguments.results)
    names, absent = export_released(path, arguments.out)
    print(
        f"{arguments.out}: {names} weights of {path} under the released names"
        + (f"; without {absent}" if absent else "")
    )
    return 0


# predict


def _add_predict(commands: Any) -> None:
    parser = add_command(
        commands,
        "predict",
        predict_command,
        "Read the words on images: text and confidence for each.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--model",
        required=True,
        metavar="RUN_OR_FILE",
        help="a finetune or evaluate run's id, or a recognizer's file",
    )
    add_results(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true")


def predict_command(arguments: argparse.Namespace) -> int:
    import torch

    from core.training.predict import find_images, predict
    from experiments.planning.device import find_device
    from experiments.running.find_model import find_model

    path = find_model(arguments.model, arguments.results)
    images = find_images(arguments.images)
    device = torch.device(find_device(arguments.device))
    failed = 0
    results: list[dict[str, Any]] = []
    for image, text, confidence in predict(path, images, device):
        failed += text is None
        if text is None:
            results.append({"image": str(image), "error": "cannot be read or decoded"})
            print(f"{image}: cannot be read or decoded", file=sys.stderr)
        else:
            results.append({"image": str(image), "text": text, "confidence": round(confidence, 6)})
            if not arguments.json:
                print(f"{image}\t{text}\t{confidence:.3f}")
    if arguments.json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    return 1 if failed else 0
