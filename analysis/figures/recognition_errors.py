"""The predictions of a table's rows at one seed, and their accuracy by group of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from analysis.tables.comparisons import compared_pairs
from analysis.tables.intervals import wilson
from analysis.tables.measurements import MeasuredEvaluation
from analysis.tables.table import Table
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS

MAX_LENGTH = 12  # labels of this length and longer form one group
FREQUENCY_BINS = {  # lowest Zipf frequency -> name of the bin
    0.0: "not a word",
    0.01: "below 3",
    3.0: "3 to 4",
    4.0: "4 to 4.5",
    4.5: "4.5 to 5",
    5.0: "5 to 6",
    6.0: "6 or more",
}
COMMON_WORD = 3.0  # lowest Zipf frequency of a common word: once in a million words
GROUPS = {
    "length": "characters of the label",
    "frequency": "Zipf frequency of the label",
    "subset": "test subset",
}


@cache
def zipf(text: str, language: str = "en") -> float:
    """Zipf frequency of a word (wordfreq): log10 of its occurrences in a billion words.

    It is 0 for an unknown word.
    wordfreq combines the frequencies of several words. Chinese texts are looked up without
    segmentation."""
    from wordfreq import freq_to_zipf, get_frequency_dict, zipf_frequency

    if language != "zh":
        return zipf_frequency(text, language)
    # Not zipf_frequency, which would need jieba to segment Chinese.
    frequency = get_frequency_dict("zh").get(text, 0.0)
    return freq_to_zipf(frequency) if frequency else 0.0


@dataclass(frozen=True)
class RecognitionErrors:
    """The predictions of a table's rows at one seed.

    `predictions` has one line per row and image:
        row, run, subset, index, label, prediction: as stored.
        normalized_label, normalized_prediction: as the protocol compares them.
        correct: whether the prediction is correct.
        scorable: whether the label can be expressed and the image can be decoded.
        common_word: whether the prediction is a common word.
        length, frequency: groups of the label (see GROUPS)."""

    table: Table
    seed: int
    predictions: pd.DataFrame

    @property
    def runs(self) -> list[str]:
        return list(self.predictions["run"].unique())

    @property
    def description(self) -> str:
        """Title and number of test images, for captions."""
        first_run = self.predictions[self.predictions["run"] == self.runs[0]]
        return f"{self.table.title}; {len(first_run):,} test images"

    def figure_name(self, part: str) -> str:
        """First part of a figure's file names."""
        return f"errors_{self.table.name}_{part}"

    def run_of(self, row: str) -> str:
        """The evaluation of a row. Raises UserError if the row is not complete at this seed."""
        runs = self.predictions.loc[self.predictions["row"] == row, "run"]
        if runs.empty:
            names = ", ".join(map(str, self.predictions["row"].unique()))
            raise UserError(
                f"{self.table.name}: no row {row!r} is complete at seed {self.seed}; "
                f"choose from {names}"
            )
        return str(runs.iloc[0])

    def pair(self, first: str | None, second: str | None) -> tuple[str, str]:
        """Two rows to compare: the given ones, or those of the first declared comparison.

        Raises UserError if the experiment declares no comparison, or a row is not complete."""
        names = [row.name for row in self.table.rows]
        declared = [(names[row], names[other]) for row, other in compared_pairs(self.table.records)]
        if not declared and not (first and second):
            raise UserError(
                f"{self.table.name}: compares no rows; set FIRST and SECOND to two rows"
            )
        default = declared[0] if declared else ("", "")
        pair = (first or default[0], second or default[1])
        for row in pair:
            self.run_of(row)
        return pair


def recognition_errors(
    tables: Sequence[Table], seed: int
) -> tuple[list[RecognitionErrors], list[str]]:
    """The predictions of each table at one seed; a message for each row that is incomplete."""
    errors = []
    unavailable = []
    for table in tables:
        frames = []
        for number, (row, measured) in enumerate(zip(table.rows, table.measured, strict=True)):
            if seed in measured:
                frames.append(_predictions(row.name, measured[seed]))
            else:
                unavailable.append(_why_incomplete(table, number, seed))
        if frames:
            rows = [row.name for row in table.rows]
            grouped = _add_groups(pd.concat(frames, ignore_index=True), rows)
            errors.append(RecognitionErrors(table, seed, grouped))
    return errors, unavailable


