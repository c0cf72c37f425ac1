"""The report: executed notebooks on one HTML page."""

import re
from pathlib import Path

import nbformat
import pytest
from conftest import call
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from published import PUBLISHED, SCALE, published_with_weights

from analysis.report import notebooks
from analysis.report.build import write_report
from analysis.report.notebooks import NOTEBOOKS, Section, notebook_parameters
from analysis.report.page import link_runs
from results.provenance import REPOSITORY
from results.store import Store

pytestmark = pytest.mark.slow

RUN = "evaluate-8eae42804fed"
PARAMETERS = 'RESULTS = "own"\nOUT = "here"'
STATEMENTS = re.compile(r"^\s*(def|class|if|while)\b|\blambda\b", re.M)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Section]]:
    """The report of the published results with untrained weights: path of the page, sections."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    return out, report_of(published_with_weights(), out, jobs=2)


def report_of(results: Path, out: Path, jobs: int) -> list[Section]:
    """Write the report of a results folder."""
    return write_report(
        Store(results), [], [], None, out, jobs=jobs, threads=1, on_progress=lambda *_: None
    )


def test_all_notebooks_execute_on_the_published_results(
    published: tuple[Path, list[Section]],
) -> None:
    _, sections = published
    assert [section.name for section in sections] == list(NOTEBOOKS)
    assert [section.problem for section in sections] == [""] * len(sections)
    with_figures = [section for section in sections if section.name != "probes"]
    assert all(len(section.body) > 10_000 for section in with_figures)


def test_page_is_self_contained(published: tuple[Path, list[Section]]) -> None:
    text = published[0].read_text(encoding="utf-8")
    sources = re.findall(r'\bsrc="([^"]{0,40})', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r'<link|@import|url\((?!data:)|src="http', text)
    assert str(REPOSITORY) not in re.sub(r'href="[^"]+"', "", text)


def test_links_of_the_page_lead_to_anchors_and_files(
    published: tuple[Path, list[Section]],
) -> None:
    page, _ = published
    text = page.read_text(encoding="utf-8")
    anchors = set(re.findall(r'\bid="([^"]+)"', text))
    targets = re.findall(r'href="([^"]+)"', text)
    assert f"#{RUN}" in targets
    for target in targets:
        assert not target.startswith("http")
        if target.startswith("#"):
            assert target[1:] in anchors or target == "#top"
        else:
            assert (page.parent / target).resolve().is_file()


def test_report_writes_figures_and_latex_tables_beside_the_page(
    published: tuple[Path, list[Section]],
) -> None:
    folder = published[0].parent / "analysis"
    names = {path.name for path in folder.iterdir()}
    for name in (
        "differences",
        "attention.0",
        "heads.0",
        "cross_attention.0",
        "recall_fonts",
        "reconstructions.ablation_target.0",
    ):
        assert {f"{name}.{SCALE}.{suffix}" for suffix in ("pdf", "png", "txt")} <= names
        caption = (folder / f"{name}.{SCALE}.txt").read_text()
        assert re.search(rf"Scale {SCALE}, seeds? \d.*; runs [a-z]+-[0-9a-f]{{12}}", caption)
    for name in ("ablation_alignment", "union14m_benchmark"):
        latex = (folder / "tables" / f"{name}.{SCALE}.tex").read_text()
        assert latex.count(r"\begin{table}") == 3
        assert latex.count(r"\end{table}") == 3
        assert latex.count(r"\toprule") == 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_has_prose_and_calls_but_no_outputs(name: str) -> None:
    path = notebooks.NOTEBOOK_FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.source for cell in code if STATEMENTS.search(cell.source)]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ")
    assert [cell for cell in code if "tags" in cell.metadata] == code[:1]
    assert code[0].metadata["tags"] == ["parameters"]
    assigned = {line.split(" = ")[0] for line in code[0].source.splitlines()}
    assert {"RESULTS", "FILES", "SCALE", "OUT"} <= assigned


def write_notebook(folder: Path, name: str, *sources: str) -> None:
    """A notebook with a title, a cell of parameters, and a code cell per source."""
    cells = [
        new_markdown_cell(f"# Title of {name}\n\nProse."),  # type: ignore[no-untyped-call]
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),  # type: ignore[no-untyped-call]
        *map(new_code_cell, sources),
    ]
    notebook = new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    nbformat.write(notebook, folder / f"{name}.ipynb")  # type: ignore[no-untyped-call]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, from which the report takes its notebooks."""
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path)
    return tmp_path


