"""Properties of masks, targets, losses, decoders and guidance views."""

from typing import Any

import pytest
import torch
from conftest import STAGE

from core.config import (
    Alignment,
    Encoder,
    Finetune,
    Guidance,
    Mask,
    Pretrain,
    ReconstructionDecoder,
    TextDecoder,
    visible_count,
)
from core.lmim import LMIM, alignment_loss, reconstruction_loss, total_loss
from core.model.masking import (
    block_mask,
    hidden_patches,
    random_mask,
    sample_visible,
    stroke_density,
)
from core.model.recognizer import Recognizer
from core.model.targets import PixelPatches
from core.model.vit import VisionTransformer, gather_patches, patchify, position_table
from core.runtime.seeds import generator
from core.training.pretrain import PretrainTask, make_model
from core.training.run_context import RunContext
from core.views.guidance import OPERATIONS, STRENGTHS, apply_view, sample_operations, sample_view

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))
COMMON: dict[str, Any] = {"encoder": ENCODER, **STAGE}


def pretrain_config(**changes: Any) -> Pretrain:
    settings = COMMON | {
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0),
        "mask": Mask(),
        "guidance": Guidance(),
        "alignment": Alignment(),
        "target": {"kind": "random_feature"},
    }
    return Pretrain(**(settings | changes))


@pytest.mark.parametrize("kind", ["random", "block", "density"])
@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9])
def test_a_mask_hides_the_same_number_of_patches_in_every_image(kind: str, ratio: float) -> None:
    images, places = torch.rand(16, 3, 32, 128), torch.arange(16)
    visible = sample_visible(
        Mask(kind=kind, ratio=ratio), Encoder(), images, places, 16, generator=generator(0)
    )
    assert visible.shape == (16, visible_count(256, ratio))
    assert all(len(set(row)) == len(row) for row in visible.tolist())
    assert (hidden_patches(visible, 256).sum(1) == 256 - visible.shape[1]).all()
    some = sample_visible(
        Mask(kind=kind, ratio=ratio),
        Encoder(),
        images[5:9],
        places[5:9],
        16,
        generator=generator(0),
    )
    assert torch.equal(some, visible[5:9]), (
        "an image's mask follows from its place, whatever else is in the batch"
    )


def test_the_paper_leaves_51_of_256_patches_visible() -> None:
    assert visible_count(256, 0.8) == 51


def test_masks_follow_their_generator_and_differ_between_images() -> None:
    first, again, other = (
        random_mask(4, 64, 0.75, generator=generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_block_masks_hide_neighbors_more_often_than_random_ones() -> None:
    def hidden_neighbors(visible: torch.Tensor) -> float:
        hidden = hidden_patches(visible, 256).view(-1, 8, 32)
        return (hidden[:, :, 1:] & hidden[:, :, :-1]).float().mean().item()

    blocks = hidden_neighbors(block_mask(64, (8, 32), 0.6, generator=generator(0)))
    scattered = hidden_neighbors(random_mask(64, 256, 0.6, generator=generator(0)))
    assert blocks > scattered + 0.1


def word_in_the_left_half() -> torch.Tensor:
    """(64, 3, 32, 128) images with strokes on the left and next to nothing on the right."""
    images = torch.full((64, 3, 32, 128), 200.0)
    images[..., :64:4] = 20
    return images + torch.rand(images.shape, generator=generator(1))


def test_density_follows_the_strokes_and_is_even_where_there_are_none() -> None:
    density = stroke_density(word_in_the_left_half(), (4, 4))
    torch.testing.assert_close(density.mean(1), torch.ones(64))
    assert (density[:, 1:15].min() > 1.5) & (density[:, 17:].max() < 0.1)
    assert torch.equal(stroke_density(torch.full((2, 3, 32, 128), 7.0), (4, 4)), torch.ones(2, 32))


def test_density_masks_hide_strokes_more_often_and_ground_at_times() -> None:
    images = word_in_the_left_half()

    def hidden_share(mask: Mask) -> tuple[float, float]:
        visible = sample_visible(
            mask, Encoder(), images, torch.arange(len(images)), len(images), generator=generator(0)
        )
        hidden = hidden_patches(visible, 256).view(-1, 8, 32).float()
        return hidden[..., :16].mean().item(), hidden[..., 16:].mean().item()

    left, right = hidden_share(Mask(kind="density", ratio=0.6))
    assert left > 0.95
    assert 0.05 < right < 0.3
    weaker = hidden_share(Mask(kind="density", ratio=0.6, focus=0.5))
    assert right < weaker[1] < weaker[0] < left
    even = hidden_share(Mask(kind="density", ratio=0.6, focus=0))
    assert even == pytest.approx((0.6, 0.6), abs=0.02)


def test_reconstruction_loss_ignores_visible_patches_and_means_over_hidden_ones() -> None:
    target = torch.zeros(2, 4, 3)
    prediction = torch.tensor([1.0, 2.0, 5.0, 7.0]).view(1, 4, 1).expand(2, 4, 3)
    hidden = torch.tensor([[True, True, False, False]] * 2)
    assert reconstruction_loss(prediction, target, hidden).item() == pytest.approx((1 + 4) / 2)


def test_losses_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="prediction"):
        reconstruction_loss(
            torch.zeros(2, 4, 3), torch.zeros(2, 4, 2), torch.ones(2, 4, dtype=torch.bool)
        )
    with pytest.raises(ValueError, match="no patch is hidden"):
        reconstruction_loss(
            torch.zeros(2, 4, 3), torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.bool)
        )
    with pytest.raises(ValueError, match="differ in shape"):
        alignment_loss(torch.zeros(2, 4), torch.zeros(2, 3))


