"""Stored predictions -> scores under any protocol, without a model.

Files: our `predictions.csv`; lines `index [prediction] [label]`; tab- or comma-separated values (with a header that names the
columns, or prediction, label / index, prediction, label); JSON lines.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.tables.intervals import pooled_accuracy, wilson
from core.runtime.errors import UserError
from core.text.charset import Charset
from core.text.protocols import (
    LABEL_POLICIES,
    PROTOCOLS,
    Protocol,
    Reading,
    as_released,
    as_strict,
    edit_similarity,
    is_correct,
)

BRACKETS = re.compile(r"([^\s\[{]+)\s+\[(.*)\]\s+\[(.*)\]\s*", re.DOTALL)
NAMES = {  # what columns and keys may be called
    "index": ("index", "idx", "id", "image", "filename"),
    "prediction": ("prediction", "pred", "predicted", "pred_text", "hypothesis", "text"),
    "label": ("label", "gt", "gt_text", "ground_truth", "target", "reference"),
    "subset": ("subset", "dataset", "split"),
    "confidence": ("confidence", "score", "prob", "probability"),
    "readable": ("readable",),
}
Subsets = dict[str, list[Reading]]


def read_predictions(path: Path) -> Subsets:
    """Subset -> readings, in the order of the file; "" where it names no subsets. Raises UserError naming file and line."""
    try:
        with path.open(
            encoding="utf-8-sig", newline=""
        ) as file:  # only \n and \r\n end a line: texts may hold others
            lines = [
                line for line in file.read().replace("\r\n", "\n").split("\n") if line.strip(" ")
            ]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; name a file of predictions") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    if not lines:
        raise UserError(f"{path}: empty; it needs one line for each image")
    try:
        return _gather(path, lines)
    except csv.Error as error:
        raise UserError(
            f"{path}: not valid CSV ({error}); quote texts that hold commas or quotes"
        ) from error


def _gather(path: Path, lines: list[str]) -> Subsets:
    subsets: Subsets = {}
    numbers: dict[str, int] = {}  # of images that are named, not numbered
    for number, row in enumerate(_rows(path, lines)):
        name = str(row.get("index", number))
        reading = Reading(
            index=int(name)
            if name.isascii() and name.isdigit()
            else numbers.setdefault(name, number),
            label=row["label"],
            prediction=row["prediction"],
            confidence=_confidence(row.get("confidence")),
            readable=str(row.get("readable", "1")) not in ("0", "False", "false"),
        )
        subsets.setdefault(str(row.get("subset", "")), []).append(reading)
    if not subsets:
        raise UserError(f"{path}: a header and nothing below it; it needs one line for each image")
    return subsets


def _confidence(value: Any) -> float:
    """A confidence as it is told; 0 where it is told in another way: no score depends on it."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _rows(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    """Each line as index, prediction, label and what else it tells."""
    if BRACKETS.fullmatch(lines[0]):
        yield from _bracketed(path, lines)
    elif lines[0].lstrip().startswith("{"):
        yield from _json_lines(path, lines)
    else:
        yield from _separated(path, lines)


def _bracketed(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        match = BRACKETS.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number}: not `index [prediction] [label]`: {line[:60]!r}"
            )
        yield {"index": match[1], "prediction": match[2], "label": match[3]}


def _json_lines(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            columns = _columns(row)
            texts = {name: row[key] for name, key in columns.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path}, line {number}: not a JSON object: {line[:60]!r}") from error
        for name in ("prediction", "label"):
            if not isinstance(texts.get(name), str):
                raise UserError(
                    f"{path}, line {number}: no text under {' or '.join(NAMES[name][:3])}"
                )
        yield texts


def _columns(keys: Iterable[str]) -> dict[str, str]:
    """Our name -> the key that stands for it, of those there are."""
    there = {key.strip().lower(): key for key in keys}
    found = {}
    for name, others in NAMES.items():
        match = next((there[other] for other in others if other in there), None)
        if match is not None:
            found[name] = match
    return found


def _separated(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    separator = "\t" if "\t" in lines[0] else ","
    rows = _cells(lines, separator)
    head = [name.strip().lower() for name in next(rows)]
    columns = _columns(head)
    if "prediction" in columns and "label" in columns:
        places, first = {name: head.index(key.strip().lower()) for name, key in columns.items()}, 2
    elif "prediction" in columns or "label" in columns:
        blocked_experiments = "label" if "prediction" in columns else "prediction"
        raise UserError(
            f"{path}, line 1: a header without {blocked_experiments}; name that column {' or '.join(NAMES[blocked_experiments][:3])}"
        )
    else:  # no header: the last two are prediction and label
        rows = _cells(lines, separator)
        order = {2: ("prediction", "label"), 3: ("index", "prediction", "label")}.get(len(head))
        if order is None:
            kinds = "`index [prediction] [label]`, JSON lines, or columns prediction and label under a header"
            raise UserError(f"{path}, line 1: none of the forms {kinds}: {lines[0][:60]!r}")
        places, first = {name: place for place, name in enumerate(order)}, 1
    for number, row in enumerate(rows, first):
        if len(row) != len(head):
            raise UserError(
                f"{path}, line {number}: {len(row)} columns, not {len(head)}: {separator.join(row)[:60]!r}"
            )
        yield {name: row[place] for name, place in places.items()}


def _cells(lines: list[str], separator: str) -> Iterator[list[str]]:
    """Cells of each line; quotes mean something between commas only."""
    if separator == "\t":
        return (line.split("\t") for line in lines)
    return csv.reader((f"{line}\n" for line in lines), strict=True)


def score(readings: list[Reading], protocol: Protocol) -> dict[str, Any]:
    """Accuracy in percent with its 95 % Wilson interval, counts, and NED in [0, 1], of one subset."""
    correct = sum(is_correct(reading, protocol) for reading in readings)
    share = wilson(correct, len(readings))
    return {
        "accuracy": 100 * correct / len(readings),
        "interval": [100 * share.low, 100 * share.high],
        "correct": correct,
        "images": len(readings),
        "ned": edit_similarity(readings, protocol),
    }


def under_policy(
    subsets: Subsets, policy: str | None, charset: Charset, max_length: int
) -> Subsets:
    """Readings under a label policy; None takes the file's own word for which labels could be read."""
    if policy == "strict":
        return {
            subset: as_strict(readings, charset, max_length) for subset, readings in subsets.items()
        }
    if policy == "released":
        return {
            subset: as_released(readings, charset, max_length)[0]
            for subset, readings in subsets.items()
        }
    return subsets


