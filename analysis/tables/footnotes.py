"""What a reader of a table should know besides its numbers: a sentence each."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from results.provenance import told_path
from results.reported import reported

if TYPE_CHECKING:
    from analysis.tables.table import Table

REASONS = {
    "unreadable": "{} images missing or undecodable",
    "unlabeled": "{} without a label",
    "over_long": "{} labels too long for the decoder",
    "unknown_characters": "{} labels with a character outside the charset, white space included",
    "replaced": "{} samples replaced by a later one",
    "filtered": "{} left out by a filter list",
}


def notes(table: "Table") -> list[str]:
    """All of them, the most general first."""
    return [*_scale(table), _covered(table), *_recipe(table), *_comparable(table), *_runs(table)]


def _scale(table: "Table") -> Iterator[str]:
    seeds = sorted({seed for row in table.measured for seed in row})
    about = f" ({table.about})" if table.about else ""
    named = ", ".join(map(str, seeds)) or "none yet"
    yield f"Scale: {table.scale}{about}. Seeds: {named}. Values are percent, means over seeds."
    rows = zip(table.rows, table.measured, strict=True)
    blocked_experiments = {
        row.name: [seed for seed in row.evaluations if seed not in found] for row, found in rows
    }
    missing = [
        f"{name}: {', '.join(map(str, lacks))}"
        for name, lacks in blocked_experiments.items()
        if lacks
    ]
    if missing:
        yield f"Seeds without a complete evaluation: {'; '.join(missing)}."
    _ = table.records.trainings  # read, so that the damaged are known
    yield from (
        f"Damaged, and taken for missing: {what}." for what in table.records.damaged.values()
    )


def _covered(table: "Table") -> str:
    """Which variance the intervals cover, and how they are made."""
    counts = {len(row) for row in table.measured if row}
    images = (
        "Intervals cover the sampling of test images only (Wilson per subset; Agresti and Coull for a row's averages; paired "
        "bootstrap stratified by subset for differences), not the variance between seeds: another seed may move a row by more."
    )
    seeds = "Intervals cover test images and the variance between seeds (hierarchical bootstrap, Student's t for the seeds)."
    tests = " McNemar's tests are exact and cover test images, seed by seed, with Holm's correction over subsets."
    if max(counts, default=1) == 1:
        return images + tests
    return (
        seeds
        if min(counts) > 1
        else f"Of rows with several seeds: {seeds} Of rows with one: {images}"
    ) + tests


def _recipe(table: "Table") -> Iterator[str]:
    if table.overrides:
        settings = ", ".join(f"{key}={value}" for key, value in table.overrides.items())
        yield f"Set on the command line, so another recipe than the file's: {settings}."
    if elsewhere := [row.name for row in table.rows if row.elsewhere]:
        other = "data are not here, or whose fonts, precision or versions of libraries are not those of this machine"
        yield f"Runs of the same recipe as the results folder records them, whose {other}: {', '.join(elsewhere)}."
    rows: dict[tuple[str, ...], list[str]] = {}
    for row in table.rows:
        rows.setdefault(tuple(row.evaluations.values()), []).append(row.name)
    yield from (
        f"One and the same runs at this scale: {', '.join(same)}."
        for same in rows.values()
        if len(same) > 1
    )


def _comparable(table: "Table") -> Iterator[str]:
    """Rows that may not be compared with the paper's, and others' results below them."""
    found: dict[str, list[str]] = {}
    for number, row in enumerate(table.rows):
        if (
            table.reported
            and row.reported is not None
            and table.measured[number]
            and (why := table.unlike_the_paper(number))
        ):
            found.setdefault("; ".join(why), []).append(row.name)
    every = sum(bool(one) for one in table.measured)
    for reasons, names in found.items():
        yield f"Not comparable with the paper, {'all rows' if len(names) == every else ', '.join(names)}: {reasons}."
    if beside := [
        f"{one.method} {one.avg:.2f}" for one in reported().beside if one.table == table.reported
    ]:
        harness = "OpenOCR's harness: filtered Union14M-L, IC13-857, IC15-1811"
        yield f"Others' Avg, from their papers ({harness}; not comparable with these rows): {', '.join(beside)}."


def _runs(table: "Table") -> Iterator[str]:
    """Test sets, protocol, what was dropped, commits, folders."""
    evaluations = [one for row in table.measured for one in row.values()]
    if not evaluations:
        return
    sizes = {name: images for one in evaluations for name, (_, images) in one.counts.items()}
    yield f"Test images, for each seed: {', '.join(f'{name} {images:,}' for name, images in sizes.items())}."
    yield from sorted({f"Protocol {one.protocol}: {one.statement}." for one in evaluations})
    tests = {name: reasons for one in evaluations for name, reasons in one.dropped.items()}
    yield from (
        f"Test subset {name}, every image scored: {text}."
        for name, one in tests.items()
        if (text := _told(one))
    )
    yield from _dropped(table)
    yield f"Commit: {', '.join(sorted({one.commit for one in evaluations}))}."
    runs = dict.fromkeys(one.run for one in evaluations)
    yield f"Each run's folder below {told_path(table.store.root / 'runs')} holds its record: {', '.join(runs)}."


def _dropped(table: "Table") -> Iterator[str]:
    """What training did not use; rows of which the same is true together."""
    trained: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        runs = dict.fromkeys(run for runs in row.trainings.values() for run in runs)
        teachers = dict.fromkeys(
            run for run in row.teachers.values() if run in table.records.trainings
        )
        for kind, names in (("", runs), ("the teacher's ", teachers)):
            for training in map(table.records.trainings.__getitem__, names):
                if training is not None and (text := _told(training.dropped)):
                    trained.setdefault((f"{kind}{training.stage}", text), []).append(row.name)
    for (stage, text), rows in trained.items():
        where = "" if len(set(rows)) == len(table.rows) else f" ({', '.join(dict.fromkeys(rows))})"
        yield f"Data of {stage}{where}: {text}."


def _told(dropped: Mapping[str, int]) -> str:
    return ", ".join(REASONS[name].format(count) for name, count in dropped.items() if count)
