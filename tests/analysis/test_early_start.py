"""When recognizers start to read, from made logs of fine-tuning."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from matplotlib.axes import Axes
from plans import plan_of
from table_records import write_training

from analysis.figures.early_start import early_start_figure
from analysis.style import VERMILION
from analysis.tables.early_start import ReadingCurve, early_start, reading_curve, reading_curves
from analysis.tables.planned import tables_of
from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml
from results.store import Store

BATCH = 32
EVERY = 100  # steps between validations


def write_log(store: Store, run_id: str, correct: Sequence[int]) -> None:
    """A complete fine-tuning with a validation of 200 words every EVERY steps."""
    entries: list[dict[str, Any]] = []
    for number, count in enumerate(correct, 1):
        step = number * EVERY - 1  # the log counts from 0
        entries.append({"step": step - 9, "loss": 1.0, "images": (step - 8) * BATCH})
        scores = {"validation_correct": count, "validation_images": 200, "validation_avg": 0.0}
        entries.append({"step": step} | scores)
    write_training(store, run_id, images=len(correct) * EVERY * BATCH, seconds=1.0)
    path = store.run(run_id).folder / METRICS
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def curve_of(seed: int, *accuracies: float) -> ReadingCurve:
    steps = tuple(EVERY * number for number in range(1, len(accuracies) + 1))
    return ReadingCurve(f"finetune-{seed}", seed, steps, accuracies, BATCH)


def test_a_recognizer_reads_from_the_first_validation_with_half_of_the_words(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    write_log(store, "finetune-a", [0, 99, 100, 90, 150])
    curve = reading_curve(store.run("finetune-a"), 3)
    assert curve is not None
    assert (curve.seed, curve.start, curve.steps[-1]) == (3, 3 * EVERY, 5 * EVERY)
    assert curve.accuracies == (0, 0.495, 0.5, 0.45, 0.75)
    assert curve.images_per_step == BATCH


def test_a_log_without_validation_has_no_curve(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_log(store, "finetune-a", [])
    assert reading_curve(store.run("finetune-a"), 0) is None


@pytest.mark.parametrize("text", ["{", '{"step": 1, "validation_correct": 1}\n', "[]\n[1]\n3"])
def test_a_damaged_log_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    write_log(store, "finetune-a", [1])
    (store.run("finetune-a").folder / METRICS).write_text(text)
    with pytest.raises(UserError, match=r"finetune-a.metrics\.jsonl"):
        reading_curve(store.run("finetune-a"), 0)


def test_seeds_that_never_read_count_as_the_last_ones() -> None:
    curves = [curve_of(0, 0.6, 0.7), curve_of(1, 0.1, 0.2), curve_of(2, 0.1, 0.6)]
    start = early_start("a", curves)
    assert start.by_seed == {0: 100, 1: None, 2: 200}
    assert (start.median, start.median_images) == (200, 200 * BATCH)
    assert (start.first, start.last, start.last_step) == (100, 200, 200)
    assert start.never.accuracy == pytest.approx(100 / 3, abs=1e-3)
    assert 0 < start.never.low < 100 / 3 < start.never.high < 100


def test_without_a_reading_majority_there_is_no_median() -> None:
    start = early_start("a", [curve_of(0, 0.6), curve_of(1, 0.1)])
    assert (start.median, start.median_images, start.first) == (None, None, 100)
    none = early_start("a", [curve_of(0, 0.1)])
    assert (none.first, none.last, none.never.accuracy) == (None, None, 100)


def test_the_figure_has_a_panel_for_each_row_and_a_line_for_each_seed() -> None:
    curves = {
        "attention": [curve_of(0, 0.1, 0.6), curve_of(1, 0.1, 0.2)],
        "attention and CTC": [curve_of(0, 0.2, 0.7)],
        "CTC": [curve_of(4, 0.3, 0.8)],
    }
    panels = early_start_figure(curves)
    assert len(panels) == 3

    def lines(axes: Axes) -> dict[str | None, Any]:
        return {line.get_gid(): line for line in axes.get_lines()}

    assert set(lines(panels[0])) == {"seed 0", "seed 1", "half"}
    assert set(lines(panels[2])) == {"seed 4", "half"}
    assert lines(panels[0])["seed 1"].get_color() == VERMILION  # never reads
    assert lines(panels[0])["seed 0"].get_color() != VERMILION
    assert list(lines(panels[1])["seed 0"].get_ydata()) == [20, 70]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two rows of scratch; logs of three seeds of the first and of one of the second."""
    file = tmp_path / "starts.yaml"
    rows = [
        {"name": "a", "method": "scratch"},
        {"name": "b", "method": "scratch", "set": {"finetune.ctc_weight": 0.5}},
    ]
    file.write_text(dump_yaml({"title": "starts", "variants": rows}))
    plan = plan_of(tmp_path / "results", file, seeds=range(3))
    for cell in plan.cells:
        if cell.variant == 0 or cell.seed == 0:
            counts = [0, 60 + 40 * cell.seed, 120] if cell.variant == 0 else [150, 160, 170]
            write_log(Store(tmp_path / "results"), cell.trainings[-1], counts)
    return file


def test_the_command_prints_rows_and_writes_the_picture(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = experiment.parent / "results"
    arguments = (experiment, "--scale", "smoke", "--seeds", "0,1,2", "--results", results)
    code, out, err = call(capsys, "early-start", *arguments, "--json")
    assert code == 0
    first, second = json.loads(out)["starts"]
    assert (first["row"], first["by_seed"]) == ("a", {"0": 300, "1": 200, "2": 200})
    assert (first["median"], second["median"]) == (200, 100)
    for suffix in ("png", "pdf", "txt"):
        path = results / "figures" / f"starts.early_start.smoke.{suffix}"
        assert path.is_file()
        assert str(path) in err
    code, out, _ = call(capsys, "early-start", *arguments)
    assert code == 0
    assert "200 to 300" in out


def test_results_without_curves_are_refused(tmp_path: Path) -> None:
    (table,) = tables_of(plan_of(tmp_path), Store(tmp_path), recorded=False)
    with pytest.raises(UserError, match=r"finetune\.validate_every"):
        reading_curves(table)