def compare_policies(path: Path, name: str, charset: Charset, max_length: int) -> dict[str, Any]:
    """A file under both label policies, and every image that one counts as right and the other as wrong. Raises UserError."""
    read = read_predictions(path)
    policies = {
        policy: under_policy(read, policy, charset, max_length) for policy in LABEL_POLICIES
    }
    differences = []
    for subset, readings in read.items():
        for number, reading in enumerate(readings):
            here = {policy: policies[policy][subset][number] for policy in policies}
            verdicts = {policy: is_correct(one, PROTOCOLS[name]) for policy, one in here.items()}
            if len(set(verdicts.values())) > 1:
                texts = {
                    "label": reading.label,
                    "prediction": reading.prediction,
                    "scored_as": here["released"].label,
                }
                differences.append({"subset": subset, "index": reading.index, **texts, **verdicts})
    scores = {policy: _scores(path, name, policy, policies[policy]) for policy in policies}
    return scores | {"differences": differences}


def score_file(
    path: Path, name: str, policy: str | None, charset: Charset, max_length: int
) -> dict[str, Any]:
    """All of a file under a protocol and a label policy, and each subset where it names some. Raises UserError."""
    return _scores(
        path, name, policy, under_policy(read_predictions(path), policy, charset, max_length)
    )


def _scores(path: Path, name: str, policy: str | None, subsets: Subsets) -> dict[str, Any]:
    protocol = PROTOCOLS[name]
    every = [reading for readings in subsets.values() for reading in readings]
    result: dict[str, Any] = {"file": str(path), "protocol": name, **score(every, protocol)}
    result |= {
        "label_version": protocol.labels,
        "averaging": protocol.averaging,
        "sizes": dict(protocol.sizes),
    }
    result["labels"] = policy or "as the file has them"
    result["statement"] = protocol.statement + (f"; {LABEL_POLICIES[policy]}" if policy else "")
    if list(subsets) != [""]:
        parts = {subset: score(readings, protocol) for subset, readings in subsets.items()}
        result["subsets"] = parts
        result["avg"] = sum(part["accuracy"] for part in parts.values()) / len(parts)
        correct, images = zip(
            *((part["correct"], part["images"]) for part in parts.values()), strict=True
        )
        result["w_avg"] = 100 * pooled_accuracy(correct, images)
    result["notes"] = notes(subsets, protocol)
    return result


def notes(subsets: Subsets, protocol: Protocol) -> list[str]:
    """What a reader of the score should know: sizes unlike the protocol's, indices that occur twice, unreadable labels."""
    found = []
    for subset, readings in subsets.items():
        where = f"{subset}: " if subset else ""
        twice = len(readings) - len({reading.index for reading in readings})
        if twice:
            found.append(f"{where}{twice} indices occur more than once; every line is counted")
        unreadable = sum(not reading.readable for reading in readings)
        if unreadable:
            why = "their label cannot be expressed, or the image is broken"
            found.append(f"{where}{unreadable} images count as wrong whatever was read: {why}")
        expected = protocol.sizes.get(subset)
        if expected is not None and expected != len(readings):
            found.append(
                f"{where}{len(readings):,} images, where protocol {protocol.name} has {expected:,}: not comparable"
            )
    return found


def comparison_text(result: Mapping[str, Any]) -> str:
    """Two policies for people."""
    lines = [score_text(result[policy]) for policy in LABEL_POLICIES]
    lines.append(f"{len(result['differences'])} images make the difference:")
    for one in result["differences"]:
        right = next(policy for policy in LABEL_POLICIES if one[policy])
        place = f"{one['subset']} {one['index']}".strip()
        scored = "" if one["scored_as"] == one["label"] else f", scored as {one['scored_as']!r}"
        lines.append(
            f"  {place}: label {one['label']!r}, read {one['prediction']!r}; right under {right} only{scored}"
        )
    return "\n".join(lines)


def score_text(result: Mapping[str, Any]) -> str:
    """A result for people."""
    parts = [(name, part) for name, part in result.get("subsets", {}).items()] + [("all", result)]
    width = max(len(name) for name, _ in parts)
    lines = [f"protocol {result['protocol']}: {result['statement']}", f"labels: {result['labels']}"]
    for name, part in parts:
        low, high = part["interval"]
        lines.append(
            f"{name:{width}}  accuracy {part['accuracy']:.2f} %  [{low:.2f}, {high:.2f}]  "
            f"{part['correct']:,} of {part['images']:,}  NED {part['ned']:.3f}"
        )
    if "avg" in result:
        lines.append(f"Avg {result['avg']:.2f}  W-Avg {result['w_avg']:.2f}")
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])