def test_alignment_weight_enters_the_total() -> None:
    assert total_loss(torch.tensor(1.0), torch.tensor(3.0), 0.5).item() == 2.5
    assert total_loss(torch.tensor(1.0), None, 0.5).item() == 1.0


def test_alignment_pulls_on_both_branches() -> None:
    model = LMIM(pretrain_config(target={"kind": "pixel"}))
    images, views = torch.rand(2, 3, 32, 128), torch.rand(2, 3, 32, 128)
    output = model(images, views, random_mask(2, 64, 0.8, generator=generator(0)))
    assert output.alignment is not None
    assert output.guidance_features is not None
    for features in (output.features, output.guidance_features):
        (gradient,) = torch.autograd.grad(output.alignment, features, retain_graph=True)
        assert gradient[:, 0].abs().sum() > 0
        assert gradient[:, 1:].abs().sum() == 0


@pytest.mark.parametrize(
    ("stopped", "still"), [("guidance", "guidance_features"), ("masked", "features")]
)
def test_a_stopped_branch_gets_no_gradient_from_alignment(stopped: str, still: str) -> None:
    model = LMIM(
        pretrain_config(target={"kind": "pixel"}, alignment=Alignment(stop_gradient=stopped))
    )
    output = model(
        torch.rand(2, 3, 32, 128),
        torch.rand(2, 3, 32, 128),
        random_mask(2, 64, 0.8, generator=generator(0)),
    )
    assert output.alignment is not None
    for name in ("features", "guidance_features"):
        (gradient,) = torch.autograd.grad(
            output.alignment, getattr(output, name), retain_graph=True, allow_unused=True
        )
        assert (gradient is None) == (name == still)


@pytest.mark.parametrize("order", ["SA-CA-FFN", "CA-SA-FFN"])
def test_guidance_changes_the_prediction_and_the_single_branch_has_none(order: str) -> None:
    decoder = ReconstructionDecoder(width=32, heads=2, feedforward=32, order=order)
    model = LMIM(pretrain_config(decoder=decoder)).eval()
    images, visible = torch.rand(2, 3, 32, 128), random_mask(2, 64, 0.8, generator=generator(0))
    one, other = (model(images, views, visible).prediction for views in (images, 1 - images))
    assert not torch.allclose(one, other)

    single = decoder.model_copy(update={"order": "SA-FFN"})
    plain = LMIM(pretrain_config(decoder=single, guidance=None, alignment=None))
    assert not any(
        "cross_attention" in name or "embed_guidance" in name
        for name, _ in plain.named_parameters()
    )
    output = plain(images, None, visible)
    assert output.alignment is None
    assert output.loss is output.reconstruction


def test_decoder_orders_compute_different_things() -> None:
    torch.manual_seed(0)
    first = LMIM(pretrain_config()).eval()
    decoder = first.config.decoder.model_copy(update={"order": "CA-SA-FFN"})
    second = LMIM(pretrain_config(decoder=decoder)).eval()
    second.load_state_dict(first.state_dict())
    images, visible = torch.rand(2, 3, 32, 128), random_mask(2, 64, 0.8, generator=generator(0))
    assert not torch.allclose(
        first(images, images, visible).prediction, second(images, images, visible).prediction
    )


def test_the_encoder_sees_only_visible_patches() -> None:
    encoder = VisionTransformer(ENCODER).eval()
    images, visible = torch.rand(2, 3, 32, 128), random_mask(2, 64, 0.8, generator=generator(0))
    hidden = (
        hidden_patches(visible, 64)
        .view(2, 1, 4, 1, 16, 1)
        .expand(2, 3, 4, 8, 16, 8)
        .reshape(2, 3, 32, 128)
    )
    changed = torch.where(hidden, torch.rand_like(images), images)
    torch.testing.assert_close(encoder(images, visible), encoder(changed, visible))
    assert encoder(images, visible).shape == (2, 1 + 12, 32)


def test_patches_are_numbered_row_by_row() -> None:
    images = torch.arange(4 * 8).float().view(1, 1, 4, 8).expand(1, 3, 4, 8)
    patches = patchify(images, (2, 4))
    assert patches[0, 1, :8].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert patches[0, 2, :4].tolist() == [16, 17, 18, 19]
    assert torch.equal(gather_patches(patches, torch.tensor([[3, 0]]))[0, 1], patches[0, 0])


