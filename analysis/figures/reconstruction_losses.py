"""A table of reconstruction losses, with each word's own guidance view and with another's."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.figures.feature_visualizer import FeatureVisualizer, explained_variance
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from analysis.figures.reconstruction import Reconstruction, reconstruct
from analysis.tables.intervals import mean_value

OWN_VIEW = "own view, or none (%)"
OTHER_VIEW = "another word's view (%)"
VIEW_EFFECT = "added by the wrong view"
READ_OUT = "read-out of the target: R²"


def loss_table(
    models: Sequence[PretrainedModel],
    visualizers: Mapping[str, FeatureVisualizer],
    words: ProbeWords,
    seed: int = 0,
) -> pd.DataFrame:
    """Reconstruction loss of each model in percent of that of the mean target of each patch.

    Columns: the loss with the word's own guidance view (or without guidance), the loss with another
    word's view, their paired difference, and `explained_variance`. Intervals cover words.

    Args:
        models: models with a decoder.
        visualizers: by pre-training run.
        words: words that were not used for fitting.
        seed: of masks and guidance views."""
    lines: dict[str, dict[str, str]] = {}
    for model in models:
        visualizer = visualizers[model.run]
        result = reconstruct(model, words, seed)
        mean_target = visualizer.patch_means.expand_as(result.target)
        baseline = Reconstruction(result.hidden, None, result.target, mean_target).errors.mean()
        line = {OWN_VIEW: mean_value(100 * result.errors / baseline).format()}
        if result.view is not None:
            swapped = reconstruct(model, words, seed, swap_views=True)
            increase = 100 * (swapped.errors - result.errors) / baseline
            line[OTHER_VIEW] = mean_value(100 * swapped.errors / baseline).format()
            line[VIEW_EFFECT] = mean_value(increase).format(sign="+")
        line[READ_OUT] = "1, by definition"
        if visualizer.read_out is not None:
            line[READ_OUT] = f"{explained_variance(visualizer, result, words):.2f}"
        lines[model.name] = line
    columns = [OWN_VIEW, OTHER_VIEW, VIEW_EFFECT, READ_OUT]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    return frame.fillna("–").rename_axis("row").reset_index()
