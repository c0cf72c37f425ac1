"""What the rows of a table read wrong at one seed: on which words, which characters, in which way; and what one reads that
another does not. Shares are in percent of images or of wrong readings, as each function says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.comparisons import comparison, pairs
from analysis.tables.intervals import wilson
from analysis.tables.measurements import Measured
from analysis.tables.table import Table
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS

LONGEST = 12  # labels of so many characters and more are one group
BINS = {
    0.0: "not a word",
    0.01: "below 3",
    3.0: "3 to 4",
    4.0: "4 to 4.5",
    4.5: "4.5 to 5",
    5.0: "5 to 6",
    6.0: "6 or more",
}
COMMON = 3.0  # Zipf frequency from which a reading counts as a word: once in a million words
GROUPS = {
    "length": "characters of the label",
    "frequency": "Zipf frequency of the label",
    "subset": "test subset",
}
KINDS = (
    "one character wrong",
    "several wrong, same length",
    "too short",
    "too long",
    "not readable",
)


@cache
def zipf(text: str, language: str = "en") -> float:
    """How frequent a word is: log10 of its occurrences in a thousand million words (wordfreq); 0 where it is none.

    Of several words, what wordfreq makes of them; Chinese texts are looked up whole."""
    from wordfreq import freq_to_zipf, get_frequency_dict, zipf_frequency

    if language != "zh":
        return zipf_frequency(text, language)
    frequency = get_frequency_dict("zh").get(
        text, 0.0
    )  # anything else asks for jieba, to cut texts into words
    return freq_to_zipf(frequency) if frequency else 0.0


@dataclass(frozen=True)
class Errors:
    """A table's readings at one seed. `readings` has a line for each row and image: row, run, subset, index, label and
    prediction as they are stored, `wanted` and `read` as the protocol compares them, `right`, `readable` (the label can be
    expressed, the image be decoded), `word` (what was read is a common word), and the groups `length` and `frequency`."""

    table: Table
    seed: int
    readings: pd.DataFrame

    @property
    def runs(self) -> list[str]:
        return list(self.readings["run"].unique())

    @property
    def about(self) -> str:
        """For captions: what was read."""
        of_one = self.readings[self.readings["run"] == self.runs[0]]
        return f"{self.table.title}; {len(of_one):,} test images"

    def name(self, part: str) -> str:
        """Of a figure's files."""
        return f"errors_{self.table.name}_{part}"

    def run_of(self, row: str) -> str:
        """The evaluation of a row. Raises UserError if there is none at this seed."""
        runs = self.readings.loc[self.readings["row"] == row, "run"]
        if runs.empty:
            there = ", ".join(map(str, self.readings["row"].unique()))
            raise UserError(
                f"{self.table.name}: no row {row!r} is complete at seed {self.seed}; choose from {there}"
            )
        return str(runs.iloc[0])

    def pair(self, first: str | None, second: str | None) -> tuple[str, str]:
        """The two rows to set side by side: those named, or of the first comparison that the experiment declares.

        Raises UserError where there is none, or a row is not complete."""
        names = [row.name for row in self.table.rows]
        declared = next(
            ((names[one], names[other]) for one, other in pairs(self.table.records)), None
        )
        if declared is None and not (first and second):
            raise UserError(f"{self.table.name}: compares no rows; name two with FIRST and SECOND")
        found = (first or (declared or ("", ""))[0], second or (declared or ("", ""))[1])
        for row in found:
            self.run_of(row)
        return found


def errors_of(tables: Sequence[Table], seed: int) -> tuple[list[Errors], list[str]]:
    """Of each table what its rows read at a seed, and a sentence on each row that is not complete."""
    found, blocked_experiments = [], []
    for table in tables:
        frames = []
        for number, (row, measured) in enumerate(zip(table.rows, table.measured, strict=True)):
            if seed in measured:
                frames.append(_readings(row.name, measured[seed]))
            else:
                why = f"; {' and '.join(table.records.why_missing(number))}" if not measured else ""
                there = f"; it is complete at {', '.join(map(str, measured))}" if measured else ""
                blocked_experiments.append(
                    f"{table.name}: {row.name} has no complete evaluation at seed {seed}{there}{why}."
                )
        if frames:
            found.append(
                Errors(
                    table,
                    seed,
                    _grouped(
                        pd.concat(frames, ignore_index=True), [row.name for row in table.rows]
                    ),
                )
            )
    return found, blocked_experiments


