"""Self-attention and cross-attention: weights, measures and figures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from published import (
    SIZE,
    SMALL_ENCODER,
    opened_results,
    probe_words,
    published_models,
)

from analysis.figures import attention, attention_figures
from analysis.figures.cross_attention import character_figure, cross_attention
from analysis.figures.models import PretrainedModel, untrained_encoder
from analysis.figures.probe_words import choose_words, draw_words
from core.model.kernels.attention import split_qkv

TWO_CHARACTERS = np.array([[0.0, 32.0], [32.0, 64.0]])  # on a quarter of the image each
TOKENS = 1 + SMALL_ENCODER.patches


def with_patch(model: PretrainedModel, patch: tuple[int, int], name: str) -> PretrainedModel:
    """An untrained model with another patch size."""
    encoder = model.config.encoder.model_copy(update={"patch": patch})
    config = model.config.model_copy(update={"encoder": encoder})
    made = replace(model, name=name, config=config)
    vars(made)["encoder"] = untrained_encoder(encoder)
    return made


def test_self_attention_gives_the_weights_that_the_block_uses() -> None:
    inputs = probe_words().inputs
    encoder = untrained_encoder(SMALL_ENCODER)
    layer: Any = encoder.blocks[-1].attn
    fused = layer.fused_attn
    calls = []
    layer.register_forward_hook(
        lambda module, arguments, output: calls.append((arguments[0], output))
    )
    weights = attention.self_attention(encoder, inputs)
    assert layer.fused_attn == fused
    source, output = calls[0]
    batch, length, width = source.shape
    qkv = layer.qkv(source).reshape(batch, length, 3, SMALL_ENCODER.heads, -1)
    values = qkv.permute(2, 0, 3, 1, 4)[2]
    mixed = layer.proj((weights @ values).transpose(1, 2).reshape(batch, length, width))
    torch.testing.assert_close(mixed, output)
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch, SMALL_ENCODER.heads, length))


def test_cross_attention_gives_the_weights_of_greedy_decoding() -> None:
    inputs = probe_words().inputs
    lmim = [model for model in published_models() if "LMIM" in model.name]
    ((_, recognizer),) = opened_results().recognizers(lmim[:1]).values()
    tokens, weights = cross_attention(recognizer, inputs)
    assert torch.equal(tokens, recognizer.greedy_decode(inputs)[0])
    keys = 1 + recognizer.encoder.config.patches
    decoder = recognizer.config.decoder
    assert decoder is not None
    assert weights.shape == (len(inputs), tokens.shape[1], decoder.heads, keys)
    layer: Any = recognizer.layers[-1].cross_attention
    image = recognizer.bridge(recognizer.encoder(inputs))
    (values,) = split_qkv(layer.keys_values(image)[1:])
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    cross_attention(recognizer, inputs)
    mixed = layer.out((weights[:, 0, :, None] @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, outputs[0])


def test_attention_within_the_querys_character_is_local() -> None:
    overlap = attention.character_overlap(TWO_CHARACTERS, SMALL_ENCODER)
    weights = np.zeros((TOKENS, TOKENS))
    for patch in range(SMALL_ENCODER.patches):
        covering = overlap[:, patch]
        target = overlap[covering.argmax()] if covering.any() else np.ones(SMALL_ENCODER.patches)
        weights[1 + patch, 1:] = target / target.sum()
    measures = attention.locality(weights, TWO_CHARACTERS, SMALL_ENCODER)
    assert measures["character"] == pytest.approx(100)
    assert measures["word"] == pytest.approx(100)
    assert measures["covered"] == pytest.approx(50)
    assert measures["cls"] == 0
    even = attention.locality(np.ones_like(weights), TWO_CHARACTERS, SMALL_ENCODER)
    assert measures["distance"] < even["distance"]


def test_even_attention_gives_each_character_its_share_of_the_image() -> None:
    even = np.full((TOKENS, TOKENS), 0.1)
    measures = attention.locality(even, TWO_CHARACTERS, SMALL_ENCODER)
    assert measures["character"] == pytest.approx(25)
    assert measures["word"] == pytest.approx(50)
    assert measures["covered"] == pytest.approx(100)


def test_words_without_character_positions_are_not_measured() -> None:
    words = replace(probe_words(), spans=None)
    with pytest.raises(ValueError, match="drawn words only"):
        attention.locality_table([], words, SMALL_ENCODER)


def test_query_patches_lie_on_the_word() -> None:
    spans_of_words = probe_words().spans
    assert spans_of_words is not None
    for spans in spans_of_words:
        for query in attention.query_patches(spans, SMALL_ENCODER, 3):
            center = attention.patch_centers(SMALL_ENCODER)[query, 0]
            assert spans.min() - SMALL_ENCODER.patch[1] < center
            assert center < spans.max() + SMALL_ENCODER.patch[1]


def test_models_with_different_patch_sizes_share_a_figure() -> None:
    words = draw_words(("market", "white"), SIZE)
    model = published_models()[0]
    models = [with_patch(model, (16, 4), "small"), with_patch(model, (8, 8), "square")]
    axes = attention_figures.method_figure(models, words, 0)
    boxes = [cell.patches[0].get_bbox() for cell in axes[:, 0]]
    assert [round(box.width + 1) for box in boxes] == [4, 8]
    assert [round(box.height + 1) for box in boxes] == [16, 8]
    rows = list(attention.compare_attention(models, words)["row"])
    assert rows[:3] == ["small", "square", "untrained, patch 16 x 4"]
    assert attention_figures.distance_figure(models, words).get_ylim()[0] == 0


def test_attention_figures_have_a_cell_per_model_and_query_or_head() -> None:
    models = published_models()
    words = draw_words(("market", "white"), SIZE)
    by_method = attention_figures.method_figure(models, words, 0)
    assert by_method.shape == (len(models), 3)
    labels = [axes.get_ylabel().replace("\n", " ") for axes in by_method[:, 0]]
    assert labels == [model.name for model in models]
    by_head = attention_figures.head_figure(models[:2], words, 1)
    assert by_head.shape == (2, 1 + models[0].config.encoder.heads)
    loaded = opened_results().recognizers(models)
    recognizers = {name: recognizer for name, (_, recognizer) in loaded.items()}
    by_character = character_figure(recognizers, words, 0)
    assert by_character.shape[1] == len(recognizers)
    assert all(isinstance(axes, Axes) for axes in by_character.flat)
    distances = attention_figures.distance_figure(models, draw_words(choose_words(20), SIZE))
    assert distances.get_ylabel() == "mean attention distance (pixels)"


def test_comparison_of_attention_ends_with_the_three_baselines() -> None:
    rows = attention.compare_attention(published_models()[:2], probe_words())["row"]
    baselines = ["untrained", "even attention", "query patch only"]
    assert list(rows) == ["no guidance", "guidance", *baselines]
