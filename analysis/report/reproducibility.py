"""A reproducibility report as a Markdown skeleton, with the headings of the MLRC.

The ML Reproducibility Challenge asks for these headings. Records, tables and claims of a results
folder fill them. What is not recorded is said to be not recorded, and opinions are left to the
author.
"""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from analysis.cards.lineage import RecordedRoot, RecordedRun, find_card_runs
from analysis.cards.model_card import MISSING, PAPER, PAPER_LINK
from analysis.cards.paper_recipe import Difference, differences
from analysis.claims.check import Outcome, check_published
from analysis.claims.text import reproduction, value_text
from analysis.claims.values import PUBLISHED
from analysis.report.recorded_files import recorded_files, recorded_scale
from analysis.tables.content import MeasuredRow
from analysis.tables.grids import titled_grids
from analysis.tables.planned import recorded_tables
from analysis.tables.render import pipe_table
from analysis.tables.table import Table
from analysis.tables.text_grid import TextGrid
from core.runtime.errors import UserError
from core.text.markdown import code_span, escape, table
from experiments.planning.device import automatic_precision
from experiments.planning.plan import FILE
from experiments.planning.planner import make_plan
from results import provenance
from results.claims import Claim, JsonCheck, TestCheck, read_claims
from results.records import Stored, StoredRoot, read_record
from results.reported import reported_table
from results.store import Store

PLACEHOLDER = "**To be written by the author.**"
ENDPOINTS = "endpoints"  # in the titles of grids that the paper does not have
DIFFERENCES = "Differences between rows"
VERDICT_COLUMNS = ("difference of Avg", "reported", "measured", "95 % interval", "verdict")


class StoredData(Stored):
    """The data of any run."""

    data: dict[str, list[StoredRoot]] = Field(default_factory=dict)


def reproducibility_report(store: Store, files: Sequence[Path], scale: str | None) -> str:
    """The report on a results folder.

    store: the results folder.
    files: experiment files; empty for all whose tables the folder holds.
    scale: None for that of the folder's tables.

    Raises UserError if there is no table, or tables of several scales and `scale` is None.
    """
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no such folder; choose a results folder with --results")
    if not files:
        files, scale = recorded_files(store.root, scale)
    elif scale is None:
        scale = recorded_scale(store.root, [path.stem for path in files])
    _, tables = recorded_tables(
        lambda seeds: make_plan(
            files,
            scale,
            store,
            precision=automatic_precision("auto", "local"),
            overrides={},
            seeds=seeds,
        ),
        store,
    )
    claims = [claim for claim in read_claims().claims if is_claim_on(claim, store)]
    return ReproducibilityReport(store, tables, check_published(claims)).text()


def is_claim_on(claim: Claim, store: Store) -> bool:
    """Whether a claim's published value comes from this results folder."""
    check = claim.check
    if isinstance(check, TestCheck):
        return False
    if isinstance(check, JsonCheck):
        path = (provenance.REPOSITORY / check.file).resolve()
        return path.is_relative_to(store.root.resolve())
    return (PUBLISHED / check.results).resolve() == store.root.resolve()


