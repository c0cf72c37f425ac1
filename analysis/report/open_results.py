"""Opens experiment files with their results, for notebooks: tables, models and images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from analysis.figures.models import PretrainedModel, load_pretrained, load_recognizers
from analysis.figures.probe_words import choose_words
from analysis.report.recorded_files import paper_files, recorded_files, recorded_scale
from analysis.report.subset_images import SubsetImages
from analysis.style import FigureWriter, Html
from analysis.tables.planned import recorded_tables
from analysis.tables.table import Table
from core.config import Pretrain
from core.model.recognizer import Recognizer
from core.runtime.errors import UserError
from core.synthetic.config import Synthetic
from experiments.planning.device import automatic_precision
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY, display_path
from results.records import StoredEvaluation, read_record
from results.store import Store

METHODS = ("SeqCLR", "MIM", "LMIM")
# Parts of a pre-training's config, as pydantic's `exclude`.
ALIGNMENT: dict[str, Any] = {"alignment": True}
GUIDANCE_BRANCH: dict[str, Any] = {"alignment": True, "guidance": True, "decoder": {"order"}}


def project_path(path: str | Path) -> Path:
    """Resolve a path relative to the project's folder. Notebooks run in another folder."""
    return REPOSITORY / path


@contextmanager
def show_user_errors() -> Iterator[None]:
    """In a notebook: display a UserError as one sentence, and end the block without an error."""
    try:
        yield
    except UserError as error:
        from IPython.display import display

        show: Any = display  # untyped
        show(Html(f"<p><em>Not shown: {escape(str(error))}.</em></p>"))


@dataclass
class OpenedResults:
    """Experiment files and their results.

    `unavailable` has a message for each model that the last query did not return."""

    plan: Plan
    tables: list[Table]
    store: Store
    figures: FigureWriter
    unavailable: list[str] = field(default_factory=list)

    def models(self, seed: int = 0, table: Table | None = None) -> list[PretrainedModel]:
        """The pre-trained models of one table, or of all tables (None).

        A run that several rows share is listed once. Models with equal names get their table as a
        suffix."""
        models: dict[str, PretrainedModel] = {}
        table_of_run: dict[str, str] = {}
        unavailable: list[str] = []
        for current in self.tables if table is None else [table]:
            loaded, messages = load_pretrained(current.rows, self.store, seed)
            for model in loaded:
                models.setdefault(model.run, model)
                table_of_run.setdefault(model.run, current.label)
            unavailable += messages
        self.unavailable = list(dict.fromkeys(unavailable))
        names = [model.name for model in models.values()]
        return [
            model if names.count(model.name) == 1 else model.with_suffix(table_of_run[model.run])
            for model in models.values()
        ]

    def models_by_table(self, seed: int = 0) -> list[tuple[Table, list[PretrainedModel]]]:
        """Each table with its pre-trained models. Tables without available models are left out."""
        pairs = []
        unavailable: list[str] = []
        for table in self.tables:
            pairs.append((table, self.models(seed, table)))
            unavailable += self.unavailable
        self.unavailable = list(dict.fromkeys(unavailable))
        return [(table, models) for table, models in pairs if models]

    def method_models(self, seed: int = 0) -> list[PretrainedModel]:
        """One model each of SeqCLR, MIM and LMIM, from the table that has most of these methods.

        If no table has two methods, all models of the first table. Raises UserError if there is no
        model."""
        best: list[PretrainedModel] = []
        for _, models in self.models_by_table(seed):
            first = {model.method: model for model in reversed(models)}
            of_methods = [first[method] for method in METHODS if method in first]
            candidates = of_methods if len(of_methods) > 1 else models
            if len(_methods_of(candidates)) > len(_methods_of(best)):
                best = candidates
        if not best:
            raise self._no_models(f"no weights of any pre-training of seed {seed}")
        self.unavailable = [
            f"{method}: no row of this table has its weights here"
            for method in METHODS
            if method not in _methods_of(best)
        ]
        return best

    def alignment_models(self, seed: int = 0) -> list[PretrainedModel]:
        """The largest set of models whose configs differ only in the alignment.

        Models that differ from these only in having no guidance branch are added. Raises UserError
        if there are no two models that differ only in the alignment."""
        models = [model for model in self.models(seed) if isinstance(model.config, Pretrain)]
        groups: dict[str, list[PretrainedModel]] = {}
        for model in models:
            groups.setdefault(_settings_without(model, ALIGNMENT), []).append(model)
        largest = max(groups.values(), key=len, default=[])
        if len(largest) < 2:
            raise self._no_models(f"no two models of seed {seed} that differ only in the alignment")
        shared = _settings_without(largest[0], GUIDANCE_BRANCH)
        single_branch = [
            model
            for model in models
            if model.config.guidance is None and _settings_without(model, GUIDANCE_BRANCH) == shared
        ]
        return [model for model in models if model in largest or model in single_branch]

    def alignment_models_by_seed(self) -> dict[int, list[PretrainedModel]]:
        """Seed -> `alignment_models`. Seeds without such models are left out."""
        seeds = {seed for table in self.tables for row in table.rows for seed in row.trainings}
        by_seed = {}
        for seed in sorted(seeds):
            with suppress(UserError):
                by_seed[seed] = self.alignment_models(seed)
        return by_seed

    def _no_models(self, problem: str) -> UserError:
        """The error for a query without result, with the reason why a model is unavailable."""
        reasons = "".join(f"; {reason}" for reason in self.unavailable[:1])
        return UserError(f"{display_path(self.store.root)}: {problem}{reasons}")

    def recognizers(self, models: Sequence[PretrainedModel]) -> dict[str, tuple[str, Recognizer]]:
        """Row name -> (fine-tuning run, recognizer) of all recognizers made from these models.

        A run that several rows share is listed once."""
        recognizers: dict[str, tuple[str, Recognizer]] = {}
        unavailable: list[str] = []
        for table in self.tables:
            for model in models:
                rows = [row for row in table.rows if model.run in row.trainings.get(model.seed, ())]
                loaded, messages = load_recognizers(rows, self.store, model.seed)
                for name, (run, recognizer) in loaded.items():
                    if run not in {known for known, _ in recognizers.values()}:
                        recognizers[name] = (run, recognizer)
                unavailable += messages
        self.unavailable = list(dict.fromkeys(unavailable))
        return recognizers

    def words(self, count: int, excluding: Sequence[str] = ()) -> tuple[str, ...]:
        """Frequent words that are not in the synthetic training data.

        Raises UserError if there are too few."""
        return choose_words(count, self._training_words(), excluding)

    def describe_words(self) -> str:
        """How `words` relate to the training data, for readers."""
        if self._training_words():
            return "words that the training data do not contain"
        return "frequent words, which the training data may contain"

    def _training_words(self) -> Synthetic | None:
        """Settings of the synthetic English words on which all models are trained.

        None for other training data."""
        settings = {
            root.synthetic
            for run in self.plan.runs.values()
            if run.stage != "evaluate"
            for role, roots in run.data.items()
            if role != "validation"
            for root in roots
        }
        if len(settings) != 1:
            return None
        (only,) = settings
        return only if only and only.language == "en" else None

    def unavailable_as_html(self) -> Html:
        """A list of the models that the last query did not return; empty if it returned all."""
        if not self.unavailable:
            return Html("")
        summary = f"{len(self.unavailable)} models are not available, and so not shown"
        lines = "".join(f"<li>{escape(text)}</li>" for text in self.unavailable)
        return Html(f"<details><summary>{summary}</summary><ul>{lines}</ul></details>")

    def images(self, run: str) -> dict[str, SubsetImages]:
        """Subset -> images of an evaluation.

        The evaluation need not be in the plan (its precision may differ, for example). Its subsets
        are then identified by the fingerprints in its record; subsets without a match are left
        out."""
        if run in self.plan.runs:
            return {name: SubsetImages(roots) for name, roots in self.plan.runs[run].data.items()}
        planned = {
            tuple(root.fingerprint for root in roots): roots
            for planned_run in self.plan.runs.values()
            if planned_run.stage == "evaluate"
            for roots in planned_run.data.values()
        }
        recorded = read_record(self.store.run(run), StoredEvaluation).data
        images = {}
        for name, roots in recorded.items():
            fingerprints = tuple(root.fingerprint for root in roots)
            if fingerprints in planned:
                images[name] = SubsetImages(planned[fingerprints])
        return images


