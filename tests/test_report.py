"""The report: notebooks that execute, and the page that is made of them."""

import re
from pathlib import Path

import nbformat
import pytest
from conftest import call
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from analysis.report import build as page
from results.provenance import REPOSITORY
from results.store import Store

PUBLISHED = REPOSITORY / "results/published/mini"
RUN = "evaluate-8eae42804fed"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[page.Section]]:
    """The report of what is published: the page, its sections."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    sections = page.write_report(
        Store(PUBLISHED), [], [], None, out, jobs=2, threads=1, on_progress=lambda *_: None
    )
    return out, sections


def test_every_notebook_executes_on_what_is_published(
    published: tuple[Path, list[page.Section]],
) -> None:
    _, sections = published
    assert [one.name for one in sections] == list(page.NOTEBOOKS)
    assert [one.problem for one in sections] == [""] * len(sections)
    assert all(len(one.body) > 10_000 for one in sections)


def test_the_page_needs_nothing_else_and_its_links_lead_somewhere(
    published: tuple[Path, list[page.Section]],
) -> None:
    out, _ = published
    text = out.read_text(encoding="utf-8")
    sources = re.findall(r'\bsrc="([^"]{0,40})', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r'<link|@import|url\((?!data:)|src="http', text)
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    for target in re.findall(r'href="([^"]+)"', text):
        assert not target.startswith("http")
        if target.startswith("#"):
            assert target[1:] in ids or target == "#top"
        else:
            assert (out.parent / target).resolve().is_file()
    assert f'href="#{RUN}"' in text
    assert str(REPOSITORY) not in re.sub(r'href="[^"]+"', "", text)


def test_figures_and_tables_for_a_paper_lie_beside_the_page(
    published: tuple[Path, list[page.Section]],
) -> None:
    folder = published[0].parent / "analysis"
    names = {path.name for path in folder.iterdir()}
    for name in (
        "differences",
        "attention.0",
        "heads.0",
        "reading.0",
        "recall_fonts",
        "reconstructions.ablation_target.0",
    ):
        assert {f"{name}.mini.pdf", f"{name}.mini.png", f"{name}.mini.txt"} <= names
        assert re.search(
            r"Scale mini, seeds? \d.*; runs [a-z]+-[0-9a-f]{12}",
            (folder / f"{name}.mini.txt").read_text(),
        )
    for name in ("ablation_alignment", "union14m_benchmark"):
        latex = (folder / "tables" / f"{name}.mini.tex").read_text()
        assert (
            latex.count(r"\begin{table}")
            == latex.count(r"\end{table}")
            == latex.count(r"\toprule")
            == 3
        )


def test_notebooks_are_prose_and_calls_without_outputs() -> None:
    for name in page.NOTEBOOKS:
        notebook = nbformat.read(page.NOTEBOOK_FOLDER / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not any(re.search(r"^\s*(def|class|lambda)\b", cell.source, re.M) for cell in code)
        assert not any(cell.outputs or cell.execution_count for cell in code)
        assert notebook.cells[0].source.startswith("# ")
        assert sum("parameters" in cell.metadata.get("tags", ()) for cell in code) == 1


def write_notebook(folder: Path, name: str, *sources: str) -> None:
    parameters = new_code_cell('RESULTS = "own"\nOUT = "here"', metadata={"tags": ["parameters"]})
    cells = [
        new_markdown_cell(f"# Title of {name}\n\nProse."),
        parameters,
        *map(new_code_cell, sources),
    ]
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def test_a_mistake_ends_a_section_with_its_sentence_and_a_fault_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom core.runtime.errors import UserError"
    write_notebook(
        tmp_path,
        "lacks",
        "print(RESULTS)",
        raising,
        "raise UserError('nothing here; run it')",
        "print('after')",
    )
    write_notebook(tmp_path, "fails", "1 / 0")
    (tmp_path / "page.html").write_text((page.HERE / "page.html").read_text())
    (tmp_path / "given").mkdir()
    monkeypatch.setattr(page, "HERE", tmp_path)
    monkeypatch.setattr(page, "NOTEBOOK_FOLDER", tmp_path)
    monkeypatch.setattr(page, "NOTEBOOKS", ("lacks", "fails"))
    out = tmp_path / "report.html"
    code, printed, told = call(
        capsys, "report", "--results", tmp_path / "given", "--out", out, "--jobs", 2
    )
    assert code == 1
    assert printed.strip() == str(out)
    assert "note: lacks: nothing here; run it" in told
    assert "error: fails: ZeroDivisionError: division by zero" in told
    text = out.read_text()
    assert "<h2>Title of lacks</h2>" in text
    assert (
        f"<pre>{tmp_path / 'given'}\n</pre>" in text
    )  # the parameter, in place of the notebook's own
    assert "The rest is not shown: nothing here; run it" in text
    assert "This part failed: ZeroDivisionError" in text
    assert "<pre>after" not in text


def test_a_notebook_that_hangs_or_dies_leaves_the_others_their_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(tmp_path, "hangs", "import time; time.sleep(120)")
    write_notebook(tmp_path, "dies", "import os; os._exit(9)")
    write_notebook(tmp_path, "good", "print('whole')")
    (tmp_path / "page.html").write_text((page.HERE / "page.html").read_text())
    monkeypatch.setattr(page, "HERE", tmp_path)
    monkeypatch.setattr(page, "NOTEBOOK_FOLDER", tmp_path)
    monkeypatch.setattr(page, "NOTEBOOKS", ("hangs", "dies", "good"))
    monkeypatch.setattr(page, "SECONDS", 10)
    out = tmp_path / "report.html"
    sections = page.write_report(
        Store(tmp_path), [], [], None, out, jobs=3, threads=1, on_progress=lambda *_: None
    )
    assert [one.broken for one in sections] == [True, True, False]
    assert sections[0].problem == "hangs.ipynb: a cell took more than 10 seconds"
    assert sections[1].problem.startswith("dies.ipynb: its kernel died")
    assert "<pre>whole\n</pre>" in out.read_text()


def test_a_folder_that_is_not_there_and_a_page_that_is_a_folder_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = call(capsys, "report", "--results", tmp_path / "none")
    assert (code, told) == (
        2,
        f"error: {tmp_path / 'none'}: no such folder; name a results folder with --results\n",
    )
    assert not (tmp_path / "none").exists()
    code, _, told = call(capsys, "report", "--results", PUBLISHED, "--out", tmp_path)
    assert (code, told) == (
        2,
        f"error: --out {tmp_path}: a folder; name a file, like {tmp_path / 'report.html'}\n",
    )


def test_runs_become_links_in_text_and_never_inside_of_tags() -> None:
    text = f'<img alt="{RUN}"> {RUN}, evaluate-000000000000'
    assert (
        page.linked(text, {RUN})
        == f'<img alt="{RUN}"> <a href="#{RUN}">{RUN}</a>, evaluate-000000000000'
    )


def test_a_file_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, told = call(capsys, "report", tmp_path / "none.yaml", "--results", tmp_path)
    assert code == 2
    assert told == f"error: {tmp_path / 'none.yaml'}: no such file; name experiments or sweeps\n"


def test_experiments_go_to_their_notebooks_and_sweeps_to_theirs(tmp_path: Path) -> None:
    file, sweep = (
        REPOSITORY / "experiments/ablation_mask.yaml",
        REPOSITORY / "sweeps/mask_ratio.yaml",
    )
    both = page.parameters_of(PUBLISHED, [file], [sweep], "mini", tmp_path)
    assert both["tables"]["FILES"] == ["experiments/ablation_mask.yaml"]
    assert both["sweeps"]["FILES"] == ["sweeps/mask_ratio.yaml"]
    assert both["tables"]["RESULTS"] == "results/published/mini"
    assert list(page.parameters_of(PUBLISHED, [], [sweep], None, tmp_path)) == ["sweeps"]
    assert "sweeps" not in page.parameters_of(PUBLISHED, [file], [], None, tmp_path)
    assert page.parameters_of(PUBLISHED, [], [], None, tmp_path)["errors"]["FILES"] is None
