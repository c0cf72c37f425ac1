"""Columns of prediction files: their names, and checks that they have texts.

A first line is a header if it names a column of predictions and one of labels, in any order and in
upper or lower case; `Ground Truth`, `ground-truth` and `ground_truth` are one name. A first line
that looks like a header with unknown names is refused. It never counts as an image.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.data_tools.annotations import is_image_name
from core.runtime.errors import UserError

COLUMN_NAMES = {  # our name -> names that files use; the first ones are preferred
    "index": (
        *("index", "idx", "id", "image", "filename", "file", "path", "img", "name", "img_path"),
        *("image_path", "image_name", "img_name", "image_id", "file_name", "file_path", "key"),
        "input_path",
    ),
    "prediction": (
        *("prediction", "pred", "predicted", "pred_text", "hypothesis", "text", "y_pred"),
        *("preds", "predictions", "output", "recognized", "recognition", "result", "ocr"),
        *("hyp", "rec_text", "y_hat", "predicted_text", "prediction_text", "pred_label"),
        *("pred_str", "output_text", "predicted_label", "predict"),
    ),
    "label": (
        *("label", "gt", "gt_text", "ground_truth", "target", "reference", "y_true"),
        *("labels", "truth", "gold", "word", "words", "transcription"),
        *("ref", "gt_label", "true_label", "true_text", "target_text", "label_text", "targets"),
        *("gt_str", "ground_truth_text", "reference_text"),
    ),
    "subset": ("subset", "dataset", "split"),
    "confidence": (
        *("confidence", "score", "prob", "probability", "conf", "scores", "rec_score"),
        "rec_scores",
    ),
    "readable": ("readable",),
    "recognizer": ("recognizer",),
}
TEXT_COLUMNS = ("prediction", "label")
WITHOUT_LABELS = ("index", "prediction")  # columns of a file whose labels are in another one
COLUMNS_WITHOUT_HEADER = {2: ("prediction", "label"), 3: ("index", "prediction", "label")}
UNLABELED_WITHOUT_HEADER = {2: WITHOUT_LABELS, 3: (*WITHOUT_LABELS, "confidence")}
TRUTH_HINT = "--truth FILE gives the labels"
# Words of column names that are unknown as a whole, such as `my_guess`.
NAME_WORDS = frozenset(
    {
        *("pred", "prediction", "predicted", "gt", "ground", "truth", "true", "text", "label"),
        *("target", "ref", "reference", "hyp", "hypothesis", "output", "guess", "answer", "actual"),
        *("expected", "recognition", "recognized", "string", "word", "transcription", "ocr"),
        *("result", "y", "image", "img", "file", "filename", "path", "id", "index", "score"),
        *("conf", "confidence", "prob"),
    }
)
UNDERSCORED = re.compile(r"[a-z]+(_[a-z]+)+")  # such as my_text; words of images have none
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?%?|nan", re.IGNORECASE)
FRACTION = re.compile(r"[.,%]|\de", re.IGNORECASE)
SHOWN = 60  # characters of a line that an error shows


def find_columns(keys: Iterable[str]) -> dict[str, str]:
    """Our name -> the key of the file that means it."""
    key_of = {_plain(key): key for key in keys}
    columns = {}
    for name, synonyms in COLUMN_NAMES.items():
        plain = (_plain(synonym) for synonym in synonyms)
        key = next((key_of[synonym] for synonym in plain if synonym in key_of), None)
        if key is not None:
            columns[name] = key
    return columns


def accepted_names(column: str) -> str:
    """The names of a column, for messages."""
    return ", ".join(COLUMN_NAMES[column][:8])


def _plain(name: str) -> str:
    """A column's name without quotes, case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-\"']", "", name).lower()


_KNOWN = {_plain(name): column for column, names in COLUMN_NAMES.items() for name in names}


