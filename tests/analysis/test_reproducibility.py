"""The reproducibility report: its numbers are those of tables, and nothing is invented."""

import re
from pathlib import Path

import pytest
from conftest import call
from table_records import MINI, mini_table1, write_evaluation

from analysis.claims.check import Outcome
from analysis.claims.values import Found
from analysis.report.reproducibility import (
    PLACEHOLDER,
    ReproducibilityReport,
    is_claim_on,
)
from analysis.tables.grids import titled_grids
from analysis.tables.measurements import Row
from analysis.tables.render import markdown
from analysis.tables.table import Table
from results.claims import read_claims
from results.store import Store

HEADINGS = [
    "Reproducibility summary",
    "Scope of reproducibility",
    "Methodology",
    "Results",
    "What was easy",
    "What was difficult",
    "Communication with the original authors",
    "Introduction",
    "Scope of reproducibility and claims",
    "Methodology",
    "Model descriptions",
    "Data sets",
    "Hyper-parameters",
    "Experimental setup and code",
    "Computational requirements",
    "Results",
    "Results that reproduce the paper",
    "Results beyond the paper",
    "Claims of this suite",
    "Discussion",
    "What was easy",
    "What was difficult",
    "Communication with the original authors",
]


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """Heading with its level -> text, of the report on Table 1 at scale mini.

    Its claims: C7, found exactly, and C8, found with another value."""
    claims = {claim.id: claim for claim in read_claims().claims}
    outcomes = [
        Outcome(claims["C7"], "within", Found(7.285, 5.457, 9.077, "better")),
        Outcome(claims["C8"], "outside", why="no value | here"),
    ]
    return split(ReproducibilityReport(Store(MINI), [mini_table1()], outcomes).text())


def split(text: str) -> dict[str, str]:
    parts = re.split(r"^(#{2,3} .*)$", text, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_headings_are_those_of_the_challenge(sections: dict[str, str]) -> None:
    names = [heading.lstrip("# ") for heading in sections]
    assert set(names) == set(HEADINGS)


def test_all_numbers_of_the_results_are_the_tables(sections: dict[str, str]) -> None:
    whole = (
        sections["### Results that reproduce the paper"] + sections["### Results beyond the paper"]
    )
    of_table = [line for line in markdown([mini_table1().content]).splitlines() if line[:1] == "|"]
    of_report = [line for line in whole.splitlines() if line[:1] == "|"]
    assert sorted(of_report) == sorted(of_table)
    assert "Not comparable with the paper" in whole


def test_the_summary_has_the_tables_differences_and_verdicts(sections: dict[str, str]) -> None:
    grid = dict(titled_grids(mini_table1().content))["Differences between rows"]
    columns = [grid.head.index(name) for name in ("measured", "95 % interval", "verdict")]
    expected = [[line[0], *(line[column] for column in columns)] for line in grid.lines]
    lines = sections_table(sections["### Results"])
    assert [[line[1], line[3], line[4], line[5]] for line in lines] == expected
    assert len(expected) == 5


def sections_table(text: str) -> list[list[str]]:
    """The lines of the only table of a section, without its head."""
    return [cells(line) for line in text.splitlines() if line.startswith("|")][2:]


def test_the_scope_has_the_differences_that_the_paper_reports(sections: dict[str, str]) -> None:
    scope = sections["## Scope of reproducibility and claims"]
    pairs = [pair for pair in mini_table1().content.comparisons if pair.reported is not None]
    listed = [line for line in scope.splitlines() if line.startswith("- ")]
    assert len(listed) == len(pairs) == 2
    for line, pair in zip(listed, pairs, strict=True):
        assert line.endswith(f"minus {pair.other}: {pair.reported:+.1f} points of Avg.")


def test_setup_settings_and_data_are_those_of_the_records(sections: dict[str, str]) -> None:
    setup = sections["### Experimental setup and code"]
    assert "run.py experiments/ablation_alignment.yaml --scale mini --seeds 0,1,2`" in setup
    record = mini_table1().measured[0][0].run.record()
    assert record["code"]["commit"] in setup
    assert record["versions"]["torch"] in setup
    assert (
        record["hardware"]["processor"].split("(")[0]
        in (sections["### Computational requirements"])
    )
    data = sections_table(sections["### Data sets"])
    assert ["evaluate: curve", "`synthetic:curve`", "400", "`69adca5439f86a33/curve`"] in data
    settings = {
        (line[0], line[1]): line[2:] for line in sections_table(sections["### Hyper-parameters"])
    }
    assert settings["fine-tuning", "`optimizer.batch`"] == [
        "`32`",
        "`512`",
        "all with a fine-tuning",
    ]
    assert settings["pre-training", "`guidance`"][0] == "none"
    assert settings["pre-training", "`guidance`"][2] == "Table 1: no guidance"


def test_claims_have_their_outcome(sections: dict[str, str]) -> None:
    first, second = (
        [line for line in sections["### Claims of this suite"].splitlines() if f"| {name} " in line]
        for name in ("C7", "C8")
    )
    assert "+7.285 (+5.457 to +9.077) better | within | " in first[0]
    assert "| – | outside: no value \\| here |" in second[0]


def test_claims_of_other_folders_and_tests_are_left_out() -> None:
    chosen = [claim.id for claim in read_claims().claims if is_claim_on(claim, Store(MINI))]
    named = [
        claim.id
        for claim in read_claims().claims
        if getattr(claim.check, "results", None) == "mini"
    ]
    assert chosen == named
    assert named


def test_opinions_are_left_to_the_author(sections: dict[str, str]) -> None:
    for heading in ("### What was easy", "### What was difficult"):
        assert sections[heading].strip() == PLACEHOLDER
    assert "not recorded" in sections["### Communication with the original authors"]


def test_what_is_not_recorded_is_said_to_be_not_recorded(tmp_path: Path) -> None:
    """An evaluation of a file, whose record names no hardware, versions, commit or config."""
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"iiit5k": [1] * 8 + [0] * 2})
    row = Row("a", None, (), {0: "evaluate-a"}, {0: ()}, {0: ""})
    table = Table("t", "title", "mini", "", None, [row], store)
    sections = split(ReproducibilityReport(store, [table], []).text())
    for heading in (
        "### Model descriptions",
        "### Hyper-parameters",
        "### Experimental setup and code",
        "### Computational requirements",
        "### Results that reproduce the paper",
    ):
        assert "not recorded" in sections[heading], heading
    assert "none" not in sections["### Computational requirements"]
    assert "80.0" in sections["### Results beyond the paper"]
    assert not re.findall(r"\d", sections["### Experimental setup and code"])


@pytest.mark.parametrize(
    "words", [("--jobs", "2"), ("sweeps/mask_ratio.yaml",), ("--results", "nowhere")]
)
def test_options_without_an_effect_are_refused(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = words if words[0] == "--results" else ("--results", str(MINI), *words)
    code, out, err = call(capsys, "report", "--for", "mlrc", *given)
    assert (code, out) == (2, "")
    assert words[-1] in err or words[0] in err


@pytest.mark.slow
def test_the_command_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.md"
    words = ("experiments/ablation_alignment.yaml", "--results", str(MINI), "--out", str(out))
    code, printed, _ = call(capsys, "report", "--for", "mlrc", *words)
    assert (code, printed.strip()) == (0, str(out))
    assert "| C7 |" in split(out.read_text(encoding="utf-8"))["### Claims of this suite"]
