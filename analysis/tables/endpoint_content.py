"""The content of a table's endpoints as frozen dataclasses. `endpoints.py` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.tables.variance import VarianceComponents


@dataclass(frozen=True, kw_only=True)
class EndpointRow:
    """A row's value, the mean over subsets, transfers and seeds, in the endpoint's unit.

    low, high: its interval.
    covers: the variance that the interval covers.
    by_seed: seed -> the value of that seed.
    variance: its components as standard deviations; None with one seed.
    """

    value: float
    low: float
    high: float
    covers: str
    by_seed: Mapping[int, float]
    variance: VarianceComponents | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointDifference:
    """`row` minus `other` on the seeds that both have, in the endpoint's unit.

    reported: the difference of the paper's Avg, in points; None if the paper has none.
    verdict: see `analysis/README.md`.
    why: the reason for a verdict without numbers, if there is more to say.
    standard_error: of the difference. seed_error: the part of it due to the choice of seeds.
    detectable: the true difference that such a comparison detects with a power of 80 %; None if
        it is larger than any possible difference.
    seeds_needed: difference -> seeds that detect it with a power of 80 %; None if the test words
        are too few for any number of seeds.
    """

    row: str
    other: str
    reported: float | None
    verdict: str
    seeds: tuple[int, ...]
    why: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    covers: str = ""
    standard_error: float | None = None
    seed_error: float | None = None
    detectable: float | None = None
    seeds_needed: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EndpointTable:
    """An endpoint of an experiment: its rows and their differences.

    name, unit: of the endpoint.
    description: what it measures.
    lower_is_better: a smaller value is the better one.
    primary: the experiment declared it as primary. Otherwise its intervals are corrected.
    level: the level of the differences' intervals.
    rows: name -> value.
    without_value: name of a row whose runs cannot be paired word by word -> the reason.
    photographs: subset -> (photographs, words), where words of one photograph are a cluster.
    """

    name: str
    unit: str
    description: str
    lower_is_better: bool
    primary: bool
    level: float
    rows: Mapping[str, EndpointRow]
    differences: tuple[EndpointDifference, ...]
    without_value: Mapping[str, str] = field(default_factory=dict)
    photographs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
