"""The runs that a card is about: a model, the runs that it was made from, and its measurements."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import (
    ContrastivePretrain,
    Data,
    Evaluate,
    Finetune,
    Pretrain,
    Probe,
    StageConfig,
    UnmixedData,
)
from core.runtime.artifacts import MODEL
from core.runtime.errors import UserError
from core.runtime.former_keys import current_root, with_current_keys
from experiments.planning.plan import FILE
from experiments.planning.registry import words_of
from experiments.planning.schema import stage_model
from results.store import MOVE_FOLDER, Run, Store

TRAINED = ("pretrain", "finetune")
RENDERED = "synthetic"  # start of the roots of rendered words


@dataclass(frozen=True)
class RecordedRoot:
    """Data that a run used.

    name: of the data set, of a split of rendered words, or the last part of a folder; "" if it is
        not recorded.
    fingerprint: of the content; "" if it is not recorded.
    images: their number; 0 if it is not recorded.
    """

    name: str
    fingerprint: str
    images: int

    @property
    def data_set(self) -> str:
        """The name of the data set that has these words, if another one adds boxes to them."""
        return words_of(self.name)

    @property
    def is_rendered(self) -> bool:
        """Whether this suite rendered the words."""
        return self.name.startswith(RENDERED)


def root_name(root: str) -> str:
    """A root without the folders of a user's machine."""
    return last_part(current_root(root))


def last_part(path: str) -> str:
    """The last part of a path, on any system. A name stays as it is."""
    return path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or path


@dataclass(frozen=True)
class RecordedRun:
    """A complete run with its record.

    run: its folder.
    record: the content of record.json.
    """

    run: Run
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.run.folder.name

    @property
    def stage(self) -> str:
        """pretrain, finetune, evaluate or probe."""
        return str(self.record.get("stage", ""))

    @cached_property
    def config(self) -> StageConfig:
        """Its config, with the defaults of this version for keys that it does not have.

        Raises UserError for a damaged record."""
        content = self.record.get("config")
        try:
            settings = with_current_keys(content)
            return stage_model(self.stage, settings).model_validate(settings)
        except (ValidationError, AttributeError, ValueError) as error:
            raise UserError(
                f"{self.run.folder / 'record.json'}: its config is not valid; {MOVE_FOLDER}"
            ) from error

    @property
    def inputs(self) -> Mapping[str, str]:
        """Role -> a run's id, or `file:PATH`."""
        return self.record.get("inputs") or {}

    @cached_property
    def roots(self) -> dict[str, list[RecordedRoot]]:
        """Role or subset -> its roots. Raises UserError for a damaged record."""
        data = self.record.get("data") or {}
        try:
            return {
                role: [
                    RecordedRoot(
                        name=root_name(entry.get("root") or name),
                        fingerprint=str(entry.get("fingerprint") or ""),
                        images=int(entry.get("images") or 0),
                    )
                    for entry, name in zip(entries, self._names(role, len(entries)), strict=True)
                ]
                for role, entries in data.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.run.folder / 'record.json'}: its data are not valid; {MOVE_FOLDER}"
            ) from error

    def _names(self, role: str, count: int) -> Sequence[str]:
        """Names of a role's roots in the config, for records that have none beside the data.

        A name can stand for several roots. count: number of roots."""
        config = self.config
        data: Data | UnmixedData | None
        if isinstance(config, Evaluate | Probe) and role in config.subsets:
            data = config.subsets[role]
        elif role == "validation" and isinstance(config, Finetune):
            data = config.validation
        elif isinstance(config, Evaluate):
            data = None
        else:
            data = config.data
        roots: Sequence[str] = () if data is None else data.roots
        if role == "mixed":
            roots = data.mix.roots if isinstance(data, Data) and data.mix else ()
        if len(roots) == 1:
            return [roots[0]] * count
        return roots if len(roots) == count else [""] * count

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The measured numbers."""
        return self.record.get("metrics") or {}

    @property
    def evaluation(self) -> Evaluate:
        """The config of an evaluation."""
        assert isinstance(self.config, Evaluate)
        return self.config

    @property
    def probe(self) -> Probe:
        """The config of a probe."""
        assert isinstance(self.config, Probe)
        return self.config


@dataclass(frozen=True)
class CardRuns:
    """What a card is about.

    store: the results folder.
    model: the run whose weights the card describes.
    origins: name (`pre-training`, `teacher`) -> the run that the model was made from. None: there
        was one, and its record is not in the results folder.
    evaluations, probes: measurements of the model, or of the encoder that it started from.
    transfers: of a pre-training: fine-tunings that started from it.
    siblings: runs of the same recipe with other seeds.
    """

    store: Store
    model: RecordedRun
    origins: Mapping[str, RecordedRun | None]
    evaluations: Sequence[RecordedRun] = ()
    probes: Sequence[RecordedRun] = ()
    transfers: Mapping[str, Sequence[RecordedRun]] = field(default_factory=dict)
    siblings: Sequence[RecordedRun] = ()

    @property
    def trainings(self) -> dict[str, RecordedRun]:
        """Name -> recorded training: the model's and those that it was made from."""
        name = "fine-tuning" if self.model.stage == "finetune" else "pre-training"
        return {name: self.model, **{key: run for key, run in self.origins.items() if run}}

    @property
    def absent(self) -> list[str]:
        """Names of trainings that the model was made from, and whose records are absent."""
        return [name for name, run in self.origins.items() if run is None]

    @property
    def pretraining(self) -> RecordedRun | None:
        """The pre-training of the encoder; None if there was none or it is not recorded."""
        return self.trainings.get("pre-training")

    @property
    def weights(self) -> Path | None:
        """The file of the weights; None if it is not kept beside the record."""
        path = self.model.run.folder / MODEL
        return path if path.is_file() else None


