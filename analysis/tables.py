"""A table in the paper's layout: reported and measured side by side, with intervals, and what may be concluded."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.load import Measured, Row, load_dropped, load_evaluation
from analysis.statistics import Estimate, mean_accuracy, paired_difference, pooled_accuracy
from core.files import write_text
from results.reported import reported_row, reported_subsets
from results.store import Store


@dataclass
class Table:
    """One experiment's rows at one scale. `reported` names a table of results/reported.yaml, or None.

    `overrides` are settings of the command line: such a table has a file of its own, says so, and gets no verdict."""

    name: str
    title: str
    scale: str
    about: str
    reported: str | None
    rows: Sequence[Row]
    store: Store
    overrides: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def measured(self) -> list[dict[int, Measured]]:
        """For each row, the complete evaluations by seed."""
        loaded = [{seed: load_evaluation(self.store, run) for seed, run in row.evaluations.items()} for row in self.rows]
        return [{seed: value for seed, value in row.items() if value is not None} for row in loaded]

    @cached_property
    def subsets(self) -> list[str]:
        """Column names: those evaluated, else those reported."""
        for row in self.measured:
            for evaluation in row.values():
                return list(evaluation.counts)
        return reported_subsets(self.reported) if self.reported else []

    def reported_values(self, row: Row) -> dict[str, float]:
        """The paper's numbers for a row, of the subsets evaluated here; its averages only where the subsets are the same."""
        values = reported_row(self.reported, row.reported) if self.reported else {}
        same = self.reported is not None and set(self.subsets) == set(reported_subsets(self.reported))
        shown = {*self.subsets, *(("Avg", "W-Avg") if same else ())}
        return {name: value for name, value in values.items() if name in shown}

    def counts(self, number: int) -> dict[str, tuple[int, int]]:
        """Correct and images per subset, summed over the seeds of row `number`."""
        evaluations = self.measured[number].values()
        return {
            name: (sum(one.counts[name][0] for one in evaluations), sum(one.counts[name][1] for one in evaluations))
            for name in self.subsets
        }

    def average(self, number: int) -> Estimate:
        """Avg of a row, mean over its seeds; the interval counts each test image once, however many seeds read it."""
        seeds = len(self.measured[number])
        hits, images = zip(*self.counts(number).values(), strict=True)
        return mean_accuracy(np.array(hits) / seeds, np.array(images) / seeds)

    def difference(self, number: int, below: int) -> Estimate | None:
        """Row `number` minus row `below` on the same images and seeds, or None where they share none."""
        first, second = self.measured[number], self.measured[below]
        seeds = sorted(first.keys() & second.keys())
        if not seeds:
            return None
        return paired_difference(
            [
                np.mean([first[seed].correct[name] - second[seed].correct[name] for seed in seeds], axis=0)
                for name in self.subsets
            ]
        )

    def verdict(self, number: int) -> str:
        """`reproduced` if the reported Avg lies inside our interval, else `differs`; only the paper's recipe is judged."""
        reported = self.reported_values(self.rows[number]).get("Avg")
        if self.scale != "paper" or self.overrides or reported is None or not self.measured[number]:
            return ""
        estimate = self.average(number)
        return "reproduced" if estimate.low <= reported / 100 <= estimate.high else "differs"

    def frame(self) -> pd.DataFrame:
        """Long form, for machines: one line for each row, source and subset or average; accuracies in percent."""
        lines: list[dict[str, object]] = []
        for number, row in enumerate(self.rows):
            base: dict[str, object] = {"experiment": self.name, "scale": self.scale, "row": row.name}
            for name, value in self.reported_values(row).items():
                lines.append(base | {"source": "reported", "subset": name, "accuracy": value})
            if not self.measured[number]:
                lines.append(base | {"source": "measured", "subset": "missing"})
                continue
            origin = {
                "source": "measured",
                "seeds": " ".join(map(str, self.measured[number])),
                "runs": " ".join(one.run for one in self.measured[number].values()),
            }
            counts, average = self.counts(number), self.average(number)
            for name, (correct, images) in counts.items():
                accuracy = 100 * correct / images
                lines.append(base | origin | {"subset": name, "accuracy": accuracy, "correct": correct, "images": images})
            interval = {"low": 100 * average.low, "high": 100 * average.high}
            lines.append(base | origin | {"subset": "Avg", "accuracy": 100 * average.value} | interval)
            pooled = 100 * pooled_accuracy(*zip(*counts.values(), strict=True))
            lines.append(base | origin | {"subset": "W-Avg", "accuracy": pooled})
        return pd.DataFrame(lines).round(4)

    def markdown(self) -> str:
        """For people."""
        verdicts = [self.verdict(number) for number in range(len(self.rows))]
        head = ["row", "", *self.subsets, "Avg", "W-Avg", "95 % of Avg", *(["verdict"] if any(verdicts) else [])]
        lines: list[list[str]] = []
        for number, row in enumerate(self.rows):
            reported = self.reported_values(row)
            cells = [f"{reported[name]:.1f}" if name in reported else "–" for name in (*self.subsets, "Avg", "W-Avg")]
            lines.append([row.name, "reported", *cells, ""])
            lines.append(["", "measured", *self._measured_cells(number)])
            if any(verdicts):
                lines[-2].append("")
                lines[-1].append(verdicts[number])
        title = f"{self.reported.replace('table', 'Table ') if self.reported else self.name}: {self.title}"
        return "\n".join([f"# {title}", "", *_grid(head, lines), "", *self._differences(), *self._notes()]) + "\n"

    def _measured_cells(self, number: int) -> list[str]:
        if not self.measured[number]:
            states = {self.store.run(run).state().name for run in self.rows[number].evaluations.values()}
            return ["missing"] * (len(self.subsets) + 2) + [", ".join(sorted(states))]
        counts, average = self.counts(number), self.average(number)
        cells = [f"{100 * correct / images:.1f}" for correct, images in counts.values()]
        averages = [f"{100 * average.value:.1f}", f"{100 * pooled_accuracy(*zip(*counts.values(), strict=True)):.1f}"]
        return [*cells, *averages, f"{100 * average.low:.1f} to {100 * average.high:.1f}"]

    def _differences(self) -> list[str]:
        lines = []
        for number in range(1, len(self.rows)):
            estimate = self.difference(number, number - 1)
            if estimate is not None:
                value, low, high = (100 * part for part in (estimate.value, estimate.low, estimate.high))
                reported = [self.reported_values(self.rows[index]).get("Avg") for index in (number, number - 1)]
                paper = "" if None in reported else f"; reported {reported[0] - reported[1]:+.1f}"  # type: ignore[operator]
                names = f"{self.rows[number].name} − {self.rows[number - 1].name}"
                lines.append(f"- Avg of {names}: {value:+.1f}, paired 95 % interval {low:+.1f} to {high:+.1f}{paper}")
        return [*lines, ""] if lines else []

    def _notes(self) -> list[str]:
        evaluations = [one for row in self.measured for one in row.values()]
        seeds = sorted({seed for row in self.measured for seed in row})
        have = {row.name: sorted(measured) for row, measured in zip(self.rows, self.measured, strict=True)}
        uneven = [f"{name}: {', '.join(map(str, found)) or 'none'}" for name, found in have.items() if found != seeds]
        about = f" ({self.about})" if self.about else ""
        named = ", ".join(map(str, seeds)) or "none yet"
        notes = [f"- Scale: {self.scale}{about}. Seeds: {named}. Values are percent, means over seeds."]
        if seeds and uneven:
            notes.append(f"- Not every row has all these seeds: {'; '.join(uneven)}.")
        notes.append(
            "- Intervals cover the sampling of test images only, not the variance between seeds: "
            "another seed may move a row by more."
        )
        if self.overrides:
            settings = ", ".join(f"{key}={value}" for key, value in self.overrides.items())
            notes.append(f"- Set on the command line, so another recipe than the file's, and no verdict: {settings}.")
        if self.scale == "paper" and not self.overrides:
            notes.append("- Verdict: `reproduced` where the reported Avg lies inside the measured interval, else `differs`.")
        elif self.scale != "paper":
            notes.append(
                f"- No verdict: scale `{self.scale}` has other data, another model size and another length of training than "
                "the paper, so measured and reported values stand side by side but may not be compared."
            )
        if evaluations:
            sizes = ", ".join(f"{name} {images:,}" for name, (_, images) in evaluations[0].counts.items())
            notes.append(f"- Test images, for each seed: {sizes}.")
            notes.append(f"- Protocol {evaluations[0].protocol}: {evaluations[0].statement}.")
            notes += [f"- {line}" for line in self._dropped(evaluations)]
            notes.append(f"- Commit: {', '.join(sorted({one.commit for one in evaluations}))}.")
            runs = ", ".join(one.run for one in evaluations)
            notes.append(f"- Evaluations: {runs}; each one's folder below {self.store.root / 'runs'} holds its record.")
        return notes

    def _dropped(self, evaluations: Sequence[Measured]) -> list[str]:
        lines = []
        for name, reasons in evaluations[0].dropped.items():
            if text := _reasons(reasons):
                lines.append(f"Test subset {name}, every image scored: {text}.")
        stages: dict[str, Mapping[str, int]] = {}
        for row in self.rows:
            for runs in row.trainings.values():
                stages |= {run.partition("-")[0]: load_dropped(self.store, run) for run in runs}
        return lines + [f"Data of {stage}: {text}." for stage, reasons in stages.items() if (text := _reasons(reasons))]

    def write(self) -> None:
        """Write NAME.SCALE.md and .csv below the results folder's tables; with overrides, NAME.SCALE.set-HASH."""
        settings = json.dumps(self.overrides, sort_keys=True, default=str).encode()
        suffix = f".set-{hashlib.sha256(settings).hexdigest()[:6]}" if self.overrides else ""
        name = f"{self.name}.{self.scale}{suffix}"
        write_text(self.store.table(f"{name}.md"), self.markdown())
        write_text(self.store.table(f"{name}.csv"), self.frame().to_csv(index=False))


REASONS = {
    "unreadable": "{} images missing or undecodable",
    "unlabelled": "{} without a label",
    "over_long": "{} labels too long for the decoder",
    "unknown_characters": "{} labels with a character outside the charset",
    "replaced": "{} samples replaced by a later one",
    "filtered": "{} left out by a filter list",
}


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(REASONS[name].format(count) for name, count in dropped.items() if count)


def _grid(head: list[str], lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [row(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(row, lines)]