def test_the_grid_table_tells_rows_and_columns_apart_and_the_released_one_does_not() -> None:
    grid, released = position_table(32, 256, 32)[0, 1:], position_table(32, 256, 16)[0, 1:]
    assert torch.equal(grid[5, :16], grid[5 + 32, :16])  # same column, next row
    assert torch.equal(grid[5, 16:], grid[6, 16:])  # same row, next column
    assert not torch.equal(
        released[5, 16:], released[5 + 16, 16:]
    )  # row 0 of 8 x 32 falls into two rows of 16 x 16
    assert torch.equal(released[5, :16], released[5 + 16, :16])


def test_normalised_pixels_have_zero_mean_and_unit_variance_in_each_patch() -> None:
    patches = PixelPatches(ENCODER, normalized=True)(torch.rand(2, 3, 32, 128))
    torch.testing.assert_close(patches.mean(-1), torch.zeros(2, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.var(-1), torch.ones(2, 64), atol=1e-3, rtol=0)


def test_random_features_come_from_another_initialisation_and_stay_frozen() -> None:
    model = make_model(pretrain_config(), None)
    assert not torch.equal(
        model.target.encoder.blocks[0].attn.qkv.weight, model.encoder.blocks[0].attn.qkv.weight
    )
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


@pytest.mark.parametrize("strength", ["weak", "medium", "strong", "steady"])
def test_a_guidance_view_is_an_image_and_another_look(strength: str) -> None:
    images = torch.rand(8, 3, 32, 128)
    view = sample_view(STRENGTHS[strength], 8, (32, 128), generator=generator(3))
    views = apply_view(images, view)
    assert views.shape == images.shape
    assert 0 <= views.min() <= views.max() <= 1
    assert not torch.allclose(views, images, atol=0.05)
    torch.testing.assert_close(views[2:5], apply_view(images[2:5], view[2:5]))


def test_a_weak_view_leaves_colors_alone() -> None:
    images = torch.full((16, 3, 32, 128), 0.3)
    images[:, 1] = 0.8
    weak = apply_view(images, sample_view(STRENGTHS["weak"], 16, (32, 128), generator=generator(0)))
    medium = apply_view(
        images, sample_view(STRENGTHS["medium"], 16, (32, 128), generator=generator(0))
    )
    torch.testing.assert_close(weak, images, atol=1e-3, rtol=0)
    assert (medium - images).abs().mean() > 0.05


def test_a_view_that_changes_nothing_returns_the_image() -> None:
    view = sample_view(STRENGTHS["weak"], 2, (32, 128), generator=generator(0))
    still = type(view)(**(vars(view) | {"matrix": torch.eye(3).repeat(2, 1, 1)}))
    images = torch.rand(2, 3, 32, 128)
    torch.testing.assert_close(apply_view(images, still), images, atol=1e-4, rtol=0)


def test_between_three_and_all_operations_are_chosen_evenly() -> None:
    chosen = torch.stack(
        list(sample_operations(STRENGTHS["medium"], 20_000, generator=generator(0)).values())
    )
    counts = chosen.sum(0)
    assert counts.min() == 3
    assert counts.max() == len(OPERATIONS)
    assert counts.float().mean().item() == pytest.approx(6.5, abs=0.1)
    torch.testing.assert_close(chosen.float().mean(1), torch.full((10,), 0.65), atol=0.02, rtol=0)


def test_losses_do_not_depend_on_how_a_batch_is_split(context: RunContext) -> None:
    from core.data.batches import Batch

    config = pretrain_config()
    task = PretrainTask(config, make_model(config, None), context)
    images = torch.randint(0, 256, (6, 3, 32, 128), dtype=torch.uint8)
    batch = Batch(images, list(range(6)), [""] * 6, [], list(range(6)), 6)
    whole = task.prepare_batch(batch, 7)(slice(0, 6))
    parts = [task.prepare_batch(batch, 7)(part) for part in (slice(0, 2), slice(2, 6))]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] * (2 / 6) + parts[1][name] * (4 / 6), value)


def test_cached_reading_equals_recomputing_the_whole_prefix() -> None:
    model = Recognizer(
        Finetune(**COMMON, decoder=TextDecoder(width=32, layers=2, heads=2), max_length=9)
    ).eval()
    images = torch.rand(3, 3, 32, 128)
    tokens, probabilities = model.greedy_decode(images)
    logits = model(images, tokens, torch.full((3,), 9))
    torch.testing.assert_close(
        logits.softmax(-1).max(-1).values, probabilities, atol=1e-5, rtol=1e-5
    )
    assert torch.equal(logits.argmax(-1), tokens)


def test_reading_stops_once_every_word_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recognizer(
        Finetune(**COMMON, decoder=TextDecoder(width=32, layers=1, heads=2), max_length=9)
    ).eval()
    with torch.no_grad():
        model.classify.bias[model.charset.eos] = 100
    assert model.greedy_decode(torch.rand(3, 3, 32, 128))[0].shape == (3, 1)
