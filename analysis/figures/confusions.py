"""Character confusions and kinds of error in wrong predictions."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

KINDS = (
    "one character wrong",
    "several wrong, same length",
    "too short",
    "too long",
    "not scorable",
)
EDIT_KINDS = {"replace": "substituted", "delete": "deleted", "insert": "inserted"}


def count_confusions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Character edits in wrong predictions.

    They are the minimal (Levenshtein) edits from normalized label to normalized prediction.
    One line per row and edit, the most frequent first. Columns:
        row: of the table.
        what: `a → b`, `a deleted`, or `b inserted`.
        kind: substituted, deleted, or inserted.
        expected, predicted: the two characters; "" for none.
        count: how often the edit occurs.
        in_labels: how often the expected character occurs in the row's labels (0 for
            insertions)."""
    lines: list[dict[str, Any]] = []
    for row, of_row in predictions.groupby("row", observed=True):
        label_characters = Counter("".join(of_row["normalized_label"]))
        wrong = of_row[~of_row["correct"] & of_row["scorable"]]
        edits = Counter(
            edit
            for label, text in zip(
                wrong["normalized_label"], wrong["normalized_prediction"], strict=True
            )
            for edit in _edits(label, text)
        )
        for (tag, expected, predicted), count in edits.most_common():
            texts = {
                "replace": f"{expected} → {predicted}",
                "delete": f"{expected} deleted",
                "insert": f"{predicted} inserted",
            }
            lines.append(
                {
                    "row": row,
                    "what": texts[tag],
                    "kind": EDIT_KINDS[tag],
                    "expected": expected,
                    "predicted": predicted,
                    "count": count,
                    "in_labels": label_characters[expected] if expected else 0,
                }
            )
    columns = ["row", "what", "kind", "expected", "predicted", "count", "in_labels"]
    return pd.DataFrame(lines, columns=columns)


def _edits(label: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Minimal edits from label to text: (operation, expected character, predicted character).

    Operations are replace, delete and insert."""
    from rapidfuzz.distance import Levenshtein

    for edit in Levenshtein.editops(label, text):
        expected = "" if edit.tag == "insert" else label[edit.src_pos]
        predicted = "" if edit.tag == "delete" else text[edit.dest_pos]
        yield edit.tag, expected, predicted


def most_common(confusions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Counts of the `count` most common confusions over all rows, one column per row.

    The table is empty if there are no confusions.
    The first column, `in labels`, counts the expected character in all labels."""
    wide = confusions.pivot_table(
        "count", index="what", columns="row", aggfunc="sum", fill_value=0, sort=False, observed=True
    )
    wide = wide.astype(int).rename_axis(index="label → prediction", columns=None)
    order = wide.sum(axis=1).sort_values(ascending=False, kind="stable").index
    wide = wide.loc[order[:count]]
    wide.insert(0, "in labels", confusions.groupby("what")["in_labels"].max())
    return wide


def error_kinds(predictions: pd.DataFrame) -> pd.DataFrame:
    """Number of wrong predictions of each row, and the share (%) of each kind of error.

    The shares of KINDS sum to 100. `another word` is the share of wrong predictions, of any kind,
    that are common words."""
    wrong = predictions[~predictions["correct"]]
    length = wrong["normalized_prediction"].str.len()
    label_length = wrong["normalized_label"].str.len()
    texts = zip(wrong["normalized_prediction"], wrong["normalized_label"], strict=True)
    differences = np.array(
        [sum(one != other for one, other in zip(*pair, strict=False)) for pair in texts]
    )
    one_wrong, several_wrong, too_short, too_long, not_scorable = range(len(KINDS))
    conditions = [
        ~wrong["scorable"],
        length < label_length,
        length > label_length,
        differences == 1,
    ]
    kinds = np.select(conditions, [not_scorable, too_short, too_long, one_wrong], several_wrong)
    categories = pd.Categorical(np.array(KINDS)[kinds], list(KINDS))
    counts = pd.crosstab(wrong["row"], categories, dropna=False)
    counts = counts.reindex(predictions["row"].unique(), fill_value=0)
    total = counts.sum(axis=1)
    shares = 100 * counts.div(total.where(total > 0), axis=0)
    common_words = 100 * wrong.groupby("row", observed=False)["common_word"].mean()
    columns = {name: shares[name] for name in KINDS}
    return pd.DataFrame({"wrong": total, **columns, "another word": common_words}).rename_axis(
        "row"
    )
