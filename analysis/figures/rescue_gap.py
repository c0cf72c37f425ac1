"""The rescue gap: CER of the linear CTC head minus CER of the BiLSTM head, of the same encoder.

A large gap means that the encoder's columns carry the text, but not so that a linear layer can
separate it: the BiLSTM, which sees all columns, rescues it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.tables.endpoint_content import EndpointRow, EndpointTable
from analysis.tables.endpoint_records import Endpoint, EndpointRecords, pairing_problem
from analysis.tables.intervals import average_weights, bootstrap
from analysis.tables.table import Table
from core.config import Probe
from core.runtime.errors import UserError
from experiments.planning.plan import Plan

ProbePair = tuple[str, str]  # names of a linear and of a BiLSTM probe


def rescue_gaps(table: Table, plan: Plan) -> tuple[EndpointTable, ...]:
    """The gaps of each pair of a linear and a BiLSTM probe, in points.

    The two probes of a pair have the same encoder, features and words. The interval covers test
    words and seeds; with one seed it covers test words only.

    table: with its runs. plan: of this table.
    Raises UserError if there is no such pair with complete runs."""
    gaps = []
    for (linear, bilstm), names in _probe_pairs(table, plan).items():
        rows = {name: _gap(table, name, linear, bilstm) for name in names}
        measured = {name: row for name, row in rows.items() if row is not None}
        if measured:
            gaps.append(_gap_table(f"{linear} − {bilstm}", measured))
    if not gaps:
        raise UserError(
            f"{table.label}: no complete probes with the heads ctc_linear and ctc_bilstm that "
            "are otherwise equal; add both to the section `probes`"
        )
    return tuple(gaps)


def _gap_table(name: str, rows: Mapping[str, EndpointRow]) -> EndpointTable:
    return EndpointTable(
        name=name,
        unit="%",
        description="CER of the linear head minus CER of the BiLSTM head",
        lower_is_better=True,
        primary=False,
        level=0.95,
        rows=rows,
        differences=(),
    )


def _probe_pairs(table: Table, plan: Plan) -> dict[ProbePair, list[str]]:
    """(linear, BiLSTM) -> names of the rows in which these probes differ only in the head."""
    pairs: dict[ProbePair, list[str]] = {}
    for number, row in enumerate(table.rows):
        (cell, *_) = plan.cells_of(table.name, number)
        by_kind: dict[str, list[tuple[str, str]]] = {}  # head -> (name, settings)
        for name, run_id in cell.probes.items():
            run = plan.runs[run_id]
            assert isinstance(run.config, Probe)
            settings = run.config.model_dump_json(exclude={"head"}) + str(dict(run.inputs))
            by_kind.setdefault(run.config.head.kind, []).append((name, settings))
        for linear, settings in by_kind.get("ctc_linear", []):
            for bilstm, other_settings in by_kind.get("ctc_bilstm", []):
                if settings == other_settings:
                    pairs.setdefault((linear, bilstm), []).append(row.name)
    return pairs


def _gap(table: Table, row: str, linear: str, bilstm: str) -> EndpointRow | None:
    """The gap of a row; None if the probes have no complete seed in common.

    Raises UserError if their words differ."""
    first = _records(table, linear)
    second = _records(table, bilstm)
    seeds = sorted(set(first.seeds(row)) & set(second.seeds(row)))
    measured = second.subsets(row)
    subsets = [name for name in first.subsets(row) if name in measured]
    if not seeds or not subsets:
        return None
    for name in subsets:
        words = [*first.words(row, name, seeds), *second.words(row, name, seeds)]
        if problem := pairing_problem(words, name, "cer"):
            raise UserError(
                f"{table.label}: {row}: {linear} and {bilstm} cannot be compared ({problem}); "
                "run both probes again on the same data"
            )
    differences = [
        _values(first, row, name, seeds) - _values(second, row, name, seeds) for name in subsets
    ]
    weights = average_weights([array.shape[1] for array in differences], pooled=False)
    (estimate,) = bootstrap(differences, weights, paired=True, bounds=(-np.inf, np.inf))
    by_seed = weights @ np.array([array.mean(1) for array in differences])
    return EndpointRow(
        value=100 * estimate.value,
        low=100 * estimate.low,
        high=100 * estimate.high,
        covers=estimate.covers,
        by_seed={seed: 100 * float(gap) for seed, gap in zip(seeds, by_seed, strict=True)},
    )


def _values(records: EndpointRecords, row: str, subset: str, seeds: Sequence[int]) -> np.ndarray:
    """(S, n) CER of the words, each divided by the mean length of the labels."""
    values: np.ndarray = records.values(row, subset, seeds).mean(1)
    return values


def _records(table: Table, probe: str) -> EndpointRecords:
    runs = {
        row.name: {seed: (of[probe],) for seed, of in row.probes.items() if probe in of}
        for row in table.rows
    }
    return EndpointRecords(Endpoint(probe, "cer"), runs, table.store)
