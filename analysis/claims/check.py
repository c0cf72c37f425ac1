"""Whether the values of claims are within tolerance."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.claims.values import (
    PUBLISHED,
    Found,
    NoValueError,
    TableValues,
    find_tests,
    number_at,
    read_json,
    table_values,
)
from core.runtime.errors import UserError
from experiments.planning.planner import Precision
from results.claims import (
    Claim,
    CommandRun,
    ExpectedDifference,
    ExperimentRun,
    JsonCheck,
    TestCheck,
)
from results.provenance import REPOSITORY
from results.store import Store

State = Literal["within", "outside", "needs --run"]
Tables = dict[tuple[str, ExperimentRun, str], TableValues]


@dataclass(frozen=True)
class Outcome:
    """What the check of a claim gave.

    state: `needs --run` if only a run of tests can decide it.
    found: the value; None if there is none.
    why: the reason for a state without a value, or what is wrong with the value.
    """

    claim: Claim
    state: State
    found: Found | None = None
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The claim with the state and the value that was found."""
        found = None if self.found is None else asdict(self.found)
        content = self.claim.model_dump(mode="json")
        return content | {"state": self.state, "found": found, "why": self.why}


def check_published(
    claims: Iterable[Claim], on_progress: Callable[[int], None] = lambda done: None
) -> list[Outcome]:
    """Check claims by the published results. Each results folder and table is loaded once.

    A claim that names an unknown experiment, scale, row or results folder is outside; the others
    are checked all the same.

    on_progress: called with the number of checked claims.
    """
    tables: Tables = {}
    outcomes = []
    for number, claim in enumerate(claims, 1):
        try:
            outcomes.append(_check_published(claim, tables))
        except UserError as error:
            outcomes.append(Outcome(claim, "outside", why=str(error)))
        on_progress(number)
    return outcomes


def _check_published(claim: Claim, tables: Tables) -> Outcome:
    check = claim.check
    try:
        if isinstance(check, TestCheck):
            find_tests(check)
            return Outcome(
                claim, "needs --run", why=f"the tests exist; run --run {claim.id} to prove it"
            )
        if isinstance(check, JsonCheck):
            content = read_json(REPOSITORY / check.file)
            return judge(claim, Found(number_at(content, (*check.below, *check.key))))
        assert isinstance(claim.reproduce, ExperimentRun)
        assert claim.scale is not None
        key = (check.results, claim.reproduce, claim.scale)
        if key not in tables:
            folder = PUBLISHED / check.results
            if not folder.is_dir():
                raise UserError(f"{folder.name}: no such folder in results/published")
            tables[key] = table_values(claim.reproduce, claim.scale, Store(folder))
        return judge(claim, tables[key].find(check))
    except NoValueError as error:
        return Outcome(claim, "outside", why=str(error))


def check_experiment(claim: Claim, store: Store, precision: Precision) -> Outcome:
    """Check a claim by the runs of its experiment in a results folder. Raises UserError."""
    check = claim.check
    assert not isinstance(check, JsonCheck | TestCheck)
    assert isinstance(claim.reproduce, ExperimentRun)
    assert claim.scale is not None
    try:
        found = table_values(claim.reproduce, claim.scale, store, precision).find(check)
    except NoValueError as error:
        return Outcome(claim, "outside", why=str(error))
    return judge(claim, found, rerun=True)


def check_output(claim: Claim, path: Path) -> Outcome:
    """Check a claim by the JSON that its last command printed. path: of that JSON."""
    check = claim.check
    assert isinstance(check, JsonCheck)
    assert isinstance(claim.reproduce, CommandRun)
    try:
        found = Found(number_at(read_json(path), check.key))
    except NoValueError as error:
        return Outcome(claim, "outside", why=str(error))
    return judge(claim, found, rerun=True)


def judge(claim: Claim, found: Found, *, rerun: bool = False) -> Outcome:
    """Whether a value is within the tolerance of a claim.

    The verdict of a difference must be the expected one. The ends of its interval are compared for
    published records only: they depend on the seeds' spread, which another machine changes most.

    rerun: the value is of a run on another machine.
    """
    assert claim.tolerance is not None
    tolerance = claim.tolerance.rerun if rerun else claim.tolerance.published
    expected = claim.expected
    problems = []
    pairs: list[tuple[str, float, float | None]]
    if isinstance(expected, ExpectedDifference):
        pairs = [("value", expected.value, found.value)]
        if not rerun:
            pairs += [("low", expected.low, found.low), ("high", expected.high, found.high)]
        if found.verdict != expected.verdict:
            problems.append(f"the verdict is {found.verdict!r}")
    else:
        assert expected is not None
        pairs = [("value", expected, found.value)]
    for name, wanted, value in pairs:
        distance = abs(value - wanted) if value is not None else float("inf")
        if distance > tolerance:
            problems.append(f"{name} is off by {distance:.4g}, more than {tolerance:g}")
    return Outcome(claim, "outside" if problems else "within", found, "; ".join(problems))
