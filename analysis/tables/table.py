"""A table in the paper's layout: reported beside measured, with intervals and verdicts by a written rule; as plain data.

`Table.content` holds all there is to say; `analysis/tables/render.py` turns it into Markdown, CSV, LaTeX and HTML.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from analysis.tables.comparisons import RULE as RULE_OF_DIFFERENCES
from analysis.tables.comparisons import comparison, pairs
from analysis.tables.footnotes import notes
from analysis.tables.intervals import (
    Estimate,
    average_weights,
    bootstrap,
    mean_accuracy,
    percent,
    wilson,
)
from analysis.tables.measurements import Measured, Records, Row, recorded_runs
from analysis.tables.render import FORMATS
from analysis.tables.training_cost import ledger
from core.runtime.files import write_text
from core.text.protocols import PROTOCOLS
from results.reported import METRICS, reported, reported_table, reported_values
from results.store import Store

AVERAGES = ("Avg", "W-Avg")
RULE = (
    "Verdict on a row, by its Avg: `reproduced` where the reported value lies inside our 95 % interval, `differs` where it "
    "lies outside; both only at scale paper, under the paper's protocol, on its test sets, with the recipe as the file has it. "
    "Else `not comparable`, with what is not the same. `missing`: no complete run."
)


@dataclass
class Table:
    """One experiment's rows at one scale. `reported` names a table of results/reported.yaml, or None.

    `overrides` are settings of the command line: such a table has a file of its own, says so, and gets no verdict on its rows.
    `stand_ins`: rendered words were read in place of the paper's data."""

    name: str
    title: str
    scale: str
    about: str
    reported: str | None
    rows: Sequence[Row]
    store: Store
    overrides: Mapping[str, object] = field(default_factory=dict)
    stand_ins: bool = False

    @cached_property
    def records(self) -> Records:
        return Records(self.rows, self.store)

    @property
    def measured(self) -> list[dict[int, Measured]]:
        return self.records.measured

    @cached_property
    def columns(self) -> list[str]:
        """Subsets: those of the paper's table in its order, then what else was evaluated."""
        return list(dict.fromkeys([*self._paper_columns(), *self.records.subsets]))

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything that the table says, as JSON has it; accuracies and differences in percent."""
        return {
            "experiment": self.name,
            "title": self.title,
            "table": self.reported,
            "scale": self.scale,
            "about": self.about,
            "overrides": dict(self.overrides),
            "columns": self.columns,
            "rows": self._rows(),
            "comparisons": self._comparisons(),
            "rules": [
                *([RULE] if self.reported else []),
                *([RULE_OF_DIFFERENCES] if pairs(self.records) else []),
            ],
            "notes": notes(self),
        }

    def _rows(self) -> list[dict[str, Any]]:
        """The paper's rows in its order, each with what was measured for it, then rows that the paper does not have."""
        by_number = {
            row.reported: number for number, row in enumerate(self.rows) if row.reported is not None
        }
        entries: list[dict[str, Any]] = []
        for number in range(len(reported_table(self.reported).rows) if self.reported else 0):
            entries.append(
                self._row(by_number[number]) if number in by_number else self._paper_row(number)
            )
        return entries + [
            self._row(number) for number, row in enumerate(self.rows) if row.reported is None
        ]

    def _paper_row(self, number: int) -> dict[str, Any]:
        assert self.reported is not None
        table = reported_table(self.reported)
        own = table.own(number)
        source = table.rows[number].source
        verdict, why = (
            ("missing", ["no row of this experiment stands for it"])
            if own
            else ("", [f"quoted from {source}"])
        )
        values = reported_values(self.reported, number)
        return {
            "name": table.rows[number].name(),
            "ours": own,
            "reported": values,
            "verdict": verdict,
            "why": why,
        }

    def _paper(self, number: int) -> dict[str, float]:
        """What the paper reports for row `number`; {} if nothing."""
        reported_row = self.rows[number].reported
        return (
            {}
            if self.reported is None or reported_row is None
            else reported_values(self.reported, reported_row)
        )

    def _paper_columns(self) -> tuple[str, ...]:
        return reported().subsets[reported_table(self.reported).benchmark] if self.reported else ()

    def _averaged(self, *numbers: int) -> list[str]:
        """The subsets that Avg is about: the paper's where these rows have them all, else all that they have."""
        subsets, paper = self.records.subsets_of(*numbers), self._paper_columns()
        return list(paper) if paper and set(paper) <= set(subsets) else subsets

    def _row(self, number: int) -> dict[str, Any]:
        row, found, paper = self.rows[number], self.measured[number], self._paper(number)
        verdict, why = self._verdict(number, paper)
        entry: dict[str, Any] = {"name": row.name, "ours": bool(paper), "reported": paper}
        blocked_experiments = [seed for seed in row.evaluations if seed not in found]
        entry |= {
            "verdict": verdict,
            "why": why,
            "seeds": list(found),
            "missing_seeds": blocked_experiments,
        }
        if not found:
            return entry
        measured: dict[str, dict[str, Any]] = {
            name: percent(one) for name, one in self._estimates[number].items()
        }
        for name in measured.keys() - set(AVERAGES):
            correct, images = (
                sum(one.counts[name][part] for one in found.values()) for part in (0, 1)
            )
            measured[name] |= {"correct": correct, "images": images}
        shared = [name for name in measured if name in paper]
        if (
            tuple(self._averaged(number)) != self._paper_columns()
        ):  # an average over other subsets is another thing
            shared = [name for name in shared if name not in AVERAGES]
        entry |= {"measured": measured, "ledger": ledger(self.records, number, list(found))}
        entry["difference"] = {
            name: round(measured[name]["accuracy"] - paper[name], 4) for name in shared
        }
        entry["runs"] = {
            str(seed): {
                "evaluate": one.run,
                "trainings": list(row.trainings[seed]),
                "teacher": row.teachers.get(seed, ""),
            }
            for seed, one in found.items()
        }
        return entry

    @cached_property
    def _estimates(self) -> list[dict[str, Estimate]]:
        """For each row its accuracy on each subset, Avg and W-Avg: means over its seeds, with their intervals."""
        return [
            self._estimates_of(number) if found else {}
            for number, found in enumerate(self.measured)
        ]

    def _estimates_of(self, number: int) -> dict[str, Estimate]:
        found, averaged = self.measured[number], self._averaged(number)
        has = self.records.subsets_of(number)
        subsets = [name for name in self.columns if name in has]
        first = next(iter(found.values()))
        images = [first.counts[name][1] for name in averaged]
        weightings = [average_weights(images, pooled=pooled) for pooled in (False, True)]
        if len(found) == 1:
            correct = [first.counts[name][0] for name in averaged]
            estimates = [wilson(*first.counts[name]) for name in subsets]
            estimates += [mean_accuracy(correct, images, weights) for weights in weightings]
        else:
            values = [self.records.values(number, name, list(found)) for name in subsets]
            places = [subsets.index(name) for name in averaged]
            spread = [np.eye(len(subsets))[places].T @ weights for weights in weightings]
            estimates = bootstrap(values, *np.eye(len(subsets)), *spread, paired=False)
        return dict(zip((*subsets, *AVERAGES), estimates, strict=True))

    def _verdict(self, number: int, paper: Mapping[str, float]) -> tuple[str, list[str]]:
        if not self.measured[number]:
            return "missing", self.records.why_missing(number)
        if "Avg" not in paper:
            return "", [
                "the paper has no such row" if self.reported else "the paper has no such table"
            ]
        if why := self.unlike_the_paper(number):
            return "not comparable", why
        estimate = self._estimates[number]["Avg"]
        inside = 100 * estimate.low <= paper["Avg"] <= 100 * estimate.high
        return "reproduced" if inside else "differs", []

    def unlike_the_paper(self, number: int) -> list[str]:
        """What keeps a row from being compared with the paper's: scale, data, recipe, protocol, and in which way."""
        assert self.reported is not None
        why = [] if self.scale == "paper" else [f"scale: {self.scale}"]
        if self.stand_ins:
            why.append("data: rendered words in place of the paper's")
        if self.overrides:
            why.append("recipe: settings of the command line")
        why += [f"data: {text}" for text in self.rows[number].deviations]
        wanted = METRICS[reported_table(self.reported).benchmark]
        for one in self.measured[number].values():
            if one.protocol != wanted:
                why.append(f"protocol: {one.protocol}, not {wanted}")
            sizes = PROTOCOLS[wanted].sizes
            for name in self._paper_columns():
                images = one.counts.get(name, (0, 0))[1]
                if images != sizes[name] and not self.stand_ins:
                    told = (
                        f"has {images:,} images, not {sizes[name]:,}"
                        if images
                        else "was not evaluated"
                    )
                    why.append(f"data: {name} {told}")
        return list(dict.fromkeys(why))

    def _comparisons(self) -> list[dict[str, Any]]:
        found = []
        for number, other in pairs(self.records):
            like = (
                self.reported is not None
                and not self.unlike_the_paper(number)
                and not self.unlike_the_paper(other)
            )
            subsets = self._averaged(number, other)
            fewer = bool(subsets) and tuple(subsets) != self._paper_columns()
            paper = None if fewer else self._reported_difference(number, other)
            entry = comparison(self.records, number, other, subsets, paper, like_the_paper=like)
            if (
                any(set(self._averaged(one)) - set(subsets) for one in (number, other))
                and "Avg" in entry
            ):
                entry["why"] = [f"over {', '.join(subsets)}, which both have"]
            found.append(entry)
        return found

    def _reported_difference(self, number: int, other: int) -> float | None:
        """Between the two rows' printed Avg, or None."""
        first, second = (self._paper(row).get("Avg") for row in (number, other))
        return None if first is None or second is None else round(first - second, 4)

    def write(self) -> None:
        """Write NAME.SCALE.md, .csv and .json below the results folder's tables; with overrides, NAME.SCALE.set-HASH.

        Complete runs of other seeds that an earlier table noted are noted on."""
        known = recorded_runs(self.store, self.file_name())
        for row in self.rows:
            known.setdefault(row.name, {})
        content = self.content
        known |= {
            row["name"]: known[row["name"]] | row["runs"]
            for row in content["rows"]
            if "runs" in row
        }
        kept = {
            name: {
                seed: runs
                for seed, runs in seeds.items()
                if self.store.run(runs["evaluate"]).state().name == "complete"
            }
            for name, seeds in known.items()
        }
        for suffix in ("md", "csv", "json"):
            write_text(
                self.store.table(f"{self.file_name()}.{suffix}"),
                FORMATS[suffix]([content | {"known_runs": kept}]),
            )

    @property
    def label(self) -> str:
        """Table N of the paper, or the experiment's name."""
        return self.reported.replace("table", "Table ") if self.reported else self.name

    def file_name(self) -> str:
        """Of the table's files, without suffix."""
        return table_name(self.name, self.scale, self.overrides)


def table_name(experiment: str, scale: str, overrides: Mapping[str, object]) -> str:
    """NAME.SCALE, or with settings of the command line NAME.SCALE.set-HASH."""
    settings = json.dumps(overrides, sort_keys=True, default=str).encode()
    suffix = f".set-{hashlib.sha256(settings).hexdigest()[:6]}" if overrides else ""
    return f"{experiment}.{scale}{suffix}"
