"""The body of a job: one run, from its inputs to its record, whatever happens."""

import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from core.config import Evaluate, Finetune
from core.data.word_images import WordImages
from core.runtime.artefacts import CHECKPOINT, MODEL
from core.runtime.errors import UserError
from core.runtime.files import OUT_OF_REACH, try_lock, write_text
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from core.text.protocols import PROTOCOLS, is_correct
from core.training.evaluate import evaluate
from core.training.finetune import finetune
from core.training.loop import Interrupted, NonFiniteLoss, Progress, RunContext
from core.training.pretrain import pretrain
from experiments.planning.data_roots import Root
from experiments.planning.plan import PlannedRun
from experiments.planning.registry import expand
from results import provenance
from results.store import Run, StateName, Store

REPORT_SECONDS = 1.0
TRACEBACK = "traceback.txt"
TIME = "%Y-%m-%dT%H:%M:%SZ"


@contextmanager
def hold(
    place: Run, should_stop: Callable[[], bool]
) -> Iterator[Literal["open", "complete", "preempted"]]:
    """Hold a run's lock, waiting while another process computes the run; yields whether it is open, complete, or preempted
    because this process was to stop before it could begin."""
    while not should_stop():
        with place.lock() as free:
            if free:
                yield "complete" if place.told().name == "complete" else "open"
                return
        time.sleep(0.5)
    yield "preempted"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a state's name, a sentence where it did not complete, whether its folder could be told, and whether what
    failed was the place (a full disk), not the run."""

    state: StateName
    message: str = ""
    told: bool = True
    outside: bool = False


def execute(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    """Compute a run whose lock is held. States, record and traceback are written here; nothing is raised.

    Of several processes the first one writes; the others follow it."""
    place = store.run(run.id)
    if not context.process_group.is_main:
        return _follow(run, store, context)
    reporter = Reporter(place)
    context = replace(context, on_progress=reporter)
    started = time.time()
    try:
        place.set_state("running")
        for left_over in place.folder.glob(".*.tmp"):  # of a writer that was killed
            left_over.unlink()
        (place.folder / TRACEBACK).unlink(missing_ok=True)
        place.write_json("config.json", describe(run))
        if missing := run.missing():
            raise UserError(f"{missing[0]}; the run needs these data")
        for name, state in run.waiting_for(store).items():
            raise UserError(f"its input {name} is not complete ({state.name})")
        metrics = run_stage(run, store, place.folder, context)
        place.write_json("record.json", record(run, metrics, context, started))
        place.set_state("complete")
        (place.folder / CHECKPOINT).unlink(missing_ok=True)
        return Outcome("complete")
    except Interrupted as reason:
        return end_run(place, "preempted", str(reason))
    except (UserError, NonFiniteLoss) as reason:
        return end_run(place, "failed", str(reason), user_error=isinstance(reason, UserError))
    except OSError as reason:
        if reason.errno not in OUT_OF_REACH:
            return fail_run(place, started, context.should_stop())
        advice = "make room or choose another folder with --results; the same command then goes on"
        outcome = end_run(
            place, "failed", f"{place.folder}: {reason.strerror}; {advice}", user_error=True
        )
        return replace(outcome, outside=True)
    except Exception:
        return fail_run(place, started, context.should_stop())


def _follow(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    """The part of a process that does not lead. What all of them meet alike is told by the leader."""
    place, started = store.run(run.id), time.time()
    try:
        run_stage(
            run,
            store,
            place.folder,
            replace(context, should_stop=lambda: False, should_save=lambda: False),
        )
        return Outcome("complete")
    except Interrupted as reason:
        return Outcome("preempted", str(reason))
    except (UserError, NonFiniteLoss) as reason:
        return Outcome("failed", str(reason))
    except Exception:
        return Outcome("preempted") if context.should_stop() else fail_run(place, started)


def fail_run(place: Run, started: float, stopping: bool = False) -> Outcome:
    """Tell of the exception that is being handled. stopping: the run was to stop, and this came of it: another process of its
    own, that was told so too, may be gone."""
    if stopping:
        return end_run(
            place, "preempted", "stopped in its middle; it goes on from its last checkpoint"
        )
    state = place.told()
    if (
        state.name == "failed" and state.updated > started
    ):  # another process of the run failed first, and took this one along
        return Outcome("failed", state.message)
    last = traceback.format_exc().strip().splitlines()[-1]
    return end_run(place, "failed", f"{last} (traceback in {place.folder / TRACEBACK})")


def end_run(place: Run, state: StateName, message: str, *, user_error: bool = False) -> Outcome:
    """Write how a run ended; its traceback too where it failed."""
    try:
        if state == "failed":
            write_text(place.folder / TRACEBACK, traceback.format_exc())
        place.set_state(state, message=message, user_error=user_error)
    except (
        OSError
    ):  # e.g. a full disk: the lock is freed all the same, so the run will not pass for running
        return Outcome(state, message, told=False)
    return Outcome(state, message)


class Reporter:
    """Writes a run's progress into its state file, once a second at most."""

    def __init__(self, place: Run) -> None:
        self.place, self.written = place, 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.written < REPORT_SECONDS:
            return
        self.written = now
        self.place.set_state(
            "running",
            message=progress.note,
            done=progress.done,
            total=progress.total,
            unit=progress.unit,
            images_per_second=progress.images_per_second,
            seconds_left=progress.seconds_left,
        )