def find_card_runs(store: Store, name: str) -> CardRuns:
    """The runs of a card.

    store: the results folder.
    name: id of a pre-training, a fine-tuning, or an evaluation. For an evaluation, the card is
        about its recognizer, with the results of this evaluation only.

    Raises UserError if there is no such run, it is not complete, or it has no model to describe.
    """
    named = _read(store, name)
    if named.stage == "evaluate":
        recognizer = str(named.inputs.get("recognizer", ""))
        if recognizer.startswith(FILE):
            raise UserError(
                f"{name}: its recognizer is a file ({recognizer.removeprefix(FILE)}), whose "
                "training is not recorded; name a fine-tuning run"
            )
        return _card_runs(store, _read(store, recognizer), [named])
    if named.stage == "probe":
        encoder = named.inputs.get("encoder", "an encoder without pre-training")
        raise UserError(f"{name}: a probe measures {encoder} and has no card; name that run")
    return _card_runs(store, named, None)


def _read(store: Store, name: str) -> RecordedRun:
    """A complete run. Raises UserError."""
    run = store.run(name)
    if Path(name).name != name or not run.folder.is_dir():
        raise UserError(
            f"{name}: no run below {store.root / 'runs'}; name the id of a run, such as "
            "finetune-1a2b (the name of its folder)"
        )
    state = run.state().name
    if state != "complete":
        raise UserError(f"{name}: is {state}; a card needs a complete run")
    recorded = RecordedRun(run, run.record())
    if recorded.stage not in (*TRAINED, "evaluate", "probe"):
        raise UserError(f"{run.folder}: record.json names no stage; {MOVE_FOLDER}")
    return recorded


def _card_runs(
    store: Store, model: RecordedRun, evaluations: Sequence[RecordedRun] | None
) -> CardRuns:
    """The runs of a model's card. evaluations: those to show; None: all that are recorded."""
    runs = _recorded_runs(store)
    origins = _origins(model, runs)
    by_recognizer: dict[str, list[RecordedRun]] = {}
    for run in runs.values():
        if run.stage == "evaluate":
            by_recognizer.setdefault(run.inputs.get("recognizer", ""), []).append(run)
    measured = {model.id, *(run.id for key, run in origins.items() if run and key != "teacher")}
    return CardRuns(
        store=store,
        model=model,
        origins=origins,
        evaluations=by_recognizer.get(model.id, []) if evaluations is None else evaluations,
        probes=[
            run
            for run in runs.values()
            if run.stage == "probe" and run.inputs.get("encoder") in measured
        ],
        transfers={
            run.id: by_recognizer.get(run.id, [])
            for run in runs.values()
            if run.stage == "finetune" and run.inputs.get("encoder") == model.id
        },
        siblings=_siblings(model, runs),
    )


def _recorded_runs(store: Store) -> dict[str, RecordedRun]:
    """Id -> each run of a results folder that has a readable record."""
    return dict(_records(store))


def _records(store: Store) -> Iterator[tuple[str, RecordedRun]]:
    for path in sorted((store.root / "runs").glob("*/record.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # of another run; tables name it
        if isinstance(record, dict):
            yield path.parent.name, RecordedRun(Run(path.parent), record)


def _origins(model: RecordedRun, runs: Mapping[str, RecordedRun]) -> dict[str, RecordedRun | None]:
    """Name -> the run that a model was made from; None if its record is absent."""
    origins: dict[str, RecordedRun | None] = {}
    start: RecordedRun | None = model
    if model.stage == "finetune":
        if "encoder" not in model.inputs:
            return {}
        start = origins["pre-training"] = runs.get(model.inputs["encoder"])
    if start is not None and "teacher" in start.inputs:
        origins["teacher"] = runs.get(start.inputs["teacher"])
    return origins


def _siblings(model: RecordedRun, runs: Mapping[str, RecordedRun]) -> list[RecordedRun]:
    """The runs that differ from a model in their seeds only."""
    recipe = _recipe_key(model, runs)
    return [
        run
        for run in runs.values()
        if run.stage == model.stage and run.id != model.id and _recipe_key(run, runs) == recipe
    ]


def _recipe_key(run: RecordedRun, runs: Mapping[str, RecordedRun]) -> str:
    """A text that two runs share if they differ in their seeds only, with all their inputs."""
    config = dict(run.record.get("config") or {})
    config.pop("seed", None)
    inputs = {
        role: _recipe_key(runs[name], runs) if name in runs else name
        for role, name in run.inputs.items()
    }
    return json.dumps([run.stage, config, inputs, fingerprints(run)], sort_keys=True)


def fingerprints(run: RecordedRun) -> dict[str, list[str]]:
    """Role or subset -> the fingerprints of its data."""
    data = run.record.get("data") or {}
    return {role: [str(root.get("fingerprint")) for root in roots] for role, roots in data.items()}


def method_of(runs: CardRuns) -> str:
    """How the encoder was pre-trained: LMIM, MIM, SeqCLR, `none` or `not recorded`."""
    if "pre-training" in runs.origins and runs.origins["pre-training"] is None:
        return "not recorded"
    run = runs.pretraining
    if run is None:
        return "none"
    config = run.config
    if isinstance(config, ContrastivePretrain):
        return "SeqCLR"
    assert isinstance(config, Pretrain)
    return "MIM" if config.guidance is None else "LMIM"


def is_recognizer(config: StageConfig) -> bool:
    """Whether the model of a run recognizes words."""
    return isinstance(config, Finetune)
