"""Endpoint tables with chosen values, for tests."""

from collections.abc import Mapping, Sequence

from analysis.tables.endpoint_content import EndpointRow, EndpointTable


def endpoint_row(seeds: Sequence[float], half: float = 1.0) -> EndpointRow:
    """A row with one value for each seed; half: of its interval."""
    mean = sum(seeds) / len(seeds)
    return EndpointRow(
        value=mean,
        low=mean - half,
        high=mean + half,
        covers="test words and seeds",
        by_seed=dict(enumerate(seeds)),
    )


def simulated_endpoint(
    name: str, rows: Mapping[str, Sequence[float]], *, primary: bool = False, half: float = 1.0
) -> EndpointTable:
    """An endpoint. rows: name -> one value for each seed."""
    measure = name.rpartition(" ")[2]
    return EndpointTable(
        name=name,
        unit="nats" if measure == "nll" else "%",
        description=measure,
        lower_is_better=measure in ("cer", "nll"),
        primary=primary,
        level=0.95,
        rows={row: endpoint_row(seeds, half) for row, seeds in rows.items()},
        differences=(),
    )


def many_endpoints(count: int, rows: int) -> list[EndpointTable]:
    """`count` endpoints of the same rows with three seeds, the first one primary."""
    names = [
        f"{source} {measure}"
        for source in ("fine-tuned", "iiit5k_characters", "ctc_linear", "ctc_bilstm")
        for measure in ("words", "cer", "nll")
    ]
    values = {
        f"row {number} with a name of several words": [number, number + 1.0, number + 5.0]
        for number in range(rows)
    }
    return [
        simulated_endpoint(name, values, primary=not number)
        for number, name in enumerate(names[:count])
    ]
