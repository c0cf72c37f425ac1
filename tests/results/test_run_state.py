"""The state of a run: what its process wrote last, and whether that process still exists."""

from pathlib import Path

from results.store import Store


def test_a_run_whose_process_is_gone_is_preempted(tmp_path: Path) -> None:
    run = Store(tmp_path).run("pretrain-x")
    assert run.state().name == "planned"
    with run.lock() as free:
        assert free
        run.set_state("running", done=3, total=9, unit="steps")
        running = run.state()
        assert running.name == "running"
        with run.lock() as second:
            assert not second
    assert run.state().name == "preempted"
    assert running.process in run.state().message
