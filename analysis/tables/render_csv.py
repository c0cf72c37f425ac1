"""Tables in long form: one line for each row, column and source."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.tables.content import (
    MeasuredRow,
    PairedComparison,
    RowComparison,
    TableContent,
    TableRow,
    as_json,
)
from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.intervals import IMAGES

COLUMNS = (
    "experiment",
    "table",
    "scale",
    "row",
    "against",
    "source",
    "column",
    "accuracy",
    "low",
    "high",
    "error",
    "covers",
    "correct",
    "images",
    "difference",
    "reported",
    "detectable",
    "verdict",
    "size",
    "why",
    "seeds",
    "missing_seeds",
    "runs",
    "won",
    "lost",
    "p",
    "value",
)
COUNTS = ("correct", "images", "won", "lost")
Line = dict[str, Any]


def csv(contents: Sequence[TableContent]) -> str:
    """Tables as comma-separated values."""
    return frame(contents).to_csv(index=False)


def frame(contents: Sequence[TableContent]) -> pd.DataFrame:
    """Tables as a data frame with COLUMNS.

    `source` is `reported`, `measured`, `training cost`, `paired difference`, `McNemar` or
    `endpoint`.
    """
    lines = pd.DataFrame([line for content in contents for line in _lines(content)])
    for name in COUNTS:
        lines[name] = lines[name].astype("Int64") if name in lines else pd.NA
    return lines.reindex(columns=list(COLUMNS))


def _lines(content: TableContent) -> Iterator[Line]:
    table = {
        "experiment": content.experiment,
        "table": content.paper_table,
        "scale": content.scale,
    }
    for row in content.rows:
        for line in _row_lines(row):
            yield table | {"row": row.name} | line
    for pair in content.comparisons:
        for line in _comparison_lines(pair):
            yield table | {"row": pair.row, "against": pair.other} | line
    for endpoint in content.endpoints:
        for line in _endpoint_lines(endpoint):
            yield table | {"source": "endpoint", "column": endpoint.name} | line


def _row_lines(row: TableRow) -> Iterator[Line]:
    for name, value in row.reported.items():
        yield {"source": "reported", "column": name, "accuracy": value}
    common = {"source": "measured", "verdict": row.verdict, "why": "; ".join(row.why)}
    if not isinstance(row, MeasuredRow):
        if row.verdict == "missing":
            yield common | {"column": "missing"}
        return
    common |= {
        "seeds": _spaced(row.seeds),
        "missing_seeds": _spaced(row.missing_seeds),
        "runs": " ".join(runs.evaluate for runs in row.runs.values()),
    }
    for name, estimate in row.measured.items():
        yield (
            common
            | as_json(estimate)
            | {
                "column": name,
                "difference": row.difference.get(name),
            }
        )
    for name, value in as_json(row.training_cost).items():
        yield {"source": "training cost", "column": name, "value": value}


def _endpoint_lines(endpoint: EndpointTable) -> Iterator[Line]:
    """Values of rows and differences in the endpoint's unit, in the column `value`."""
    for name, row in endpoint.rows.items():
        yield {
            "row": name,
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "covers": row.covers,
            "seeds": _spaced(tuple(row.by_seed)),
        }
    for name, why in endpoint.without_value.items():
        yield {"row": name, "why": why}
    for difference in endpoint.differences:
        yield {
            "row": difference.row,
            "against": difference.other,
            "value": difference.value,
            "low": difference.low,
            "high": difference.high,
            "covers": difference.covers,
            "reported": difference.reported,
            "detectable": difference.detectable,
            "verdict": difference.verdict,
            "why": difference.why,
            "seeds": _spaced(difference.seeds),
        }


def _comparison_lines(pair: RowComparison) -> Iterator[Line]:
    common = {"source": "paired difference", "seeds": _spaced(pair.seeds)}
    judged = {"verdict": pair.verdict, "reported": pair.reported, "why": "; ".join(pair.why)}
    if not isinstance(pair, PairedComparison):
        yield common | judged | {"column": pair.verdict}
        return
    judged |= {"size": pair.size, "detectable": pair.detectable}
    yield common | judged | {"column": "Avg"} | as_json(pair.average)
    yield common | {"column": "W-Avg"} | as_json(pair.weighted_average)
    for seed, tests in pair.mcnemar.items():
        test_line = {"source": "McNemar", "seeds": seed, "covers": IMAGES}
        for name, test in tests.items():
            yield test_line | {"column": name} | as_json(test)


def _spaced(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
