"""Opens recorded sweeps for a notebook: text, table and figures. Nothing is computed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from analysis.report.open_results import project_path
from analysis.style import FigureWriter, SavedFigure
from analysis.sweep_report.figures import Figures, draw_figures, short_key
from analysis.sweep_report.page import best_lines, search_lines
from analysis.sweep_report.report import SweepReport, find_trials, make_report
from core.runtime.errors import UserError
from experiments.planning.device import automatic_precision
from results.provenance import display_path
from results.store import Store
from sweeps.engine.make_search import make_search
from sweeps.engine.trials import Trials

SWEEP_FOLDER = re.compile(r"(?P<name>.+)\.(?P<scale>[^.]+)-[0-9a-f]{8}")
BEST_ROW_STYLE = "background-color:#e3f0f9"


@dataclass(frozen=True)
class OpenedSweep:
    """A sweep with at least one complete trial."""

    trials: Trials
    report: SweepReport

    @property
    def name(self) -> str:
        return self.trials.search.name

    @cached_property
    def figures(self) -> Figures:
        """Name of a figure -> its axes, or why there is no figure."""
        return draw_figures(self.trials)

    def text(self) -> str:
        """The search, the best trial, and its difference to the base row's values; as Markdown."""
        search = self.trials.search
        status = self.report.status
        lines = [
            f"### {search.name}: {status.title} (scale {status.scale})",
            "",
            *search_lines(self.report, search),
            "",
            "\n\n".join(best_lines(self.report, search)),
        ]
        return "\n".join(lines)

    def table(self) -> Styler:
        """A row for each trial, the best first, which is marked: values, accuracy (%), detail."""
        objective = f"{self.report.status.objective} (%)"
        frame = self._frame(objective)
        formats: Any = {objective: "{:.1f}"}
        for name in frame.columns[2:-2]:
            if pd.api.types.is_float_dtype(frame[name]):
                formats[name] = "{:.4g}"
        best = self.report.status.best

        def mark_best(row: "pd.Series[Any]") -> list[str]:
            return [BEST_ROW_STYLE if row.name == best else ""] * len(row)

        styler = frame.style.set_uuid(self.name).format(formats, na_rep="–", escape="html")
        return styler.format_index(escape="html", axis=1).apply(mark_best, axis=1)

    def _frame(self, objective: str) -> pd.DataFrame:
        status = self.report.status
        keys = list(self.trials.search.space)
        rows = []
        for trial in status.trials:
            value = None if trial.value is None else 100 * trial.value
            row: dict[str, Any] = {"trial": trial.number, "state": trial.state, objective: value}
            row |= {short_key(key, keys): trial.values.get(key) for key in keys}
            row["detail"] = trial.detail
            row["recognizer"] = " ".join(trial.recognizers.values())
            rows.append(row)
        is_minimized = status.direction == "minimize"
        frame = pd.DataFrame(rows).set_index("trial")
        return frame.sort_values(objective, ascending=is_minimized, kind="stable")

    def show(self, name: str, caption: str, out: str | Path) -> SavedFigure:
        """Save a figure in folder `out`, and return it for display.

        name: history, slices, contours or importances.
        caption: scale, seeds and the best trial's runs are appended.
        out: a path relative to the project's folder.

        Raises UserError if there is no such figure.
        """
        axes = self.figures[name]
        if isinstance(axes, str):
            raise UserError(f"{name} of {self.name}: {axes}")
        status = self.report.status
        head = f"Sweep {status.id}, {len(status.complete)} complete trials"
        text = f"{head}: {caption} The runs are those of the best trial, {status.best}."
        writer = FigureWriter(project_path(out), status.scale)
        runs = self.report.trace.runs
        return writer.save(axes, f"sweep_{self.name}_{name}", text, runs, status.seeds)


def open_sweep(file: str | Path, scale: str | None, results: str | Path) -> OpenedSweep:
    """Open the trials of a sweep file in a results folder.

    file, results: paths relative to the project's folder.
    scale: the scale profile; None: the file's.

    Raises UserError if the sweep was not run, or if no trial is complete.
    """
    search = make_search(
        project_path(file),
        scale,
        Store(project_path(results)),
        precision=automatic_precision("auto", "local"),
        overrides={},
        seeds=None,
    )
    trials, note = find_trials(Trials(search, Store(project_path(results))))
    return OpenedSweep(trials, make_report(trials, note))


def recorded_sweeps(results: str | Path, scale: str | None) -> list[tuple[Path, str]]:
    """(file, scale) of the shipped sweeps that have trials in a results folder.

    scale: only sweeps at this scale; None: all.
    """
    folder = project_path(results) / "sweeps"
    names = [path.parent.name for path in sorted(folder.glob("*/sweep.json"))]
    recorded: dict[tuple[Path, str], None] = {}
    for match in filter(None, map(SWEEP_FOLDER.fullmatch, names)):
        file = project_path(f"sweeps/{match['name']}.yaml")
        if file.is_file() and scale in (None, match["scale"]):
            recorded[file, match["scale"]] = None
    return list(recorded)


def open_sweeps(
    files: Sequence[str | Path] | None, scale: str | None, results: str | Path
) -> tuple[list[OpenedSweep], list[str]]:
    """Open several sweeps of a results folder; returns them, and a sentence for each other one.

    files: sweep files; None: all shipped sweeps that have trials there.
    scale: the scale profile; None: that of the trials, or of the file.
    results: a path relative to the project's folder.
    """
    chosen: Sequence[tuple[Path, str | None]]
    chosen = recorded_sweeps(results, scale) if files is None else [(Path(f), scale) for f in files]
    unavailable: list[str] = []
    if not chosen:
        folder = display_path(project_path(results))
        command = "`python run.py sweeps/mask_ratio.yaml`"
        unavailable.append(f"{folder}: contains no sweep; {command} runs one.")
    opened: list[OpenedSweep] = []
    for file, file_scale in chosen:
        try:
            opened.append(open_sweep(file, file_scale, results))
        except UserError as error:
            unavailable.append(f"{error}.")
    return opened, unavailable
