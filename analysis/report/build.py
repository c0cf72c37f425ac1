"""The report: notebooks executed on some results, as one page that needs nothing else."""

import html
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jinja2 import Environment, FileSystemLoader, select_autoescape
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from core.runtime.errors import UserError
from core.runtime.files import write_text
from results import provenance
from results.store import Store

HERE = Path(__file__).resolve().parent
NOTEBOOK_FOLDER = HERE.parent
PUBLISHED = provenance.REPOSITORY / "results/published/mini"
NOTEBOOKS = (
    "tables",
    "reconstructions",
    "attention",
    "alignment",
    "errors",
    "sweeps",
)  # in the report's order
RUN = re.compile(r"\b(?:pretrain|finetune|evaluate)-[0-9a-f]{12}\b")
SECONDS = 600  # for one cell, before it is given up


@dataclass(frozen=True)
class Section:
    """One notebook of the report. `problem`: why it was not shown to its end; `broken`: that was no fault of the user's."""

    name: str
    title: str
    body: str
    problem: str = ""
    broken: bool = False


def execute(
    name: str,
    parameters: Mapping[str, Any],
    threads: int = 1,
    on_cell: Callable[[], None] = lambda: None,
) -> tuple[nbformat.NotebookNode, str, bool]:
    """Run a notebook of this folder with parameters of its own; (notebook with its outputs, problem, whether it is broken).

    It ends at its first error. A UserError is the notebook's answer, a sentence; anything else a fault."""
    notebook = nbformat.read(NOTEBOOK_FOLDER / f"{name}.ipynb", as_version=4)
    place = next(
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", ())
    )
    known = {line.partition("=")[0].strip() for line in notebook.cells[place].source.splitlines()}
    lines = [f"{key} = {value!r}" for key, value in parameters.items() if key in known]
    notebook.cells.insert(
        place + 1, nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["injected"]})
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(NOTEBOOK_FOLDER)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        told = error.evalue.strip() or error.ename
        return (
            notebook,
            told if error.ename == "UserError" else f"{error.ename}: {told}",
            error.ename != "UserError",
        )
    except (CellTimeoutError, DeadKernelError) as error:
        slow = f"a cell took more than {SECONDS} seconds"
        died = "its kernel died, for want of memory perhaps"
        return (
            notebook,
            f"{name}.ipynb: {slow if isinstance(error, CellTimeoutError) else died}",
            True,
        )
    return notebook, "", False


def section(name: str, notebook: nbformat.NotebookNode, problem: str, broken: bool) -> Section:
    """An executed notebook as a part of the page: prose, outputs, and its code folded away."""
    parts, title = [], name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            first, _, rest = cell.source.partition("\n")
            if first.startswith("# "):
                title = first.removeprefix("# ")
                parts.append(_prose(rest))
            else:
                parts.append(_prose(re.sub(r"^#", "##", cell.source, flags=re.M)))
        elif cell.cell_type == "code":
            parts += [_output(output) for output in cell.outputs]
    return Section(name, title, "\n".join(parts), problem, broken)


def _prose(text: str) -> str:
    """Markdown as HTML, without the anchors that notebooks put behind headings."""
    return re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html_mistune(text), flags=re.S)


def _output(output: Mapping[str, Any]) -> str:
    """One output of a cell. An error is told by the section, and what is meant for logs is left out."""
    if output["output_type"] == "error" or output.get("name") == "stderr":
        return ""
    if output["output_type"] == "stream":
        return f"<pre>{html.escape(strip_ansi(output['text']))}</pre>"
    data = output["data"]
    if "text/html" in data:
        return f'<div class="output">{data["text/html"]}</div>'
    if "text/markdown" in data:
        return _prose(
            html.escape(data["text/markdown"], quote=False)
        )  # it may hold names of a user's rows
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def make_sections(
    parameters: Mapping[str, Mapping[str, Any]],
    jobs: int,
    threads: int,
    on_cell: Callable[[], None] = lambda: None,
) -> list[Section]:
    """The report's sections from notebooks run side by side. parameters: notebook -> its own."""

    def one(name: str) -> Section:
        return section(name, *execute(name, parameters[name], threads, on_cell))

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, name) for name in parameters]
        try:
            return [future.result() for future in waiting]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in psutil.Process().children(
                recursive=True
            ):  # the kernels: their notebooks then end at once
                child.kill()
            raise


def count_cells(names: Sequence[str]) -> int:
    """Code cells of some notebooks, with the one that takes the parameters."""
    notebooks = [nbformat.read(NOTEBOOK_FOLDER / f"{name}.ipynb", as_version=4) for name in names]
    return sum(1 + sum(cell.cell_type == "code" for cell in one.cells) for one in notebooks)


