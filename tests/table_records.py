"""Records of runs, and tables made of them, for tests."""

from functools import cache
from pathlib import Path
from typing import Any

from analysis.tables.content import MeasuredRow, PairedComparison, TableContent, TableRow
from analysis.tables.measurements import Row
from analysis.tables.planned import recorded_tables
from analysis.tables.table import Table
from core.text.protocols import PROTOCOLS
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY
from results.store import Store

SUBSETS = [
    "curve",
    "multi_oriented",
    "artistic",
    "contextless",
    "salient",
    "multi_words",
    "general",
]
SIZES = PROTOCOLS["waics"].sizes
NO_GUIDANCE, GUIDANCE, LMIM = range(3)  # rows of Table 1
DECODER = Path("experiments/ablation_decoder.yaml")
MINI = REPOSITORY / "results/published/mini"
TABLE1 = REPOSITORY / "experiments/ablation_alignment.yaml"


@cache
def mini_table1() -> Table:
    """Table 1 of the published results at scale mini, with all seeds. Its content is computed once.

    Tests change nothing of it."""
    store = Store(MINI)
    _, (table,) = recorded_tables(
        lambda seeds: make_plan(
            [TABLE1], "mini", store, precision=lambda: "bf16", overrides={}, seeds=seeds
        ),
        store,
    )
    return table


def write_evaluation(
    store: Store,
    run_id: str,
    correct: dict[str, list[int]],
    protocol: str = "waics",
    data: str = "here",
    labels: str = "strict",
    nll: dict[str, list[float]] | None = None,
    **record: Any,
) -> str:
    """Write the folder of a complete evaluation; returns the run's id.

    correct: subset -> 0 or 1 for each image.
    data: prefix of the fingerprints.
    labels: the label policy.
    nll: subset -> negative log-likelihood of each image; None: they were not measured.
    record: other keys of the record.
    """
    run = store.run(run_id)
    predictions = {0: "x", 1: "AB"}
    run.write_predictions(
        (name, i, "ab", predictions[right], 0.5, 1, nll[name][i] if nll else "")
        for name, values in correct.items()
        if len(values) < 10_000  # more would take long; correct.json has all
        for i, right in enumerate(values)
    )
    run.write_correct({name: [bool(value) for value in values] for name, values in correct.items()})
    counts = {
        name: {"correct": sum(values), "images": len(values)} for name, values in correct.items()
    }
    dropped: dict[str, dict[str, int]] = {name: {} for name in correct}
    metrics = {
        "protocol": protocol,
        "protocol_statement": "words",
        "counts": counts,
        "dropped": dropped,
        "labels": labels,
    }
    content = {
        "metrics": metrics,
        "data": {name: [{"fingerprint": f"{data}/{name}"}] for name in correct},
        "code": {"commit": None, "clean": None},
    }
    run.write_json("record.json", content | record)
    run.set_state("complete")
    return run_id


def write_training(
    store: Store,
    run_id: str,
    images: int,
    seconds: float,
    accelerator: str | None = None,
    dropped: dict[str, int] | None = None,
    **record: Any,
) -> str:
    """Write the folder of a complete training run with 2 threads; returns the run's id.

    images: images seen.
    seconds: of training.
    accelerator: the name of the GPU, or None.
    dropped: reason -> number of samples.
    record: other keys of the record.
    """
    metrics = {
        "images_seen": images,
        "parameters": 123,
        "train_seconds": seconds,
        "dropped": dropped or {},
    }
    content = {
        "stage": run_id.split("-")[0],
        "metrics": metrics,
        "hardware": {"accelerator": accelerator, "threads": 2},
    }
    store.run(run_id).write_json("record.json", content | record)
    store.run(run_id).set_state("complete")
    return run_id


def make_row(name: str, *evaluations: str, **options: Any) -> Row:
    """A row with an evaluation for each of the seeds 0, 1, ...; options: other fields of Row."""
    by_seed = dict(enumerate(evaluations))
    fields: dict[str, Any] = {
        "reported_row": None,
        "compare_with": (),
        "trainings": dict.fromkeys(by_seed, ()),
        "teachers": {},
    }
    return Row(name, evaluations=by_seed, **(fields | options))


def make_table(
    store: Store,
    rows: list[Row],
    scale: str = "mini",
    paper_table: str | None = None,
    **options: Any,
) -> Table:
    """A table of rows; options: other fields of Table."""
    return Table("mine", "a title", scale, "a scale", paper_table, rows, store, **options)


def content_of(store: Store, *rows: Row) -> TableContent:
    """The content of a table of rows at scale mini that the paper does not have."""
    return make_table(store, list(rows)).content


def at_accuracy(share: float) -> dict[str, list[int]]:
    """Evaluations of the paper's test sets of which a share is correct."""
    correct = {name: round(share * SIZES[name]) for name in SUBSETS}
    return {name: [1] * count + [0] * (SIZES[name] - count) for name, count in correct.items()}


def two_row_table(store: Store, first: list[int], second: list[int], seeds: int = 1) -> Table:
    """A table of `guidance` (a) compared with `no guidance` (b), with equal values on 7 subsets.

    All seeds have equal values. The paper reports a difference of +2.9.
    """
    names: dict[str, list[str]] = {"a": [], "b": []}
    for seed in range(seeds):
        for name, values in (("a", first), ("b", second)):
            run = write_evaluation(store, f"evaluate-{name}{seed}", dict.fromkeys(SUBSETS, values))
            names[name].append(run)
    rows = [
        make_row("b", *names["b"], reported_row=NO_GUIDANCE),
        make_row("a", *names["a"], reported_row=GUIDANCE, compare_with=("b",)),
    ]
    return make_table(store, rows, paper_table="table1")


def measured(row: TableRow) -> MeasuredRow:
    """The row as a measured one."""
    assert isinstance(row, MeasuredRow)
    return row


def compared(content: TableContent) -> PairedComparison:
    """The only comparison of a table, with numbers."""
    (pair,) = content.comparisons
    assert isinstance(pair, PairedComparison)
    return pair
