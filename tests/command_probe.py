"""Runs commands of run.py without their work, and records what they would have done.

Everything that computes, asks SLURM or draws is replaced by a function that records its arguments.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from claims_files import claims_of
from conftest import jpeg, write_lmdb
from plans import plan_of
from sweep_helpers import ROW, write_sweep

import run
from analysis.tables.early_start import ReadingCurve
from analysis.tables.false_differences import FalseDifferencesReport
from core.data.key_layout import PHOTO, STANDARD
from core.data_tools.overlap import ImageHashes
from core.peer.reading import PeerResult
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml
from core.text.charset import Charset
from experiments.running.local import LaunchResult
from experiments.running.options import ComputeOptions
from experiments.running.torch_facts import NoTorch
from results.store import State, Store
from sweeps.engine.make_search import make_search
from sweeps.engine.trials import Trials

# They import replaced functions by name, so they are imported before anything is replaced.
IMPORTERS = (
    "analysis.bench.sharing",
    "analysis.claims.values",
    "analysis.figures.probe_words",
    "analysis.report.open_results",
    "analysis.report.reproducibility",
    "analysis.sweep_report.open_sweep",
    "analysis.cards.model_card",
    "core.checkpoints.hub",
    "core.checkpoints.load",
    "core.data_tools.data_card",
    "experiments.cli.plan_report",
    "experiments.running.run_stage",
    "results.provenance",
)
PHOTOS = {  # two photos with one word each, in TextOCR's layout
    "imgs": {split: {"set": split, "file_name": "photo.jpg"} for split in ("train", "test")},
    "anns": {
        split: {"image_id": split, "utf8_string": "ab", "bbox": [5, 5, 20, 10]}
        for split in ("train", "test")
    },
}
COMPARED = (str, int, float, type(None), Path, ComputeOptions, Store, torch.device)
Trace = list[tuple[str, Any]]


def leaf_parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, parser) of each command, e.g. `data check`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from leaf_parsers(child, f"{name} {word}".strip())
            return
    yield name, parser


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a command by their first name; those without help are included."""
    return {
        action.option_strings[0]: action
        for action in parser._actions
        if action.option_strings and action.option_strings[0] != "-h"
    }


