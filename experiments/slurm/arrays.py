"""Groups the runs of a plan into SLURM arrays whose jobs wait for one another."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.planning.plan import PlannedRun


@dataclass(frozen=True, eq=False)
class Array:
    """Runs of one stage that are submitted together.

    stage: the stage of the runs.
    runs: the runs, in the order of the array's elements.
    parent: the array that computes the runs' inputs. If it has several runs, element i waits for
        element i of the parent. If it has one run, all elements wait for it.
    earlier_jobs: jobs of earlier submissions that all elements wait for, if there is no parent.
    """

    stage: str
    runs: tuple[PlannedRun, ...]
    parent: "Array | None" = None
    earlier_jobs: tuple[str, ...] = ()

    def dependency(self, numbers: Mapping["Array", str]) -> str | None:
        """The value of sbatch's option --dependency. numbers: of the arrays submitted before."""
        if self.parent is not None:
            kind = "aftercorr" if len(self.parent.runs) > 1 else "afterok"
            return f"{kind}:{numbers[self.parent]}"
        return f"afterok:{':'.join(self.earlier_jobs)}" if self.earlier_jobs else None


def make_arrays(runs: Sequence[PlannedRun], jobs: Mapping[str, str], size: int) -> list[Array]:
    """Group runs into arrays of at most `size` runs. Parents come before their children.

    Runs whose descendants have the same stages form one array, so that element i of an array waits
    for element i of its parent.

    runs: the runs to submit.
    jobs: run -> job, of runs that were submitted before.
    size: maximal number of runs in an array.
    """
    return list(_RunForest(runs, jobs, size).arrays())


class _RunForest:
    """The runs to submit, as trees: a run has at most one input that is a run."""

    def __init__(self, runs: Sequence[PlannedRun], jobs: Mapping[str, str], size: int) -> None:
        self.jobs = jobs
        self.size = size
        self.roots: list[PlannedRun] = []
        self.children: dict[str, list[PlannedRun]] = {run.id: [] for run in runs}
        for run in runs:
            parents = self.children.keys() & run.inputs.values()
            for parent in parents:
                self.children[parent].append(run)
            if not parents:
                self.roots.append(run)

    def arrays(self) -> Iterator[Array]:
        """All arrays, parents first."""

        def shape_and_jobs(run: PlannedRun) -> tuple[object, ...]:
            return self._shape(run), self._earlier_jobs(run)

        for group in _group_by(self.roots, shape_and_jobs):
            yield from self._arrays_of(group, None, self._earlier_jobs(group[0]))

    def _shape(self, run: PlannedRun) -> tuple[object, ...]:
        """A run's stage and the shapes of its children."""
        return (run.stage, *sorted(self._shape(child) for child in self.children[run.id]))

    def _earlier_jobs(self, run: PlannedRun) -> tuple[str, ...]:
        return tuple(sorted(self.jobs[name] for name in run.inputs.values() if name in self.jobs))

    def _arrays_of(
        self, runs: Sequence[PlannedRun], parent: Array | None, earlier_jobs: tuple[str, ...]
    ) -> Iterator[Array]:
        """The arrays of runs of one shape, each followed by the arrays of its descendants."""
        for start in range(0, len(runs), self.size):
            members = tuple(runs[start : start + self.size])
            array = Array(members[0].stage, members, parent, earlier_jobs)
            yield array
            for group in self._groups_of_children(members):
                yield from self._arrays_of(group, array, ())

    def _groups_of_children(self, parents: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
        """The children of runs of one shape, in groups of one shape.

        With several parents, a group has one child of each, in the order of the parents.
        """
        children = [sorted(self.children[run.id], key=self._shape) for run in parents]
        if len(parents) == 1:
            return _group_by(children[0], self._shape)
        return [list(group) for group in zip(*children, strict=True)]


def _group_by(
    runs: Iterable[PlannedRun], key: Callable[[PlannedRun], object]
) -> list[list[PlannedRun]]:
    """Runs with equal keys, in the order of their first appearance."""
    groups: dict[object, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())
