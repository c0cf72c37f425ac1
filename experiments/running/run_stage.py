"""Calls the stage of a run with its inputs as files, and writes what the stage returns."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from core.config import ContrastivePretrain, Data, Evaluate, Finetune, Pretrain, Probe
from core.data.decoded_cache import DecodedCache
from core.data.record_cache import RecordCache
from core.data.word_images import WordImages
from core.probes.stage import probe
from core.runtime.artifacts import NO_WEIGHTS
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS, Prediction, is_correct
from core.training.evaluate import evaluate
from core.training.finetune import finetune
from core.training.pretrain import pretrain
from core.training.run_context import RunContext
from experiments.planning.plan import FILE, TRAIN, PlannedRun
from experiments.planning.registry import expand
from experiments.running.ensure_data import ensure_data
from results.store import Store


def run_stage(
    run: PlannedRun, store: Store, folder: Path, context: RunContext
) -> dict[str, object]:
    """Make the data that are absent and can be made, and run the stage; returns its metrics.

    run: the run, whose inputs are complete.
    store: the results folder with the inputs.
    folder: the run's folder.
    context: how the run is computed."""
    for roots in run.data.values():
        for root in roots:
            ensure_data(root, context)
    match run.config:
        case Evaluate():
            return _evaluate(run, run.config, store, context)
        case Finetune():
            return _finetune(run, run.config, store, folder, context)
        case Probe():
            return _probe(run, run.config, store, folder, context)
        case _:
            return _pretrain(run, run.config, store, folder, context)


def _pretrain(
    run: PlannedRun,
    config: Pretrain | ContrastivePretrain,
    store: Store,
    folder: Path,
    context: RunContext,
) -> dict[str, object]:
    teacher = _input(run, store, "teacher")
    images = _training_images(run, config, store)
    cache = RecordCache(store.targets)
    return pretrain(config, images, teacher, folder, context, cache).to_json()


def _finetune(
    run: PlannedRun, config: Finetune, store: Store, folder: Path, context: RunContext
) -> dict[str, object]:
    roots = run.data.get("validation", ())
    cache = DecodedCache(store.decoded)
    validation = WordImages([root.path for root in roots], cache=cache) if roots else None
    encoder = _input(run, store, "encoder")
    images = _training_images(run, config, store)
    result = finetune(config, images, validation, encoder, folder, context)
    if result.validation_correct and context.process_group.is_main:
        names = [root.name if len(roots) == 1 else root.path for root in roots]
        correct = dict(zip(names, result.validation_correct, strict=True))
        store.run(run.id).write_validation(correct)
    return result.metrics.to_json()


def _probe(
    run: PlannedRun, config: Probe, store: Store, folder: Path, context: RunContext
) -> dict[str, object]:
    subsets = _test_images(run, config.subsets, store)
    images = _images(run, TRAIN, config.data, store)
    result = probe(config, images, subsets, _input(run, store, "encoder"), folder, context)
    if context.process_group.is_main:
        store.run(run.id).write_predictions(_prediction_rows(result.predictions))
        store.run(run.id).write_photos(_photos(result.predictions, subsets))
    return result.metrics.to_json()


def _images(run: PlannedRun, role: str, data: Data, store: Store) -> WordImages:
    return WordImages(
        [root.path for root in run.data[role]],
        [expand(path) for path in data.filters],
        cache=DecodedCache(store.decoded),
    )


def _test_images(
    run: PlannedRun, subsets: Mapping[str, Data], store: Store
) -> dict[str, WordImages]:
    return {name: _images(run, name, data, store) for name, data in subsets.items()}


def _evaluate(
    run: PlannedRun, config: Evaluate, store: Store, context: RunContext
) -> dict[str, object]:
    subsets = _test_images(run, config.subsets, store)
    recognizer = _weights(run.inputs["recognizer"], store)
    result = evaluate(config, subsets, recognizer, context)
    if context.process_group.is_main:
        folder = store.run(run.id)
        folder.write_predictions(_prediction_rows(result.predictions))
        for number, predictions in enumerate(result.earlier, 1):
            folder.write_predictions(_prediction_rows(predictions), number)
        protocol = PROTOCOLS[config.protocol]
        folder.write_correct(
            {
                subset: [is_correct(row, protocol) for row in rows]
                for subset, rows in result.predictions.items()
            }
        )
        folder.write_photos(_photos(result.predictions, subsets))
    return result.metrics.to_json()


def _photos(
    predictions: Mapping[str, list[Prediction]], subsets: Mapping[str, WordImages]
) -> dict[str, list[str]]:
    """Subset -> the name of the photo of each predicted word, "" where it is unknown."""
    return {
        name: [subsets[name].photo(row.index) for row in rows] for name, rows in predictions.items()
    }


def _prediction_rows(predictions: Mapping[str, list[Prediction]]) -> Iterator[tuple[object, ...]]:
    """The rows of predictions.csv."""
    for subset, rows in predictions.items():
        for row in rows:
            yield (
                subset,
                row.index,
                row.label,
                row.prediction,
                row.confidence,
                int(row.scorable),
                "" if row.nll is None else row.nll,
            )


def _input(run: PlannedRun, store: Store, role: str) -> Path | None:
    """The weights that a run starts from. Raises UserError if a run is here without its weights."""
    return _weights(run.inputs[role], store) if role in run.inputs else None


def _weights(name: str, store: Store) -> Path:
    path = store.weights(name)
    if not name.startswith(FILE) and not path.is_file():
        raise UserError(f"{name} {NO_WEIGHTS}")
    return path


def _training_images(
    run: PlannedRun, config: Pretrain | ContrastivePretrain | Finetune, store: Store
) -> WordImages:
    filters = [expand(path) for path in config.data.filters]
    mixed = [root.path for root in run.data.get("mixed", ())]
    cache = DecodedCache(store.decoded)
    return WordImages([root.path for root in run.data["train"]], filters, mixed, cache)
