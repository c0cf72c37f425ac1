"""Writes a sweep's report as files: report.md, report.json, trials.csv and the figures."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from analysis.sweep_report.figures import save_figures
from analysis.sweep_report.report import ReportedInterval, SweepReport, make_report
from core.runtime.files import write_text
from sweeps.engine.search import Search
from sweeps.engine.status_text import plan_text, values_text
from sweeps.engine.trials import Trials


def write_report(trials: Trials, note: str) -> tuple[str, SweepReport]:
    """Write the report into the sweep's folder; returns report.md and the report."""
    report = make_report(trials, note)
    page = markdown(report, trials.search, save_figures(trials))
    write_text(trials.folder / "report.md", page)
    write_text(trials.folder / "report.json", json.dumps(report.as_json(), indent=1))
    write_text(trials.folder / "trials.csv", _csv(report, list(trials.search.space)))
    return page, report


def markdown(report: SweepReport, search: Search, figures: Mapping[str, str]) -> str:
    """The report as Markdown.

    figures: name -> PNG file, or why there is no figure.
    """
    status = report.status
    trace = report.trace
    sets = ", ".join(
        f"{data.root} ({data.images:,} images, {data.fingerprint})" for data in trace.validation
    )
    sources = f"Runs {', '.join(trace.runs)}; code {', '.join(trace.commits)}"
    lines = [
        f"# Sweep {search.name}: {status.title} (scale {status.scale})",
        "",
        *search_lines(report, search),
        "",
        "## Best",
        "",
        *best_lines(report, search),
        "",
        f"{sources}; validated on {sets}.",
        "",
    ]
    for name, file in figures.items():
        has_figure = file.endswith(".png")
        lines += [f"![{name}]({file})" if has_figure else f"No figure of {name}: {file}.", ""]
    lines += ["## Trials", "", *_trials_table(report, list(search.space))]
    return "\n".join(lines) + "\n"


def search_lines(report: SweepReport, search: Search) -> list[str]:
    """The space, the sampler and pruner, and the numbers of trials, as a list in Markdown."""
    status = report.status
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    hours = f"{status.hours:.2f} hours of computing"
    lines = [f"- {line.strip()}" for line in plan_text(search).splitlines()[1:]]
    lines += [f"- {method_text(search)}", f"- trials: {counts}, of {status.total}; {hours}"]
    if report.note:
        lines.append(f"- note: {report.note}")
    if not status.over:
        lines.append(f"- not over: {status.counted} of {status.total} trials")
    return lines


def best_lines(report: SweepReport, search: Search) -> list[str]:
    """The best trial with its interval, and its paired difference to the base row's values."""
    best = report.best
    objective = f"{report.status.objective} {_interval_text(report.estimate)}"
    lines = [f"Trial {best.number}: {values_text(best.values)}; {objective}."]
    lines.append(_selection_text(report))
    if report.first is not None:
        apart = report.first.difference
        head = f"Minus the base row's values (trial {report.first.trial}), on the same images"
        lines.append(f"{head}: {_interval_text(apart, '+')}{_verdict_text(report)}.")
    elif best.number == 0 and search.base_values is not None:
        lines.append("The base row's values are the best.")
    return lines


def method_text(search: Search) -> str:
    """Sampler and pruner with all their arguments."""
    sampler = search.sweep.sampler
    pruner = search.sweep.pruner
    text = f"sampler {sampler.kind} ({_arguments_text(sampler)})"
    if pruner is None:
        return f"{text}; no pruner"
    return f"{text}; pruner {pruner.kind} ({_arguments_text(pruner)})"


def _arguments_text(config: BaseModel) -> str:
    arguments = config.model_dump(mode="json", exclude={"kind"})
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


def _interval_text(interval: ReportedInterval | None, sign: str = "") -> str:
    """Value and interval in percent. sign: "+" shows the sign of positive numbers too."""
    if interval is None:
        return "without an interval: results by image were not stored"
    value, low, high = (
        f"{100 * number:{sign}.1f}" for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} (95 %: {low} to {high}; covers {interval.covers})"


def _verdict_text(report: SweepReport) -> str:
    apart = None if report.first is None else report.first.difference
    if apart is None:
        return ""
    if not apart.excludes_zero:
        return ", undecided"
    if len(report.status.seeds) > 1:
        return ", a difference"
    return ", a difference at this seed; other seeds may differ"


def _selection_text(report: SweepReport) -> str:
    text = (
        f"It is the best of {report.status.counted} trials by this number, so the number is too "
        "high: `--write-experiment` runs it with new seeds, on the test sets."
    )
    if report.compared:
        share = f"{len(report.undecided)} of the other {len(report.compared)} complete trials"
        text += f" {share} cannot be distinguished from it (the paired interval contains 0)."
    return text


def _trials_table(report: SweepReport, keys: Sequence[str]) -> list[str]:
    head = ["trial", "state", report.status.objective, *keys, "detail", "runs"]
    rows = [head, ["---"] * len(head), *trial_rows(report, keys)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _csv(report: SweepReport, keys: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    objective = f"{report.status.objective} (%)"
    writer.writerow(["trial", "state", objective, *keys, "detail", "runs"])
    writer.writerows(trial_rows(report, keys))
    return text.getvalue()


def trial_rows(report: SweepReport, keys: Sequence[str]) -> list[list[str]]:
    """A row of texts for each trial: number, state, objective in percent, values, detail, runs."""
    rows = []
    for trial in report.status.trials:
        values = [trial.values.get(key, "") for key in keys]
        rows.append(
            [
                str(trial.number),
                trial.state,
                "" if trial.value is None else f"{100 * trial.value:.2f}",
                *(f"{value:.5g}" if isinstance(value, float) else str(value) for value in values),
                trial.detail.replace("|", "/"),
                " ".join(trial.runs),
            ]
        )
    return rows
