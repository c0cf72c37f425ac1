"""Makes the predictions and logs of a results folder smaller before it is published.

    python -m results.compact results/published/mini

Predictions are divided in two files (`results.prediction_files`). Confidences, which no table
reads, are rounded to DECIMALS decimals, numbers of `metrics.jsonl` to DIGITS significant digits.
Texts, labels, likelihoods, steps and counts stay: the draws of an interval depend on every digit
that it is made of. In records the folders of the machine are left out of the paths of data. The
command can be repeated; then it changes nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from core.runtime.files import folder_bytes, write_csv, write_text
from results.prediction_files import (
    PREDICTION_COLUMNS,
    READING_COLUMNS,
    WORD_COLUMNS,
    WORDS,
    read_csv,
    read_rows,
    split_rows,
)
from results.store import Run

DECIMALS = 2  # of confidences (0 to 1)
DIGITS = 6  # of the numbers in a log
VARIABLES = ("LMIM_DATA", "LMIM_SHARED")  # that name folders of data


def shortened(value: str, decimals: int = DECIMALS) -> str:
    """A number in decimal notation, rounded; "" stays. Raises ValueError if it is no number."""
    if not value:
        return value
    text = f"{float(value):.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def compact_run(run: Run) -> None:
    """Make the files of one run smaller. Files that are small already keep their content.

    Raises UserError if a file is damaged, or if checkpoints of a run have other words."""
    if (run.folder / METRICS).is_file():
        _compact_log(run.folder / METRICS)
    if (run.folder / "record.json").is_file():
        _leave_out_folders(run)
    correct = run.correct()
    changed = False
    for path in _prediction_files(run.folder):
        try:
            changed |= _compact_predictions(path)
        except ValueError as error:
            raise UserError(f"{path}: not the predictions of a run ({error})") from error
    if changed and correct is not None:
        run.write_correct({name: values.tolist() for name, values in correct.items()})


def _prediction_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("predictions*.csv"))


def _compact_predictions(path: Path) -> bool:
    """Divide and round the predictions of a checkpoint; returns whether the file has changed."""
    before = path.read_bytes()
    head, *rows = read_rows(path)
    words, readings = split_rows(rows)
    beside = path.parent / WORDS
    if beside.is_file() and read_csv(beside) != [list(WORD_COLUMNS), *words]:
        raise ValueError(f"{WORDS} beside it has other words")
    if not beside.is_file():
        write_csv(beside, WORD_COLUMNS, words)
    short = [[text, shortened(confidence), *nll] for text, confidence, *nll in readings]
    write_csv(path, (*READING_COLUMNS, *head[len(PREDICTION_COLUMNS) :]), short)
    return path.read_bytes() != before


def _compact_log(path: Path) -> None:
    """Round the numbers of a log. Raises UserError if a line is no JSON."""
    before = path.read_text(encoding="utf-8")
    try:
        entries = [json.loads(line) for line in before.splitlines()]
    except ValueError as error:
        raise UserError(f"{path}: not a log of a run ({error})") from error
    after = "".join(f"{json.dumps(_rounded(entry))}\n" for entry in entries)
    if after != before:
        write_text(path, after)


def _leave_out_folders(run: Run) -> None:
    """Shorten the paths of data in a run's record. Raises UserError if it cannot be read."""
    record = run.record()
    before = json.dumps(record)
    for roots in record.get("data", {}).values():
        for root in roots:
            root["path"] = portable_path(root["path"])
    if json.dumps(record) != before:
        run.write_json("record.json", record)


def portable_path(path: str) -> str:
    """A path of data without the folders that only one machine has.

    Data that runs made are below `data` of a results folder: `data/HASH/train`. A folder that an
    environment variable names is replaced by the variable: `${LMIM_DATA}/common/iiit5k`."""
    for variable in VARIABLES:
        folder = os.environ.get(variable)
        if folder and Path(path).is_relative_to(folder):
            return f"${{{variable}}}/{Path(path).relative_to(folder).as_posix()}"
    parts = Path(path).parts
    if len(parts) > 3 and parts[-3] == "data" and Path(path).is_absolute():
        return "/".join(parts[-3:])
    return path


def _rounded(value: Any) -> Any:
    """The same JSON value with rounded floating-point numbers."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def compact(results: Path) -> None:
    """Make the runs of a results folder smaller. Raises UserError if it has none."""
    folders = sorted(path for path in (results / "runs").glob("*") if path.is_dir())
    if not folders:
        raise UserError(f"{results}: no runs; name a results folder")
    for folder in folders:
        compact_run(Run(folder))


def main(arguments: list[str]) -> int:
    """Make results folders smaller, and print their sizes before and after."""
    parser = argparse.ArgumentParser(prog="python -m results.compact", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="FOLDER")
    try:
        for results in parser.parse_args(arguments).results:
            before = folder_bytes(results)
            compact(results)
            print(f"{results}: {before:,} bytes before, {folder_bytes(results):,} after")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
