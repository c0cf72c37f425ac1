"""What models are looked at with: words, attention, reconstructions, alignment; figures of stored records; captions."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from analysis.figures import alignment, attention, reconstruction
from analysis.figures import cross_attention as reading
from analysis.figures.models import Pretrained, untrained
from analysis.figures.probe_words import Words, draw_words, guided, read_words, some_words
from analysis.report import overview
from analysis.report.open_results import Opened, open_results, recorded_files
from analysis.style import FigureWriter, as_html_table, figure_of, grid
from core.config import Encoder
from core.data.batches import to_unit
from core.lmim import reconstruction_loss
from core.model.kernels.attention import split_qkv
from core.model.vit import patchify
from core.runtime.errors import UserError
from core.synthetic.fonts import cjk_faces
from results.provenance import REPOSITORY

SIZE = (32, 128)
SMALL = Encoder(image=SIZE, patch=(16, 8), width=24, depth=2, heads=2, positions="grid")
PUBLISHED = REPOSITORY / "results/published/mini"
TABLE1 = "experiments/ablation_alignment.yaml"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """What is published of Tables 1 and 4, with its weights."""
    out = tmp_path_factory.mktemp("analysis")
    return open_results(PUBLISHED, [TABLE1, "experiments/ablation_target.yaml"], "mini", out)


@pytest.fixture(scope="module")
def models(opened: Opened) -> list[Pretrained]:
    return opened.models(0)


@pytest.fixture(scope="module")
def words() -> Words:
    return draw_words(some_words(24), SIZE)


def without(words: Words, name: str) -> Words:
    return Words(words.images, words.labels, None, words.source) if name == "spans" else words


# words


def test_characters_of_a_drawn_word_follow_one_another_over_its_ink(words: Words) -> None:
    assert words.spans is not None
    for label, spans, image in zip(words.labels, words.spans, words.images, strict=True):
        assert len(spans) == len(label)
        assert (spans[1:, 0] == spans[:-1, 1]).all()
        assert (spans[:, 1] > spans[:, 0]).all()
        assert spans.min() >= 0
        assert spans.max() <= SIZE[1]
        gray = image.float().mean(0)
        ground = gray[:, int(spans.max()) + 4 :].mean() if spans.max() < SIZE[1] - 8 else gray.max()
        inside = gray[:, int(spans.min()) : int(spans.max())]
        assert (inside - ground).abs().max() > 30  # ink lies where characters are told to be


def test_another_look_is_of_the_same_words_and_another_image() -> None:
    first, second = (draw_words(("health", "market"), SIZE, look=look) for look in (0, 1))
    views = guided(first, "medium")
    assert first.labels == second.labels == views.labels
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.images, views.images)
    assert torch.equal(first.images, draw_words(("health", "market"), SIZE, look=0).images)


def test_words_that_are_fitted_on_are_not_those_that_are_shown(opened: Opened) -> None:
    shown = ["market", "white", "study"]
    assert not set(opened.words(200, without=shown)) & set(shown)
    assert set(opened.words(290)) & set(shown)
    with pytest.raises(
        UserError, match="2000 words were asked for that training does not draw; there are"
    ):
        opened.words(2000)


def test_words_that_are_drawn_have_no_part_in_the_rendered_training_data() -> None:
    from core.synthetic.words import vocabulary
    from experiments.planning.recipe import read_recipe, recipe_layers
    from experiments.planning.schema import read_experiment

    path = REPOSITORY / TABLE1
    layers = recipe_layers(path, read_experiment(path), "mini", {})
    mini = read_recipe(layers).rendered
    assert mini is not None
    assert not set(some_words(250, mini)) & set(vocabulary(mini)[0])
    smoke = read_recipe(recipe_layers(path, read_experiment(path), "smoke", {})).rendered
    assert smoke is not None
    assert not set(some_words(250, smoke)) & set(vocabulary(smoke)[0])


def test_own_pictures_are_read_and_broken_ones_left_out(tmp_path: Path) -> None:
    from conftest import jpeg

    (tmp_path / "one.jpg").write_bytes(jpeg(40))
    (tmp_path / "two.jpg").write_bytes(b"no image")
    assert read_words(str(tmp_path), SIZE, 5).labels == ("one",)
    (tmp_path / "one.jpg").unlink()
    with pytest.raises(UserError, match="none of these images can be decoded"):
        read_words(str(tmp_path), SIZE, 5)


# attention


def test_the_weights_that_are_shown_are_those_that_the_block_mixes_with(words: Words) -> None:
    encoder = untrained(SMALL)
    layer, caught = encoder.blocks[-1].attn, []
    layer.register_forward_hook(
        lambda module, arguments, output: caught.append((arguments[0], output))
    )
    weights = attention.self_attention(encoder, words.inputs)
    assert layer.fused_attn == untrained(SMALL).blocks[-1].attn.fused_attn
    source, output = caught[0]
    batch, length, width = source.shape
    values = layer.qkv(source).reshape(batch, length, 3, SMALL.heads, -1).permute(2, 0, 3, 1, 4)[2]
    mixed = layer.proj((weights @ values).transpose(1, 2).reshape(batch, length, width))
    torch.testing.assert_close(mixed, output)
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch, SMALL.heads, length))


def test_cross_attention_is_of_the_reading_itself(
    opened: Opened, models: list[Pretrained], words: Words
) -> None:
    ((_, reader),) = opened.recognizers(
        [model for model in models if "LMIM" in model.name][:1]
    ).values()
    tokens, weights = reading.cross_attention(reader, words.inputs)
    assert torch.equal(tokens, reader.read(words.inputs)[0])
    assert weights.shape == (
        len(words),
        tokens.shape[1],
        reader.config.decoder.heads,
        1 + SMALL.grid[1],
    )
    layer = reader.layers[-1].cross_attention
    image = reader.bridge(reader.encoder(words.inputs))
    (values,) = split_qkv(layer.keys_values(image)[1:])
    caught: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, arguments, output: caught.append(output))
    reading.cross_attention(reader, words.inputs)
    mixed = layer.out((weights[:, 0, :, None] @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, caught[0])


def test_attention_to_the_querys_own_character_alone_is_local(words: Words) -> None:
    spans = np.array([[0.0, 32.0], [32.0, 64.0]])
    on = attention.overlap(spans, SMALL)
    weights = np.zeros((1 + SMALL.patches, 1 + SMALL.patches))
    for patch in range(SMALL.patches):
        own = on[on[:, patch].argmax()] if on[:, patch].any() else np.ones(SMALL.patches)
        weights[1 + patch, 1:] = own / own.sum()
    found = attention.locality(weights, spans, SMALL)
    assert found["character"] == pytest.approx(100)
    assert found["word"] == pytest.approx(100)
    assert found["covered"] == pytest.approx(50)
    assert found["cls"] == 0
    assert found["distance"] < attention.locality(np.ones_like(weights), spans, SMALL)["distance"]


def test_even_attention_gives_each_character_its_share_of_the_image() -> None:
    spans = np.array([[0.0, 32.0], [32.0, 64.0]])
    found = attention.locality(np.full((1 + SMALL.patches,) * 2, 0.1), spans, SMALL)
    assert found["character"] == pytest.approx(25)
    assert found["word"] == pytest.approx(50)
    assert found["covered"] == pytest.approx(100)


def test_words_without_known_places_are_not_measured(words: Words) -> None:
    with pytest.raises(ValueError, match="drawn words only"):
        attention.localities([], without(words, "spans"), SMALL)


def test_queries_lie_on_the_characters_they_are_asked_from(words: Words) -> None:
    assert words.spans is not None
    for spans in words.spans:
        for query in attention.query_patches(spans, SMALL, 3):
            middle = attention.centers(SMALL)[query, 0]
            assert spans.min() - SMALL.patch[1] < middle < spans.max() + SMALL.patch[1]


# reconstruction


def test_the_error_that_is_told_is_the_papers_loss(models: list[Pretrained], words: Words) -> None:
    made = reconstruction.reconstruct(models[0], words)
    whole = reconstruction_loss(
        made.prediction, made.target, made.hidden
    )  # equally many patches are hidden in every word
    assert made.errors.mean() == pytest.approx(float(whole), rel=1e-5)


def test_without_guidance_there_is_no_view_and_another_words_view_changes_the_prediction(
    models: list[Pretrained], words: Words
) -> None:
    plain, guided_model = models[0], models[1]
    assert reconstruction.reconstruct(plain, words).view is None
    own, other = (
        reconstruction.reconstruct(guided_model, words, guided_by=by) for by in ("own", "other")
    )
    assert torch.equal(own.hidden, other.hidden)
    assert torch.equal(own.target, other.target)
    assert not torch.equal(own.prediction, other.prediction)


def test_patches_and_pictures_are_each_others_inverse(words: Words) -> None:
    unit = to_unit(words.images, torch.device("cpu"))
    pictures = reconstruction.as_pictures(patchify(unit, SMALL.patch), SMALL)
    np.testing.assert_allclose(pictures, unit.permute(0, 2, 3, 1).numpy())


def test_a_lens_shows_normalised_pixels_as_the_image_itself(
    models: list[Pretrained], words: Words
) -> None:
    (pixels,) = [model for model in models if model.name == "pixels"]
    lens = reconstruction.fit_lens(pixels, words)
    made = reconstruction.reconstruct(pixels, words)
    assert reconstruction.explained(lens, made, words) == pytest.approx(1, abs=1e-3)


def test_the_read_out_of_features_is_better_on_words_it_has_not_seen_than_their_mean(
    models: list[Pretrained], words: Words
) -> None:
    lens = reconstruction.fit_lens(models[1], draw_words(some_words(150), SIZE, look=1))
    assert (
        0.5
        < reconstruction.explained(lens, reconstruction.reconstruct(models[1], words), words)
        < 1
    )


# alignment


def test_rank_uniformity_and_spread_tell_a_collapse_from_a_ball() -> None:
    ball = np.random.default_rng(0).normal(size=(4000, 8))
    assert alignment.effective_rank(ball) == pytest.approx(8, rel=0.01)
    assert alignment.uniformity(ball[:500]) < -2.5
    assert alignment.spread(ball) == pytest.approx(1, abs=0.01)
    line = np.outer(ball[:, 0], np.arange(1, 9))
    assert alignment.effective_rank(line) == pytest.approx(1)
    point = np.ones((50, 8)) + 1e-9 * ball[:50]
    assert alignment.uniformity(point) == pytest.approx(0, abs=1e-6)
    assert alignment.spread(point) == pytest.approx(0, abs=1e-12)


def test_recall_is_whole_for_equal_looks_and_chance_for_equal_words() -> None:
    values = np.random.default_rng(0).normal(size=(60, 8))
    assert (
        alignment.recall(alignment.TwoViews(values, values + 1e-3), 1).value == 1
    )  # a common shift is taken away
    same = np.ones((60, 8))
    assert alignment.recall(alignment.TwoViews(same, same), 5).value == 0
    other = np.random.default_rng(1).normal(size=(60, 8))
    assert alignment.recall(alignment.TwoViews(values, other), 1).value < 0.15


def test_looks_of_other_words_are_refused(words: Words) -> None:
    with pytest.raises(ValueError, match="same words"):
        alignment.features(untrained(SMALL), words, words[range(len(words) - 1, -1, -1)])


# figures of stored records


def with_patch(model: Pretrained, patch: tuple[int, int], name: str) -> Pretrained:
    """A model that was never trained, of another size of patches."""
    encoder = model.config.encoder.model_copy(update={"patch": patch})
    made = replace(model, name=name, config=model.config.model_copy(update={"encoder": encoder}))
    vars(made)["encoder"] = untrained(encoder)
    return made


def test_models_of_different_patches_are_each_drawn_on_their_own(models: list[Pretrained]) -> None:
    words = draw_words(("market", "white"), SIZE)
    both = [with_patch(models[0], (16, 4), "small"), with_patch(models[0], (8, 8), "square")]
    axes = attention.by_method(both, words, 0)
    boxes = [place.patches[0].get_bbox() for place in axes[:, 0]]
    assert [round(box.width + 1) for box in boxes] == [4, 8]
    assert [round(box.height + 1) for box in boxes] == [16, 8]
    rows = list(attention.compare(both, words)["row"])
    assert rows[:3] == ["small", "square", "never trained, patch 16 x 4"]
    assert attention.distance_figure(both, words).get_ylim()[0] == 0


def test_names_of_rows_are_shown_as_they_are_written(
    models: list[Pretrained], tmp_path: Path
) -> None:
    words = draw_words(("market", "white", "study"), SIZE)
    names = ["_hidden $x^2", "costs $5 and $\\frac{1$", "<b>a & b</b>"]
    odd = [replace(model, name=name) for model, name in zip(models, names, strict=False)]
    figure = attention.distance_figure(odd, words)
    (legend,) = figure_of(figure).legends
    assert [text.get_text().lstrip("\u200b").replace("\\$", "$") for text in legend.get_texts()][
        :3
    ] == names
    found = alignment.looks(odd[:2], words, draw_words(words.labels, SIZE, look=1))
    for number, axes in enumerate(
        (
            figure,
            alignment.recall_figure(alignment.measure(found), 3),
            attention.by_method(odd, words, 0),
        )
    ):
        FigureWriter(tmp_path, "mini").show(
            axes, str(number), "Odd names.", ["run"], [0]
        )  # would raise for half a formula
    assert (
        "&lt;b&gt;a &amp; b&lt;/b&gt;" in as_html_table(attention.compare(odd, words))._repr_html_()
    )


def test_chinese_texts_are_drawn_where_a_font_has_them(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    try:
        cjk_faces("中文")
    except UserError as error:
        pytest.skip(str(error))
    from analysis.figures.error_figures import confusion_figure

    line = {
        "row": "中文",
        "what": "汉 → 字",
        "kind": "read as another",
        "wanted": "汉",
        "read": "字",
        "count": 2,
        "of": 3,
    }
    axes = confusion_figure(pd.DataFrame([line]))
    FigureWriter(tmp_path, "mini").show(axes, "chinese", "中文", ["run"], [0])
    assert not [str(one.message) for one in recwarn if "missing from font" in str(one.message)]


def test_every_figure_function_returns_its_axes(opened: Opened, models: list[Pretrained]) -> None:
    words = draw_words(("market", "white"), SIZE)
    many = draw_words(some_words(20), SIZE)
    lenses = {model.run: reconstruction.fit_lens(model, many) for model in models}
    found = alignment.looks(models[:2], many, draw_words(some_words(20), SIZE, look=1))
    readers = {name: reader for name, (_, reader) in opened.recognizers(models).items()}
    grids = {
        "panel": reconstruction.panel(models, lenses, words, 0),
        "by_method": attention.by_method(models, words, 0),
        "by_head": attention.by_head(models[:2], words, 1),
        "by_character": reading.by_character(readers, words, 0),
    }
    assert grids["panel"].shape == (len(models), len(reconstruction.COLUMNS))
    assert grids["by_method"].shape == (len(models), 3)
    assert grids["by_head"].shape == (2, 1 + models[0].config.encoder.heads)
    assert [axes.get_ylabel().replace("\n", " ") for axes in grids["by_method"][:, 0]] == [
        model.name for model in models
    ]
    assert all(isinstance(axes, Axes) for axes in grids["by_character"].flat)
    distance = attention.distance_figure(models, many)
    assert distance.get_ylabel() == "mean attention distance (pixels)"
    assert alignment.spectrum_figure(found).get_yscale() == "log"
    recall = alignment.recall_figure(alignment.measure(found), 20)
    assert [text.get_text().replace("\n", " ") for text in recall.get_yticklabels()] == list(found)
    differences = overview.differences(opened.tables)
    told = [text.get_text() for text in differences.get_yticklabels()]
    assert told[0].replace("\n", " ") == "T1: guidance − no guidance"
    assert len(told) == sum(
        "Avg" in one for table in opened.tables for one in table.content["comparisons"]
    )


def test_tables_of_numbers_have_a_line_for_every_row_and_what_they_are_to_be_held_against(
    models: list[Pretrained], words: Words
) -> None:
    attended = attention.compare(models[:2], words)
    assert list(attended["row"]) == [
        "no guidance",
        "guidance",
        "never trained",
        "even attention",
        "own patch alone",
    ]
    lenses = {model.run: reconstruction.fit_lens(model, words) for model in models[:2]}
    lost = reconstruction.losses(models[:2], lenses, words)
    assert lost["another word's view (%)"].iloc[0] == "–"
    assert float(lost["lost by the wrong view"].iloc[1].split()[0]) > 0


def test_a_figure_is_kept_for_papers_and_its_caption_says_what_made_it(tmp_path: Path) -> None:
    axes = grid(1, 1, 2, 1)[0, 0]
    shown = FigureWriter(tmp_path, "mini").show(
        axes, "one", "A <figure>.", ["pretrain-1", "pretrain-2", "pretrain-1"], [0, 1]
    )
    assert shown.caption == "A <figure>. Scale mini, seeds 0, 1; runs pretrain-1, pretrain-2."
    assert [path.name for path in shown.files] == ["one.mini.pdf", "one.mini.png", "one.mini.txt"]
    assert (tmp_path / "one.mini.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "one.mini.png").read_bytes() == shown.png
    assert "A &lt;figure&gt;." in shown._repr_html_()
    assert figure_of(axes) is figure_of([axes])


# what is opened


def test_rows_of_one_method_are_all_shown_and_a_shared_run_once(opened: Opened) -> None:
    assert [model.name for model in opened.models(0)] == [
        "no guidance",
        "guidance",
        "guidance + alignment (LMIM)",
        "pixels",
        "random features",
    ]
    assert [model.name for model in opened.methods(0)] == [
        "no guidance",
        "guidance",
        "guidance + alignment (LMIM)",
    ]
    assert {model.name for model in opened.aligned(0)} == {
        "guidance",
        "guidance + alignment (LMIM)",
    }


def test_models_that_are_not_there_are_named_and_the_others_shown(tmp_path: Path) -> None:
    store = tmp_path / "results"
    for part in ("tables", "runs"):
        shutil.copytree(PUBLISHED / part, store / part)
    run = "pretrain-7adf1ecf9239"  # guidance
    (store / "runs" / run / "model.safetensors").write_bytes(b"cut short")
    (store / "runs" / "pretrain-daf29d79820c" / "model.safetensors").unlink()  # no guidance
    found = open_results(store, [TABLE1], None, tmp_path / "out")
    named = [model.name for model in found.models(0)]
    assert named == ["guidance + alignment (LMIM)"]
    assert (
        "pretrain-daf29d79820c: has no weights here; run its experiment for them"
        in found.told_missing().text
    )
    assert "guidance: " in found.told_missing().text
    assert "not a readable safetensors file" in found.told_missing().text
    assert not found.recognizers(found.models(0)[:0])
    assert found.missing == []  # it is about what was asked for last
    (store / "runs" / "pretrain-1b6717e0db8a" / "model.safetensors").unlink()  # the teacher of all
    again = open_results(store, [TABLE1], None, tmp_path / "out")
    with pytest.raises(UserError, match="no weights of any pre-training of seed 0"):
        again.methods(0)
    with pytest.raises(
        UserError, match="no two models of seed 3 that differ by their alignment alone"
    ):
        again.aligned(3)


def test_a_folder_without_tables_or_with_several_scales_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="holds no table of scale mini; run an experiment first, or name its FILE"
    ):
        recorded_files(tmp_path, None)
    (tmp_path / "tables").mkdir()
    for scale in ("smoke", "small"):
        (tmp_path / "tables" / f"ablation_mask.{scale}.json").write_text("[]")
    with pytest.raises(
        UserError, match="holds tables of the scales small, smoke; choose one with --scale"
    ):
        recorded_files(tmp_path, None)
    assert [path.stem for path in recorded_files(tmp_path, "small")[0]] == ["ablation_mask"]
    with pytest.raises(
        UserError, match="holds no table of scale paper; there are tables of small, smoke"
    ):
        recorded_files(tmp_path, "paper")


def test_images_are_drawn_again_where_their_data_are_not_there(
    opened: Opened, tmp_path: Path
) -> None:
    run = opened.tables[0].rows[0].evaluations[0]
    images = opened.images(run)
    _, indices, labels, *_ = opened.store.run(run).predictions()
    assert images["curve"][int(indices[0])].size == (128, 32)  # type: ignore[union-attr]
    from core.synthetic.words import render

    (root,) = images["curve"].roots
    assert root.rendered is not None
    assert render(root.rendered, "curve", int(indices[0]))[1] == labels[0]
