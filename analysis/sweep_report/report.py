"""What a sweep found: the best trial with an interval, all trials, pictures; and the best one as an experiment of its own."""

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.tables.intervals import Estimate, average_weights, bootstrap, mean_accuracy
from core.runtime.errors import UserError
from core.runtime.files import write_text
from core.runtime.yaml import dump_yaml
from experiments.planning.diagnostics import Tree
from experiments.planning.planner import plan_experiments
from experiments.planning.schema import Experiment, Variant
from results.records import StoredRun, StoredValidation, read_record
from results.store import Store
from sweeps.engine.search import Search
from sweeps.engine.status import Described, best_trial, describe, ended, plan_text, told
from sweeps.engine.trials import Trials

FRESH = 3  # seeds of a written experiment


def find_trials(trials: Trials) -> tuple[Trials, str]:
    """The sweep as it was run: the file's, or the only other one of its name and scale, with a note that it is another.

    Raises UserError."""
    search, folder = trials.search, trials.folder.parent
    if trials.begun():
        return Trials(Search.restored(trials.kept()), trials.store, trials.url), ""
    others = sorted(
        path.parent for path in folder.glob(f"{search.name}.{search.scale}-*/sweep.json")
    )
    if len(others) != 1:
        there = (
            f"there are {', '.join(path.name for path in others)}"
            if others
            else "`run.py` on the same file begins it"
        )
        raise UserError(f"{trials.folder}: this sweep has not been run; {there}")
    found = Trials(replace(search, id=others[0].name), trials.store, trials.url)
    found = Trials(Search.restored(found.kept()), trials.store, trials.url)
    found.check_storage()
    return (
        found,
        f"run as {others[0].name}: with other data or settings than those of this file here ({search.id})",
    )


def readings(one: Described, store: Store) -> list[np.ndarray] | None:
    """Of a complete trial, for each validation root: (seeds, images) right or not. None where older code kept no readings."""
    of_seeds = [store.run(run).validation() for run in one["recognizers"].values()]
    kept = [found for found in of_seeds if found]
    if (
        len(kept) < len(of_seeds)
        or len({tuple((name, len(bits)) for name, bits in found.items()) for found in kept}) != 1
    ):
        return None
    return [np.stack([found[name] for found in kept]) for name in kept[0]]


def estimate_of(one: Described, objective: str, store: Store) -> Estimate | None:
    """The objective of a complete trial with its interval, in [0, 1]."""
    if (right := readings(one, store)) is not None:
        return bootstrap(right, _weights(right, objective), paired=False)[0]
    counts = [
        read_record(store.run(run), StoredValidation).metrics for run in one["recognizers"].values()
    ]
    if len(counts) > 1:
        return None
    return mean_accuracy([counts[0].validation_correct], [counts[0].validation_images])


def _weights(subsets: Sequence[np.ndarray], objective: str) -> np.ndarray:
    return average_weights(
        [bits.shape[1] for bits in subsets], pooled=objective == "validation_wavg"
    )


def difference(one: Described, other: Described, objective: str, store: Store) -> Estimate | None:
    """How much more one trial reads than another, in [-1, 1], paired image by image; None without both trials' readings."""
    mine, theirs = readings(one, store), readings(other, store)
    if (
        mine is None
        or theirs is None
        or [bits.shape for bits in mine] != [bits.shape for bits in theirs]
    ):
        return None
    apart = [first.astype(float) - second for first, second in zip(mine, theirs, strict=True)]
    return bootstrap(apart, _weights(apart, objective), paired=True)[0]


def make_report(trials: Trials) -> dict[str, Any]:
    """Everything that the report says. Raises UserError while no trial is complete."""
    search, store = trials.search, trials.store
    description = describe(trials)
    best = best_trial(description["trials"], description["direction"])
    if best is None:
        raise UserError(
            f"{trials.folder}: no trial is complete yet; the sweep's own command goes on with it"
        )
    objective, complete = (
        description["objective"],
        [one for one in description["trials"] if one["state"] == "complete"],
    )
    found = estimate_of(best, objective, store)
    first = (
        complete[0] if search.first is not None and complete[0]["values"] == search.first else None
    )
    beaten = [one for one in complete if one is not best]
    apart = {one["number"]: difference(best, one, objective, store) for one in beaten}
    known = [number for number, estimate in apart.items() if estimate is not None]
    report = description | {
        "estimate": _numbers(found),
        "first": None,
        "trace": _trace(best, store),
    }
    if first is not None and first is not best:
        report["first"] = {"trial": first["number"], "difference": _numbers(apart[first["number"]])}
    report["undecided"] = [number for number in known if not apart[number].excludes_zero()]  # type: ignore[union-attr]
    report["compared"] = known
    return report


