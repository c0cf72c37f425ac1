"""The endpoints of the opened tables, for figures: with the untrained control, runs and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.table import Table
from core.runtime.errors import UserError
from experiments.planning.plan import Plan

CONTROL_METHOD = "scratch"
IIIT5K_PROBE = "iiit5k_characters"  # a probe of this name is shown in the notebook
NO_ENDPOINTS = (
    "these results have no endpoints besides word accuracy (version 0.1 did not store them); "
    "run an experiment with this version, and name its FILE"
)


@dataclass(frozen=True)
class MeasuredEndpoints:
    """The endpoints of one experiment.

    table: of the experiment.
    endpoints: the primary one first.
    control: the row of the untrained encoder, or None.
    """

    table: Table
    endpoints: tuple[EndpointTable, ...]
    control: str | None

    @property
    def seeds(self) -> list[int]:
        """All seeds of all endpoints."""
        rows = [row for endpoint in self.endpoints for row in endpoint.rows.values()]
        return sorted({seed for row in rows for seed in row.by_seed})

    @property
    def runs(self) -> list[str]:
        """The evaluations and probes of these seeds."""
        runs: list[str] = []
        for row in self.table.rows:
            for seed in self.seeds:
                if seed in row.evaluations:
                    runs += [row.evaluations[seed], *row.transfers.get(seed, ())]
                runs += row.probes.get(seed, {}).values()
        return list(dict.fromkeys(runs))

    def of_probe(self, name: str) -> tuple[EndpointTable, ...]:
        """The endpoints of one probe. Raises UserError if there are none.

        name: of the probe in the recipe."""
        found = tuple(
            endpoint for endpoint in self.endpoints if endpoint.name.rpartition(" ")[0] == name
        )
        if not found:
            raise UserError(
                f"{self.table.label}: no probe named {name}; analysis/README.md, section "
                "Endpoints, shows how to add it"
            )
        return found

    def figure_name(self, kind: str) -> str:
        """The first part of a figure's file name."""
        return f"{kind}.{self.table.name}"


def measured_endpoints(tables: Sequence[Table], plan: Plan) -> list[MeasuredEndpoints]:
    """The endpoints of each table that has some. Raises UserError if no table has.

    plan: of these tables."""
    measured = [
        MeasuredEndpoints(table, endpoints, control_row(table, plan))
        for table in tables
        if (endpoints := tuple(one for one in table.content.endpoints if one.rows))
    ]
    if not measured:
        raise UserError(NO_ENDPOINTS)
    return measured


def control_row(table: Table, plan: Plan) -> str | None:
    """The name of the row with an untrained encoder.

    It is the row of method `scratch` without changes, otherwise the only row of this method. None
    if there is no such row, or several with changes."""
    rows = [row for row in plan.experiments[table.name].variants if row.method == CONTROL_METHOD]
    unchanged = [row.name for row in rows if not row.set]
    if unchanged:
        return unchanged[0]
    return rows[0].name if len(rows) == 1 else None
