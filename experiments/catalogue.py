"""The costs in the catalogue of experiments/README.md: measured by records, else estimated.

    python -m experiments.catalogue        # writes the costs into the table

The first cells of a row (file, paper, question) are written by hand, the others by this module.
Nothing depends on the machine: estimates assume the reference speeds of `plan`, and data sets count
with the sizes of experiments/settings/data.yaml, whether or not they are here.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import TypeVar

from core.runtime.errors import UserError
from core.runtime.files import write_text
from experiments.cli.plan_report import describe_plan
from experiments.planning.disk_estimate import disk_use
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE, Experiment, read_experiment
from experiments.running.capacity import bytes_text
from results.provenance import REPOSITORY
from results.records import StoredCost, read_record
from results.store import Store
from results.stored_tables import table_runs

PAGE = HERE / "README.md"
PUBLISHED = REPOSITORY / "results" / "published"
BEGIN = "<!-- costs: python -m experiments.catalogue -->"
END = "<!-- end of costs -->"
WRITTEN_BY_HAND = ("file", "paper", "question")
NONE = "–"

Number = TypeVar("Number", int, float)

SECONDS = {"min": 60, "h": 3600}
DEFAULT_SCALE: str = Experiment.model_fields["scale"].default


@dataclass(frozen=True)
class CostScale:
    """A scale with columns in the catalogue: time, memory (RAM) and disk space.

    unit: of time, min or h."""

    name: str
    unit: str

    @property
    def columns(self) -> tuple[str, str, str]:
        """The headings of the columns."""
        return (f"{self.name}, {self.unit}", f"{self.name} RAM", f"{self.name} disk")


SCALES = (CostScale(DEFAULT_SCALE, "min"), CostScale("overnight", "h"), CostScale("paper", "h"))
COLUMNS = (*WRITTEN_BY_HAND, *(column for scale in SCALES for column in scale.columns))


@dataclass(frozen=True)
class Cost:
    """The cost of all runs of an experiment at one seed. A value is None if it is not known.

    seconds: of one core of a CPU, or of one GPU.
    memory: bytes of the run that needs most.
    disk: bytes that all runs keep, without rendered words and caches."""

    seconds: float | None = None
    memory: float | None = None
    disk: float | None = None


@contextmanager
def without_data() -> Iterator[Path]:
    """Plan as on a machine that has no data and no results; yields a results folder for it.

    Variables of the environment that name data are absent meanwhile."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("LMIM_")}
    for name in hidden:
        del os.environ[name]
    try:
        with TemporaryDirectory() as folder:
            no_roots = Path(folder) / "data.yaml"
            no_roots.write_text("{}\n")
            os.environ["LMIM_DATA_FILE"] = str(no_roots)
            yield Path(folder)
    finally:
        os.environ.pop("LMIM_DATA_FILE", None)
        os.environ.update(hidden)


def one_seed(file: Path, scale: str, results: Path) -> Plan:
    """The plan of a file at its first seed. results: an empty folder."""
    seeds = read_experiment(file).seeds[:1]
    return make_plan(
        [file], scale, Store(results), precision=lambda: "fp32", overrides={}, seeds=seeds
    )


def estimated_cost(plan: Plan, results: Path) -> Cost:
    """The cost as `plan` estimates it where nothing was measured. results: an empty folder."""
    description = describe_plan(plan, Store(results))
    return Cost(
        seconds=3600 * description.estimate.hours,
        memory=max(run.memory_bytes for run in description.runs),
        disk=sum(disk_use(run).kept for run in plan.runs.values()),
    )


def measured_cost(plan: Plan, published: Path | None = None) -> Cost:
    """The cost by the records of a published table that has all rows; means over complete seeds.

    plan: of one experiment; its name, scale and rows are looked for.
    published: a folder of results folders; None: that of the suite."""
    ((name, experiment),) = plan.experiments.items()
    rows = [variant.name for variant in experiment.variants]
    for folder in sorted((published or PUBLISHED).iterdir()):
        store = Store(folder)
        costs = _costs_of_seeds(store, rows, table_runs(store, name, plan.scale))
        if costs:
            return Cost(
                seconds=_mean(cost.seconds for cost in costs),
                memory=_mean(cost.memory for cost in costs),
                disk=_mean(cost.disk for cost in costs),
            )
    return Cost()