def ledger_of(text: str, store: Store, page: Path) -> list[dict[str, str]]:
    """Every run that a text names and that is here: what it was, and where its record lies as seen from the page."""
    lines = []
    for run in sorted(set(RUN.findall(text))):
        path = store.run(run).folder / "record.json"
        try:
            record = store.run(run).record()
            code = record["code"]
            fingerprints = {
                root["fingerprint"] for roots in record["data"].values() for root in roots
            }
            lines.append(
                {
                    "run": run,
                    "stage": record["stage"],
                    "seed": str(record["seed"] if record.get("seed") is not None else ""),
                    "commit": (code["commit"] or "unknown")[:10]
                    + (" + changes" if code["clean"] is False else ""),
                    "data": ", ".join(sorted({name.partition("/")[0] for name in fingerprints})),
                    "ended": record["ended"],
                    "minutes": f"{record['seconds'] / 60:.1f}",
                    "record": Path(
                        os.path.relpath(path.resolve(), page.resolve().parent)
                    ).as_posix(),
                }
            )
        except (UserError, KeyError, TypeError):
            continue
    return lines


def linked(text: str, known: set[str]) -> str:
    """Runs that are named in a page's text, as links to their line in its list of runs; nothing inside of tags is touched."""
    parts = re.split(r"(<[^>]*>)", text)
    return "".join(
        part
        if part.startswith("<")
        else RUN.sub(lambda m: f'<a href="#{m[0]}">{m[0]}</a>' if m[0] in known else m[0], part)
        for part in parts
    )


def make_page(
    sections: Sequence[Section], store: Store, about: Mapping[str, str], page: Path
) -> str:
    """The report as HTML. about: what it says of itself, line by line."""
    runs = ledger_of("\n".join(one.body for one in sections), store, page)
    known = {line["run"] for line in runs}
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=select_autoescape(["html"]))
    shown = [
        Section(one.name, one.title, linked(one.body, known), one.problem, one.broken)
        for one in sections
    ]
    return environment.get_template("page.html").render(sections=shown, runs=runs, about=about)


def check_report(store: Store, out: Path) -> None:
    """Raise UserError where there are no results, or the page `out` cannot be written; known before minutes are spent."""
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no such folder; name a results folder with --results")
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; name a file, like {out / 'report.html'}")
    Store(out.parent).check_writable()


def write_report(
    store: Store,
    files: Sequence[Path],
    sweeps: Sequence[Path],
    scale: str | None,
    out: Path,
    jobs: int,
    threads: int,
    on_progress: Callable[[int, int], None],
) -> list[Section]:
    """Execute the notebooks, `jobs` at a time, and write the page `out`, with figures and tables in `analysis` beside it.

    Without files and sweeps all that the results folder holds. on_progress: cells that are done, of how many."""
    parameters = parameters_of(store.root, files, sweeps, scale, out.parent / "analysis")
    total, done = count_cells(list(parameters)), 0

    def on_cell() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    sections = make_sections(parameters, jobs, threads, on_cell)
    code = provenance.commit()
    about = {
        "title": "LMIM, re-run and checked: report",
        "results": provenance.told_path(store.root.resolve()),
        "files": ", ".join(path.stem for path in (*files, *sweeps))
        or "all that are recorded there",
        "made": f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, at commit {str(code['commit'] or 'unknown')[:10]}"
        + (" with uncommitted changes" if code["clean"] is False else ""),
    }
    write_text(out, make_page(sections, store, about, out))
    return sections


def parameters_of(
    results: Path, files: Sequence[Path], sweeps: Sequence[Path], scale: str | None, figures: Path
) -> dict[str, dict[str, Any]]:
    """Notebook -> its parameters. Without files and sweeps a notebook takes what the results folder holds."""

    def whole(path: Path) -> str:  # whatever folder a notebook runs in
        return provenance.told_path(path.resolve())

    common = {"RESULTS": whole(results), "SCALE": scale, "OUT": whole(figures)}
    of_files, of_sweeps = (
        {"FILES": [whole(path) for path in paths] or None} for paths in (files, sweeps)
    )
    of_files |= {"TABLES": None} if files else {}
    wanted = [
        name
        for name in NOTEBOOKS
        if not (files or sweeps) or (sweeps if name == "sweeps" else files)
    ]
    return {name: common | (of_sweeps if name == "sweeps" else of_files) for name in wanted}
