"""Small things that several tests need."""

import core  # isort: skip  # noqa: F401  (before PyTorch: sets how idle threads wait)

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import psutil
import pytest
import torch
from PIL import Image

import run
from core.config import Data, Optimizer
from core.data.key_layout import COUNT_KEY
from core.data.lmdb_folder import IMAGE_KEY, LABEL_KEY
from core.synthetic.config import Synthetic
from core.training.run_context import RunContext

torch.set_num_threads(1)
pytest_plugins = ["whole_runs", "slurm_runs", "probe_runs"]
SLURM = Path(__file__).parent / "slurm"

STAGE: dict[str, Any] = {
    "optimizer": Optimizer(base_lr=1e-3),
    "data": Data(roots=("none",)),
    "precision": "fp32",
    "seed": 0,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that two processes end at about the same time.

    The tests on a SLURM wait most of their time, so the other process has the cores meanwhile."""
    items.sort(key=lambda item: (not item.path.is_relative_to(SLURM), "slow" not in item.keywords))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests that use SLURM to one process: they start, fill and stop the same SLURM."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/slurm" if file.startswith("tests/slurm/") else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _end_processes() -> Iterator[None]:
    """Kill the child processes that a test leaves behind: workers and notebook kernels."""
    before = set(_descendants())
    yield
    for process in set(_descendants()) - before:
        with suppress(psutil.NoSuchProcess):
            serves_all_tests = "resource_tracker" in " ".join(process.cmdline())
            if not serves_all_tests:
                process.kill()


def _descendants() -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process().children(recursive=True)
    return children


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, where there is one."""
    folder = os.environ.get("LMIM_SHARED")
    if not folder:
        pytest.skip(
            "LMIM_SHARED is not set: it names the folder with str/ (IIIT5K and SVT as LMDB)"
        )
    return Path(folder)


@pytest.fixture
def context() -> RunContext:
    return RunContext(torch.device("cpu"))


@pytest.fixture
def synthetic_words() -> Synthetic:
    return Synthetic(train=48, validation=8, test=6, vocabulary=300)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """A command of run.py in this process: exit code, standard output, standard error."""
    code = run.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def write_lmdb(
    folder: Path, samples: list[tuple[bytes | None, str | None]], count: int | None = None
) -> str:
    """An LMDB in the standard layout; None leaves a key out, `count` may lie."""
    folder.mkdir(parents=True)
    with (
        lmdb.open(str(folder), map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number, (image, label) in enumerate(samples, 1):
            if image is not None:
                transaction.put(IMAGE_KEY.format(number).encode(), image)
            if label is not None:
                transaction.put(LABEL_KEY.format(number).encode(), label.encode())
        transaction.put(COUNT_KEY, str(len(samples) if count is None else count).encode())
    return str(folder)


def jpeg(color: int, size: tuple[int, int] = (50, 20)) -> bytes:
    import io

    stream = io.BytesIO()
    Image.new("RGB", size, (color, 255 - color, 40)).save(stream, "JPEG")
    return stream.getvalue()
