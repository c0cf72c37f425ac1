"""The endpoints of a table as grids of text."""

from analysis.tables.endpoint_content import EndpointDifference, EndpointRow, EndpointTable
from analysis.tables.text_grid import ABSENT, TextGrid

VALUE_HEAD = ["endpoint", "row", "value", "95 % interval", "seeds", "SD of pre-training seeds"]
DIFFERENCE_HEAD = [
    "endpoint",
    "difference",
    "reported",
    "measured",
    "interval",
    "detectable",
    "seeds for 1 / 2",
    "verdict",
]


def endpoint_title(table: EndpointTable) -> str:
    """Name and unit of an endpoint, and whether it is primary."""
    better = "lower is better" if table.lower_is_better else "higher is better"
    rank = "primary" if table.primary else "exploratory"
    return f"{table.name} ({table.unit}, {better}; {rank})"


def value_grid(tables: tuple[EndpointTable, ...]) -> TextGrid:
    """The value of every row on every endpoint."""
    lines = []
    for table in tables:
        title = endpoint_title(table)
        for name, row in table.rows.items():
            lines.append([title, name, *_value_cells(row, table.unit)])
            title = ""
    return TextGrid(VALUE_HEAD, lines)


def _value_cells(row: EndpointRow, unit: str) -> list[str]:
    seeds = " ".join(_number(value, unit) for value in row.by_seed.values())
    spread = ABSENT if row.variance is None else _number(row.variance.pretraining, unit)
    interval = f"{_number(row.low, unit)} to {_number(row.high, unit)}"
    return [_number(row.value, unit), interval, seeds, spread]


def difference_grid(tables: tuple[EndpointTable, ...]) -> TextGrid:
    """The declared differences on every endpoint."""
    lines = []
    for table in tables:
        title = endpoint_title(table)
        for difference in table.differences:
            lines.append([title, *_difference_cells(difference, table.unit)])
            title = ""
    return TextGrid(DIFFERENCE_HEAD, lines)


def _difference_cells(difference: EndpointDifference, unit: str) -> list[str]:
    cells = [
        f"{difference.row} − {difference.other}",
        ABSENT if difference.reported is None else f"{difference.reported:+.1f}",
    ]
    if difference.value is None or difference.low is None or difference.high is None:
        return [*cells, *[ABSENT] * 4, difference.verdict]
    low = _number(difference.low, unit, "+")
    high = _number(difference.high, unit, "+")
    detectable = difference.detectable
    needed = [ABSENT if seeds is None else str(seeds) for seeds in difference.seeds_needed.values()]
    return [
        *cells,
        _number(difference.value, unit, "+"),
        f"{low} to {high}",
        "none" if detectable is None else _number(detectable, unit),
        " / ".join(needed) or ABSENT,
        difference.verdict,
    ]


def _number(value: float, unit: str, sign: str = "") -> str:
    return f"{value:{sign}.1f}" if unit == "%" else f"{value:{sign}.3f}"
