"""What a check of this machine found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "missing", "problem"]
Check = Callable[[], "Iterable[Finding]"]


@dataclass(frozen=True)
class Finding:
    """One line of `run.py doctor`.

    subject: what was checked.
    level: ok, missing, or problem: it is here but does not work, or not well.
    found: what is here, in a few words.
    meaning: one sentence on what follows for the user.
    needed: whether no experiment runs at all without it.
    """

    subject: str
    level: Level
    found: str
    meaning: str
    needed: bool = False

    @property
    def prevents_runs(self) -> bool:
        """Whether no experiment runs at all because of it."""
        return self.needed and self.level != "ok"


def ask(subject: str, check: Check) -> list[Finding]:
    """What a check finds. If it fails itself, a finding that says why."""
    try:
        return list(check())
    except Exception as error:  # a broken machine can raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return [
            Finding(
                subject,
                "problem",
                f"could not be checked ({type(error).__name__}: {lines[0]})",
                "Nothing is known about it; other lines may say why.",
            )
        ]


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether nothing is missing that every experiment needs."""
    return not any(finding.prevents_runs for finding in findings)
