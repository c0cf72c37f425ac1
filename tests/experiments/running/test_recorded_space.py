"""Records have the memory and the disk space that a run took."""

import json
from pathlib import Path

import pytest
from planned_training import planned_finetuning

from core.runtime.peak_memory import STATM
from core.training.run_context import RunContext
from experiments.running.execute import execute
from results.store import Store


def test_a_record_has_the_bytes_of_the_files_that_stay(tmp_path: Path, context: RunContext) -> None:
    run = planned_finetuning(tmp_path / "words")
    store = Store(tmp_path / "results")
    folder = store.run(run.id).folder
    with store.run(run.id).lock():
        assert execute(run, store, context).state == "complete"
    record = json.loads((folder / "record.json").read_text())
    besides_records = [
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("record.json", "state.json")
    ]
    # state.json is written again after the record
    assert record["disk_bytes"] == pytest.approx(sum(besides_records), abs=2_000)
    assert record["disk_bytes"] > sum(besides_records)
    assert record["peak_gpu_memory_bytes"] is None
    if STATM.exists():
        assert record["peak_own_memory_bytes"] > 100_000_000  # PyTorch alone takes more
