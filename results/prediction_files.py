"""Files of a run's predictions: one file, or in published copies two.

predictions.csv         subset, index, label, prediction, confidence, readable, nll
    or
words.csv               subset, index, label, readable
predictions.csv         prediction, confidence, nll: the same rows in the same order

All runs on the same test words have the same `words.csv`, and git stores equal files once.
`nll`, the negative log-likelihood of the label in nats, is absent before version 0.2.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

WORDS = "words.csv"
NLL_COLUMN = "nll"
PREDICTION_COLUMNS = ("subset", "index", "label", "prediction", "confidence", "readable")
WORD_COLUMNS = ("subset", "index", "label", "readable")
READING_COLUMNS = ("prediction", "confidence")


def split_rows(rows: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of `words.csv` and those of `predictions.csv` beside it, without heads.

    rows: values in the order of PREDICTION_COLUMNS, and the NLL if it is known."""
    words = [PREDICTION_COLUMNS.index(name) for name in WORD_COLUMNS]
    readings = [PREDICTION_COLUMNS.index(name) for name in READING_COLUMNS]
    if rows and len(rows[0]) > len(PREDICTION_COLUMNS):
        readings.append(len(PREDICTION_COLUMNS))
    return _chosen(rows, words), _chosen(rows, readings)


def _chosen(rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> list[list[str]]:
    return [[row[number] for number in numbers] for row in rows]


def is_split(path: Path) -> bool:
    """Whether the labels of a file of predictions are in `words.csv` beside it."""
    if path.suffix != ".csv" or not (path.parent / WORDS).is_file():
        return False
    with path.open("rb") as file:
        return file.readline().startswith(",".join(READING_COLUMNS).encode())


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a run's predictions; the first names the columns, labels and NLL included.

    Raises OSError if a file is absent, csv.Error if it is no CSV, and ValueError if it has other
    columns, an incomplete row or no rows, or if `words.csv` has other rows."""
    head, *rows = read_csv(path)
    if not is_split(path):
        _check(head, rows, PREDICTION_COLUMNS)
        return [head, *rows]
    _check(head, rows, READING_COLUMNS)
    word_head, *words = read_csv(path.parent / WORDS)
    _check(word_head, words, WORD_COLUMNS)
    if len(words) != len(rows):
        raise ValueError(f"it has {len(rows)} rows, and {WORDS} has {len(words)}")
    joined = [
        [subset, index, label, prediction, confidence, readable, *nll]
        for (subset, index, label, readable), (prediction, confidence, *nll) in zip(
            words, rows, strict=True
        )
    ]
    return [[*PREDICTION_COLUMNS, *head[len(READING_COLUMNS) :]], *joined]


def read_csv(path: Path) -> list[list[str]]:
    """All rows of a file. Raises ValueError if it is empty."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError("it is empty")
    return rows


def _check(head: list[str], rows: list[list[str]], columns: Sequence[str]) -> None:
    """Raise ValueError unless these are rows of such columns, with or without the NLL."""
    if tuple(head) not in (tuple(columns), (*columns, NLL_COLUMN)):
        raise ValueError(f"its columns are {', '.join(head)}")
    if not rows or {len(row) for row in rows} != {len(head)}:
        raise ValueError("a row is incomplete, or there are no rows")