def header_positions(
    path: Path,
    line: str,
    rows: Sequence[Sequence[str]],
    needed: Sequence[str] = TEXT_COLUMNS,
) -> dict[str, int]:
    """Our name -> position of the column; {} if the first row is not a header.

    path: the file, for errors.
    line: its first line, for errors.
    rows: the first rows, as cells.
    needed: the two columns that a header must name.

    Raises UserError for a header without one of the needed columns, or with unknown names.
    """
    head = list(rows[0])
    columns = find_columns(head)
    unmet = [name for name in needed if name not in columns]
    plain = [_plain(cell) for cell in head]
    repeated = [cell for cell, count in Counter(plain).items() if count > 1]
    if not unmet:
        if _is_image(head[0]):
            return {}
        if repeated:
            raise UserError(f"{path}, line 1: the column {repeated[0]!r} occurs twice; remove one")
        return {name: head.index(key) for name, key in columns.items()}
    if repeated or any(map(_is_image, head)):
        return {}
    if len(unmet) == 2 and not _looks_like_header(rows):
        return {}
    problem = "unknown column names" if len(unmet) == 2 else f"a header without {unmet[0]}"
    names = "; ".join(f"{name}: {accepted_names(name)}" for name in unmet)
    hint = f"; {TRUTH_HINT}" if unmet == ["label"] else ""
    raise UserError(
        f"{path}, line 1: {problem}: {line[:SHOWN]!r}; accepted names are {names}{hint}. If this "
        f"line is an image, write a header such as {','.join(needed)} above it"
    )


def _is_image(cell: str) -> bool:
    """Whether a cell is the number or the name of an image."""
    return NUMBER.fullmatch(cell.strip()) is not None or is_image_name(cell.strip())


def _looks_like_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has names, although none is known as prediction or label."""
    head = [cell.strip().strip("\"'").lower() for cell in rows[0]]
    if len(head) > 2 and (_KNOWN.get(_plain(head[0])) == "index" or _is_above_images(rows)):
        return True
    if len(head) < 2:
        return False
    is_name = [
        _plain(cell) in _KNOWN
        or UNDERSCORED.fullmatch(cell) is not None
        or not NAME_WORDS.isdisjoint(re.findall(r"[a-z]+", cell))
        for cell in head
    ]
    return all(is_name)


def _is_above_images(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first cells of all rows but the first are numbers or names of images."""
    firsts = [row[0].strip() for row in rows[1:] if row]
    return bool(firsts) and all(cell.isdecimal() or is_image_name(cell) for cell in firsts)


def check_texts(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Check the columns of a file without header: raise UserError if one has no texts.

    PaddleOCR and OpenOCR write image, text and score, without a label; other programs write image
    and text. A column of numbers such as 0.9998, of which none equals the text beside it, is one of
    scores if the texts beside it are no numbers, or if all numbers lie in [0, 1]. Whole numbers,
    such as house numbers, are texts.
    """
    for column in TEXT_COLUMNS:
        texts = [row[column].strip() for row in rows]
        beside = [row["prediction" if column == "label" else "label"].strip() for row in rows]
        if all(is_image_name(text) for text in texts):
            raise UserError(
                f"{path}: the column of {column}s has names of images such as {texts[0]!r}; a "
                "score needs image, prediction and label, under a header with these names; "
                f"{TRUTH_HINT}"
            )
        if _are_scores(texts, beside):
            kind = "no labels" if column == "label" else "no predictions"
            raise UserError(
                f"{path}: the column of {column}s has numbers such as {texts[0]!r}, which are "
                f"scores and {kind}; write a file with a header and these columns: image, "
                f"prediction, label; {TRUTH_HINT}. If the numbers are texts, a header says so"
            )


def all_numbers(texts: Iterable[str]) -> bool:
    """Whether all texts are numbers."""
    return all(NUMBER.fullmatch(text.strip()) for text in texts)


def _are_scores(texts: Sequence[str], beside: Sequence[str]) -> bool:
    fractions = sum(FRACTION.search(text) is not None for text in texts)
    if not all_numbers(texts) or 2 * fractions < len(texts):
        return False
    if any(text == other for text, other in zip(texts, beside, strict=True)):
        return False
    return not all_numbers(beside) or all(_is_share(text) for text in texts)


def _is_share(text: str) -> bool:
    """Whether a number lies in [0, 1]."""
    try:
        return 0 <= float(text.replace(",", ".")) <= 1
    except ValueError:  # a percentage
        return False
