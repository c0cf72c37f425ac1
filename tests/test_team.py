"""Two processes that share a run: the same losses and the same readings as one."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from conftest import STAGE, jpeg, write_lmdb

from core.config import (
    Alignment,
    Contrast,
    ContrastivePretrain,
    Data,
    Encoder,
    Evaluate,
    Finetune,
    Guidance,
    Optimizer,
    Pretrain,
    ReconstructionDecoder,
    TextDecoder,
)
from core.data.batches import load_batches
from core.data.word_images import WordImages
from core.model.kernels.attention import attend
from core.model.kernels.dropout import Dropout, position_seeded_dropout
from core.runtime import safetensors_io
from core.runtime.distributed import ProcessGroup, join_process_group
from core.runtime.errors import UserError
from core.runtime.seeds import chunk_size
from core.training.evaluate import evaluate
from core.training.finetune import finetune
from core.training.loop import Interrupted, RunContext
from core.training.pretrain import pretrain

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
    "seqclr": ContrastivePretrain(contrast=Contrast(projection=16), **TRAINING),
    "recognizer": Finetune(
        decoder=TextDecoder(width=32, layers=1, heads=2, dropout=0.1), max_length=9, **TRAINING
    ),
}


def run_stages(rank: int, size: int, root: str, folder: Path) -> None:
    """All stages on a data set with broken images; the leader leaves what came out."""
    torch.set_num_threads(1)
    variables = {
        "RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 29000 + os.getppid() % 20000,
    }
    os.environ.update({name: str(value) for name, value in variables.items()})
    images = WordImages([root])
    with join_process_group(torch.device("cpu")) as team:
        context = RunContext(torch.device("cpu"), process_group=team, micro_batch=None)
        metrics = {}
        for name, config in STAGES.items():
            if isinstance(config, Finetune):
                metrics[name], _ = finetune(config, images, images, None, folder / name, context)
            else:
                metrics[name] = pretrain(config, images, None, folder / name, context)
        team.gather("the leader has written the recognizer")
        whole = Evaluate(subsets={"mine": Data(roots=(root,))}, batch=8, precision="fp32")
        counts, readings = evaluate(
            whole, {"mine": images}, folder / "recognizer" / "model.safetensors", context
        )
        if team.is_main:
            rows = [[row.index, row.label, row.readable] for row in readings["mine"]]
            for stage in metrics.values():
                del stage["train_seconds"]
            (folder / "told.json").write_text(
                json.dumps({"metrics": metrics, "counts": counts, "rows": rows})
            )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("team")
    samples: list[Any] = [(jpeg(3 * number), f"W{number % 5}x") for number in range(70)]
    samples[20:22] = [(b"broken", "lost"), (None, "gone")]
    root = write_lmdb(folder / "words", samples)
    found = {}
    for size in (1, 2):
        found[size] = folder / str(size)
        multiprocessing.spawn(run_stages, (size, root, found[size]), size, join=True)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_losses_of_two_processes_are_those_of_one(outcomes: dict[int, Path], stage: str) -> None:
    one, two = (
        [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
        for folder in outcomes.values()
    )
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (one, two)]
    assert len(losses[0]) == 3, "steps 0, 10 and 19 of 20"
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    weights = [
        safetensors_io.load(folder / stage / "model.safetensors")[0] for folder in outcomes.values()
    ]
    for name, tensor in weights[0].items():
        theirs = weights[1][name]
        if name.endswith(
            ("in_proj_bias", "qkv.bias")
        ):  # a bias of keys changes no softmax: its gradient is rounding alone
            tensor, theirs = (
                torch.cat([one.chunk(3)[0], one.chunk(3)[2]]) for one in (tensor, theirs)
            )
        torch.testing.assert_close(theirs, tensor, atol=2e-4, rtol=1e-3)


def test_two_processes_count_and_read_every_image_once(outcomes: dict[int, Path]) -> None:
    one, two = (json.loads((folder / "told.json").read_text()) for folder in outcomes.values())
    assert two["rows"] == one["rows"]
    assert [row[0] for row in two["rows"]] == list(range(70))
    assert two["counts"] == one["counts"]
    assert two["counts"]["dropped"]["mine"]["unreadable"] == 2
    for stage in STAGES:
        assert two["metrics"][stage]["images_seen"] == one["metrics"][stage]["images_seen"]
        assert two["metrics"][stage]["dropped"]["unreadable"] == 2


def stop_while_reading(rank: int, size: int, port: int, root: str, model: Path, told: Path) -> None:
    """Only the leader is warned, at its second batch; what each process met is left in a file."""
    variables = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    asked = iter([False, True])
    with join_process_group(torch.device("cpu")) as team:
        context = RunContext(
            torch.device("cpu"), process_group=team, should_stop=lambda: next(asked)
        )
        try:
            whole = Evaluate(subsets={"mine": Data(roots=(root,))}, batch=4, precision="fp32")
            evaluate(whole, {"mine": WordImages([root])}, model, context)
        except Interrupted as reason:
            (told / f"{rank}.txt").write_text(str(reason))


def test_processes_stop_reading_together(outcomes: dict[int, Path], tmp_path: Path) -> None:
    root, model = (
        str(outcomes[1].parent / "words"),
        outcomes[1] / "recognizer" / "model.safetensors",
    )
    multiprocessing.spawn(
        stop_while_reading, (2, 29000 + os.getpid() % 20000, root, model, tmp_path), 2, join=True
    )
    assert [path.read_text()[:27] for path in sorted(tmp_path.iterdir())] == [
        "stopped while reading mine;"
    ] * 2


def test_processes_that_read_images_leave_signals_to_the_one_they_serve(
    outcomes: dict[int, Path],
) -> None:
    """A scheduler sends them to all processes of a job."""
    images = WordImages([str(outcomes[1].parent / "words")])
    parts = iter(
        load_batches(images, (32, 128), [[number] for number in range(40)], labeled=True, workers=1)
    )
    seen = [next(parts).indices]
    for number in (signal.SIGTERM, signal.SIGUSR2):
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, number)
    assert seen + [part.indices for part in parts] == [
        [number] if number not in (20, 21) else [] for number in range(40)
    ]


def test_dropout_draws_the_same_for_an_image_however_its_batch_is_divided() -> None:
    values, drop = torch.ones(64, 7), Dropout(0.5)
    projected = torch.randn(64, 5, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert chunk_size(64) == 4

    def both(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        with position_seeded_dropout(3, range(64)[rows], 64):
            return drop(values[rows]), attend(projected[rows], dropout=0.5)

    whole, parts = both(slice(0, 64)), [both(slice(0, 24)), both(slice(24, 64))]
    for number in range(2):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])
    assert (whole[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(whole[0][:4], whole[0][4:8]), "chunks draw differently"
    with position_seeded_dropout(4, range(64), 64):
        assert not torch.equal(drop(values), whole[0]), "and so does another step"


def test_shares_are_whole_chunks_that_cover_the_batch() -> None:
    for batch, size in ((512, 8), (512, 3), (64, 16), (100, 7), (5, 5)):
        shares = [ProcessGroup(rank, size).local_slice(batch) for rank in range(size)]
        assert [place for share in shares for place in range(batch)[share]] == list(range(batch))
        assert all(share.start % chunk_size(batch) == 0 for share in shares)
    with pytest.raises(
        UserError, match="a batch of 64 images can be divided among 16 processes, not 17"
    ):
        ProcessGroup(0, 17).local_slice(64)
