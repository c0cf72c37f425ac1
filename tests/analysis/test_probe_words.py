"""Words that models are examined with."""

from pathlib import Path

import pytest
import torch
from conftest import jpeg
from published import SIZE, TABLE1, opened_results, probe_words

from analysis.figures.probe_words import choose_words, draw_words, guidance_views, read_words
from core.runtime.errors import UserError
from core.synthetic.config import Synthetic
from core.synthetic.vocabulary import make_vocabulary
from experiments.planning.recipe import read_recipe, recipe_layers
from experiments.planning.schema import read_experiment
from results.provenance import REPOSITORY


def test_spans_of_characters_are_adjacent_and_lie_on_ink() -> None:
    words = probe_words()
    assert words.spans is not None
    for label, spans, image in zip(words.labels, words.spans, words.images, strict=True):
        assert len(spans) == len(label)
        assert (spans[1:, 0] == spans[:-1, 1]).all()
        assert (spans[:, 1] > spans[:, 0]).all()
        assert spans.min() >= 0
        assert spans.max() <= SIZE[1]
        left = int(spans.min())
        right = int(spans.max())
        gray = image.float().mean(0)
        background = gray[:, right + 4 :].mean() if right < SIZE[1] - 8 else gray.max()
        assert (gray[:, left:right] - background).abs().max() > 30


def test_variants_have_equal_labels_and_different_images() -> None:
    texts = ("health", "market")
    first = draw_words(texts, SIZE, variant=0)
    second = draw_words(texts, SIZE, variant=1)
    views = guidance_views(first, "medium")
    assert first.labels == second.labels == views.labels
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.images, views.images)
    assert torch.equal(first.images, draw_words(texts, SIZE, variant=0).images)


def test_chosen_words_leave_out_excluded_words() -> None:
    opened = opened_results()
    excluded = ["market", "white", "study"]
    assert not set(opened.words(200, excluding=excluded)) & set(excluded)
    assert set(opened.words(290)) & set(excluded)
    with pytest.raises(UserError, match="2000 words"):
        opened.words(2000)


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_chosen_words_are_not_in_the_synthetic_training_data(scale: str) -> None:
    path = REPOSITORY / TABLE1
    recipe = read_recipe(recipe_layers(path, read_experiment(path), scale, {}))
    settings = recipe.synthetic
    assert isinstance(settings, Synthetic)
    assert not set(choose_words(250, settings)) & set(make_vocabulary(settings)[0])


def test_broken_image_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(jpeg(40))
    (tmp_path / "two.jpg").write_bytes(b"no image")
    assert read_words(str(tmp_path), SIZE, 5).labels == ("one",)
    (tmp_path / "one.jpg").unlink()
    with pytest.raises(UserError, match="none of these images can be decoded"):
        read_words(str(tmp_path), SIZE, 5)
