"""Executes the notebooks of analysis/ and turns their outputs into sections of the report."""

import html
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from results import provenance

NOTEBOOK_FOLDER = Path(__file__).resolve().parent.parent
NOTEBOOKS = (  # in the order of the report
    "tables",
    "probes",
    "reconstructions",
    "attention",
    "alignment",
    "errors",
    "sweeps",
)
CELL_TIMEOUT = 600  # seconds


@dataclass(frozen=True)
class Section:
    """One notebook of the report as HTML.

    `problem` says why the notebook ended early; "" if it did not. `broken` means that the cause is
    a fault, and not the user's input."""

    name: str
    title: str
    body: str
    problem: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Execution:
    """An executed notebook. `problem` and `broken`: see `Section`."""

    notebook: nbformat.NotebookNode
    problem: str = ""
    broken: bool = False


def notebook_parameters(
    results: Path, files: Sequence[Path], sweeps: Sequence[Path], scale: str | None, figures: Path
) -> dict[str, dict[str, Any]]:
    """Notebook -> its parameters, for the notebooks that are needed.

    Args:
        results: the results folder.
        files: experiment files. Without files and sweeps, all notebooks use what the results folder
            holds.
        sweeps: sweep files.
        scale: None for the scale of the results.
        figures: folder for figures."""

    def portable(path: Path) -> str:  # notebooks run in another folder
        return provenance.display_path(path.resolve())

    common = {"RESULTS": portable(results), "SCALE": scale, "OUT": portable(figures)}
    of_sweeps = common | {"FILES": [portable(path) for path in sweeps] or None}
    of_files = common | {"FILES": [portable(path) for path in files] or None}
    if files:
        of_files["TABLES"] = None
    everything = not files and not sweeps
    parameters = {}
    for name in NOTEBOOKS:
        chosen = sweeps if name == "sweeps" else files
        if everything or chosen:
            parameters[name] = of_sweeps if name == "sweeps" else of_files
    return parameters


def read_notebook(name: str) -> nbformat.NotebookNode:
    """A notebook of analysis/. name: of the file, without suffix."""
    read: Any = nbformat.read  # untyped
    notebook: nbformat.NotebookNode = read(NOTEBOOK_FOLDER / f"{name}.ipynb", as_version=4)
    return notebook


def execute_notebook(
    name: str,
    parameters: Mapping[str, Any],
    threads: int = 1,
    on_cell: Callable[[], None] = lambda: None,
) -> Execution:
    """Execute a notebook of analysis/ until its end or its first error.

    Args:
        name: file name without suffix.
        parameters: values that replace those of the cell tagged `parameters`. Names that this cell
            does not assign are ignored.
        threads: CPU threads of the kernel.
        on_cell: called after each code cell."""
    notebook = read_notebook(name)
    _inject_parameters(notebook, parameters)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(NOTEBOOK_FOLDER)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        message = error.evalue.strip() or error.ename
        if error.ename == "UserError":
            return Execution(notebook, message)
        return Execution(notebook, f"{error.ename}: {message}", broken=True)
    except CellTimeoutError:
        problem = f"{name}.ipynb: a cell took more than {CELL_TIMEOUT} seconds"
        return Execution(notebook, problem, broken=True)
    except DeadKernelError:
        problem = f"{name}.ipynb: its kernel died; perhaps it ran out of memory"
        return Execution(notebook, problem, broken=True)
    return Execution(notebook)


def _inject_parameters(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    """Insert a cell with the parameters after the cell tagged `parameters`."""
    position = next(
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", ())
    )
    defaults = notebook.cells[position].source.splitlines()
    names = {line.partition("=")[0].strip() for line in defaults}
    lines = [f"{name} = {value!r}" for name, value in parameters.items() if name in names]
    make_cell: Any = nbformat.v4.new_code_cell  # untyped
    cell = make_cell("\n".join(lines), metadata={"tags": ["injected"]})
    notebook.cells.insert(position + 1, cell)


def make_section(name: str, execution: Execution) -> Section:
    """A section with a notebook's prose and outputs, without its code."""
    title = name
    parts = []
    for cell in execution.notebook.cells:
        if cell.cell_type == "code":
            parts += [_output_html(output) for output in cell.outputs]
        elif cell.cell_type == "markdown" and cell.source.startswith("# "):
            first_line, _, rest = cell.source.partition("\n")
            title = first_line.removeprefix("# ")
            parts.append(_markdown_html(rest))
        elif cell.cell_type == "markdown":
            lowered = re.sub(r"^#", "##", cell.source, flags=re.M)  # below the section's heading
            parts.append(_markdown_html(lowered))
    return Section(name, title, "\n".join(parts), execution.problem, execution.broken)


def _markdown_html(text: str) -> str:
    """Markdown as HTML, without the links that nbconvert adds to headings."""
    return re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html_mistune(text), flags=re.S)


def _output_html(output: Mapping[str, Any]) -> str:
    """One output of a cell as HTML. Errors (the section shows them) and log messages give ""."""
    if output["output_type"] == "error" or output.get("name") == "stderr":
        return ""
    if output["output_type"] == "stream":
        remove_colors: Any = strip_ansi  # untyped
        return f"<pre>{html.escape(remove_colors(output['text']))}</pre>"
    data = output["data"]
    if "text/html" in data:
        return f'<div class="output">{data["text/html"]}</div>'
    if "text/markdown" in data:
        # Escaped, because it may contain names that a user has chosen.
        return _markdown_html(html.escape(data["text/markdown"], quote=False))
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def execute_notebooks(
    parameters: Mapping[str, Mapping[str, Any]],
    jobs: int,
    threads: int,
    on_cell: Callable[[], None] = lambda: None,
) -> list[Section]:
    """Execute notebooks in parallel. Returns their sections in the given order.

    Args:
        parameters: notebook -> its parameters.
        jobs: how many notebooks run at a time.
        threads: CPU threads of each kernel.
        on_cell: called after each code cell of any notebook."""

    def section(name: str) -> Section:
        return make_section(name, execute_notebook(name, parameters[name], threads, on_cell))

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(section, name) for name in parameters]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for kernel in psutil.Process().children(recursive=True):
                kernel.kill()  # ends the notebooks that are running
            raise


def count_cells(names: Sequence[str]) -> int:
    """Number of code cells of some notebooks, each with its injected parameters."""
    cells = [cell for name in names for cell in read_notebook(name).cells]
    return len(names) + len([cell for cell in cells if cell.cell_type == "code"])
