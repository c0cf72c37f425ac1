"""Renders the sections of the report as one HTML page, with a list of the runs it names."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from analysis.report.notebooks import Section
from core.runtime.errors import UserError
from results.store import Store

TEMPLATE_FOLDER = Path(__file__).resolve().parent
RUN_ID = re.compile(r"\b(?:pretrain|finetune|evaluate)-[0-9a-f]{12}\b")
HTML_TAG = re.compile(r"(<[^>]*>)")


@dataclass(frozen=True)
class RunEntry:
    """One line of the list of runs, as texts."""

    run: str
    stage: str
    seed: str
    commit: str
    data: str
    ended: str
    minutes: str
    record: str  # path of record.json relative to the page


def render_page(
    sections: Sequence[Section], store: Store, summary: Mapping[str, str], page: Path
) -> str:
    """The report as HTML.

    Args:
        sections: in their order.
        store: the results folder with the records of the runs.
        summary: the lines at the top of the page; `title` is its title.
        page: path of the page, for relative links."""
    runs = list_runs("\n".join(section.body for section in sections), store, page)
    known = {entry.run for entry in runs}
    linked = [replace(section, body=link_runs(section.body, known)) for section in sections]
    loader = FileSystemLoader(TEMPLATE_FOLDER)
    environment = Environment(loader=loader, autoescape=select_autoescape(["html"]))
    return environment.get_template("page.html").render(sections=linked, runs=runs, summary=summary)


def list_runs(text: str, store: Store, page: Path) -> list[RunEntry]:
    """The runs that a text names, sorted by id. Runs without a readable record are left out."""
    entries = []
    for run in sorted(set(RUN_ID.findall(text))):
        try:
            entries.append(_run_entry(run, store, page))
        except (UserError, KeyError, TypeError):
            continue
    return entries


def _run_entry(run: str, store: Store, page: Path) -> RunEntry:
    record = store.run(run).record()
    code = record["code"]
    commit = (code["commit"] or "unknown")[:10]
    fingerprints = {root["fingerprint"] for roots in record["data"].values() for root in roots}
    path = (store.run(run).folder / "record.json").resolve()
    return RunEntry(
        run=run,
        stage=record["stage"],
        seed="" if record.get("seed") is None else str(record["seed"]),
        commit=f"{commit} + changes" if code["clean"] is False else commit,
        data=", ".join(sorted({name.partition("/")[0] for name in fingerprints})),
        ended=record["ended"],
        minutes=f"{record['seconds'] / 60:.1f}",
        record=Path(os.path.relpath(path, page.resolve().parent)).as_posix(),
    )


def link_runs(text: str, known: set[str]) -> str:
    """Turn ids of known runs into links to the list of runs. HTML tags stay unchanged."""

    def link(match: re.Match[str]) -> str:
        run = match[0]
        return f'<a href="#{run}">{run}</a>' if run in known else run

    parts = HTML_TAG.split(text)
    return "".join(part if part.startswith("<") else RUN_ID.sub(link, part) for part in parts)
