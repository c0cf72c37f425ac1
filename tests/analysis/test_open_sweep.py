"""What the notebook of sweeps opens: the published sweep, with its figures."""

import re
import warnings
from pathlib import Path

from published import PUBLISHED, SCALE

from analysis.sweep_report.open_sweep import open_sweeps


def test_recorded_sweep_is_opened_and_a_missing_one_is_named() -> None:
    files = ["sweeps/mask_ratio.yaml", "sweeps/finetune.yaml"]
    (opened,), missing = open_sweeps(files, SCALE, PUBLISHED)
    assert len(missing) == 1
    assert "this sweep has not been run" in missing[0]
    assert "Trial 8: pretrain.mask.kind=random" in opened.text()
    row_headings = re.findall(r"<th[^>]*row_heading[^>]*>(\d+)<", opened.table().to_html())
    assert row_headings[0] == "8"  # the best trial is the first row


def test_figures_of_a_sweep_are_drawn_without_warnings() -> None:
    ((opened, *_), _) = open_sweeps(None, None, PUBLISHED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [axes for axes in opened.figures.values() if not isinstance(axes, str)]
    labels = [next(iter(axes)).get_xlabel() for axes in drawn]
    assert labels == ["trial", "mask.kind", "mask.kind", "importance (PED-ANOVA)"]


def test_caption_of_a_sweep_figure_names_the_best_trials_runs(tmp_path: Path) -> None:
    ((opened, *_), _) = open_sweeps(None, None, PUBLISHED)
    figure = opened.show("history", "accuracy by trial.", tmp_path)
    runs = "pretrain-1b6717e0db8a, pretrain-26643fcc362f, finetune-2157ad5a2eb7"
    assert figure.caption.endswith(f"Scale {SCALE}, seed 0; runs {runs}.")


def test_results_folder_without_files_opens_its_own_sweeps(tmp_path: Path) -> None:
    assert [opened.name for opened in open_sweeps(None, None, PUBLISHED)[0]] == ["mask_ratio"]
    (message,) = open_sweeps(None, None, tmp_path)[1]
    assert "run.py sweeps/mask_ratio.yaml" in message
