"""What notebooks open: tables, models and images of a results folder."""

import shutil
from pathlib import Path

import pytest
from published import TABLE1, opened_results, published_with_weights

from analysis.report import overview
from analysis.report.open_results import open_results
from analysis.report.recorded_files import recorded_files
from analysis.tables.content import PairedComparison
from core.runtime.errors import UserError
from core.synthetic.words import render_word

TABLE1_ROWS = ["no guidance", "guidance", "guidance + alignment (LMIM)"]
RUN_OF_ROW = {"no guidance": "pretrain-daf29d79820c", "guidance": "pretrain-7adf1ecf9239"}
TEACHER = "pretrain-1b6717e0db8a"


def test_all_rows_are_models_and_a_shared_run_is_listed_once() -> None:
    opened = opened_results()
    names = [model.name for model in opened.models(0)]
    assert names == [*TABLE1_ROWS, "pixels", "random features"]
    assert [model.name for model in opened.method_models(0)] == TABLE1_ROWS
    assert [model.name for model in opened.alignment_models(0)] == TABLE1_ROWS


def test_figure_of_differences_has_a_label_per_measured_comparison() -> None:
    tables = opened_results().tables
    labels = [text.get_text() for text in overview.differences_figure(tables).get_yticklabels()]
    assert labels[0].replace("\n", " ") == "T1: guidance − no guidance"
    comparisons = [entry for table in tables for entry in table.content.comparisons]
    assert len(labels) == sum(isinstance(entry, PairedComparison) for entry in comparisons)


def test_models_without_readable_weights_are_named_and_left_out(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(published_with_weights(), results)
    weights = {name: results / "runs" / run for name, run in RUN_OF_ROW.items()}
    (weights["guidance"] / "model.safetensors").write_bytes(b"cut short")
    (weights["no guidance"] / "model.safetensors").unlink()
    opened = open_results(results, [TABLE1], None, tmp_path / "out")
    assert [model.name for model in opened.models(0)] == TABLE1_ROWS[2:]
    text = opened.unavailable_as_html().text
    assert f"{RUN_OF_ROW['no guidance']} has a record and no weights here" in text
    assert "guidance: " in text
    assert "cut short" in text
    assert not opened.recognizers([])
    assert opened.unavailable == []  # describes the last query


def test_missing_teacher_weights_make_all_models_unavailable(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(published_with_weights(), results)
    (results / "runs" / TEACHER / "model.safetensors").unlink()
    opened = open_results(results, [TABLE1], None, tmp_path / "out")
    with pytest.raises(UserError, match=r"no weights .* seed 0.*teacher"):
        opened.method_models(0)
    with pytest.raises(UserError, match=r"no two models of seed 3 .* alignment"):
        opened.alignment_models(3)


def test_results_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no table of scale mini"):
        recorded_files(tmp_path, None)


def test_results_folder_with_several_scales_needs_a_scale(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for scale in ("smoke", "small"):
        (tmp_path / "tables" / f"ablation_mask.{scale}.json").write_text("[]")
    with pytest.raises(UserError, match=r"scales small, smoke; .* --scale"):
        recorded_files(tmp_path, None)
    assert [path.stem for path in recorded_files(tmp_path, "small")[0]] == ["ablation_mask"]
    with pytest.raises(UserError, match=r"no table of scale paper; .* small, smoke"):
        recorded_files(tmp_path, "paper")


def test_images_of_synthetic_subsets_are_drawn_again() -> None:
    opened = opened_results()
    run = opened.tables[0].rows[0].evaluations[0]
    images = opened.images(run)
    _, indices, labels, *_ = opened.store.run(run).predictions()
    first = int(indices[0])
    image = images["curve"][first]
    assert image is not None
    assert image.size == (128, 32)
    (root,) = images["curve"].roots
    assert root.synthetic is not None
    assert render_word(root.synthetic, "curve", first)[1] == labels[0]
