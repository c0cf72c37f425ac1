"""What a notebook opens: experiment files and a results folder -> tables, models, images. Nothing is computed but read."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path

from PIL.Image import Image

from analysis.figures.models import Pretrained, pretrained, recognizers
from analysis.figures.probe_words import some_words
from analysis.style import FigureWriter, Html
from analysis.tables.planned import recorded_tables
from analysis.tables.table import Table
from core.config import Pretrain
from core.data.word_images import WordImages, decode
from core.model.recognizer import Recognizer
from core.runtime.errors import UserError
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from experiments.planning.data_roots import Root
from experiments.planning.device import automatic_precision
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import experiment_files, read_experiment
from results.provenance import REPOSITORY, told_path
from results.records import StoredEvaluation, read_record
from results.store import Store

METHODS = ("SeqCLR", "MIM", "LMIM")


def found(path: str | Path) -> Path:
    """A path as commands take it in the project's folder, whatever folder a notebook runs in."""
    return REPOSITORY / path


@contextmanager
def show_user_errors() -> Iterator[None]:
    """In a notebook: what is missing inside is told in one sentence, and the cell goes on after it."""
    try:
        yield
    except UserError as error:
        from IPython.display import display

        display(Html(f"<p><em>Not shown: {escape(str(error))}.</em></p>"))


def recorded_tables_of(results: Path) -> list[tuple[str, str]]:
    """(experiment, scale) of every table that a results folder holds, of the suite's recipe as it stands."""
    pattern = re.compile(r"(?P<name>[^.]+)\.(?P<scale>[^.]+)\.json")
    tables = [
        match
        for path in sorted((results / "tables").glob("*.json"))
        if (match := pattern.fullmatch(path.name))
    ]
    return [(match["name"], match["scale"]) for match in tables]


def recorded_files(results: Path, scale: str | None) -> tuple[list[Path], str]:
    """The experiment files whose tables a results folder holds, and their scale.

    Raises UserError if there are none, or several scales to choose from."""
    known = {path.stem: path for path in sorted((REPOSITORY / "experiments").glob("*.yaml"))}
    tables = [(name, one) for name, one in recorded_tables_of(results) if name in known]
    chosen = scale or recorded_scale(results, [name for name, _ in tables]) or "mini"
    if files := [known[name] for name, one in tables if one == chosen]:
        return files, chosen
    others = sorted({one for _, one in tables})
    told = f"; there are tables of {', '.join(others)}" if others else ""
    changed = (
        "; tables made with --set are left out" if any(results.glob("tables/*.set-*.json")) else ""
    )
    lacks = f"holds no table of scale {chosen}{told}{changed}"
    raise UserError(f"{told_path(results)}: {lacks}; run an experiment first, or name its FILE")


def recorded_scale(results: Path, names: Sequence[str]) -> str | None:
    """The scale at which a results folder holds tables of some experiments; None if it holds none.

    Raises UserError if there are several to choose from."""
    scales = sorted({scale for name, scale in recorded_tables_of(results) if name in names})
    if len(scales) > 1:
        raise UserError(
            f"{told_path(results)}: holds tables of the scales {', '.join(scales)}; choose one with --scale"
        )
    return scales[0] if scales else None


