"""The outcomes of claims as lines of text and as a section of HTML."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from analysis.claims.check import Outcome
from analysis.claims.values import Found
from results.claims import Claim, CommandRun, ExpectedDifference, ExperimentRun, TestCheck

COLUMNS = ("id", "claim", "scale", "expected", "found", "outcome", "cost of a run")


def value_text(value: Found | ExpectedDifference | float | None) -> str:
    """A number, or a difference with interval and verdict."""
    if value is None:
        return "the tests pass"
    if isinstance(value, float | int):
        return f"{value:.4g}"
    text = f"{value.value:.4g}"
    if value.low is not None and value.high is not None:
        text = f"{value.value:+.4g} ({value.low:+.4g} to {value.high:+.4g})"
    return f"{text} {value.verdict}".strip()


def found_text(outcome: Outcome) -> str:
    """What was found: a value, what is wrong with it, or why there is none."""
    value = "" if outcome.found is None else value_text(outcome.found)
    return "; ".join(filter(None, [value, outcome.why]))


def outcome_line(outcome: Outcome) -> str:
    """One line: id, state, expected, found, and the claim."""
    claim = outcome.claim
    found = "" if outcome.found is None else "found "
    return (
        f"{claim.id:4} {outcome.state:12} expected {value_text(claim.expected)}; "
        f"{found}{found_text(outcome)} | {claim.claim}"
    )


def summary_line(outcomes: Sequence[Outcome]) -> str:
    """How many claims are in each state."""
    counts = Counter(outcome.state for outcome in outcomes)
    return (
        f"{len(outcomes)} claims: {counts['within']} within tolerance, {counts['outside']} "
        f"outside, {counts['needs --run']} need --run"
    )


def reproduction(claim: Claim) -> str:
    """How a claim is reproduced: a command, or the tests."""
    run = claim.reproduce
    if isinstance(run, CommandRun):
        return " && ".join(run.commands)
    if isinstance(run, ExperimentRun):
        seeds = ",".join(map(str, run.seeds))
        return f"python run.py {run.experiment} --scale {claim.scale} --seeds {seeds}"
    assert isinstance(claim.check, TestCheck)
    return f"python -m pytest {' '.join(claim.check.nodes)}"


def cost_text(claim: Claim) -> str:
    """Minutes, memory and disk."""
    cost = claim.cost
    return (
        f"{cost.minutes:g} min of {cost.clock}, {cost.memory_gb:g} GB of memory, "
        f"{cost.disk_gb:g} GB of disk"
    )


def claims_html(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table of HTML, with how each claim is reproduced."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = []
    for outcome in outcomes:
        claim = outcome.claim
        sentence = f"{escape(claim.claim)}<br><code>{escape(reproduction(claim))}</code>"
        cells = [
            escape(claim.id),
            sentence,
            escape(claim.scale or "–"),
            escape(value_text(claim.expected)),
            escape(found_text(outcome)),
            outcome.state,
            escape(cost_text(claim)),
        ]
        style = {"within": "holds", "outside": "reversed"}.get(outcome.state, "")
        line = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr class="{style}">{line}</tr>')
    return (
        "<p>The suite's major claims, checked by the published results. "
        "<code>python run.py claims --run ID</code> reproduces one from nothing.</p>\n"
        f"<p>{escape(summary_line(outcomes))}.</p>\n"
        f'<div class="wide"><table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