def _numbers(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    covers = estimate.covers.replace("test images", "validation images")
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "covers": covers}


def _trace(best: Described, store: Store) -> dict[str, Any]:
    """Where the best trial's numbers come from."""
    records = {run: store.run(run).record() for run in best["runs"]}
    last = records[next(iter(best["recognizers"].values()))]
    return {
        "runs": best["runs"],
        "commits": sorted({str(record["code"]["commit"])[:12] for record in records.values()}),
        "validation": [
            {
                "root": root.get("root", ""),
                "fingerprint": root["fingerprint"],
                "images": root["images"],
            }
            for root in last["data"]["validation"]
        ],
        "hours": round(
            sum(read_record(store.run(run), StoredRun).seconds for run in records) / 3600, 4
        ),
    }


def _interval(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    if estimate is None:
        return "no interval: its readings were not kept"
    ends = f"{100 * estimate['low']:{sign}.1f} to {100 * estimate['high']:{sign}.1f}"
    return f"{100 * estimate['value']:{sign}.1f} (95 %: {ends}; covers {estimate['covers']})"


def markdown(report: Described, trials: Trials, note: str, pictures: Mapping[str, str]) -> str:
    """The report as a page."""
    lines = [f"# Sweep {trials.search.name}: {report['title']} (scale {report['scale']})", ""]
    lines += search_lines(report, trials, note)
    lines += ["", "## Best", "", *best_lines(report, trials)]
    trace = report["trace"]
    sets = ", ".join(
        f"{one['root']} ({one['images']:,} images, {one['fingerprint']})"
        for one in trace["validation"]
    )
    lines += [
        "",
        f"Runs {', '.join(trace['runs'])}; code {', '.join(trace['commits'])}; validated on {sets}.",
        "",
    ]
    for name, path in pictures.items():
        lines += [
            f"![{name}]({path})" if path.endswith(".png") else f"No picture of {name}: {path}.",
            "",
        ]
    lines += ["## Trials", "", *_grid(report, trials)]
    return "\n".join(lines) + "\n"


def search_lines(report: Described, trials: Trials, note: str) -> list[str]:
    """What was searched and how, and what became of the trials; a list in Markdown."""
    lines = [f"- {line.strip()}" for line in plan_text(trials, report).splitlines()[1:]]
    lines.append(f"- {how_text(trials.search)}")
    counted = ", ".join(f"{number} {name}" for name, number in report["counts"].items())
    lines.append(
        f"- trials: {counted}, of {report['total']}; {report['hours']:.2f} hours of workers' time"
    )
    lines += [f"- note: {note}"] if note else []
    return lines + (
        [] if report["over"] else [f"- not over: {ended(report)} of {report['total']} trials"]
    )


def best_lines(report: Described, trials: Trials) -> list[str]:
    """The best trial with its interval, and its paired difference to the recipe's own values."""
    best = report["trials"][report["best"]]
    lines = [
        f"Trial {best['number']}: {told(best['values'])}; {report['objective']} {_interval(report['estimate'])}."
    ]
    lines.append(_selection_text(report))
    if report["first"] is not None:
        apart = report["first"]["difference"]
        verdict = ""
        if apart is not None:
            found = (
                "a difference"
                if len(report["seeds"]) > 1
                else "a difference at this seed; others may differ"
            )
            verdict = f", {found}" if apart["low"] > 0 or apart["high"] < 0 else ", undecided"
        less = (
            f"Less the recipe's own values (trial {report['first']['trial']}), on the same images"
        )
        lines.append(f"{less}: {_interval(apart, '+')}{verdict}.")
    elif report["best"] == 0 and trials.search.first is not None:
        lines.append("The recipe's own values are the best ones found.")
    return lines


def how_text(search: Search) -> str:
    """Sampler and pruner with all of their arguments."""

    def told_of(how: Any) -> str:
        return ", ".join(
            f"{key} {value}" for key, value in how.model_dump(mode="json").items() if key != "kind"
        )

    sampler, pruner = search.sweep.sampler, search.sweep.pruner
    text = f"sampler {sampler.kind} ({told_of(sampler)})"
    return text + (f"; pruner {pruner.kind} ({told_of(pruner)})" if pruner else "; no pruner")


def _selection_text(report: Described) -> str:
    text = f"It is the best of {ended(report)} by this very number, which is therefore too good: `--write-experiment` re-runs "
    text += "it with fresh seeds, on the test sets."
    if report["compared"]:
        some = f"{len(report['undecided'])} of {len(report['compared'])}"
        text += (
            f" Of the other complete trials {some} cannot be told from it (paired interval with 0)."
        )
    return text


def _grid(report: Mapping[str, Any], trials: Trials) -> list[str]:
    keys = list(trials.search.space)
    head = ["trial", "state", report["objective"], *keys, "detail", "runs"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in table(report, keys):
        lines.append(" | ".join(row))
    return [f"| {line} |" for line in lines]


def table(report: Mapping[str, Any], keys: Sequence[str]) -> list[list[str]]:
    """A line for each trial, as text."""
    rows = []
    for one in report["trials"]:
        value = "" if one["value"] is None else f"{100 * one['value']:.2f}"
        shown = [one["values"].get(key, "") for key in keys]
        cells = [f"{value:.5g}" if isinstance(value, float) else str(value) for value in shown]
        rows.append(
            [
                str(one["number"]),
                one["state"],
                value,
                *cells,
                one["detail"].replace("|", "/"),
                " ".join(one["runs"]),
            ]
        )
    return rows


def write_report(trials: Trials, note: str) -> tuple[str, dict[str, Any]]:
    """Write report.md, report.json, trials.csv and the pictures into the sweep's folder; the page, and its content."""
    from analysis.sweep_report.figures import draw

    report = make_report(trials) | {"note": note}
    pictures = draw(trials)
    page = markdown(report, trials, note, pictures)
    write_text(trials.folder / "report.md", page)
    write_text(trials.folder / "report.json", json.dumps(report, indent=1))
    text = io.StringIO()
    keys = list(trials.search.space)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", f"{report['objective']} (%)", *keys, "detail", "runs"])
    writer.writerows(table(report, keys))
    write_text(trials.folder / "trials.csv", text.getvalue())
    return page, report


def write_experiment(trials: Trials, report: Mapping[str, Any], out: Path) -> str:
    """The best trial beside the row it started from, with seeds that chose neither; the command that runs it.

    Settings of the command line become the file's, where they mean the same there; else the command has them."""
    search, best = trials.search, report["trials"][report["best"]]
    name = f"best of {search.name}"
    base = search.trial(search.variant.name, {})
    row = search.trial(name if base.name != name else f"{name} (sweep)", best["values"])
    row = row.model_copy(update={"compare_with": base.name})
    rows = (base,) if search.first is not None and best["values"] == search.first else (base, row)
    title = f"{search.sweep.title}, best of a sweep"
    alone = search.alone(*rows).model_copy(update={"title": title, "scale": search.scale})
    inside = alone.model_copy(update={"set": alone.set | search.overrides})
    same = _ids(trials, inside, {}) == _ids(trials, alone, search.overrides)
    chosen, typed = (inside, {}) if same else (alone, search.overrides)
    words = [f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in typed.items()]
    command = " ".join(["python run.py", str(out), *words])
    seeds = tuple(max(search.sweep.seeds) + 1 + number for number in range(FRESH))
    told = {"title", "base", "scale", "seeds", "set"}
    content = chosen.model_copy(update={"seeds": seeds}).model_dump(
        mode="json", include=told, exclude_defaults=True
    )
    head = [
        f"# Sweep {report['id']}: trial {best['number']} of {report['total']} was best by {report['objective']}.",
        f"#   {command}",
        f"# Cost: {FRESH} seeds of each row, none of which had a part in the choice: these numbers are not too good.",
    ]
    body = content | {"scale": search.scale, "variants": [_row(one) for one in rows]}
    text = dump_yaml(body)
    write_text(out, "\n".join([*head, text]))
    return command


def _ids(trials: Trials, experiment: Experiment, overrides: Tree) -> list[str]:
    """The runs of an experiment as it would be read from a file."""
    search, read = trials.search, Experiment.model_validate(experiment.model_dump())
    plan = plan_experiments(
        [(search.path, read)],
        search.scale,
        trials.store,
        precision=lambda: search.precision,
        overrides=overrides,
        seeds=None,
    )
    return sorted(plan.runs)


def _row(variant: Variant) -> Tree:
    return variant.model_dump(
        mode="json", include={"name", "method", "set", "compare_with"}, exclude_defaults=True
    )
