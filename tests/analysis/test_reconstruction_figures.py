"""Reconstructions: losses, guidance views, and how features are shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from published import SIZE, SMALL_ENCODER, probe_words, published_models

from analysis.figures.feature_visualizer import explained_variance, fit_visualizer, unpatchify
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import choose_words, draw_words
from analysis.figures.reconstruction import reconstruct, with_decoder
from analysis.figures.reconstruction_figures import COLUMNS, reconstruction_figure
from analysis.figures.reconstruction_losses import OTHER_VIEW, VIEW_EFFECT, loss_table
from core.config import EmaFeatureTarget
from core.data.batches import to_unit
from core.lmim import reconstruction_loss
from core.model.vit import patchify
from core.runtime.errors import UserError


def model_named(name: str) -> PretrainedModel:
    (model,) = [model for model in published_models() if model.name == name]
    return model


def test_mean_error_of_all_words_is_the_papers_reconstruction_loss() -> None:
    result = reconstruct(model_named("no guidance"), probe_words())
    loss = reconstruction_loss(result.prediction, result.target, result.hidden)
    assert result.errors.mean() == pytest.approx(float(loss), rel=1e-5)


def test_model_without_guidance_has_no_view() -> None:
    assert reconstruct(model_named("no guidance"), probe_words()).view is None


def test_swapped_guidance_views_change_the_prediction_only() -> None:
    model = model_named("guidance")
    same = reconstruct(model, probe_words())
    swapped = reconstruct(model, probe_words(), swap_views=True)
    assert torch.equal(same.hidden, swapped.hidden)
    assert torch.equal(same.target, swapped.target)
    assert not torch.equal(same.prediction, swapped.prediction)


def test_unpatchify_is_the_inverse_of_patchify() -> None:
    unit = to_unit(probe_words().images, torch.device("cpu"))
    images = unpatchify(patchify(unit, SMALL_ENCODER.patch), SMALL_ENCODER)
    np.testing.assert_allclose(images, unit.permute(0, 2, 3, 1).numpy())


def test_normalized_pixel_targets_are_shown_as_the_image_itself() -> None:
    model = model_named("pixels")
    words = probe_words()
    visualizer = fit_visualizer(model, words)
    explained = explained_variance(visualizer, reconstruct(model, words), words)
    assert explained == pytest.approx(1, abs=1e-3)


def test_read_out_of_features_explains_pixels_of_other_words() -> None:
    model = model_named("guidance")
    words = probe_words()
    visualizer = fit_visualizer(model, draw_words(choose_words(150), SIZE, variant=1))
    assert 0.5 < explained_variance(visualizer, reconstruct(model, words), words) < 1


def test_reconstruction_figure_has_a_row_per_model() -> None:
    models = published_models()
    fitted = draw_words(choose_words(20), SIZE)
    visualizers = {model.run: fit_visualizer(model, fitted) for model in models}
    axes = reconstruction_figure(models, visualizers, draw_words(("market", "white"), SIZE), 0)
    assert axes.shape == (len(models), len(COLUMNS))


def test_swapped_views_change_the_loss_of_models_with_guidance_only() -> None:
    models = [model_named("no guidance"), model_named("guidance")]
    visualizers = {model.run: fit_visualizer(model, probe_words()) for model in models}
    table = loss_table(models, visualizers, probe_words()).set_index("row")
    assert table.loc["no guidance", OTHER_VIEW] == "–"
    assert abs(float(str(table.loc["guidance", VIEW_EFFECT]).split()[0])) > 1  # % of the loss


def test_a_row_with_an_ema_target_is_left_out_because_its_teacher_is_not_stored() -> None:
    model = model_named("guidance")
    target = EmaFeatureTarget(kind="ema_feature")
    averaged = replace(model, config=model.config.model_copy(update={"target": target}))
    assert with_decoder([model, averaged]) == [model]
    with pytest.raises(UserError, match="not stored"):
        reconstruct(averaged, probe_words())
    with pytest.raises(UserError, match="choose other experiments"):
        with_decoder([averaged])