@dataclass
class Opened:
    """Experiment files with what a results folder holds of them. `missing`: what was asked for last and is not there."""

    plan: Plan
    tables: list[Table]
    store: Store
    album: FigureWriter
    missing: list[str] = field(default_factory=list)

    def models(self, seed: int = 0, table: Table | None = None) -> list[Pretrained]:
        """The pre-trained models of all tables' rows, or of one table's: a run that several rows share once, and rows that are
        named alike with their table's name too."""
        known: dict[str, Pretrained] = {}
        tables: dict[str, str] = {}
        self.missing.clear()
        for one in self.tables if table is None else [table]:
            models, blocked_experiments = pretrained(one.rows, self.store, seed)
            tables |= {model.run: one.label for model in models if model.run not in known}
            known |= {model.run: model for model in models if model.run not in known}
            self.missing += [text for text in blocked_experiments if text not in self.missing]
        names = [model.name for model in known.values()]
        return [
            model if names.count(model.name) == 1 else model.named(tables[model.run])
            for model in known.values()
        ]

    def by_table(self, seed: int = 0) -> list[tuple[Table, list[Pretrained]]]:
        """Tables with the pre-trained models of their rows, of those that have some."""
        blocked_experiments: list[str] = []
        pairs = []
        for table in self.tables:
            pairs.append((table, self.models(seed, table)))
            blocked_experiments += self.missing
        self.missing[:] = dict.fromkeys(blocked_experiments)
        return [(table, models) for table, models in pairs if models]

    def methods(self, seed: int = 0) -> list[Pretrained]:
        """SeqCLR, MIM and LMIM, one of each, from the table that has most of them; of a table with LMIM alone all its rows.

        Raises UserError if there is no model at all."""
        best: list[Pretrained] = []
        for _, models in self.by_table(seed):
            first = {model.method: model for model in reversed(models)}
            found = [first[method] for method in METHODS if method in first]
            chosen = found if len(found) > 1 else models
            if len({model.method for model in chosen}) > len({model.method for model in best}):
                best = chosen
        if not best:
            lacks = f"no weights of any pre-training of seed {seed}; {'; '.join(self.missing[:1])}"
            raise UserError(f"{told_path(self.store.root)}: {lacks}")
        absent = [method for method in METHODS if method not in {model.method for model in best}]
        self.missing[:] = [
            f"{method}: no row beside these has its weights here" for method in absent
        ]
        return best

    def aligned(self, seed: int = 0) -> list[Pretrained]:
        """The largest set of models that differ by their alignment alone, of all tables.

        Raises UserError if there are no two such models."""
        sets: dict[str, list[Pretrained]] = {}
        for model in self.models(seed):
            if isinstance(model.config, Pretrain):
                alike = f"{model.config.model_dump_json(exclude={'alignment'})} {model.teacher}"
                sets.setdefault(alike, []).append(model)
        largest = max(sets.values(), key=len, default=[])
        if len(largest) < 2:
            told = f"; {'; '.join(self.missing[:1])}" if self.missing else ""
            lacks = f"no two models of seed {seed} that differ by their alignment alone{told}"
            raise UserError(f"{told_path(self.store.root)}: {lacks}")
        return largest

    def recognizers(self, models: Sequence[Pretrained]) -> dict[str, tuple[str, Recognizer]]:
        """Row -> (fine-tuning run, recognizer) of what came of pre-trained models; a run that several rows share once."""
        known: dict[str, tuple[str, Recognizer]] = {}
        self.missing.clear()
        for table, model in ((table, model) for table in self.tables for model in models):
            rows = [row for row in table.rows if model.run in row.trainings.get(model.seed, ())]
            num_workers, blocked_experiments = recognizers(rows, self.store, model.seed)
            for name, (run, reader) in num_workers.items():
                if run not in {other for other, _ in known.values()}:
                    known[name] = run, reader
            self.missing += [text for text in blocked_experiments if text not in self.missing]
        return known

    def words(self, count: int, without: Sequence[str] = ()) -> tuple[str, ...]:
        """Frequent words, none of `without`, and none that these files' rendered training data draw. Raises UserError."""
        return some_words(count, self._rendered(), without)

    def about_words(self) -> str:
        """What `words` are to the models, for people."""
        drawn = "words that their training data never draw"
        return (
            drawn
            if self._rendered()
            else "frequent words, of which their training data may hold any"
        )

    def _rendered(self) -> Rendered | None:
        """The rendered English words that all training of the plan reads; None where it reads anything else."""
        runs = [run for run in self.plan.runs.values() if run.stage != "evaluate"]
        roots = {
            root.rendered
            for run in runs
            for role, found in run.data.items()
            if role != "validation"
            for root in found
        }
        return (
            next(iter(roots))
            if len(roots) == 1 and all(one and one.language == "en" for one in roots)
            else None
        )

    def told_missing(self) -> Html:
        """What was asked for and is not there; nothing where all is."""
        lines = "".join(f"<li>{escape(text)}</li>" for text in self.missing)
        told = f"{len(self.missing)} models are not here, and so not shown"
        return Html(
            f"<details><summary>{told}</summary><ul>{lines}</ul></details>" if self.missing else ""
        )

    def images(self, run: str) -> "dict[str, Images]":
        """Subset -> the images that an evaluation read, where these files' plan names them; also of one that this machine would
        not plan (its precision is another, say), by the fingerprints in its record."""
        if run in self.plan.runs:
            return {name: Images(roots) for name, roots in self.plan.runs[run].data.items()}
        read = read_record(self.store.run(run), StoredEvaluation).data
        planned = (
            roots
            for one in self.plan.runs.values()
            if one.stage == "evaluate"
            for roots in one.data.values()
        )
        known = {tuple(root.fingerprint for root in roots): roots for roots in planned}
        named = {name: tuple(root.fingerprint for root in roots) for name, roots in read.items()}
        return {name: Images(known[prints]) for name, prints in named.items() if prints in known}


@dataclass(frozen=True)
class Images:
    """The images of one subset, by their numbers. Rendered words are drawn again where their LMDB is not there."""

    roots: tuple[Root, ...]

    @cached_property
    def _stored(self) -> WordImages | None:
        there = all(root.path and (Path(root.path) / "data.mdb").is_file() for root in self.roots)
        return WordImages([root.path for root in self.roots]) if there else None

    def __getitem__(self, number: int) -> Image | None:
        """None where the data are not here, or the image is broken."""
        if self._stored is not None:
            raw = self._stored.raw(number)
            return None if raw is None else decode(raw)
        (root, *others) = self.roots
        if root.rendered is None or others:
            return None
        return synthetic.render(root.rendered, root.name.partition(":")[2], number)[0]


def paper_files() -> list[Path]:
    """The experiment files that stand for a table of the paper."""
    files = experiment_files(sorted((REPOSITORY / "experiments").glob("*.yaml")))
    return [path for path in files if read_experiment(path).table]


def open_results(
    results: str | Path,
    files: Sequence[str | Path] | None,
    scale: str | None,
    out: str | Path,
    *,
    paper: bool = False,
) -> Opened:
    """The tables of some experiment files as a results folder has them, with every seed that is recorded; `out` takes figures.

    files: None stands for those whose tables the folder holds, with `paper` also for the paper's others. scale: None is the one
    that the folder holds of them. Relative paths are those of the project's folder. Raises UserError."""
    store = Store(found(results))
    if files is None:
        files, scale = recorded_files(store.root, scale)
        files = list(dict.fromkeys([*files, *(paper_files() if paper else [])]))
    elif scale is None:
        scale = recorded_scale(store.root, [Path(file).stem for file in files])

    def plan(seeds: dict[str, list[int]] | None) -> Plan:
        precision = automatic_precision("auto", "local")
        return make_plan(
            [found(file) for file in files],
            scale,
            store,
            precision=precision,
            overrides={},
            seeds=seeds,
        )

    made, tables = recorded_tables(plan, store)
    return Opened(made, tables, store, FigureWriter(found(out), made.scale))
