"""Where a number came from: commit, versions, hardware."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "timm", "numpy", "pillow", "lmdb", "safetensors", "pydantic", "wordfreq")
CODE = ("*.py", "*.yaml", "requirements.txt")


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def commit() -> dict[str, str | bool | None]:
    """The commit, and whether code and settings were as committed; None for both outside a git checkout.

    A results folder or a log beside them is no change."""
    changes = _git("status", "--porcelain", "--", *CODE)
    return {"commit": _git("rev-parse", "HEAD"), "clean": None if changes is None else not changes}


def told_path(path: Path) -> str:
    """A path as this suite tells it: from the project's folder on where it lies inside, so that no machine is named."""
    whole = path.resolve()
    return str(
        whole.relative_to(REPOSITORY)
        if path.is_absolute() and whole.is_relative_to(REPOSITORY)
        else path
    )


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def hardware(accelerator: str | None) -> dict[str, str | int | None]:
    """The machine: host, processor, cores this process may use, accelerator."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "host": platform.node(),
        "processor": model,
        "cores": cores(),
        "accelerator": accelerator,
    }


def cores() -> int:
    """Cores this process may use; of a cluster's node those that its job was given."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, int(os.environ.get("SLURM_CPUS_PER_TASK", here)))