def _readings(name: str, measured: Measured) -> pd.DataFrame:
    subsets, indices, labels, predictions, _, readable = measured.place.predictions()
    normalize = lru_cache(1 << 16)(PROTOCOLS[measured.protocol].normalize)
    language = "zh" if measured.protocol == "chinese" else "en"
    frame = pd.DataFrame(
        {
            "row": name,
            "run": measured.run,
            "subset": subsets,
            "index": [int(index) for index in indices],
        }
    )
    frame["label"], frame["prediction"] = labels, predictions
    frame["wanted"], frame["read"] = (
        [normalize(text) for text in labels],
        [normalize(text) for text in predictions],
    )
    frame["right"], frame["readable"] = False, np.array(readable) == "1"
    for subset in dict.fromkeys(subsets):
        frame.loc[frame["subset"] == subset, "right"] = measured.correct[subset].astype(bool)
    frame["zipf"] = [zipf(text, language) for text in labels]
    frame["word"] = [zipf(text, language) >= COMMON for text in predictions]
    return frame


def _grouped(frame: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    lengths = [*map(str, range(LONGEST)), f"{LONGEST}+"]
    of_labels = [lengths[min(len(text), LONGEST)] for text in frame["wanted"]]
    frame["length"] = pd.Categorical(of_labels, lengths, ordered=True)
    bins = np.array(list(BINS.values()))[
        np.searchsorted(list(BINS), frame["zipf"], side="right") - 1
    ]
    frame["frequency"] = pd.Categorical(bins, list(BINS.values()), ordered=True)
    frame["subset"] = pd.Categorical(
        frame["subset"], list(dict.fromkeys(frame["subset"])), ordered=True
    )
    frame["row"] = pd.Categorical(frame["row"], list(dict.fromkeys(rows)), ordered=True)
    return frame


def accuracy(readings: pd.DataFrame, by: str) -> pd.DataFrame:
    """Accuracy of each row in each group of images (`by`: one of GROUPS), in percent, with Wilson's 95 % interval over images.

    A line for each group and row: the group, row, correct, images, accuracy, low, high."""
    counts = (
        readings.groupby([by, "row"], observed=True)["right"].agg(["sum", "count"]).reset_index()
    )
    shares = counts.rename(columns={"sum": "correct", "count": "images"})
    found = [
        wilson(int(correct), int(images))
        for correct, images in zip(shares["correct"], shares["images"], strict=True)
    ]
    for column, values in {
        "accuracy": [one.value for one in found],
        "low": [one.low for one in found],
        "high": [one.high for one in found],
    }.items():
        shares[column] = 100 * np.array(values)
    return shares


def told(shares: pd.DataFrame) -> pd.DataFrame:
    """`accuracy` as it is read: groups down, rows across, accuracy with its interval as text; images of each group."""
    by = str(shares.columns[0])
    texts = [
        f"{one:.1f} ({low:.1f} to {high:.1f})"
        for one, low, high in shares[["accuracy", "low", "high"]].to_numpy()
    ]
    wide = shares.assign(text=texts).pivot(index=by, columns="row", values="text").fillna("–")
    wide = wide.set_axis(list(map(str, wide.columns)), axis="columns").rename_axis(GROUPS[by])
    wide.insert(0, "images", shares.groupby(by, observed=True)["images"].max())
    return wide


def confusions(readings: pd.DataFrame) -> pd.DataFrame:
    """Characters of wrong readings by minimal edit (Levenshtein) from label to reading, after the protocol's normalization.

    A line for each row and confusion, the commonest first: row, what (`a → b`, `a lost`, `b added`), kind, wanted, read, count,
    and `of`: how often the wanted character stands in the row's labels (0 for what was added)."""
    from rapidfuzz.distance import Levenshtein

    lines: list[dict[str, Any]] = []
    for row, own in readings.groupby("row", observed=True):
        there, counted = Counter("".join(own["wanted"])), Counter[tuple[str, str, str]]()
        wrong = own[~own["right"] & own["readable"]]
        for wanted, read in zip(wrong["wanted"], wrong["read"], strict=True):
            for edit in Levenshtein.editops(wanted, read):
                lost = "" if edit.tag == "insert" else wanted[edit.src_pos]
                counted[edit.tag, lost, "" if edit.tag == "delete" else read[edit.dest_pos]] += 1
        for (tag, wanted, read), count in counted.most_common():
            what = {
                "replace": f"{wanted} → {read}",
                "delete": f"{wanted} lost",
                "insert": f"{read} added",
            }[tag]
            kind = {"replace": "read as another", "delete": "lost", "insert": "added"}[tag]
            line = {
                "row": row,
                "what": what,
                "kind": kind,
                "wanted": wanted,
                "read": read,
                "count": count,
            }
            lines.append(line | {"of": there[wanted] if wanted else 0})
    return pd.DataFrame(lines, columns=["row", "what", "kind", "wanted", "read", "count", "of"])


def commonest(found: pd.DataFrame, most: int) -> pd.DataFrame:
    """The `most` confusions that are commonest over all rows, rows across: counts; an empty frame where nothing is wrong.

    `in labels`: how often the wanted character stands there at all."""
    wide = found.pivot_table(
        "count", index="what", columns="row", aggfunc="sum", fill_value=0, sort=False, observed=True
    )
    wide = wide.astype(int).rename_axis(index="label → reading", columns=None)
    wide = wide.loc[wide.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]]
    wide.insert(0, "in labels", found.groupby("what")["of"].max())
    return wide