class ReproducibilityReport:
    """The sections of a report.

    store: the results folder.
    tables: of its experiments.
    outcomes: of the claims on this folder.
    """

    def __init__(self, store: Store, tables: Sequence[Table], outcomes: Sequence[Outcome]) -> None:
        self.store = store
        self.tables = tables
        self.outcomes = outcomes
        self.grids = {id(one): titled_grids(one.content) for one in tables}

    def text(self) -> str:
        """The whole report."""
        sections = [
            (f"# Reproducibility report: {PAPER}", self._opening()),
            ("## Reproducibility summary", ()),
            ("### Scope of reproducibility", self._scope_summary()),
            ("### Methodology", self._methodology_summary()),
            ("### Results", self._verdicts()),
            ("### What was easy", (PLACEHOLDER,)),
            ("### What was difficult", (PLACEHOLDER,)),
            ("### Communication with the original authors", (PLACEHOLDER,)),
            ("## Introduction", (PLACEHOLDER,)),
            ("## Scope of reproducibility and claims", self._scope()),
            ("## Methodology", ()),
            ("### Model descriptions", self._models()),
            ("### Data sets", self._data()),
            ("### Hyper-parameters", self._settings()),
            ("### Experimental setup and code", self._setup()),
            ("### Computational requirements", self._compute()),
            ("## Results", self._rules()),
            ("### Results that reproduce the paper", self._results(of_paper=True)),
            ("### Results beyond the paper", self._results(of_paper=False)),
            ("### Claims of this suite", self._claims()),
            ("## Discussion", (PLACEHOLDER,)),
            ("### What was easy", (PLACEHOLDER,)),
            ("### What was difficult", (PLACEHOLDER,)),
            (
                "### Communication with the original authors",
                (f"Communication with the authors is {MISSING}.", "", PLACEHOLDER),
            ),
        ]
        parts = ["\n".join((head, "", *lines)).rstrip() for head, lines in sections]
        return "\n\n".join(parts) + "\n"

    # Records

    @cached_property
    def _runs(self) -> dict[str, RecordedRun]:
        """Id -> each complete run of the tables."""
        found = {}
        for name in self._run_ids:
            run = self.store.run(name)
            try:
                if run.state().name == "complete":
                    found[name] = RecordedRun(run, run.record())
            except UserError:
                continue  # damaged; the notes of its table say so
        return found

    @cached_property
    def _run_ids(self) -> list[str]:
        names: dict[str, None] = {}
        for _, row in self._measured_rows:
            for runs in row.runs.values():
                teacher = [] if runs.teacher.startswith(FILE) else [runs.teacher]
                used = (*teacher, *runs.trainings, runs.evaluate, *runs.transfers)
                names |= dict.fromkeys(filter(None, (*used, *runs.probes.values())))
        return list(names)

    @cached_property
    def _measured_rows(self) -> list[tuple[Table, MeasuredRow]]:
        return [
            (one, row)
            for one in self.tables
            for row in one.content.rows
            if isinstance(row, MeasuredRow)
        ]

    def _facts(self, *keys: str) -> list[str]:
        """The different values of a key of the records; a run without it gives MISSING."""
        values: dict[str, None] = {}
        for run in self._runs.values():
            value: Any = run.record
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            values[MISSING if value in (None, "") else str(value)] = None
        return list(values) or [MISSING]

    def _accelerators(self) -> list[str]:
        """Names of accelerators; `none` for a record that says that there was none."""
        names: dict[str, None] = {}
        for run in self._runs.values():
            hardware = run.record.get("hardware") or {}
            names[str(hardware.get("accelerator", MISSING) or "none")] = None
        return list(names)

    # Summary

    def _opening(self) -> Iterator[str]:
        code = provenance.commit()
        changes = " with uncommitted changes" if code["clean"] is False else ""
        folder = code_span(provenance.display_path(self.store.root.resolve()))
        yield (
            f"A skeleton from the records in {folder}, written at commit "
            f"{str(code['commit'] or MISSING)[:10]}{changes}. Its numbers are those of "
            "`python run.py compare`. Replace each line that is to be written by the author."
        )

    def _scope_summary(self) -> Iterator[str]:
        labels = [one.label for one in self.tables]
        yield f"The paper is *{PAPER}* (CVPR 2025, {PAPER_LINK}). Re-run: {', '.join(labels)}."

    def _methodology_summary(self) -> Iterator[str]:
        yield (
            f"Scale {self._scales()}. {len(self._runs)} runs are recorded; together they took "
            f"{_hours(self._runs.values())}."
        )
        if absent := len(self._run_ids) - len(self._runs):
            yield f"{absent} further runs have no readable record here."

    def _scales(self) -> str:
        scales = {one.scale: one.scale_description for one in self.tables}
        return "; ".join(f"{name} ({escape(about)})" for name, about in scales.items())

    def _verdicts(self) -> Iterator[str]:
        lines = []
        for one in self.tables:
            for title, grid in self.grids[id(one)]:
                if title.startswith(DIFFERENCES):
                    columns = [grid.head.index(name) for name in VERDICT_COLUMNS]
                    lines += [
                        [one.label, *(cells[column] for column in columns)]
                        for cells in grid.lines
                        if len(cells) == len(grid.head)
                    ]
        if not lines:
            yield f"Differences between rows are {MISSING}."
            return
        yield from pipe_table(TextGrid(["table", *VERDICT_COLUMNS], lines))
        yield ""
        yield "Differences of mean word accuracy in points. Verdicts: see the rules in Results."

    # Scope

    def _scope(self) -> Iterator[str]:
        lines = [
            f"- {one.label}: {escape(pair.row)} minus {escape(pair.other)}: "
            f"{pair.reported:+.1f} points of Avg."
            for one in self.tables
            for pair in one.content.comparisons
            if pair.reported is not None and _is_of_paper(one)
        ]
        if not lines:
            yield "The paper reports none of the differences between rows of these tables."
            return
        yield "The paper reports these differences. Each is tested in Results."
        yield ""
        yield from lines

    # Methodology

    def _models(self) -> Iterator[str]:
        models: dict[tuple[str, str, str], None] = {}
        for run in self._runs.values():
            if run.stage not in ("pretrain", "finetune"):
                continue
            config = run.record.get("config") or {}
            parameters = run.metrics.get("parameters")
            encoder = config.get("encoder")
            models[
                run.stage,
                f"{parameters:,}" if isinstance(parameters, int) else MISSING,
                code_span(json.dumps(encoder)) if encoder else MISSING,
            ] = None
        if not models:
            yield f"Trained models are {MISSING}."
            return
        yield from table(("stage", "parameters that were trained", "encoder"), models)

    def _data(self) -> Iterator[str]:
        lines: dict[tuple[str, ...], None] = {}
        for run in self._runs.values():
            for role, roots in _roots_of(run).items():
                for root in roots:
                    line = (
                        f"{run.stage}: {role}",
                        code_span(root.name or MISSING),
                        f"{root.images:,}" if root.images else MISSING,
                        code_span(root.fingerprint or MISSING),
                    )
                    lines[line] = None
        if not lines:
            yield f"Data sets are {MISSING}."
            return
        yield from table(("used for", "data set", "images", "fingerprint"), lines)
        yield ""
        yield "A fingerprint is a hash of the content: equal fingerprints are equal data."
        for text in dict.fromkeys(one.content.protocol for one in self.tables):
            yield f"Protocol of the accuracies: {text or MISSING}."

    def _settings(self) -> Iterator[str]:
        rows_of: dict[tuple[str, str, str, str], list[str]] = {}
        rows_with: Counter[str] = Counter()  # name of a training -> rows that have it
        without = []
        for one, row in self._measured_rows:
            label = f"{one.label}: {row.name}"
            first = next(iter(row.runs.values()))
            try:
                runs = find_card_runs(self.store, first.evaluate)
                found = differences(runs)
            except UserError:
                without.append(label)
                continue
            rows_with.update(list(runs.trainings))
            for difference in found:
                rows_of.setdefault(_setting(difference), []).append(label)
        if rows_of:
            yield "These settings differ from the paper's base recipe. All others are equal."
            yield ""
            lines = [
                (
                    *setting,
                    f"all with a {setting[0]}"
                    if len(rows) == rows_with[setting[0]]
                    else escape("; ".join(rows)),
                )
                for setting, rows in rows_of.items()
            ]
            yield from table(("training", "setting", "here", "paper", "rows"), lines)
        elif rows_with:
            yield "All settings are those of the paper's base recipe."
        for label in without:
            yield f"The settings of {escape(label)} are {MISSING}."
        yield ""
        yield f"How these values were chosen is {MISSING}. {PLACEHOLDER}"

    def _setup(self) -> Iterator[str]:
        yield "Commands:"
        yield ""
        for one in self.tables:
            yield f"- {one.label}: {self._command(one)}"
        yield ""
        yield f"- Commits of the runs: {', '.join(self._facts('code', 'commit'))}."
        states = {"True": "no", "False": "yes"}
        changed = [states.get(fact, fact) for fact in self._facts("code", "clean")]
        yield f"- Uncommitted changes of the code: {', '.join(changed)}."
        for package in ("python", "torch"):
            yield f"- {package}: {', '.join(self._facts('versions', package))}."
        yield f"- Precision: {', '.join(self._facts('config', 'precision'))}."

    def _command(self, one: Table) -> str:
        if one.file is None:
            return MISSING
        seeds = sorted({seed for row in one.measured for seed in row})
        words = ["python", "run.py", provenance.display_path(one.file.resolve())]
        words += ["--scale", one.scale]
        if seeds:
            words += ["--seeds", ",".join(map(str, seeds))]
        return code_span(shlex.join(words))

    def _compute(self) -> Iterator[str]:
        stages = dict.fromkeys(run.stage for run in self._runs.values())
        lines = []
        for stage in stages:
            runs = [run for run in self._runs.values() if run.stage == stage]
            lines.append((stage, str(len(runs)), _hours(runs)))
        if lines:
            yield from table(("stage", "runs", "duration, summed over runs"), lines)
            yield ""
        yield f"- Processor: {', '.join(map(escape, self._facts('hardware', 'processor')))}."
        yield f"- Accelerator: {', '.join(map(escape, self._accelerators())) or MISSING}."
        yield f"- Threads of a run: {', '.join(self._facts('hardware', 'threads'))}."
        yield f"- Peak memory: {MISSING}. Energy: {MISSING}."
        yield ""
        yield "The tables in Results have the training cost of each row."

    # Results

    def _rules(self) -> Iterator[str]:
        rules = dict.fromkeys(rule for one in self.tables for rule in one.content.rules)
        yield from (f"- {rule}" for rule in rules)

    def _results(self, of_paper: bool) -> Iterator[str]:
        """The grids of tables of the paper without endpoints, or all other grids."""
        empty = True
        for one in self.tables:
            grids = [
                (title, grid)
                for title, grid in self.grids[id(one)]
                if (_is_of_paper(one) and ENDPOINTS not in title.lower()) == of_paper
            ]
            if not grids:
                continue
            empty = False
            yield f"#### {one.content.heading}"
            for title, grid in grids:
                yield from ("", *([f"**{title}**", ""] if title else []), *pipe_table(grid))
            yield ""
            if of_paper or not _is_of_paper(one):
                yield from (*(f"- {note}" for note in one.content.notes), "")
        if empty:
            yield f"Such results are {MISSING}."

    def _claims(self) -> Iterator[str]:
        if not self.outcomes:
            yield "results/claims.yaml has no claim with values from this results folder."
            return
        lines = [
            (
                outcome.claim.id,
                escape(outcome.claim.claim),
                value_text(outcome.claim.expected),
                "–" if outcome.found is None else value_text(outcome.found),
                ": ".join(filter(None, [outcome.state, escape(outcome.why)])),
                code_span(reproduction(outcome.claim)),
            )
            for outcome in self.outcomes
        ]
        yield from table(("id", "claim", "expected", "found", "outcome", "reproduced by"), lines)


def _is_of_paper(one: Table) -> bool:
    return one.paper_table is not None and reported_table(one.paper_table).is_of_paper


def _roots_of(run: RecordedRun) -> Mapping[str, Sequence[RecordedRoot]]:
    """Role or subset -> its roots, without names where the record has no config to find them in."""
    try:
        return run.roots
    except UserError:
        data = read_record(run.run, StoredData).data
        return {
            role: [RecordedRoot("", root.fingerprint, root.images) for root in roots]
            for role, roots in data.items()
        }


def _setting(difference: Difference) -> tuple[str, str, str, str]:
    here, paper = (
        "none" if value is None else code_span(json.dumps(value, ensure_ascii=False))
        for value in (difference.value, difference.paper)
    )
    return difference.training, code_span(difference.key), here, paper


def _hours(runs: Iterable[RecordedRun]) -> str:
    """The summed durations of runs in hours, as their records have them."""
    seconds = [run.record.get("seconds") for run in runs]
    known = [value for value in seconds if isinstance(value, int | float)]
    if not known:
        return f"a time that is {MISSING}"
    unknown = len(seconds) - len(known)
    rest = f" and {unknown} durations that are {MISSING}" if unknown else ""
    return f"{sum(known) / 3600:.2f} hours{rest}"
