"""The suite's major claims: `results/claims.yaml`, checked against a closed schema.

A claim names how its published value is found (`check`), what is expected, how far a value may be
off, how it is reproduced from nothing, and what that costs. `analysis/claims` checks claims.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.number_types import (
    Integer,
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    PositiveFloat,
)
from core.runtime.yaml import read_yaml

CLAIMS = Path(__file__).with_name("claims.yaml")
ACCURACY = "Avg"  # in place of an endpoint: the mean accuracy over subsets
RESULTS = "{results}"  # in a command: the folder that it writes into
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
ClaimId = Annotated[str, StringConstraints(pattern=r"^C[1-9]\d*$")]
Step = Integer | Text | dict[Text, Text | Integer]


class EndpointCheck(FrozenModel):
    """The value of a row on an endpoint, computed by the code of tables from records.

    results: a folder of results/published.
    row: of the experiment that reproduces the claim.
    endpoint: its name in the tables, or `Avg` for the mean accuracy over subsets.
    """

    kind: Literal["endpoint"]
    results: Text
    row: Text
    endpoint: Text


class DifferenceCheck(FrozenModel):
    """The difference `row` minus `other` with its interval and verdict. Fields: `EndpointCheck`."""

    kind: Literal["difference"]
    results: Text
    row: Text
    other: Text
    endpoint: Text


class EarlyStartCheck(FrozenModel):
    """How many seeds of a row read half of the validation words before training ends."""

    kind: Literal["early_start"]
    results: Text
    row: Text


class LogCheck(FrozenModel):
    """The last value of a quantity in the logs of a row's pre-trainings, mean over seeds.

    quantity: a key of metrics.jsonl, such as `alignment`.
    """

    kind: Literal["log"]
    results: Text
    row: Text
    quantity: Text


class JsonCheck(FrozenModel):
    """A number in a published JSON file.

    file: its path from the project's folder.
    key: steps to the number: a key, the position in a list, or, for the first item of a list that
        has them, keys with values.
    below: steps that only the published file has, before those of `key`.
    """

    kind: Literal["json"]
    file: Text
    key: Annotated[tuple[Step, ...], Field(min_length=1)]
    below: tuple[Step, ...] = ()


class TestCheck(FrozenModel):
    """Tests that prove the claim.

    file: its path from the project's folder.
    tests: names of its tests.
    """

    __test__ = False  # not a class of tests
    kind: Literal["test"]
    file: Text
    tests: Annotated[tuple[Text, ...], Field(min_length=1)]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The tests as pytest names them."""
        return tuple(f"{self.file}::{name}" for name in self.tests)


TableCheck = EndpointCheck | DifferenceCheck | EarlyStartCheck | LogCheck
Check = Annotated[TableCheck | JsonCheck | TestCheck, Field(discriminator="kind")]


class ExpectedDifference(FrozenModel):
    """A difference with its interval and its verdict, as tables print them."""

    value: Number
    low: Number
    high: Number
    verdict: Text


class Tolerance(FrozenModel):
    """How far a value may be from the expected one, in the unit of the value.

    published: of the published records. It covers rounding.
    rerun: of a run on another machine.
    why: where the two come from.
    """

    published: NonNegativeFloat
    rerun: NonNegativeFloat
    why: Text