def kinds(readings: pd.DataFrame) -> pd.DataFrame:
    """For each row its wrong readings, and of these the share (%) of every kind of KINDS, which sum to 100; and of those that
    are another word (Zipf frequency 3 or more), whatever their kind."""
    wrong = readings[~readings["right"]]
    read, wanted = wrong["read"].str.len(), wrong["wanted"].str.len()
    pairs_of_texts = zip(wrong["read"], wrong["wanted"], strict=True)
    apart = np.array(
        [sum(one != two for one, two in zip(*texts, strict=False)) for texts in pairs_of_texts]
    )
    chosen = np.select(
        [~wrong["readable"], read < wanted, read > wanted, apart == 1], [4, 2, 3, 0], 1
    )
    kind = pd.Categorical(np.array(KINDS)[chosen], list(KINDS))
    counts = pd.crosstab(wrong["row"], kind, dropna=False).reindex(
        readings["row"].unique(), fill_value=0
    )
    total = counts.sum(axis=1)
    shares = 100 * counts.div(total.where(total > 0), axis=0)
    words = 100 * wrong.groupby("row", observed=False)["word"].mean()
    return pd.DataFrame(
        {"wrong": total, **{name: shares[name] for name in KINDS}, "another word": words}
    ).rename_axis("row")


def disagreements(errors: Errors, first: str, second: str) -> pd.DataFrame:
    """For each subset, images that only `first` reads, or only `second`, and McNemar's exact p corrected by Holm over subsets.

    It covers test images at this seed. Raises UserError where the two rows cannot be paired."""
    names, records = [row.name for row in errors.table.rows], errors.table.records
    number, other = names.index(first), names.index(second)
    subsets = records.subsets_of(number, other)
    found = comparison(records, number, other, subsets, None, like_the_paper=False)
    if "mcnemar" not in found:
        raise UserError(f"{first} and {second}: {found['verdict']}; {'; '.join(found['why'])}")
    tests = found["mcnemar"][str(errors.seed)]
    counts = records.measured[number][errors.seed].counts
    lines = [
        {
            "images": counts[name][1],
            f"only {first}": one["won"],
            f"only {second}": one["lost"],
            "p (Holm)": one["p"],
        }
        for name, one in tests.items()
    ]
    return pd.DataFrame(lines, index=pd.Index(list(tests), name="test subset"))


def only_by(errors: Errors, reader: str, other: str) -> pd.DataFrame:
    """Images that `reader` reads and `other` does not: subset, index, label, and what was read, `by_reader` and `by_other`."""
    one, two = (errors.readings[errors.readings["row"] == row] for row in (reader, other))
    both = one.merge(
        two[["subset", "index", "prediction", "right"]],
        on=["subset", "index"],
        suffixes=("_one", "_two"),
    )
    chosen = both[both["right_one"] & ~both["right_two"]]
    names = {"prediction_one": "by_reader", "prediction_two": "by_other"}
    return chosen.rename(columns=names)[
        ["subset", "index", "label", "by_reader", "by_other"]
    ].reset_index(drop=True)
