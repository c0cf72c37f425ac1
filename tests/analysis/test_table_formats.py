"""Tables as Markdown, CSV, HTML and LaTeX."""

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from table_records import (
    GUIDANCE,
    NO_GUIDANCE,
    make_row,
    make_table,
    two_row_table,
)

from analysis.tables.content import TableContent
from analysis.tables.render import FORMATS
from results.store import Store

ODD_NAME = "50 % & more_"


@pytest.fixture
def contents(tmp_path: Path) -> list[TableContent]:
    """A table of two rows whose names need escapes, and a table of one row."""
    store = Store(tmp_path)
    two_row_table(store, [1] * 90 + [0] * 10, [1] * 70 + [0] * 30)
    rows = [
        make_row(ODD_NAME, "evaluate-b0", reported_row=NO_GUIDANCE),
        make_row("<a>", "evaluate-a0", reported_row=GUIDANCE, compare_with=(ODD_NAME,)),
    ]
    return [
        make_table(store, rows, paper_table="table1").content,
        make_table(store, [make_row("alone", "evaluate-a0")]).content,
    ]


def test_csv_has_a_line_for_every_number(contents: list[TableContent]) -> None:
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](contents))))
    counts = Counter(line["source"] for line in lines)
    columns = 7 + 2  # subsets, Avg and W-Avg
    missing_row = 1  # of the paper
    assert counts["reported"] == 3 * (columns - 1)
    assert counts["measured"] == 3 * columns + missing_row
    paired = [line["column"] for line in lines if line["source"] == "paired difference"]
    assert paired == ["Avg", "W-Avg"]
    average = next(
        line
        for line in lines
        if (line["source"], line["row"], line["column"]) == ("measured", "<a>", "Avg")
    )
    assert (float(average["accuracy"]), float(average["difference"])) == pytest.approx((90.0, 9.4))
    assert average["verdict"] == "not comparable"


def test_html_is_one_page_with_every_table_and_nothing_unescaped(
    contents: list[TableContent],
) -> None:
    page = FORMATS["html"](contents)
    assert page.startswith("<!doctype html>")
    assert page.count("<table") == 3
    assert "&lt;a&gt;" in page
    assert "<a>" not in page


def test_latex_escapes_its_special_characters(contents: list[TableContent]) -> None:
    text = FORMATS["latex"](contents)
    assert r"50 \% \& more\_" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert text.count(r"\toprule") == 3
    assert "−" not in text


def test_markdown_shows_values_differences_and_kinds_of_reasons(
    contents: list[TableContent],
) -> None:
    text = FORMATS["md"](contents)
    assert "| <a>                           | reported   | 84.5" in text
    assert "| difference | +5.5" in text
    assert "not comparable (scale, data)" in text
    assert "all rows: scale: mini; data: curve has 100 images, not 2,426; " in text
    assert "## Differences between rows" in text
    assert all(rule in text for content in contents for rule in content.rules)