def _costs_of_seeds(
    store: Store, rows: Sequence[str], runs: Mapping[str, Mapping[int, set[str]]]
) -> list[Cost]:
    """The cost of each seed at which all rows have all runs. runs: row -> seed -> ids."""
    costs = []
    for seed in sorted({seed for of_row in runs.values() for seed in of_row}):
        if not all(seed in runs.get(row, {}) for row in rows):
            continue
        ids = set[str]().union(*(runs[row][seed] for row in rows))
        folders = [store.run(run) for run in sorted(ids)]
        if all((run.folder / "record.json").is_file() for run in folders):
            costs.append(_recorded_cost([read_record(run, StoredCost) for run in folders]))
    return costs


def _recorded_cost(records: Sequence[StoredCost]) -> Cost:
    """The cost of some runs, None for what some record lacks."""
    if any(record.hardware.accelerator for record in records):
        return Cost()  # the columns of scales that were measured are of a CPU
    memory = _known([record.peak_own_memory_bytes for record in records])
    disk = _known([record.disk_bytes for record in records])
    return Cost(
        seconds=sum(record.core_seconds for record in records),
        memory=max(memory) if len(memory) == len(records) else None,
        disk=sum(disk) if len(disk) == len(records) else None,
    )


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; None if there is none."""
    known = _known(values)
    return mean(known) if known else None


def cost_cells(file: Path) -> list[str]:
    """The cells of costs of an experiment file, for all scales.

    A file that names its own scale has that one in place of the default scale, and no other."""
    own = read_experiment(file).scale
    cells: list[str] = []
    with without_data() as results:
        for scale in SCALES:
            name = own if scale.name == DEFAULT_SCALE else scale.name
            if own in (DEFAULT_SCALE, name):
                cells += scale_cells(one_seed(file, name, results), results, scale.unit)
            else:
                cells += [NONE] * len(scale.columns)
    return cells


def scale_cells(plan: Plan, results: Path, unit: str) -> list[str]:
    """Time, memory and disk space; `~` marks an estimate.

    plan: of one file at one seed. results: an empty folder. unit: of time."""
    measured = measured_cost(plan)
    estimate = estimated_cost(plan, results)

    def time_text(seconds: float) -> str:
        return two_digits(seconds / SECONDS[unit])

    def space_text(count: float) -> str:
        return bytes_text(float(f"{count:.2g}"))

    return [
        _cell(measured.seconds, estimate.seconds, time_text),
        _cell(measured.memory, estimate.memory, space_text),
        _cell(measured.disk, estimate.disk, space_text),
    ]


def _cell(measured: float | None, estimate: float | None, text: Callable[[float], str]) -> str:
    if measured is not None:
        return text(measured)
    return NONE if estimate is None else f"~{text(estimate)}"


def two_digits(value: float) -> str:
    """A number with at least two significant digits, and no exponent."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def with_costs(page: str) -> str:
    """The text of the page with a new table. Raises UserError if a file has no row, or a row no
    file."""
    try:
        before, rest = page.split(BEGIN)
        table, after = rest.split(END)
    except ValueError:
        raise UserError(f"{PAGE}: needs one line {BEGIN} and one line {END}") from None
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in table.splitlines()
        if line.startswith("| `")
    ]
    files = {row[0].strip("`"): row[: len(WRITTEN_BY_HAND)] for row in rows}
    existing = {file.stem for file in HERE.glob("*.yaml")}
    for name in sorted(existing - files.keys()):
        raise UserError(f"{PAGE}: no row of the catalogue for {name}; add one with its question")
    for name in sorted(files.keys() - existing):
        raise UserError(f"{PAGE}: {name}: no such experiment file; remove its row")
    lines = [_line(COLUMNS), _line(["---"] * len(WRITTEN_BY_HAND) + ["--:"] * 3 * len(SCALES))]
    lines += [_line([*row, *cost_cells(HERE / f"{name}.yaml")]) for name, row in files.items()]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> int:
    """Write the costs into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.catalogue",
        description="Writes the costs into the catalogue of experiments/README.md.",
    )
    parser.parse_args(arguments)
    try:
        write_text(PAGE, with_costs(PAGE.read_text(encoding="utf-8")))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
