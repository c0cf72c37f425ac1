"""The `report` command: executes the notebooks and writes one self-contained HTML page."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.claims.check import check_published
from analysis.claims.text import claims_html
from analysis.report.notebooks import (
    Section,
    count_cells,
    execute_notebooks,
    notebook_parameters,
)
from analysis.report.page import render_page
from core.runtime.errors import UserError
from core.runtime.files import write_text
from results import provenance
from results.claims import read_claims
from results.store import Store

PUBLISHED = provenance.REPOSITORY / "results/published/former_mini"
TITLE = "LMIM, re-run and checked: report"


def check_report(store: Store, out: Path) -> None:
    """Raise UserError if there are no results, or the page cannot be written.

    It is called before any notebook runs."""
    if not store.root.is_dir():
        raise UserError(f"{store.root}: no such folder; choose a results folder with --results")
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; give a file, such as {out / 'report.html'}")
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
    """Check the claims, execute the notebooks and write the page.

    Figures and tables are written to the folder `analysis` beside it.

    Args:
        store: the results folder.
        files: experiment files. Without files and sweeps, the report shows what the results folder
            holds.
        sweeps: sweep files.
        scale: None for the scale of the results.
        out: path of the page.
        jobs: how many notebooks run at a time.
        threads: CPU threads of each notebook.
        on_progress: called with the number of executed cells and the number of all cells.

    Returns the sections of the notebooks. The section of the claims is before them."""
    parameters = notebook_parameters(store.root, files, sweeps, scale, out.parent / "analysis")
    total = count_cells(list(parameters))
    done = 0

    def on_cell() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    sections = execute_notebooks(parameters, jobs, threads, on_cell)
    page = [claims_section(), *sections]
    write_text(out, render_page(page, store, _summary(store, [*files, *sweeps]), out))
    return sections


def claims_section() -> Section:
    """The suite's claims, checked by the published results."""
    return Section("claims", "Claims", claims_html(check_published(read_claims().claims)))


def _summary(store: Store, files: Sequence[Path]) -> dict[str, str]:
    """The lines at the top of the page."""
    code = provenance.commit()
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    changes = " with uncommitted changes" if code["clean"] is False else ""
    return {
        "title": TITLE,
        "results": provenance.display_path(store.root.resolve()),
        "files": ", ".join(path.stem for path in files) or "all that the results folder holds",
        "made": f"{made}, at commit {str(code['commit'] or 'unknown')[:10]}{changes}",
    }
