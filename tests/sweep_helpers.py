"""A tiny sweep and its trials, for tests. Most tests finish trials without computing them."""

import random
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from commands import PATIENCE, wait_until
from optuna.trial import TrialState

from core.runtime.yaml import dump_yaml
from results.store import Store
from sweeps.engine.make_search import make_search
from sweeps.engine.search import Search
from sweeps.engine.trials import ClaimedTrial, Trials

ROW = {"title": "one row", "variants": [{"name": "LMIM"}]}
TINY = {
    "synthetic.train": 128,
    "synthetic.validation": 16,
    "synthetic.test": 2,
    "pretrain.optimizer.batch": 32,
    "finetune.optimizer.batch": 32,
    "finetune.optimizer.epochs": 4,
}
RATIO = {"pretrain.mask.ratio": {"float": [0.5, 0.9]}}
DECAY = {"finetune.optimizer.layer_decay": {"float": [0.5, 1]}}  # all trials share a pre-training
TOTAL = 12  # trials of the tests with killed workers
SWEEP: dict[str, Any] = {
    "title": "a sweep",
    "experiment": "row.yaml",
    "scale": "smoke",
    "set": TINY,
    "trials": 4,
    "sampler": {"kind": "random"},
    "space": RATIO,
}


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Write a sweep file and its experiment. changes: keys of the sweep file; None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "row.yaml").write_text(dump_yaml(ROW))
    content = {key: value for key, value in (SWEEP | changes).items() if value is not None}
    file = folder / "tiny.yaml"
    file.write_text(dump_yaml(content))
    return file


def load_search(file: Path, results: Path, scale: str | None = None, **overrides: Any) -> Search:
    """The search of a sweep file. overrides: settings with `__` for each dot of their keys."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    store = Store(results)
    return make_search(file, scale, store, precision=lambda: "fp32", overrides=settings, seeds=None)


def create_trials(folder: Path, **changes: Any) -> Trials:
    """A sweep in folder/results without any trial. changes: keys of the sweep file."""
    results = folder / "results"
    trials = Trials(load_search(write_sweep(folder, **changes), results), Store(results))
    trials.create()
    return trials


def constant(claimed: ClaimedTrial) -> float:
    return 0.5


def finish_all(
    trials: Trials, value: Callable[[ClaimedTrial], float] = constant
) -> list[dict[str, Any]]:
    """Claim trials and finish them without computing them; returns the values of each trial."""
    values: list[dict[str, Any]] = []
    while True:
        with trials.claim(0.0) as claimed:
            if claimed is None:
                return values
            values.append(claimed.values)
            trials.finish(claimed, TrialState.COMPLETE, value(claimed))


def states_of(trials: Trials) -> list[str]:
    """COMPLETE, PRUNED, FAIL or RUNNING for each trial."""
    return [trial.state.name for trial in trials.all()]


def recognizer_of(trials: Trials, number: int, seed: int = 0) -> str:
    """The id of a trial's fine-tuning run."""
    return str(trials.all()[number].user_attrs["recognizers"][str(seed)])


class PruneEverySecond:
    """A pruner that stops trials with odd numbers after half of the fine-tuning."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number % 2 == 1 and max(trial.intermediate_values) >= 50


def store_validation(trials: Trials, number: int, correct: list[list[bool]]) -> None:
    """Write records of a trial's runs, and which images its recognizers recognize correctly.

    correct: for each seed, whether each image is recognized correctly.
    """
    trial = trials.all()[number]
    for run, images in zip(trial.user_attrs["recognizers"].values(), correct, strict=True):
        trials.store.run(run).write_validation({"a": images})
        record = {
            "stage": "finetune",
            "metrics": {"validation_correct": sum(images), "validation_images": len(images)},
            "data": {"validation": [{"root": "a", "fingerprint": "f", "images": len(images)}]},
            "code": {"commit": "c" * 40},
            "seconds": 1.0,
        }
        for name in trial.user_attrs["runs"]:
            trials.store.run(name).write_json("record.json", record)


def finish_claimed_trials(
    search: Search, store: Store, url: str | None, seed: int, pause: float
) -> None:
    """The main function of a worker that keeps each trial for a while and computes nothing.

    search, store, url: as in `Trials`.
    seed: of the pauses and values.
    pause: least seconds that a trial takes; at most twice as many.
    """
    trials = Trials(search, store, url)
    source = random.Random(seed)
    while True:
        with trials.claim(0.0) as claimed:
            if claimed is not None:
                time.sleep(pause * (1 + source.random()))
                trials.finish(claimed, TrialState.COMPLETE, source.random())
                continue
            if trials.is_over(trials.all()):
                return
        time.sleep(0.05)


def start_worker(trials: Trials, seed: int, pause: float) -> BaseProcess:
    arguments = (trials.search, trials.store, trials.url, seed, pause)
    worker = get_context("spawn").Process(target=finish_claimed_trials, args=arguments)
    worker.start()
    return worker


def check_total_with_killed_workers(trials: Trials) -> None:
    """Kill two workers in the middle of trials, start two others: TOTAL trials are complete."""
    killed = [start_worker(trials, seed, 0.5) for seed in range(2)]
    wait_until(lambda: states_of(trials).count("COMPLETE") >= 4)
    for worker in killed:
        worker.kill()
        worker.join()
    left = [trial for trial in trials.all() if not trial.state.is_finished()]
    assert left, "both workers were killed between two trials"
    assert {trials.state(trial).name for trial in left} <= {"preempted", "planned"}
    for worker in [start_worker(trials, seed, 0.02) for seed in range(10, 12)]:
        worker.join(PATIENCE)
        assert worker.exitcode == 0
    assert states_of(trials) == ["COMPLETE"] * TOTAL
    ratios = {trial.params["pretrain.mask.ratio"] for trial in trials.all()}
    assert len(ratios) == TOTAL