class Probe:
    """A folder with small inputs for every command, and a record of what commands would do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace: Trace = []
        self.experiment = folder / "row.yaml"
        self.sweep = write_sweep(folder)
        self.experiment.write_text(dump_yaml(ROW))
        self.plan = plan_of(folder / "results", self.experiment)
        self._write_inputs()

    def _write_inputs(self) -> None:
        write_lmdb(self.folder / "lmdb", [(jpeg(1), "aac"), (jpeg(9), "ab")])
        labels = ("", "abcdef", "ab")  # numbers 1 and 2 are those of predictions.txt
        write_lmdb(self.folder / "photo_lmdb", [(jpeg(1), label) for label in labels])
        with (
            lmdb.open(str(self.folder / "photo_lmdb"), map_size=1 << 26) as environment,
            environment.begin(write=True) as transaction,
        ):
            for index in range(len(labels)):
                transaction.put(STANDARD.key(PHOTO, index).encode(), b"photo")
        (self.folder / "photo.jpg").write_bytes(jpeg(3))
        (self.folder / "labels.tsv").write_text("photo.jpg\tab\n")
        (self.folder / "table.tsv").write_text("filename\ttext\tfile\twords\na\tb\tc\td\n")
        (self.folder / "photos.json").write_text(json.dumps(PHOTOS))
        (self.folder / "predictions.txt").write_text("1 [abcdef] [abcdef]\n2 [Ab] [ab]\n")
        header = "index,label,prediction,confidence\n"
        (self.folder / "read.csv").write_text(f"{header}0,aac,aab,0.95\n1,ab,ab,0.99\n")
        (self.folder / "other_read.csv").write_text(f"{header}0,aac,b,0.95\n1,ab,ab,0.99\n")
        (self.folder / "commas.txt").write_text("ab,abc\tabc\n")
        (self.folder / "unlabeled.txt").write_text("photo.jpg\tab\t0.9\n")
        (self.folder / "other_labels.tsv").write_text("photo.jpg\tac\n")
        (self.folder / "characters.txt").write_text("abc\n")
        (self.folder / "cluster.yaml").write_text("{}")
        for number, name in enumerate(("claims.yaml", "other_claims.yaml")):
            (self.folder / name).write_text(dump_yaml(claims_of(self.experiment, number)))
        for name in ("boxes.jsonl", "other_boxes.jsonl"):
            (self.folder / name).write_text("{}")
        for results in ("results", "other"):
            run_folder = Store(self.folder / results).run("pretrain-abc").folder
            run_folder.mkdir(parents=True)
            lines = [f"{results} {number}" for number in range(99)]
            (run_folder / "traceback.txt").write_text("\n".join(lines))

    def record(self, name: str, result: Any = None) -> Any:
        """A function that records its arguments and returns `result`."""

        def stub(*arguments: Any, **options: Any) -> Any:
            self.trace.append((name, [_plain(value) for value in (*arguments, options)]))
            return result

        return stub

    def __call__(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Trace]:
        """Run a command: its exit code, and what it recorded and printed."""
        self.trace = []
        code = run.main(words)
        out, err = capsys.readouterr()
        assert code in (0, 1, 2), err
        if code == 2:
            assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err
        return code, [*self.trace, ("printed", out), ("notes", err)]

    def _check_root(self, *arguments: Any) -> None:
        self.record("check")(*arguments)
        raise UserError("not checked")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace what computes, asks SLURM or draws."""
        for name in IMPORTERS:
            import_module(name)
        search = make_search(
            self.sweep,
            None,
            Store(self.folder / "results"),
            precision=lambda: "fp32",
            overrides={},
            seeds=None,
        )
        trials = SimpleNamespace(folder=self.folder)
        report = SimpleNamespace(as_json=lambda: {"best": 1})
        section = SimpleNamespace(name="x", problem="", broken=False)
        launched: tuple[LaunchResult, dict[str, State]] = (LaunchResult(), {})
        imported = SimpleNamespace(
            kind="k",
            matched=[],
            missing=[],
            ignored={},
            assumed={},
            weights={},
            metadata=lambda: {"config": {}},
            source=SimpleNamespace(epoch=1, state="model"),
            alternatives=[],
        )
        built = SimpleNamespace(items=2, samples=2, reasons={})
        hashes = ImageHashes(np.zeros((2, 32), np.uint8), np.zeros(2, np.uint64))
        stubs: Mapping[str, Any] = {
            "core.runtime.processes.cores": lambda: 2,
            "experiments.planning.device.find_device": lambda name: name.replace("auto", "cpu"),
            "experiments.planning.device.find_gpus": lambda wanted: (0, 1),
            "experiments.planning.device.default_precision": lambda name: f"of {name}",
            "experiments.cli.plan_report.device_memory_bytes": lambda device: None,
            "experiments.running.capacity.device_memory_bytes": lambda device: None,
            "experiments.planning.planner.make_plan": self.record("plan", self.plan),
            "sweeps.engine.make_search.make_search": self.record("search", search),
            "sweeps.engine.trials.Trials.check_storage": self.record("storage"),
            "sweeps.engine.trials.Trials.create": lambda trials: None,
            "sweeps.engine.trials.Trials.delete_pruned_checkpoints": lambda trials: None,
            "sweeps.engine.trials.Trials.is_over": lambda trials, all_trials: False,
            "sweeps.engine.local_workers.launch_local": self.record("local", LaunchResult()),
            "sweeps.engine.slurm_workers.launch_slurm": self.record("slurm", LaunchResult()),
            "sweeps.engine.slurm_workers.cancel_workers": self.record("cancel", 0),
            "experiments.running.local.launch": self.record("local", LaunchResult()),
            "experiments.slurm.launcher.launch_slurm": self.record("slurm", launched),
            "experiments.cli.unfinished.report_unfinished": lambda *_: 0,
            "experiments.cli.jobs.cancel_runs": self.record("cancel", 0),
            "experiments.cli.watch.watch": lambda make_view, once: self.record("watch", 0)(once),
            "experiments.running.find_model.find_model": self.record("find", Path("m")),
            "experiments.running.torch_checks.find_torch_facts": _no_torch,
            "core.peer.ppocrv6.find_model": lambda: Path("m"),
            "core.peer.ppocrv6.package_versions": dict,
            "core.peer.reading.read_roots": lambda reader, roots, folder, *_: self.record(
                "peer", PeerResult(folder / "predictions.csv", {"lmdb": 2}, {"lmdb": 0}, 1.0)
            )(roots, folder),
            "analysis.figures.suspects.write_pages": lambda images, found, count, folder: (
                self.record("pages", [])(count, folder)
            ),
            "core.training.predict.find_images": self.record("images", []),
            "core.training.predict.predict": self.record("predict", [("a.png", "ab", 0.5)]),
            "core.checkpoints.released.read_released": self.record("read", imported),
            "core.checkpoints.export.export_released": self.record("export", (1, "")),
            "core.checkpoints.hub.write_hub_folder": self.record("hub", []),
            "analysis.cards.lineage.find_card_runs": self.record(
                "card runs", SimpleNamespace(model=SimpleNamespace(id="finetune-1"))
            ),
            "analysis.cards.model_card.model_card": self.record("card", "card\n"),
            "experiments.planning.stored_experiment.stored_experiment": self.record(
                "show",
                SimpleNamespace(id="a", scale="b", overrides=1, tree={"title": "a"}, difference=""),
            ),
            "results.bundle.complete_runs": self.record("complete", ["evaluate-1"]),
            "results.bundle.write_bundle": self.record(
                "bundle", (SimpleNamespace(runs=["evaluate-1"], files={}), 9)
            ),
            "results.bundle.read_bundle": self.record(
                "unbundle", (SimpleNamespace(runs=[], experiment="a", scale="b", seeds=()), [])
            ),
            "core.data_tools.data_card.describe_root": self.record("describe", "card\n"),
            "core.runtime.safetensors_io.save": self.record("save"),
            "core.data_tools.build.build": lambda annotations, *arguments, **options: self.record(
                "build", built
            )([repr(row) for row in annotations()], *arguments, **options),
            "core.data_tools.add_boxes.add_boxes": self.record(
                "add boxes", SimpleNamespace(samples=2, photos=2, problems={})
            ),
            "core.data_tools.overlap.find_matches": self.record("match", []),
            "core.data_tools.overlap.write_filter": self.record("filter"),
            "experiments.cli.data_overlap._hash": self.record("hash", hashes),
            "core.data_tools.check.check_root": self._check_root,
            "analysis.report.build.check_report": self.record("check"),
            "analysis.report.reproducibility.reproducibility_report": self.record("mlrc", "text\n"),
            "analysis.report.build.write_report": self.record("report", [section]),
            "analysis.figures.predictions.write_grids": self.record("grids", []),
            "analysis.tables.early_start.reading_curves": self.record(
                "curves", {"a": [ReadingCurve("finetune-1", 0, (100,), (0.5,), 64.0)]}
            ),
            "analysis.tables.false_differences.report_false_differences": self.record(
                "groups",
                FalseDifferencesReport(experiment="a", scale="b", row="c", seeds_per_row=3),
            ),
            "analysis.sweep_report.report.find_trials": self.record("trials", (trials, "")),
            "analysis.sweep_report.page.write_report": self.record("page", ("page\n", report)),
            "analysis.sweep_report.best_experiment.write_experiment": self.record("best", "run"),
            "analysis.bench.commands.make_setup": self.record(
                "setup", SimpleNamespace(device="cpu", name="words", within=lambda budget: "setup")
            ),
            "analysis.bench.commands.measurement": lambda name, results: self.record(
                "measure", lambda setup: []
            )(name, results),
        }
        for target, stub in stubs.items():
            monkeypatch.setattr(target, stub)


def _no_torch() -> None:
    raise NoTorch("not asked")


def _plain(value: Any) -> Any:
    """A value that can be compared: what matters of an argument, or its type."""
    if isinstance(value, Mapping):
        return {
            key: _precision(item) if key == "precision" else _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Trials):
        return [str(value.store.root), value.url]
    if isinstance(value, Charset):
        return value.characters
    if isinstance(value, COMPARED):
        return repr(value)
    return type(value).__name__


def _precision(automatic: Any) -> str:
    """The precision that `auto` means, or why it means none."""
    try:
        return str(automatic() if callable(automatic) else automatic)
    except UserError as error:
        return str(error)
