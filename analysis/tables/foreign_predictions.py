"""Outputs of other programs for text recognition. They have texts, and mostly no labels.

PaddleOCR: the log of tools/infer/predict_rec.py, `Predicts of 1.png:('JOINT', 0.99)`; the log of
tools/infer_rec.py, `infer_img: 1.png` and then `result: JOINT<TAB>0.99`; the file that the latter
writes, `1.png<TAB>JOINT<TAB>0.99`, or `1.png<TAB>{"Student": {"label": ..., "score": ...}}` of a
distilled model; and PaddleOCR 3's JSON (`input_path`, `rec_text`, `rec_score`), also inside `res`.
Source: github.com/PaddlePaddle/PaddleOCR, these files; paddleocr.ai, module_usage/text_recognition.

MMOCR 1.x: JSON files in the folder `preds`, one for each image and with its name, which have
`rec_texts` and `rec_scores`, or `text` and `scores`; JSON of its data samples (`img_path`,
`pred_text: {item, score}`, `gt_text: {item}`).
Source: github.com/open-mmlab/mmocr, mmocr/apis/inferencers and mmocr/structures.

deep-text-recognition-benchmark: log_demo_result.txt of demo.py, with columns image_path,
predicted_labels and confidence score, padded to 25 characters; the tables `Ground Truth |
Prediction | Confidence Score & T/F` of train.py. Its log_evaluation.txt and
log_all_evaluation.txt have averages only.
Source: github.com/clovaai/deep-text-recognition-benchmark, demo.py, train.py, test.py.

PARSeq: what read.py prints, `1.png: JOINT`. The table of its test.py has averages only.
Source: github.com/baudm/parseq, read.py and test.py.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from core.data_tools.annotations import IMAGE_SUFFIXES
from core.runtime.errors import UserError

SAMPLE = 200  # lines that show the format; a log begins with other lines
SHOWN = 60  # characters of a line that an error shows
Columns = dict[str, Any]  # our name of a column -> its value
Lines = Sequence[tuple[int, str]]  # (number, text)

_SUFFIXES = "|".join(map(re.escape, IMAGE_SUFFIXES))
_PREDICTS = re.compile(r".*?\bPredicts of (.+?):([(\[]['\"].*[)\]])\s*")
_NUMPY_NUMBER = re.compile(r"np\.float\d+\(([^()]*)\)(?=[)\]]\s*$)")
_INFER_IMAGE = re.compile(r".*?\binfer_img: (.+?)\s*")
_INFER_RESULT = re.compile(r".*?\t *result: ?(.*)")
_DTRB_HEAD = re.compile(r"image_path\s+predicted_labels\s+confidence score\s*")
_DTRB_TABLE = re.compile(r"Ground Truth\s+\| Prediction\s+\| Confidence Score & T/F\s*")
_DTRB_ROW = re.compile(r"(.{25,}?) \| (.{25,}?) \| ([0-9.]+|nan)\t(True|False)\s*")
_PARSEQ = re.compile(rf"(.+?(?:{_SUFFIXES})):(?: (.*))?", re.IGNORECASE)
_PARSEQ_START = "Additional keyword arguments:"  # the first line of read.py
_RULE = re.compile(r"-{20,}\s*")
_AVERAGES = re.compile(
    r"\| Dataset +\|.*Accuracy.*|accuracy: .*total_accuracy: .*|dataset_root:.*"
    r"|Acc [0-9.]+\s+normalized_ED .*"
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")


def refuse_pickle(path: Path) -> None:
    """Raise UserError for a file of Python's pickle. Loading one would execute its code."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if PICKLE.fullmatch(start):
        raise UserError(
            f"{path}: a pickle, which executes code when it is loaded; write the predictions as "
            "JSON or CSV (MMOCR: the inferencer's save_pred=True writes JSON)"
        )


def find_foreign_format(path: Path, lines: Lines) -> str | None:
    """The name of the program that wrote a file, or None. Raises UserError for averages."""
    for _, line in islice(lines, SAMPLE):
        if _AVERAGES.fullmatch(line.strip()):
            raise UserError(
                f"{path}: averages, without the text of each image; a score needs the texts"
            )
        if _PREDICTS.fullmatch(line) or _INFER_IMAGE.fullmatch(line) or _distilled(line):
            return "paddleocr"
        if _DTRB_HEAD.fullmatch(line.strip()) or _DTRB_TABLE.fullmatch(line.strip()):
            return "dtrb"
    first = [line for _, line in islice(lines, SAMPLE) if not line.startswith(_PARSEQ_START)]
    return "parseq" if first and all(map(_PARSEQ.fullmatch, first)) else None


def _distilled(line: str) -> Mapping[str, Any] | None:
    """The recognizers in a line of a distilled PaddleOCR model, or None."""
    _, tab, content = line.partition("\t")
    if not tab or not content.startswith("{"):
        return None
    try:
        recognizers = json.loads(content)
    except (ValueError, RecursionError):
        return None
    readings = list(recognizers.values())
    is_distilled = readings and all(
        isinstance(reading, dict) and isinstance(reading.get("label"), str) for reading in readings
    )
    return recognizers if is_distilled else None


