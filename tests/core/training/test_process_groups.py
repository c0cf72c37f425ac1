"""Stages computed by two processes give the losses and predictions of one process."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb
from torch.multiprocessing.spawn import spawn

from core.config import (
    Alignment,
    Contrast,
    ContrastivePretrain,
    Data,
    EmaRepair,
    Encoder,
    Evaluate,
    Finetune,
    Guidance,
    Optimizer,
    Pretrain,
    ReconstructionDecoder,
    TextDecoder,
    VicregRepair,
)
from core.data.word_images import WordImages
from core.runtime import safetensors_io
from core.runtime.artifacts import METRICS, MODEL
from core.runtime.distributed import join_process_group
from core.training.evaluate import evaluate
from core.training.finetune import finetune
from core.training.pretrain import pretrain
from core.training.run_context import Interrupted, RunContext

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
IMAGES = 70
BROKEN = (20, 21)
ENCODER = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")
TRAINING = STAGE | {"encoder": ENCODER, "optimizer": Optimizer(base_lr=4e-3, batch=32, epochs=10)}
STAGES: dict[str, Any] = {
    "lmim": Pretrain(
        decoder=ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0.1),
        guidance=Guidance(),
        alignment=Alignment(),
        target={"kind": "random_feature"},
        mask={"kind": "density"},
        **TRAINING,
    ),
    "vicreg": Pretrain(
        decoder=ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0.1),
        guidance=Guidance(),
        alignment=Alignment(weight=0.04, repair=VicregRepair(kind="vicreg")),
        target={"kind": "pixel"},
        mask={"kind": "random"},
        **TRAINING,
    ),
    "ema": Pretrain(
        decoder=ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0.1),
        guidance=Guidance(),
        alignment=Alignment(repair=EmaRepair(kind="ema", momentum=0.5)),
        target={"kind": "ema_feature", "momentum": 0.5},
        mask={"kind": "seeded_blocks"},
        **TRAINING,
    ),
    "seqclr": ContrastivePretrain(contrast=Contrast(projection=16), **TRAINING),
    "recognizer": Finetune(
        decoder=TextDecoder(width=32, layers=1, heads=2, dropout=0.1), max_length=9, **TRAINING
    ),
}


def set_process_group(rank: int, size: int, port: int) -> None:
    """Set PyTorch's variables."""
    variables = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})


def evaluation_of(root: str, batch: int) -> Evaluate:
    return Evaluate(subsets={"mine": Data(roots=(root,))}, batch=batch, precision="fp32")


def run_stages(rank: int, size: int, root: str, folder: Path) -> None:
    """All stages on data with broken images; the main process writes `results.json`."""
    torch.set_num_threads(1)
    set_process_group(rank, size, 29000 + os.getppid() % 20000)
    images = WordImages([root])
    metrics = {}
    with join_process_group(CPU) as group:
        context = RunContext(CPU, process_group=group, micro_batch=None)
        for name, config in STAGES.items():
            if isinstance(config, Finetune):
                result = finetune(config, images, images, None, folder / name, context)
                metrics[name] = result.metrics.to_json()
            else:
                metrics[name] = pretrain(config, images, None, folder / name, context).to_json()
        group.all_gather("the main process has written the recognizer")
        recognizer = folder / "recognizer" / MODEL
        evaluation = evaluate(evaluation_of(root, 8), {"mine": images}, recognizer, context)
        if group.is_main:
            for stage in metrics.values():
                del stage["train_seconds"]
            rows = [[row.index, row.label, row.scorable] for row in evaluation.predictions["mine"]]
            results = {"metrics": metrics, "counts": evaluation.metrics.to_json(), "rows": rows}
            (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of the stages by one and by two processes."""
    folder = tmp_path_factory.mktemp("processes")
    samples: list[Any] = [(jpeg(3 * number), f"W{number % 5}x") for number in range(IMAGES)]
    samples[20:22] = [(b"broken", "lost"), (None, "gone")]
    root = write_lmdb(folder / "words", samples)
    for size in (1, 2):
        spawn(  # type: ignore[no-untyped-call]
            run_stages, (size, root, folder / str(size)), size, join=True
        )
    return [folder / "1", folder / "2"]


def without_key_biases(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Drop the bias of keys: it changes no softmax, so its gradient is rounding noise."""
    if not name.endswith(("in_proj_bias", "qkv.bias")):
        return tensor
    queries, _, values = tensor.chunk(3)
    return torch.cat([queries, values])


@pytest.mark.parametrize("stage", STAGES)
def test_losses_and_weights_of_two_processes_are_those_of_one(
    folders: list[Path], stage: str
) -> None:
    losses = []
    for folder in folders:
        lines = (folder / stage / METRICS).read_text().splitlines()
        losses.append([entry["loss"] for entry in map(json.loads, lines) if "loss" in entry])
    assert len(losses[0]) == 3, "steps 0, 10 and 19 of 20"
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    of_one, of_two = (safetensors_io.load(folder / stage / MODEL)[0] for folder in folders)
    assert of_one.keys() == of_two.keys()
    for name in of_one:
        expected = without_key_biases(name, of_one[name])
        actual = without_key_biases(name, of_two[name])
        torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-3)


def test_two_processes_recognize_and_count_every_image_once(folders: list[Path]) -> None:
    one, two = (json.loads((folder / "results.json").read_text()) for folder in folders)
    assert two["rows"] == one["rows"]
    assert [index for index, _, _ in two["rows"]] == list(range(IMAGES))
    assert two["counts"] == one["counts"]
    assert two["counts"]["dropped"]["mine"]["unreadable"] == len(BROKEN)
    for stage in STAGES:
        assert two["metrics"][stage]["images_seen"] == one["metrics"][stage]["images_seen"]
        assert two["metrics"][stage]["dropped"]["unreadable"] == len(BROKEN)


def stop_while_recognizing(
    rank: int, size: int, port: int, root: str, model: Path, out: Path
) -> None:
    """Ask only the main process to stop, at its second batch; each process writes its message."""
    set_process_group(rank, size, port)
    answers = iter([False, True])
    with join_process_group(CPU) as group:
        context = RunContext(CPU, process_group=group, should_stop=lambda: next(answers))
        try:
            evaluate(evaluation_of(root, 4), {"mine": WordImages([root])}, model, context)
        except Interrupted as reason:
            (out / f"{rank}.txt").write_text(str(reason))


def test_processes_stop_recognizing_together(folders: list[Path], tmp_path: Path) -> None:
    root = str(folders[0].parent / "words")
    model = folders[0] / "recognizer" / MODEL
    port = 29000 + os.getpid() % 20000
    spawn(  # type: ignore[no-untyped-call]
        stop_while_recognizing, (2, port, root, model, tmp_path), 2, join=True
    )
    messages = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert len(messages) == 2
    assert all("stopped while recognizing mine" in message for message in messages)
