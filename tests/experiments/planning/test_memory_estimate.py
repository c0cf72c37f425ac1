"""Estimates of the memory that runs need, against the memory that a process takes."""

import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from finetune_config import config as finetune_config
from planned_training import words_root

from core.config import Encoder, Evaluate, Finetune, Pretrain
from core.model.cost import encoder_cost
from experiments.planning.memory_estimate import (
    PROCESS_BYTES,
    activation_bytes,
    memory_bytes,
    state_bytes,
)

VIT_S: dict[str, Any] = {}
SHARED: dict[str, Any] = {
    "encoder": VIT_S,
    "optimizer": {"base_lr": 1e-4, "batch": 8, "epochs": 1, "warmup_epochs": 0},
    "data": {"roots": ["words"]},
    "precision": "fp32",
    "seed": 0,
}
MIM: dict[str, Any] = {
    "mask": {},
    "decoder": {"order": "SA-FFN"},
    "guidance": None,
    "alignment": None,
    "target": {"kind": "pixel"},
}
LMIM: dict[str, Any] = {
    "mask": {},
    "decoder": {},
    "guidance": {},
    "alignment": {},
    "target": {"kind": "random_feature"},
}
EMA: dict[str, Any] = {
    "alignment": {"repair": {"kind": "ema"}},
    "target": {"kind": "ema_feature"},
}

# Trains one step in a new process, and prints the peak memory of that process in bytes.
MEASURE = """
import core
import sys
from pathlib import Path
import torch
from core.config import Finetune, Pretrain
from core.data.word_images import WordImages
from core.training.finetune import finetune
from core.training.pretrain import pretrain
from core.training.run_context import RunContext

kind, text, root, folder = sys.argv[1:]
torch.set_num_threads(2)
images = WordImages([root])
context = RunContext(torch.device("cpu"))
config = {"Finetune": Finetune, "Pretrain": Pretrain}[kind].model_validate_json(text)
if kind == "Finetune":
    finetune(config, images, None, None, Path(folder), context)
else:
    pretrain(config, images, None, Path(folder), context)
# Not ru_maxrss: a started process inherits that mark from the process that starts it.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(int(peak.split()[1]) * 1024)
"""


def pretrain(**changes: Any) -> Pretrain:
    return Pretrain.model_validate(SHARED | LMIM | changes)


def finetune(**changes: Any) -> Finetune:
    return Finetune.model_validate(SHARED | {"decoder": {}} | changes)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "config",
    [pretrain(), pretrain(**EMA), finetune(), finetune_config()],
    ids=["LMIM", "EMA", "finetune", "tiny"],
)
def test_a_training_step_takes_the_estimated_memory(
    config: Pretrain | Finetune, tmp_path: Path
) -> None:
    root = words_root(tmp_path / "words", count=config.optimizer.batch)
    arguments = (type(config).__name__, config.model_dump_json(), root.path, str(tmp_path))
    result = run_command([sys.executable, "-c", MEASURE, *arguments], check=True)
    measured = int(result.stdout.split()[-1])
    assert measured / 1.5 < memory_bytes(config) < measured * 1.5


def test_states_are_16_bytes_for_each_trained_parameter_and_4_for_others() -> None:
    trained = state_bytes(pretrain(target={"kind": "pixel"}))
    assert trained == pytest.approx(16 * 30.2e6, rel=0.01)
    teacher = state_bytes(pretrain()) - trained
    assert teacher == pytest.approx(4 * 21.5e6, rel=0.05)
    assert state_bytes(pretrain(target={"kind": "ema_feature"})) == state_bytes(pretrain())
    second = state_bytes(pretrain(**EMA)) - state_bytes(pretrain())
    assert second == 4 * encoder_cost(Encoder()).parameters
    frozen = state_bytes(finetune()) - state_bytes(finetune(frozen_blocks=12))
    assert frozen == pytest.approx(12 * 21.4e6, rel=0.01)


def test_a_copy_of_the_checkpoint_holds_each_moving_average() -> None:
    optimizer = {"base_lr": 1e-4, "batch": 1, "epochs": 1, "warmup_epochs": 0}
    frozen = pretrain(optimizer=optimizer)
    both = pretrain(optimizer=optimizer, **EMA)
    added = memory_bytes(both) - memory_bytes(frozen)
    # one more encoder stays in memory, and a checkpoint's copy has two
    assert added == pytest.approx(3 * 4 * 21.3e6, rel=0.02)


def test_a_micro_batch_and_more_processes_divide_the_activations() -> None:
    config = pretrain(optimizer={"base_lr": 1e-4, "batch": 256})
    constant = PROCESS_BYTES + state_bytes(config)
    image = activation_bytes(config)
    assert memory_bytes(config) == constant + 256 * image
    assert memory_bytes(config, micro_batch=32) == constant + 32 * image
    assert memory_bytes(config, micro_batch=999) == constant + 256 * image
    assert memory_bytes(config, processes=4) == constant + 64 * image
    assert memory_bytes(config, processes=4, micro_batch=16) == constant + 16 * image


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (pretrain(precision="bf16"), pretrain()),
        (Pretrain.model_validate(SHARED | MIM), pretrain()),
        (pretrain(mask={"ratio": 0.9}), pretrain(mask={"ratio": 0.5})),
        (finetune(frozen_blocks=6), finetune()),
        (finetune(max_length=10), finetune(max_length=50)),
    ],
    ids=["bf16", "one branch", "more hidden patches", "frozen blocks", "shorter texts"],
)
def test_what_keeps_less_for_the_backward_pass_needs_less(
    smaller: Pretrain | Finetune, larger: Pretrain | Finetune
) -> None:
    assert activation_bytes(smaller) < activation_bytes(larger)


def test_an_evaluation_needs_more_for_more_images_and_beams() -> None:
    needs = []
    for changes in ({"batch": 1}, {"batch": 256}, {"batch": 256, "beams": 16}):
        content = {"subsets": {"a": {"roots": ["words"]}}, "precision": "fp32"} | changes
        needs.append(memory_bytes(Evaluate.model_validate(content), finetune()))
    assert needs == sorted(set(needs))