def test_user_error_ends_its_section_and_other_errors_fail_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imports = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from core.runtime.errors import UserError"
    )
    failing = "raise UserError('nothing here; run it')"
    write_notebook(folder, "empty", "print(RESULTS)", imports, failing, "print('after')")
    write_notebook(folder, "fails", "1 / 0")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", ("empty", "fails"))
    results = folder / "results"
    results.mkdir()
    out = folder / "report.html"
    code, printed, errors = call(capsys, "report", "--results", results, "--out", out, "--jobs", 2)
    assert code == 1
    assert printed.strip() == str(out)
    assert "note: empty: nothing here; run it" in errors
    assert "error: fails: ZeroDivisionError: division by zero" in errors
    text = out.read_text()
    assert "<h2>Title of empty</h2>" in text
    assert f"<pre>{results}\n</pre>" in text  # the parameter replaces the notebook's value
    assert re.search(r'class="problem">[^<]*: nothing here; run it', text)
    assert re.search(r'class="problem">[^<]*failed: ZeroDivisionError', text)
    assert "<pre>after" not in text


def test_hanging_and_dying_notebooks_do_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(folder, "hangs", "import time; time.sleep(120)")
    write_notebook(folder, "dies", "import os; os._exit(9)")
    write_notebook(folder, "good", "print('whole')")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", ("hangs", "dies", "good"))
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 10)
    out = folder / "report.html"
    sections = report_of(folder, out, jobs=3)
    assert [section.broken for section in sections] == [True, True, False]
    assert "more than 10 seconds" in sections[0].problem
    assert sections[1].problem.startswith("dies.ipynb: its kernel died")
    assert "<pre>whole\n</pre>" in out.read_text()


def test_missing_results_folder_is_an_error_and_is_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "none"
    code, _, errors = call(capsys, "report", "--results", folder)
    assert code == 2
    assert errors.startswith(f"error: {folder}: no such folder")
    assert not folder.exists()


def test_page_path_that_is_a_folder_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = call(capsys, "report", "--results", PUBLISHED, "--out", tmp_path)
    assert code == 2
    assert "--out" in errors
    assert f"{tmp_path} is a folder" in errors


def test_missing_experiment_file_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "none.yaml"
    code, _, errors = call(capsys, "report", file, "--results", tmp_path)
    assert code == 2
    assert errors.startswith(f"error: {file}: no such file")


def test_known_runs_become_links_outside_of_tags() -> None:
    text = f'<img alt="{RUN}"> {RUN}, evaluate-000000000000'
    linked = f'<img alt="{RUN}"> <a href="#{RUN}">{RUN}</a>, evaluate-000000000000'
    assert link_runs(text, {RUN}) == linked


def test_notebooks_get_their_files_and_are_left_out_without_any(tmp_path: Path) -> None:
    file = REPOSITORY / "experiments/ablation_mask.yaml"
    sweep = REPOSITORY / "sweeps/mask_ratio.yaml"
    both = notebook_parameters(PUBLISHED, [file], [sweep], SCALE, tmp_path)
    assert both["tables"]["FILES"] == ["experiments/ablation_mask.yaml"]
    assert both["sweeps"]["FILES"] == ["sweeps/mask_ratio.yaml"]
    assert both["tables"]["RESULTS"] == f"results/published/{SCALE}"
    assert list(notebook_parameters(PUBLISHED, [], [sweep], None, tmp_path)) == ["sweeps"]
    assert "sweeps" not in notebook_parameters(PUBLISHED, [file], [], None, tmp_path)
    assert notebook_parameters(PUBLISHED, [], [], None, tmp_path)["errors"]["FILES"] is None
