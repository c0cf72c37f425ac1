"""How figures are saved, and how names of a user are shown in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from published import SIZE, published_models

from analysis.figures import alignment, attention, attention_figures
from analysis.figures.error_figures import confusion_figure
from analysis.figures.probe_words import draw_words
from analysis.style import FigureWriter, as_html_table, figure_of, grid
from core.runtime.errors import UserError
from core.synthetic.cjk_fonts import cjk_faces

ODD_NAMES = ["_hidden $x^2", "costs $5 and $\\frac{1$", "<b>a & b</b>"]


def test_names_of_rows_are_shown_as_they_are_written(tmp_path: Path) -> None:
    words = draw_words(("market", "white", "study"), SIZE)
    models = [
        replace(model, name=name)
        for model, name in zip(published_models(), ODD_NAMES, strict=False)
    ]
    distances = attention_figures.distance_figure(models, words)
    (legend,) = figure_of(distances).legends
    labels = [text.get_text().lstrip("\u200b").replace("\\$", "$") for text in legend.get_texts()]
    assert labels[:3] == ODD_NAMES
    redrawn = draw_words(words.labels, SIZE, variant=1)
    features = alignment.model_features(models[:2], words, redrawn)
    recalls = alignment.recall_figure(alignment.alignment_measures(features), 3)
    maps = attention_figures.method_figure(models, words, 0)
    figures: dict[str, Axes | np.ndarray] = {
        "distances": distances,
        "recalls": recalls,
        "maps": maps,
    }
    for name, axes in figures.items():  # an unescaped name would raise
        FigureWriter(tmp_path, "mini").save(axes, name, "Odd names.", ["run"], [0])
    table = as_html_table(attention.compare_attention(models, words))
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in table.text


def test_chinese_texts_have_glyphs_if_a_font_is_installed(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    try:
        cjk_faces("中文")
    except UserError as error:
        pytest.skip(str(error))
    line = {
        "row": "中文",
        "what": "汉 → 字",
        "kind": "substituted",
        "expected": "汉",
        "predicted": "字",
        "count": 2,
        "in_labels": 3,
    }
    axes = confusion_figure(pd.DataFrame([line]))
    FigureWriter(tmp_path, "mini").save(axes, "chinese", "中文", ["run"], [0])
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]


def test_saved_figure_has_three_files_and_a_caption_with_runs(tmp_path: Path) -> None:
    axes = grid(1, 1, 2, 1)[0, 0]
    runs = ["pretrain-1", "pretrain-2", "pretrain-1"]
    figure = FigureWriter(tmp_path, "mini").save(axes, "name", "A <figure>.", runs, [0, 1])
    assert figure.caption == "A <figure>. Scale mini, seeds 0, 1; runs pretrain-1, pretrain-2."
    names = ["name.mini.pdf", "name.mini.png", "name.mini.txt"]
    assert [path.name for path in figure.files] == names
    assert (tmp_path / "name.mini.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "name.mini.png").read_bytes() == figure.png
    assert "A &lt;figure&gt;." in figure._repr_html_()
    assert figure_of(axes) is figure_of([axes])
