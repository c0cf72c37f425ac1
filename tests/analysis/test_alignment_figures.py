"""Measures of collapsed and uncollapsed features."""

import numpy as np
import pytest
from published import SIZE, SMALL_ENCODER, probe_words, published_models

from analysis.figures import alignment
from analysis.figures.alignment import TwoViews
from analysis.figures.models import untrained_encoder
from analysis.figures.probe_words import choose_words, draw_words


def test_measures_distinguish_a_ball_a_line_and_a_point() -> None:
    ball = np.random.default_rng(0).normal(size=(4000, 8))
    assert alignment.effective_rank(ball) == pytest.approx(8, rel=0.01)
    assert alignment.uniformity(ball[:500]) < -2.5
    assert alignment.relative_variance(ball) == pytest.approx(1, abs=0.01)
    line = np.outer(ball[:, 0], np.arange(1, 9))
    assert alignment.effective_rank(line) == pytest.approx(1)
    point = np.ones((50, 8)) + 1e-9 * ball[:50]
    assert alignment.uniformity(point) == pytest.approx(0, abs=1e-6)
    assert alignment.relative_variance(point) == pytest.approx(0, abs=1e-12)


def test_recall_ignores_a_shift_that_all_words_share() -> None:
    values = np.random.default_rng(0).normal(size=(60, 8))
    assert alignment.recall(TwoViews(values, values + 1e-3), 1).value == 1


def test_recall_is_zero_if_all_words_have_equal_features() -> None:
    same = np.ones((60, 8))
    assert alignment.recall(TwoViews(same, same), 5).value == 0


def test_recall_of_unrelated_views_is_near_chance() -> None:
    first = np.random.default_rng(0).normal(size=(60, 8))
    second = np.random.default_rng(1).normal(size=(60, 8))
    assert alignment.recall(TwoViews(first, second), 1).value < 0.15


def test_views_of_different_words_are_refused() -> None:
    words = probe_words()
    reversed_words = words[range(len(words) - 1, -1, -1)]
    with pytest.raises(ValueError, match="same words"):
        alignment.encoder_features(untrained_encoder(SMALL_ENCODER), words, reversed_words)


def test_alignment_figures_show_all_rows() -> None:
    texts = choose_words(20)
    first = draw_words(texts, SIZE)
    second = draw_words(texts, SIZE, variant=1)
    features = alignment.model_features(published_models()[:2], first, second)
    assert alignment.spectrum_figure(features).get_yscale() == "log"
    axes = alignment.recall_figure(alignment.alignment_measures(features), 20)
    labels = [text.get_text().replace("\n", " ") for text in axes.get_yticklabels()]
    assert labels == list(features)


def test_recall_of_no_word_has_an_interval_that_can_be_drawn() -> None:
    same = np.ones((250, 8))
    measures = alignment.alignment_measures({"row": {alignment.CLS: TwoViews(same, same)}})
    assert measures["recall@1"].iloc[0].value == 0
    assert alignment.recall_figure(measures, 250).get_xlim()[0] <= 0


def test_measures_over_seeds_are_mean_and_range() -> None:
    random = np.random.default_rng(0)
    frames = {}
    for seed in (0, 1, 2):
        values = random.normal(size=(40, 8))
        views = TwoViews(values, values + (0.5 + seed) * random.normal(size=(40, 8)))
        frames[seed] = alignment.alignment_measures({"row": {alignment.CLS: views}})
    summary = alignment.measures_over_seeds(frames).set_index("measure")
    ranks = [float(frame["effective rank"].iloc[0]) for frame in frames.values()]
    line = summary.loc["effective rank"]
    assert line["mean"] == pytest.approx(np.mean(ranks))
    assert (line["low"], line["high"], line["seeds"]) == (min(ranks), max(ranks), 3)
    recalls = [100 * frame["recall@1"].iloc[0].value for frame in frames.values()]
    assert summary.loc["recall@1", "mean"] == pytest.approx(np.mean(recalls))
    assert recalls[0] > recalls[2]
    text = alignment.format_measures_over_seeds(alignment.measures_over_seeds(frames))
    assert text["effective rank"].iloc[0].startswith(f"{np.mean(ranks):.3g} (")


def test_the_figure_over_seeds_has_a_panel_for_each_measure() -> None:
    texts = choose_words(20)
    first = draw_words(texts, SIZE)
    second = draw_words(texts, SIZE, variant=1)
    features = alignment.model_features(published_models()[:2], first, second)
    frame = alignment.alignment_measures(features)
    axes = alignment.seeds_figure(alignment.measures_over_seeds(dict.fromkeys(range(3), frame)))
    assert [panel.get_xlabel() for panel in axes] == [
        "variance / mean square",
        "effective rank",
        "recall@1 (%)",
    ]
    labels = [text.get_text().replace("\n", " ") for text in axes[0].get_yticklabels()]
    assert labels == [name for name, kinds in features.items() if alignment.CLS in kinds]
