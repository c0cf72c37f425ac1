"""The notebook of probes, and what it shows of a results folder with probes at scale smoke."""

import re
from pathlib import Path

import nbformat
import pytest
from plans import plan_of
from whole_runs import run_experiment

from analysis.figures.measured_endpoints import control_row, measured_endpoints
from analysis.figures.rescue_gap import rescue_gaps
from analysis.figures.scaling import scaling_curves
from analysis.report.notebooks import execute_notebook, make_section
from analysis.report.open_results import OpenedResults, open_results
from analysis.tables.planned import tables_of
from core.runtime.errors import UserError
from experiments.planning.schema import HERE
from results.provenance import REPOSITORY
from results.store import Store

pytestmark = pytest.mark.slow

EXPERIMENT = """
title: probes
seeds: [0, 1]
set:
  synthetic.boxes: true
  synthetic.train: 128
  pretrain.optimizer.warmup_epochs: 0.1
  probes:
    iiit5k_characters:
      head:
        kind: characters
    linear:
      head:
        kind: ctc_linear
        epochs: 1
    bilstm:
      head:
        kind: ctc_bilstm
        hidden: 8
        epochs: 1
variants:
  - name: scratch
    method: scratch
  - name: MIM, 1
    method: MIM
    compare_with: scratch
  - name: MIM, 2
    method: MIM
    compare_with: MIM, 1
    set:
      epoch_multiplier.pretrain: 2
"""
FIGURES = ("endpoints", "scaling", "rescue_gap", "agreement_fine-tuned_words", "iiit5k")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(experiment file, results folder) of a complete experiment with probes."""
    folder = tmp_path_factory.mktemp("probes")
    file = folder / "probed.yaml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    done = run_experiment(file, folder / "results")
    assert done.returncode == 0, done.stderr[-2000:]
    return file, folder / "results"


@pytest.fixture(scope="module")
def opened(probed: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> OpenedResults:
    file, results = probed
    return open_results(results, [file], "smoke", tmp_path_factory.mktemp("figures"))


def not_shown(body: str) -> list[str]:
    return re.findall("<em>Not shown: [^<]*</em>", body)


def test_notebook_shows_all_sections_of_results_with_probes(
    probed: tuple[Path, Path], tmp_path: Path
) -> None:
    file, results = probed
    parameters = {"RESULTS": str(results), "FILES": [str(file)], "SCALE": "smoke"}
    execution = execute_notebook("probes", parameters | {"OUT": str(tmp_path)})
    assert execution.problem == ""
    section = make_section("probes", execution)
    assert not_shown(section.body) == []
    for name in FIGURES:
        caption = (tmp_path / f"{name}.probed.smoke.txt").read_text(encoding="utf-8")
        assert "seeds 0, 1" in caption
        assert "probe-" in caption
        assert (tmp_path / f"{name}.probed.smoke.png").is_file()


def test_notebook_says_once_a_section_that_results_have_no_endpoints(tmp_path: Path) -> None:
    file = HERE / "ablation_alignment.yaml"  # nothing of it is run in this folder
    results = tmp_path / "results"
    results.mkdir()
    parameters = {"RESULTS": str(results), "FILES": [str(file)], "SCALE": "smoke"}
    execution = execute_notebook("probes", parameters | {"OUT": str(tmp_path / "figures")})
    assert execution.problem == ""
    section = make_section("probes", execution)
    path = REPOSITORY / "analysis/probes.ipynb"
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    headings = [cell for cell in notebook.cells if cell.source.startswith("## ")]
    assert len(not_shown(section.body)) == len(headings)
    assert not (tmp_path / "figures").exists()


def test_a_curve_has_the_images_that_its_encoders_saw(opened: OpenedResults) -> None:
    (curve,) = scaling_curves(opened.tables[0], opened.plan)
    assert curve.name == "MIM"
    assert [(point.row, point.images) for point in curve.points] == [
        ("MIM, 1", 256),
        ("MIM, 2", 512),
    ]


def test_the_rescue_gap_is_the_difference_of_the_two_rates(opened: OpenedResults) -> None:
    (measured,) = measured_endpoints(opened.tables, opened.plan)
    assert measured.control == "scratch"
    assert measured.seeds == [0, 1]
    (gap,) = rescue_gaps(measured.table, opened.plan)
    rates = {endpoint.name: endpoint for endpoint in measured.endpoints}
    assert list(gap.rows) == ["scratch", "MIM, 1", "MIM, 2"]
    for name, row in gap.rows.items():
        linear = rates["linear cer"].rows[name]
        bilstm = rates["bilstm cer"].rows[name]
        assert row.value == pytest.approx(linear.value - bilstm.value, abs=1e-3)
        assert row.low <= row.value <= row.high
        for seed, value in row.by_seed.items():
            expected = linear.by_seed[seed] - bilstm.by_seed[seed]
            assert value == pytest.approx(expected, abs=1e-3)


def test_endpoints_of_an_absent_probe_are_an_error_with_its_name(opened: OpenedResults) -> None:
    (measured,) = measured_endpoints(opened.tables, opened.plan)
    names = [endpoint.name for endpoint in measured.of_probe("iiit5k_characters")]
    assert names == ["iiit5k_characters characters", "iiit5k_characters nll"]
    with pytest.raises(UserError, match="photographs"):
        measured.of_probe("photographs")


@pytest.mark.parametrize(
    ("file", "control"),
    [
        ("scaling.yaml", "scratch"),
        ("ablation_alignment.yaml", None),
        ("label_fractions.yaml", None),  # three rows, each with other labels
    ],
)
def test_the_control_is_the_unchanged_row_of_method_scratch(
    file: str, control: str | None, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, HERE / file)
    (table,) = tables_of(plan, Store(tmp_path), recorded=False)
    assert control_row(table, plan) == control
    with pytest.raises(UserError):
        scaling_curves(table, plan)  # nothing is trained