def parse_paddleocr(path: Path, lines: Lines) -> Iterator[Columns]:
    """The texts of PaddleOCR's logs and files. Other lines of a log are left out."""
    image = None
    is_log = any(_PREDICTS.fullmatch(line) or _INFER_IMAGE.fullmatch(line) for _, line in lines)
    for number, line in lines:
        if not is_log:
            yield _paddleocr_row(path, number, line)
        elif match := _PREDICTS.fullmatch(line):
            yield _predicted(path, number, match)
        elif match := _INFER_IMAGE.fullmatch(line):
            image = match[1]
        elif (match := _INFER_RESULT.fullmatch(line)) and image is not None:
            yield _paddleocr_row(path, number, f"{image}\t{match[1]}")
            image = None


def _predicted(path: Path, number: int, match: re.Match[str]) -> Columns:
    """The text in a line of predict_rec.py: a Python tuple or list of text and score."""
    try:
        text, score = ast.literal_eval(_NUMPY_NUMBER.sub(r"\1", match[2]))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UserError(
            f"{path}, line {number}: no text and score: {match[2][:SHOWN]!r}"
        ) from error
    return {"index": match[1], "prediction": str(text), "confidence": score}


def _paddleocr_row(path: Path, number: int, line: str) -> Columns:
    """The text in a line `image<TAB>text<TAB>score`, or of a distilled model."""
    image, _, content = line.partition("\t")
    if recognizers := _distilled(line):
        name = "Student" if "Student" in recognizers else next(iter(recognizers))
        if len(recognizers) > 1 and name != "Student":
            raise UserError(
                f"{path}, line {number}: texts of several recognizers ({', '.join(recognizers)}), "
                "and none is named Student; keep one"
            )
        reading = recognizers[name]
        return {"index": image, "prediction": reading["label"], "confidence": reading.get("score")}
    text, tab, score = content.rpartition("\t")
    if not tab:
        raise UserError(
            f"{path}, line {number}: not `image<TAB>text<TAB>score`, as PaddleOCR writes: "
            f"{line[:SHOWN]!r}"
        )
    return {"index": image, "prediction": text, "confidence": score}


def parse_dtrb(path: Path, lines: Lines) -> Iterator[Columns]:
    """The texts of a log of deep-text-recognition-benchmark."""
    tables = sum(_DTRB_TABLE.fullmatch(line.strip()) is not None for _, line in lines)
    if tables > 1:
        raise UserError(
            f"{path}: {tables} tables of texts, each of another step of a training; keep one, or "
            "score log_demo_result.txt of demo.py"
        )
    if tables:
        yield from _dtrb_table(lines)
        return
    for number, line in lines:
        if _RULE.fullmatch(line) or _DTRB_HEAD.fullmatch(line.strip()):
            continue
        cells = line.split("\t")
        if len(cells) != 3:
            raise UserError(
                f"{path}, line {number}: not image_path, predicted_labels and confidence score "
                f"between tabs: {line[:SHOWN]!r}"
            )
        image, text, score = cells
        yield {"index": image.rstrip(" "), "prediction": text.rstrip(" "), "confidence": score}


def _dtrb_table(lines: Lines) -> Iterator[Columns]:
    """The texts and labels of the one table in a log of train.py."""
    is_inside = False
    for _, line in lines:
        is_inside = is_inside or _DTRB_TABLE.fullmatch(line.strip()) is not None
        if is_inside and (match := _DTRB_ROW.fullmatch(line)):
            yield {
                "label": match[1].rstrip(" "),
                "prediction": match[2].rstrip(" "),
                "confidence": match[3],
            }


def parse_parseq(path: Path, lines: Lines) -> Iterator[Columns]:
    """The texts that PARSeq's read.py prints."""
    for number, line in lines:
        if line.startswith(_PARSEQ_START):
            continue
        match = _PARSEQ.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number}: not `image: text`, as PARSeq's read.py prints: "
                f"{line[:SHOWN]!r}"
            )
        yield {"index": match[1], "prediction": match[2] or ""}


PARSERS: dict[str, Callable[[Path, Lines], Iterator[Columns]]] = {
    "paddleocr": parse_paddleocr,
    "dtrb": parse_dtrb,
    "parseq": parse_parseq,
}


# JSON of MMOCR and PaddleOCR 3


def flatten_entry(entry: dict[str, Any], position: str) -> dict[str, Any]:
    """A JSON object with its texts as plain values.

    position: file and line, for errors.

    Raises UserError if it has several texts, as detection and recognition together write.
    """
    inner = entry.get("res")  # PaddleOCR prints its results as {"res": {...}}
    flat = dict(inner if isinstance(inner, dict) else entry)
    for key in ("pred_text", "gt_text"):
        if isinstance(flat.get(key), dict):
            flat[key] = flat[key].get("item")
    texts = flat.pop("rec_texts", None)
    if texts is None:
        return flat
    if not isinstance(texts, list) or len(texts) != 1:
        count = len(texts) if isinstance(texts, list) else "no list of"
        raise UserError(
            f"{position}: {count} texts in rec_texts; a word image has one, so run MMOCR with a "
            "recognizer and without a detector"
        )
    return flat | {"pred_text": texts[0]}


def entries_of_document(content: Any) -> list[Any] | None:
    """The entries of a JSON document: a list, or MMOCR's object `predictions`; None if neither."""
    if isinstance(content, dict):
        predictions = content.get("predictions")
        content = predictions if isinstance(predictions, list) else [content]
    return content if isinstance(content, list) and content else None
