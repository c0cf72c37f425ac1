"""What PyTorch finds on this machine, as JSON: `python -m experiments.running.torch_facts`.

It runs in another process: an import of PyTorch that does not suit the machine can end the process
(an illegal instruction, a driver that does not answer).
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 120  # it takes a few seconds; more on a busy machine or a network disk
MODULE = "experiments.running.torch_facts"


@dataclass(frozen=True)
class Gpu:
    """A GPU that PyTorch can use.

    memory: bytes.
    precision: what precision auto means on it.
    """

    name: str
    memory: int
    precision: str


@dataclass(frozen=True)
class TorchFacts:
    """What PyTorch finds on this machine.

    version: of PyTorch, with its build: 2.13.0+cpu.
    cuda: the version of CUDA that it was built for; empty: a CPU build.
    threads: with which it computes.
    bf16_slowdown: the time of a bf16 matrix product in fp32 products, on one thread.
    cpu_precision: what precision auto means on the CPU.
    gpus: those that it can use.
    torchvision: its version; empty if it cannot be imported.
    torchvision_problem: why it cannot be imported; empty if it can.
    has_shim: whether torchvision's compiled operators do not load; then this suite declares them.
    """

    version: str
    cuda: str
    threads: int
    bf16_slowdown: float
    cpu_precision: str
    gpus: tuple[Gpu, ...]
    torchvision: str
    torchvision_problem: str
    has_shim: bool


class NoTorch(Exception):
    """PyTorch cannot be used here; the message says why."""


def find_torch_facts() -> TorchFacts:
    """What PyTorch finds, asked in another process. Raises NoTorch."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", MODULE],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise NoTorch(f"its import did not end within {TIMEOUT_SECONDS} s") from error
    if done.returncode < 0:
        raise NoTorch(f"its import was ended by signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise NoTorch(lines[-1] if lines else f"its import ended with code {done.returncode}")
    return parse_torch_facts(done.stdout.splitlines()[-1])


def parse_torch_facts(text: str) -> TorchFacts:
    """The facts in a line of JSON."""
    values = json.loads(text)
    return TorchFacts(**values | {"gpus": tuple(Gpu(**gpu) for gpu in values["gpus"])})


def measure_torch_facts() -> TorchFacts:
    """What PyTorch finds, asked in this process, which imports it."""
    import torch

    from experiments.planning.bf16_speed import bf16_slowdown
    from experiments.planning.device import default_precision

    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            precision = default_precision("cuda")
        gpus.append(Gpu(properties.name, int(properties.total_memory), precision))
    torchvision, problem, has_shim = _torchvision()
    return TorchFacts(
        version=torch.__version__,
        cuda=torch.version.cuda or "",
        threads=torch.get_num_threads(),
        bf16_slowdown=bf16_slowdown(),
        cpu_precision=default_precision("cpu"),
        gpus=tuple(gpus),
        torchvision=torchvision,
        torchvision_problem=problem,
        has_shim=has_shim,
    )


def _torchvision() -> tuple[str, str, bool]:
    """Its version, why it cannot be imported, and whether the shim declares its operators."""
    from core.runtime.torchvision_shim import declare_missing_operators

    try:
        has_shim = declare_missing_operators()
        import torchvision
    except Exception as error:  # whatever a broken installation raises
        return "", f"{type(error).__name__}: {error}".splitlines()[0], False
    return torchvision.__version__, "", has_shim


if __name__ == "__main__":
    print(json.dumps(asdict(measure_torch_facts())))
