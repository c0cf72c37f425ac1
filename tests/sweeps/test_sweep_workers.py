"""Workers claim trials: each trial is finished once, whichever worker is killed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sweep_helpers import (
    DECAY,
    TOTAL,
    check_total_with_killed_workers,
    create_trials,
    finish_all,
    load_search,
    states_of,
    write_sweep,
)

from core.runtime.errors import UserError
from results.store import Store
from sweeps.engine.trials import Trials

pytestmark = pytest.mark.slow


def test_the_total_is_exact_whichever_worker_is_killed(tmp_path: Path) -> None:
    check_total_with_killed_workers(create_trials(tmp_path, trials=TOTAL))


def test_the_total_is_exact_on_sqlite_and_storages_are_not_mixed(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    search = load_search(write_sweep(tmp_path, trials=TOTAL), store.root)
    trials = Trials(search, store, f"sqlite:///{tmp_path}/sweep.db")
    trials.create()
    check_total_with_killed_workers(trials)
    with pytest.raises(UserError, match=r"sqlite:.*--storage"):
        Trials(search, store).check_storage()


def test_a_claimed_trial_is_left_alone_and_a_released_one_is_continued(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    other = Trials(trials.search, trials.store)
    with trials.claim(0.0) as first, other.claim(0.0) as second:
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
        assert trials.state(trials.all()[0]).name == "running"
    with other.claim(0.0) as again:
        assert again is not None
        assert (again.number, again.values) == (0, first.values)


@pytest.mark.parametrize("kind", ["random", "grid"])
def test_a_worker_that_is_killed_before_it_has_values_changes_no_trial(
    kind: str, tmp_path: Path
) -> None:
    ratio = {"pretrain.mask.ratio": {"float": [0.6, 0.9], "step": 0.1}}
    changes: dict[str, Any] = {
        "sampler": {"kind": kind},
        "trials": 4,
        "space": ratio | ({} if kind == "grid" else DECAY),
    }
    undisturbed = finish_all(create_trials(tmp_path / "undisturbed", **changes))
    trials = create_trials(tmp_path / "killed", **changes)
    trials.study().ask()  # creates a trial and suggests no values
    assert trials.state(trials.all()[0]).name == "planned"
    values = finish_all(trials)
    assert sorted(values, key=str) == sorted(undisturbed, key=str)
    assert states_of(trials) == ["COMPLETE"] * 4


def test_a_status_query_creates_no_files(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    with trials.claim(0.0) as claimed:
        assert claimed is not None
    (trials.trial_folder(0).folder / ".lock").unlink()
    before = sorted(trials.folder.rglob("*"))
    assert trials.state(trials.all()[0]).name == "preempted"
    assert sorted(trials.folder.rglob("*")) == before


def test_a_trial_of_another_host_is_continued_only_after_a_long_silence(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    with trials.claim(0.0) as claimed:
        assert claimed is not None
    file = trials.trial_folder(0).folder / "state.json"
    state = json.loads(file.read_text())
    for silence, expected in ((60, 1), (3600, 0)):
        updated = time.time() - silence
        file.write_text(json.dumps(state | {"process": "elsewhere:1", "updated": updated}))
        with trials.claim(0.0) as claimed:
            assert claimed is not None
            assert claimed.number == expected


def test_a_storage_of_another_results_folder_is_refused(tmp_path: Path) -> None:
    search = load_search(write_sweep(tmp_path), tmp_path / "results")
    url = f"sqlite:///{tmp_path}/sweep.db"
    Trials(search, Store(tmp_path / "results"), url).create()
    Trials(search, Store(tmp_path / "results"), url).create()
    with pytest.raises(UserError, match="another results folder"):
        Trials(search, Store(tmp_path / "others"), url).create()


def test_an_incomplete_last_line_of_the_journal_is_removed(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    finish_all(trials)
    journal = trials.folder / "journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code":')
    reopened = create_trials(tmp_path, trials=5)
    for opened in (trials, reopened):  # opened before and after the damage
        opened.study().set_user_attr("a", "b")
        with journal.open("ab") as file:
            file.write(b'{"op_code":')
        assert [trial.state for trial in opened.all()] == [TrialState.COMPLETE] * 4
    assert len(finish_all(create_trials(tmp_path, trials=5))) == 1


def test_a_damaged_journal_is_an_error_of_the_user(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    journal = trials.folder / "journal.log"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    with pytest.raises(UserError, match="damaged"):
        Trials(trials.search, trials.store).all()