def ensure_rendered(root: Root, store: Store, context: RunContext) -> None:
    """Render the embedded data set that a root belongs to, unless it is there; one process does, others wait."""
    config = root.rendered
    if config is None or Path(root.path).is_dir():
        return
    folder = store.data(synthetic.fingerprint(config))
    while not Path(root.path).is_dir():
        with try_lock(folder / ".lock") as free:
            if free:
                _render(config, folder, context)
        if context.should_stop():
            raise Interrupted("stopped while words were rendered; whole splits are kept")
        time.sleep(0.2)


def _render(config: Rendered, folder: Path, context: RunContext) -> None:
    started, note = time.monotonic(), "rendering words"
    for left_over in folder.glob(".*.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    for done, total in synthetic.write(config, folder, provenance.cores(), context.should_stop):
        rate = done / (time.monotonic() - started)
        context.on_progress(Progress(done, total, "images", rate, (total - done) / rate, note))


def run_stage(
    run: PlannedRun, store: Store, folder: Path, context: RunContext
) -> dict[str, object]:
    """Call the stage with its inputs as files; returns its metrics."""
    for value in run.data.values():
        for root in value:
            ensure_rendered(root, store, context)
    roots = {role: [root.path for root in value] for role, value in run.data.items()}
    inputs = {role: store.weights(name) for role, name in run.inputs.items()}
    if not isinstance(run.config, Evaluate):
        filters = [expand(path) for path in run.config.data.filters]
        images = WordImages(roots["train"], filters, roots.get("mixed", ()))
        if not isinstance(run.config, Finetune):
            return pretrain(run.config, images, inputs.get("teacher"), folder, context)
        validation = WordImages(roots["validation"]) if "validation" in roots else None
        metrics, right = finetune(
            run.config, images, validation, inputs.get("encoder"), folder, context
        )
        if right and context.process_group.is_main:
            names = [
                root.name if len(run.data["validation"]) == 1 else root.path
                for root in run.data["validation"]
            ]
            store.run(run.id).write_validation(dict(zip(names, right, strict=True)))
        return metrics
    subsets = {
        name: WordImages(roots[name], [expand(path) for path in data.filters])
        for name, data in run.config.subsets.items()
    }
    metrics, readings = evaluate(run.config, subsets, inputs["recognizer"], context)
    if not context.process_group.is_main:
        return metrics
    place, protocol = store.run(run.id), PROTOCOLS[run.config.protocol]
    place.write_predictions(
        (subset, row.index, row.label, row.prediction, row.confidence, int(row.readable))
        for subset, rows in readings.items()
        for row in rows
    )
    place.write_correct(
        {name: [is_correct(row, protocol) for row in rows] for name, rows in readings.items()}
    )
    return metrics


def find_model(name: str, results: Path) -> Path:
    """The weights that a user names: a file, or a run's id (an evaluation stands for its recognizer). Raises UserError."""
    if Path(name).is_file():
        return Path(name)
    store = Store(results)
    folder = store.run(name).folder
    if not folder.is_dir():
        known = sorted(place.name for place in folder.parent.glob("finetune-*"))
        runs = f"runs there: {', '.join(known)}" if known else "no finetune run there yet"
        raise UserError(f"{name}: neither a file nor a run below {folder.parent} ({runs})")
    if name.startswith("evaluate-"):
        return store.weights(store.run(name).record()["inputs"]["recognizer"])
    if not (folder / MODEL).is_file():
        state = store.run(name).state().name
        lacks = (
            "no weights are kept beside its record; run its experiment for them"
            if state == "complete"
            else f"it is {state}"
        )
        raise UserError(f"{name}: this run has no weights here: {lacks}")
    return folder / MODEL


def describe(run: PlannedRun) -> dict[str, object]:
    """Everything that makes a run what it is."""
    return {
        "id": run.id,
        "stage": run.stage,
        "config": run.config.model_dump(mode="json"),
        "inputs": run.inputs,
        "data": {
            role: [
                {
                    "root": root.name,
                    "path": root.path,
                    "fingerprint": root.fingerprint,
                    "images": root.images,
                }
                for root in roots
            ]
            for role, roots in run.data.items()
        },
    }


def record(
    run: PlannedRun, metrics: dict[str, object], context: RunContext, started: float
) -> dict[str, object]:
    """The record of a complete run: what it was, what came out, where, with what; times are those of its last part."""
    accelerator = (
        torch.cuda.get_device_name(context.device) if context.device.type == "cuda" else None
    )
    return describe(run) | {
        "seed": getattr(run.config, "seed", None),
        "metrics": metrics,
        "code": provenance.commit(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(accelerator)
        | {"threads": torch.get_num_threads(), "processes": context.process_group.size},
        "started": time.strftime(TIME, time.gmtime(started)),
        "ended": time.strftime(TIME, time.gmtime()),
        "seconds": round(time.time() - started, 3),
    }
