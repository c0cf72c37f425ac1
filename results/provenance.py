"""What a number depends on besides its config: commit, package versions, hardware."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.runtime.processes import cores

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
    """The commit, and whether the code and settings were unmodified ("clean").

    Both are None outside a git checkout. Results and logs do not count as modifications."""
    changes = _git("status", "--porcelain", "--", *CODE)
    return {"commit": _git("rev-parse", "HEAD"), "clean": None if changes is None else not changes}


def display_path(path: Path) -> str:
    """A path for reports: relative to the repository if inside it, so that no machine is named."""
    resolved = path.resolve()
    if path.is_absolute() and resolved.is_relative_to(REPOSITORY):
        return str(resolved.relative_to(REPOSITORY))
    return str(path)


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "missing"
    return installed


def hardware(accelerator: str | None) -> dict[str, str | int | None]:
    """The machine: host, processor, usable cores, and the accelerator's name (None: no GPU)."""
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
