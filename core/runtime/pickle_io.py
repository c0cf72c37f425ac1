"""Checkpoints of `torch.save`: atomic writing, and reading that executes no code."""

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.runtime.errors import DiskError, UserError
from core.runtime.files import FULL_DISK_ERRORS, atomic_path
from core.runtime.foreign_weights import foreign_weights


def save_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary by `torch.save`, atomically. Raises DiskError if the disk is full."""
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(dict(content), file)
        except (OSError, RuntimeError) as error:  # PyTorch raises the latter after the former
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError) or cause.errno not in FULL_DISK_ERRORS:
                raise
            raise DiskError(
                f"{path}: cannot be written ({cause.strerror}); "
                "free disk space and run the same command again"
            ) from error


class SkippedValue:
    """Takes the position of a value beside the weights that is not needed.

    It ignores what the pickle would give to the value's class, so that neither NumPy nor pathlib
    is called."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


NUMPY_MODULES = ("numpy.core", "numpy._core")  # of NumPy 1 and 2
PATH_CLASSES = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
SKIPPED = (
    *(f"{module}.multiarray.scalar" for module in NUMPY_MODULES),
    *(f"{module}.multiarray._reconstruct" for module in NUMPY_MODULES),
    *(f"{module}.numeric._frombuffer" for module in NUMPY_MODULES),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"pathlib.{name}" for name in PATH_CLASSES),
    *(f"pathlib._local.{name}" for name in PATH_CLASSES),  # Python 3.13
    *("datetime.datetime", "datetime.date", "datetime.timedelta"),
)


def load_pickle(path: Path) -> dict[str, Any]:
    """A dictionary written by `torch.save`. No code in the file is executed.

    Besides tensors and plain values the file may contain an `argparse.Namespace`, as MAE's
    checkpoints do. Values of NumPy, paths and dates become a `SkippedValue`. Raises UserError for
    anything else.
    """
    skipped: list[Any] = [(SkippedValue, name) for name in SKIPPED]
    allowed = [argparse.Namespace, SkippedValue, *skipped]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols; errors are shown below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except Exception as error:  # torch does not document what it raises
        raise UserError(f"{path}: {_problem(path, error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds a {type(content).__name__}, "
            "not a dictionary with a state dict under 'model'"
        )
    return content


def _problem(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do."""
    text = " ".join(str(error).split())
    if needed := re.search(r"GLOBAL (\S+)", text):
        return (
            f"cannot be read without executing code: it asks for {needed[1]}; if you trust its "
            "source, load it by torch.load(..., weights_only=False) and save its state dict alone "
            "by torch.save"
        )
    try:
        if what := foreign_weights(path):
            return what
    except OSError as failure:  # such as a file without the right to read it
        return f"cannot be read ({failure.strerror})"
    cause = text.split(". ")[0][:160] if len(text) > 8 else ""
    if "Weights only load failed" in cause:  # names no cause
        cause = ""
    reason = f" ({cause})" if cause else ""
    return (
        f"damaged, or not a checkpoint that can be read without executing code{reason}; "
        "copy or download it again, or name another file"
    )