def _methods_of(models: Sequence[PretrainedModel]) -> set[str]:
    return {model.method for model in models}


def open_results(
    results: str | Path,
    files: Sequence[str | Path] | None,
    scale: str | None,
    out: str | Path,
    *,
    paper: bool = False,
) -> OpenedResults:
    """Open the tables of experiment files with all seeds that a results folder has recorded.

    Args:
        results: the results folder. Relative paths start at the project's folder.
        files: experiment files; None for those whose tables the folder holds.
        scale: None for the scale of the folder's tables.
        out: folder for figures.
        paper: without `files`, add the other experiment files that reproduce a table of the paper.

    Raises UserError if the folder holds no tables, or tables of several scales and `scale` is
    None."""
    store = Store(project_path(results))
    if files is None:
        files, scale = recorded_files(store.root, scale)
        files = list(dict.fromkeys([*files, *(paper_files() if paper else [])]))
    elif scale is None:
        scale = recorded_scale(store.root, [Path(file).stem for file in files])

    def plan_seeds(seeds: dict[str, list[int]] | None) -> Plan:
        return make_plan(
            [project_path(file) for file in files],
            scale,
            store,
            precision=automatic_precision("auto", "local"),
            overrides={},
            seeds=seeds,
        )

    plan, tables = recorded_tables(plan_seeds, store)
    return OpenedResults(plan, tables, store, FigureWriter(project_path(out), plan.scale))


def _settings_without(model: PretrainedModel, parts: dict[str, Any]) -> str:
    """A model's settings and teacher as a text, without these parts of its config."""
    return f"{model.config.model_dump_json(exclude=parts)} {model.teacher}"
