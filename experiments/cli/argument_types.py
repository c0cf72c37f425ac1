"""Argument types of the command line: numbers within a range, paths, names of devices.

Each type raises ArgumentTypeError with the allowed values; argparse adds the option's name.
"""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

NUMBER_RANGE = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})", re.ASCII)
WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
REAL_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?", re.ASCII)
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*", re.ASCII)
MAX_SEED = 2**32 - 1
MAX_SEEDS = 1000
MAX_GPU = 1023


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Argument type: decimal digits without sign, spaces, exponent or leading zeros.

    low, high: the smallest and the largest allowed number.
    """

    def parse(text: str) -> int:
        if not WHOLE_NUMBER.fullmatch(text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def real_number(low: float, high: float) -> Callable[[str], float]:
    """Argument type: a decimal number, with or without an exponent, such as 2, 0.5 or 1e-3.

    low, high: the smallest and the largest allowed number.
    """

    def parse(text: str) -> float:
        number = float(text) if REAL_NUMBER.fullmatch(text) else math.nan
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
        return number

    return parse


def seeds(text: str) -> tuple[int, ...]:
    """Argument type: different whole numbers and ranges of them, separated by commas."""
    return _different_numbers(text, MAX_SEED, MAX_SEEDS, "seeds like 0,1,2 or 0-79")


def gpus(text: str) -> tuple[int, ...] | Literal["all"]:
    """Argument type: `all`, or different ids of GPUs and ranges of them, separated by commas."""
    if text == "all":
        return "all"
    return _different_numbers(text, MAX_GPU, MAX_GPU + 1, "GPUs like 0,1,2,3 or 0-3, nor all")


def _different_numbers(text: str, high: int, most: int, what: str) -> tuple[int, ...]:
    """The numbers of a list like 0,1,2 or 0-9,20. A range contains both of its ends.

    high: the largest allowed number.
    most: the largest allowed length of the list.
    what: names the list in an error.
    """
    ranges = [_number_range(part) for part in text.split(",")]
    if not all(part and part[0] >= 0 and part[-1] <= high for part in ranges):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of {what}; each number is from 0 to {high}, and a range ends "
            "with its larger number"
        )
    count = sum(map(len, ranges))
    if count > most:
        raise argparse.ArgumentTypeError(
            f"{text!r} has {count} numbers; at most {most} are allowed"
        )
    numbers = tuple(number for part in ranges for number in part)
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice; the numbers must differ")
    return numbers


def _number_range(text: str) -> range:
    """The numbers of a text like 7 or 0-9; empty for any other text."""
    if ends := NUMBER_RANGE.fullmatch(text):
        return range(int(ends[1]), int(ends[2]) + 1)
    if WHOLE_NUMBER.fullmatch(text):
        return range(int(text), int(text) + 1)
    return range(0)


def path(text: str) -> Path:
    """Argument type: a path; a leading ~ is the user's home."""
    return Path(path_or_name(text))


def folder(text: str) -> Path:
    """Argument type: a folder, which need not exist; a leading ~ is the user's home."""
    named = path(text)
    _check_folders(named, *named.parents)
    return named


def output_file(text: str) -> Path:
    """Argument type: a file to write, in a folder that need not exist."""
    named = path(text)
    _check_folders(*named.parents)
    if named.is_dir():
        raise argparse.ArgumentTypeError(f"{named} is a folder; give a file")
    return named


def _check_folders(*folders: Path) -> None:
    """Raise ArgumentTypeError for a path that is no folder and cannot become one."""
    for part in folders:
        if part.is_symlink() and not part.exists():
            raise argparse.ArgumentTypeError(
                f"{part} is a symbolic link to {part.readlink()}, which does not exist; "
                "create that folder or choose another one"
            )
        if part.exists() and not part.is_dir():
            raise argparse.ArgumentTypeError(f"{part} is a file; choose a folder")


def not_empty(text: str) -> str:
    """Argument type: any text but an empty one."""
    if not text:
        raise argparse.ArgumentTypeError("the value is empty")
    return text


def path_or_name(text: str) -> str:
    """Argument type: a path or the name of a run or data set; a leading ~ is the user's home."""
    if not not_empty(text).startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:  # no such user
        raise argparse.ArgumentTypeError(
            f"{text!r}: no home folder of that user; for a folder named ~ write ./{text}"
        ) from error


def charset_source(text: str) -> str:
    """Argument type: `ascii94` or `file:PATH`; a leading ~ of PATH is the user's home."""
    prefix = "file:"
    if text.startswith(prefix):
        return prefix + path_or_name(text.removeprefix(prefix))
    return text


def device_name(text: str) -> str:
    """Argument type: auto, or the name of a device that runs can be computed on."""
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no device; choose auto, cpu, cuda, or one GPU such as cuda:1"
        )
    return text


def license_name(text: str) -> str:
    """Argument type: the identifier of a license, such as mit or cc-by-4.0."""
    if not LICENSE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no identifier of a license; write one in lower case, such as mit, "
            "cc-by-4.0 or other"
        )
    return text
