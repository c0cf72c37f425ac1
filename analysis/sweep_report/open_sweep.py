"""What a notebook opens: a sweep as a results folder has it. Nothing is searched."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from analysis.report.open_results import project_path
from analysis.style import FigureWriter, SavedFigure
from analysis.sweep_report.figures import Drawn, pictures, short
from analysis.sweep_report.report import best_lines, find_trials, make_report, search_lines
from core.runtime.errors import UserError
from experiments.planning.device import automatic_precision
from results.provenance import display_path
from results.store import Store
from sweeps.engine.search import make_search
from sweeps.engine.trials import Trials


@dataclass(frozen=True)
class OpenedSweep:
    """A sweep with at least one complete trial. `note`: where it is not quite the file's. `report`: see `make_report`."""

    trials: Trials
    note: str
    report: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.trials.search.name

    @cached_property
    def pictures(self) -> dict[str, Drawn | str]:
        """Picture -> its axes, or why there is none."""
        return pictures(self.trials)

    def text(self) -> str:
        """What was searched, the best trial, and how much it reads beyond the recipe's own values; as Markdown."""
        report, search = dict(self.report), self.trials.search
        lines = [f"### {search.name}: {report['title']} (scale {report['scale']})", ""]
        lines += search_lines(report, self.trials, self.note)
        return "\n".join([*lines, "", "\n\n".join(best_lines(report, self.trials))])

    def table(self) -> Styler:
        """A line for each trial, the best ones first: values, accuracy (%), where it was given up. The best one is marked."""
        keys, maximized = list(self.trials.search.space), self.report["direction"] == "maximize"
        objective = f"{self.report['objective']} (%)"
        lines = [
            {
                "trial": one["number"],
                "state": one["state"],
                objective: None if one["value"] is None else 100 * one["value"],
            }
            | {short(key, keys): one["values"].get(key) for key in keys}
            | {"detail": one["detail"], "recognizer": " ".join(one["recognizers"].values())}
            for one in self.report["trials"]
        ]
        frame = (
            pd.DataFrame(lines)
            .set_index("trial")
            .sort_values(objective, ascending=not maximized, kind="stable")
        )
        formats: Any = {objective: "{:.1f}"}
        formats |= {
            name: "{:.4g}"
            for name in frame.columns[2:-2]
            if pd.api.types.is_float_dtype(frame[name])
        }
        styler = (
            frame.style.set_uuid(self.name)
            .format(formats, na_rep="–", escape="html")
            .format_index(escape="html", axis=1)
        )
        best = self.report["best"]
        return styler.apply(
            lambda line: ["background-color:#e3f0f9" if line.name == best else ""] * len(line),
            axis=1,
        )

    def show(self, name: str, caption: str, out: str | Path) -> SavedFigure:
        """A picture, kept in folder `out`, with its caption, which ends with scale, seeds and the best trial's runs.

        Raises UserError where there is none."""
        drawn = self.pictures[name]
        if isinstance(drawn, str):
            raise UserError(f"{name} of {self.name}: {drawn}")
        best, complete = self.report["best"], self.report["counts"].get("complete", 0)
        told = f"Sweep {self.report['id']}, {complete} complete trials: {caption} The runs are those of the best trial, {best}."
        writer = FigureWriter(project_path(out), self.report["scale"])
        return writer.save(
            drawn,
            f"sweep_{self.name}_{name}",
            told,
            self.report["trace"]["runs"],
            self.report["seeds"],
        )


def open_sweep(file: str | Path, scale: str | None, results: str | Path) -> OpenedSweep:
    """A sweep file's trials below a results folder; relative paths are those of the project's folder.

    Raises UserError where it was not run, or no trial is complete."""
    store, precision = Store(project_path(results)), automatic_precision("auto", "local")
    search = make_search(
        project_path(file), scale, store, precision=precision, overrides={}, seeds=None
    )
    trials, note = find_trials(Trials(search, store))
    return OpenedSweep(trials, note, make_report(trials))


def recorded_sweeps(results: str | Path, scale: str | None) -> list[tuple[Path, str]]:
    """The files of the suite's sweeps that a results folder holds trials of, each with its scale."""
    pattern = re.compile(r"(?P<name>.+)\.(?P<scale>[^.]+)-[0-9a-f]{8}")
    folders = (
        path.parent.name for path in sorted((project_path(results) / "sweeps").glob("*/sweep.json"))
    )
    named = [
        (project_path(f"sweeps/{one['name']}.yaml"), one["scale"])
        for name in folders
        if (one := pattern.fullmatch(name))
    ]
    return [
        (file, its) for file, its in dict.fromkeys(named) if file.is_file() and scale in (None, its)
    ]


def open_sweeps(
    files: Sequence[str | Path] | None, scale: str | None, results: str | Path
) -> tuple[list[OpenedSweep], list[str]]:
    """Those of some sweeps that a results folder holds (None: all that it holds), and a sentence on each of the others."""
    chosen = (
        recorded_sweeps(results, scale)
        if files is None
        else [(Path(file), scale) for file in files]
    )
    blocked_experiments = (
        []
        if chosen
        else [
            f"{display_path(project_path(results))}: holds no sweep; `python run.py sweeps/mask_ratio.yaml` makes one."
        ]
    )
    opened = []
    for file, its in chosen:
        try:
            opened.append(open_sweep(file, its, results))
        except UserError as error:
            blocked_experiments.append(f"{error}.")
    return opened, blocked_experiments