class ExperimentRun(FrozenModel):
    """An experiment file at the claim's scale. Only the rows that the check names are computed.

    experiment: its path from the project's folder.
    seeds: the seeds of the published value.
    """

    experiment: Text
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class CommandRun(FrozenModel):
    """Commands, one after the other; the last one prints the JSON that the check reads.

    commands: each begins with `python run.py`. `{results}` stands for the folder of the run.
    """

    commands: Annotated[tuple[Text, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _are_of_the_suite(self) -> "CommandRun":
        for command in self.commands:
            if not command.startswith("python run.py "):
                raise ValueError(f"{command!r} does not begin with `python run.py`")
        return self


def _kind_of_run(content: Any) -> str:
    """Which class reads how a claim is reproduced."""
    has_commands = isinstance(content, CommandRun) or (
        isinstance(content, dict) and "commands" in content
    )
    return "by commands" if has_commands else "by experiment"


Reproduction = Annotated[
    Annotated[ExperimentRun, Tag("by experiment")] | Annotated[CommandRun, Tag("by commands")],
    Discriminator(_kind_of_run),
]


class Cost(FrozenModel):
    """What it takes to reproduce a claim from nothing.

    minutes: of `clock`.
    clock: time of one CPU core, or time on a clock with two cores.
    memory_gb: the highest memory of one run.
    disk_gb: what the results folder holds at most.
    """

    minutes: PositiveFloat
    clock: Literal["one core", "two cores"]
    memory_gb: PositiveFloat
    disk_gb: NonNegativeFloat


class Claim(FrozenModel):
    """One claim.

    id: C1, C2, ...
    claim: a plain sentence.
    scale: the scale at which it was measured; None if it does not depend on one.
    check: how the published value is found.
    expected: the value; None if a test proves the claim.
    tolerance: how far a value may be off; None if a test proves the claim.
    reproduce: how the value is computed from nothing; None: by the tests.
    cost: of that.
    """

    id: ClaimId
    claim: Text
    scale: Text | None = None
    check: Check
    expected: Number | ExpectedDifference | None = None
    tolerance: Tolerance | None = None
    reproduce: Reproduction | None = None
    cost: Cost

    @model_validator(mode="after")
    def _fits_its_check(self) -> "Claim":
        check = self.check
        if isinstance(check, TestCheck):
            if (self.expected, self.tolerance, self.reproduce) != (None, None, None):
                raise ValueError(f"{self.id}: a test needs no expected, tolerance or reproduce")
            return self
        is_difference = isinstance(check, DifferenceCheck)
        wanted = ExpectedDifference if is_difference else float
        if not isinstance(self.expected, wanted):
            form = "value, low, high and verdict" if is_difference else "a number"
            raise ValueError(f"{self.id}: expected: give {form} for kind {check.kind}")
        if self.tolerance is None:
            raise ValueError(f"{self.id}: tolerance is missing")
        if isinstance(check, JsonCheck):
            if not isinstance(self.reproduce, CommandRun):
                raise ValueError(f"{self.id}: reproduce: give commands for kind json")
        elif not isinstance(self.reproduce, ExperimentRun) or self.scale is None:
            raise ValueError(
                f"{self.id}: give scale, and experiment and seeds of reproduce, for "
                f"kind {check.kind}"
            )
        return self

    def rows(self) -> tuple[str, ...]:
        """The rows that the check needs; () if it needs no table."""
        if isinstance(self.check, JsonCheck | TestCheck):
            return ()
        rows = [self.check.row]
        if isinstance(self.check, DifferenceCheck):
            rows.append(self.check.other)
        return tuple(rows)


class Claims(FrozenModel):
    """The content of a claims file. Ids are unique."""

    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_unique_ids(self) -> "Claims":
        ids = [claim.id for claim in self.claims]
        for claim_id in ids:
            if ids.count(claim_id) > 1:
                raise ValueError(f"{claim_id}: two claims have this id")
        return self

    def choose(self, ids: Sequence[str]) -> tuple[Claim, ...]:
        """The claims with these ids, in their order; all claims for no id.

        Raises UserError for an unknown id.
        """
        by_id: Mapping[str, Claim] = {claim.id: claim for claim in self.claims}
        for wanted in ids:
            if wanted not in by_id:
                raise UserError(f"{wanted}: no claim has this id; choose from {', '.join(by_id)}")
        return tuple(by_id[wanted] for wanted in dict.fromkeys(ids)) if ids else self.claims


def read_claims(path: Path = CLAIMS) -> Claims:
    """The content of a claims file. Raises UserError with file, claim and key."""
    content = read_yaml(path)
    try:
        return Claims.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        message = re.sub(r"^Value error, ", "", problem["msg"])
        raise UserError(f"{path}: {_place(content, problem['loc'])}: {message}") from error


def _place(content: object, location: Sequence[str | int]) -> str:
    """Where an error is: the id of the claim, if it has one, and the key."""
    steps = list(location)
    if isinstance(content, dict) and len(steps) > 1 and isinstance(steps[1], int):
        claim = content["claims"][steps[1]]
        name = claim.get("id") if isinstance(claim, dict) else None
        steps[:2] = [str(name or f"claim {steps[1] + 1}")]
    return ".".join(map(str, steps)) or "the file"
