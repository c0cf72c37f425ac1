"""The command `grid`: figures of stored predictions with their images."""

from pathlib import Path

import pytest
from conftest import call, jpeg, write_lmdb
from table_records import write_evaluation

from results.store import Store


def test_grid_finds_images_by_a_variable_in_the_recorded_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published records name the folder of the data by a variable."""
    write_lmdb(tmp_path / "data" / "curve", [(jpeg(0), "ab"), (jpeg(9), "ab")])
    store = Store(tmp_path / "results")
    run = write_evaluation(store, "evaluate-a", {"curve": [1, 0]}, stage="evaluate")
    record = store.run(run).record()
    record["data"] = {"curve": [{"path": "${GRID_DATA}/curve", "fingerprint": "f"}]}
    store.run(run).write_json("record.json", record)
    monkeypatch.setenv("GRID_DATA", str(tmp_path / "data"))
    out = tmp_path / "figures"
    code, printed, err = call(capsys, "grid", run, "--results", store.root, "--out", out)
    assert code == 0, err
    assert printed.split() == [str(out / "evaluate-a.curve.png")]
    assert (out / "evaluate-a.curve.png").is_file()