def _why_incomplete(table: Table, number: int, seed: int) -> str:
    """A sentence on a row that has no complete evaluation at a seed. number: index of the row."""
    measured = table.measured[number]
    if measured:
        detail = f"it is complete at {', '.join(map(str, measured))}"
    else:
        detail = " and ".join(table.records.why_missing(number))
    row = table.rows[number].name
    return f"{table.name}: {row} has no complete evaluation at seed {seed}; {detail}."


def _predictions(name: str, measured: MeasuredEvaluation) -> pd.DataFrame:
    """The stored predictions of one evaluation, without groups. name: of the row."""
    subsets, indices, labels, predictions, _, scorable = measured.run.predictions()
    normalize = lru_cache(1 << 16)(PROTOCOLS[measured.protocol].normalize)
    language = "zh" if measured.protocol == "chinese" else "en"
    frame = pd.DataFrame(
        {
            "row": name,
            "run": measured.run_id,
            "subset": subsets,
            "index": [int(index) for index in indices],
            "label": labels,
            "prediction": predictions,
            "normalized_label": [normalize(text) for text in labels],
            "normalized_prediction": [normalize(text) for text in predictions],
            "correct": False,
            "scorable": np.array(scorable) == "1",
            "zipf": [zipf(text, language) for text in labels],
            "common_word": [zipf(text, language) >= COMMON_WORD for text in predictions],
        }
    )
    for subset in dict.fromkeys(subsets):
        frame.loc[frame["subset"] == subset, "correct"] = measured.correct[subset].astype(bool)
    return frame


def _add_groups(frame: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """Add the columns `length` and `frequency`, and give groups and rows their order."""
    lengths = [*map(str, range(MAX_LENGTH)), f"{MAX_LENGTH}+"]
    label_lengths = [lengths[min(len(text), MAX_LENGTH)] for text in frame["normalized_label"]]
    frame["length"] = pd.Categorical(label_lengths, lengths, ordered=True)
    bins = list(FREQUENCY_BINS.values())
    positions = np.searchsorted(list(FREQUENCY_BINS), frame["zipf"], side="right") - 1
    frame["frequency"] = pd.Categorical(np.array(bins)[positions], bins, ordered=True)
    subsets = list(dict.fromkeys(frame["subset"]))
    frame["subset"] = pd.Categorical(frame["subset"], subsets, ordered=True)
    frame["row"] = pd.Categorical(frame["row"], list(dict.fromkeys(rows)), ordered=True)
    return frame


def accuracy_by_group(predictions: pd.DataFrame, by: str) -> pd.DataFrame:
    """Accuracy (%) of each row in each group, with Wilson's 95 % interval over images.

    by: a key of GROUPS. Columns: the group, row, correct, images, accuracy, low, high."""
    counts = predictions.groupby([by, "row"], observed=True)["correct"].agg(["sum", "count"])
    table = counts.reset_index().rename(columns={"sum": "correct", "count": "images"})
    estimates = [
        wilson(int(correct), int(images))
        for correct, images in zip(table["correct"], table["images"], strict=True)
    ]
    table["accuracy"] = [100 * estimate.value for estimate in estimates]
    table["low"] = [100 * estimate.low for estimate in estimates]
    table["high"] = [100 * estimate.high for estimate in estimates]
    return table


def accuracy_table(accuracies: pd.DataFrame) -> pd.DataFrame:
    """`accuracy_by_group` as text, one line per group and one column per row.

    A further column has the number of images."""
    by = str(accuracies.columns[0])
    texts = [
        f"{accuracy:.1f} ({low:.1f} to {high:.1f})"
        for accuracy, low, high in accuracies[["accuracy", "low", "high"]].to_numpy()
    ]
    wide = accuracies.assign(text=texts).pivot(index=by, columns="row", values="text").fillna("–")
    wide = wide.set_axis(list(map(str, wide.columns)), axis="columns").rename_axis(GROUPS[by])
    wide.insert(0, "images", accuracies.groupby(by, observed=True)["images"].max())
    return wide
