"""The lines of `watch`: runs or trials by state, as many as fit on a screen, and a summary."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import wrap

from rich.text import Text

# The order of states on a screen. A state that is not listed is last.
STATE_RANKS = {
    "running": 0,
    "failed": 1,
    "lost": 2,
    "preempted": 3,
    "queued": 3,
    "complete": 4,
    "pruned": 4,
    "planned": 5,
}
STATE_COLORS = {
    "running": "cyan",
    "failed": "red",
    "lost": "red",
    "preempted": "yellow",
    "complete": "green",
}


@dataclass(frozen=True)
class View:
    """The runs or trials at one moment.

    counts: state -> number.
    blocks: state and text (one or more lines) of each, the most important first. They may be made
        one by one: only those that fit on the screen are asked for.
    summary: the last lines.
    over: nothing is left to wait for."""

    counts: Mapping[str, int]
    blocks: Iterable[tuple[str, str]]
    summary: str
    over: bool


def rank(state: str, latest: float) -> tuple[int, float]:
    """The sort key of a run or trial: running, failed, waiting, complete (latest first), planned.

    state: the name of its state.
    latest: sorts complete ones, the largest first."""
    position = STATE_RANKS.get(state, len(STATE_RANKS))
    return position, -latest if position == STATE_RANKS["complete"] else 0.0


def counts_text(counts: Mapping[str, int]) -> str:
    """3 running, 1 failed, 20 complete."""
    states = sorted(counts, key=lambda state: rank(state, 0))
    return ", ".join(f"{counts[state]:,} {state}" for state in states if counts[state])


def fit(view: View, width: int, height: int | None) -> list[Text]:
    """The lines of a screen: the blocks that fit, the number of hidden ones, the summary.

    view: what is shown.
    width: columns of the screen.
    height: lines of the screen; None: no limit."""
    summary = [Text(line, style="bold") for line in wrap(view.summary, width)]
    # One line is for the number of hidden blocks, the last one for the cursor.
    room = math.inf if height is None else height - 2 - len(summary)
    lines: list[Text] = []
    hidden_counts = Counter(view.counts)
    for state, block in view.blocks:
        block_lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in block.split("\n")]
        if len(lines) + len(block_lines) > room:
            break
        block_lines[0].highlight_words([state], STATE_COLORS.get(state, ""))
        lines += block_lines
        hidden_counts[state] -= 1
    if hidden_counts.total():
        text = f"not shown: {counts_text(hidden_counts)}"
        lines.append(Text(text, style="dim", no_wrap=True))
    return [*lines, *summary]
