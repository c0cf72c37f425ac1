"""LMIM: losses, gradients of both branches, orders of the decoder, targets."""

from typing import Any, get_args

import pytest
import torch
from conftest import STAGE
from torch import Tensor

from core.config import (
    Alignment,
    Encoder,
    Guidance,
    Mask,
    Pretrain,
    ReconstructionDecoder,
    Target,
)
from core.data.batches import Batch
from core.lmim import LMIM, LMIMOutput, alignment_loss, reconstruction_loss, total_loss
from core.model.masking import random_mask
from core.model.targets import FrozenFeatures, PixelPatches
from core.runtime.seeds import generator
from core.training.pretrain import PretrainTask, make_model
from core.training.run_context import RunContext

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))
DECODER = ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0)
TARGET_KINDS = sorted(
    kind
    for target in get_args(get_args(Target)[0])
    for kind in get_args(target.model_fields["kind"].annotation)
)


def pretrain_config(**changes: Any) -> Pretrain:
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": DECODER,
        "mask": Mask(),
        "guidance": Guidance(),
        "alignment": Alignment(),
        "target": {"kind": "random_feature"},
    }
    return Pretrain(**(STAGE | settings | changes))


def visible_patches() -> Tensor:
    """(2, 12) of 64 patches."""
    return random_mask(2, 64, 0.8, generator=generator(0))


def forward(model: LMIM) -> LMIMOutput:
    """The model on random images with random guidance views."""
    output = model(torch.rand(2, 3, 32, 128), torch.rand(2, 3, 32, 128), visible_patches())
    assert isinstance(output, LMIMOutput)
    return output


def test_reconstruction_loss_is_the_mean_over_hidden_patches_only() -> None:
    target = torch.zeros(2, 4, 3)
    prediction = torch.tensor([1.0, 2.0, 5.0, 7.0]).view(1, 4, 1).expand(2, 4, 3)
    hidden = torch.tensor([[True, True, False, False]] * 2)
    assert reconstruction_loss(prediction, target, hidden).item() == pytest.approx((1 + 4) / 2)


def test_losses_refuse_shapes_that_differ() -> None:
    hidden = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(2, 4, 3\).*\(2, 4, 2\)"):
        reconstruction_loss(torch.zeros(2, 4, 3), torch.zeros(2, 4, 2), hidden)
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 3\)"):
        alignment_loss(torch.zeros(2, 4), torch.zeros(2, 3))


def test_reconstruction_loss_refuses_a_mask_without_hidden_patches() -> None:
    values = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="no patch is hidden"):
        reconstruction_loss(values, values, torch.zeros(2, 4, dtype=torch.bool))


def test_alignment_weight_enters_the_total() -> None:
    assert total_loss(torch.tensor(1.0), torch.tensor(3.0), 0.5).item() == 2.5
    assert total_loss(torch.tensor(1.0), None, 0.5).item() == 1.0


def test_both_branches_receive_the_gradient_of_the_alignment_in_cls_alone() -> None:
    output = forward(LMIM(pretrain_config(target={"kind": "pixel"})))
    assert output.alignment is not None
    assert output.guidance_features is not None
    for features in (output.features, output.guidance_features):
        (gradient,) = torch.autograd.grad(output.alignment, features, retain_graph=True)
        assert gradient[:, 0].abs().sum() > 0
        assert gradient[:, 1:].abs().sum() == 0


@pytest.mark.parametrize(
    ("stopped", "without_gradient"), [("guidance", "guidance_features"), ("masked", "features")]
)
def test_a_stopped_branch_gets_no_gradient_from_alignment(
    stopped: str, without_gradient: str
) -> None:
    alignment = Alignment(stop_gradient=stopped)
    output = forward(LMIM(pretrain_config(target={"kind": "pixel"}, alignment=alignment)))
    assert output.alignment is not None
    for name in ("features", "guidance_features"):
        (gradient,) = torch.autograd.grad(
            output.alignment, getattr(output, name), retain_graph=True, allow_unused=True
        )
        assert (gradient is None) == (name == without_gradient)


@pytest.mark.parametrize("order", ["SA-CA-FFN", "CA-SA-FFN"])
def test_guidance_changes_the_prediction(order: str) -> None:
    decoder = DECODER.model_copy(update={"order": order})
    model = LMIM(pretrain_config(decoder=decoder)).eval()
    images = torch.rand(2, 3, 32, 128)
    visible = visible_patches()
    same = model(images, images, visible).prediction
    inverted = model(images, 1 - images, visible).prediction
    assert not torch.allclose(same, inverted)


def test_a_single_branch_has_no_guidance_parameters_and_no_alignment() -> None:
    decoder = DECODER.model_copy(update={"order": "SA-FFN"})
    model = LMIM(pretrain_config(decoder=decoder, guidance=None, alignment=None))
    names = [name for name, _ in model.named_parameters()]
    assert not any("cross_attention" in name or "embed_guidance" in name for name in names)
    output = model(torch.rand(2, 3, 32, 128), None, visible_patches())
    assert output.alignment is None
    assert output.loss is output.reconstruction


def test_decoder_orders_compute_different_predictions() -> None:
    torch.manual_seed(0)
    first = LMIM(pretrain_config()).eval()
    decoder = first.config.decoder.model_copy(update={"order": "CA-SA-FFN"})
    second = LMIM(pretrain_config(decoder=decoder)).eval()
    second.load_state_dict(first.state_dict())
    images = torch.rand(2, 3, 32, 128)
    visible = visible_patches()
    predictions = [model(images, images, visible).prediction for model in (first, second)]
    assert not torch.allclose(*predictions)


@pytest.mark.parametrize("kind", TARGET_KINDS)
def test_a_target_has_the_values_that_the_config_states(kind: str) -> None:
    config = pretrain_config(target={"kind": kind})
    output = forward(LMIM(config))
    assert output.target.shape == (2, 64, config.target_values)
    assert output.prediction.shape == output.target.shape


def test_normalized_pixels_have_zero_mean_and_unit_variance_per_patch() -> None:
    patches = PixelPatches(ENCODER, normalized=True)(torch.rand(2, 3, 32, 128))
    torch.testing.assert_close(patches.mean(-1), torch.zeros(2, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.var(-1), torch.ones(2, 64), atol=1e-3, rtol=0)


def test_random_features_have_separate_weights_and_stay_frozen() -> None:
    model = make_model(pretrain_config(), None)
    assert isinstance(model.target, FrozenFeatures)
    target = model.target.encoder.state_dict()
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(target[name], model.encoder.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_losses_do_not_depend_on_how_a_batch_is_divided(context: RunContext) -> None:
    config = pretrain_config()
    task = PretrainTask(config, make_model(config, None), context)
    images = torch.randint(0, 256, (6, 3, 32, 128), dtype=torch.uint8)
    batch = Batch(images, list(range(6)), [""] * 6, [], list(range(6)), 6)
    whole = task.prepare_batch(batch, 7)(slice(0, 6))
    first = task.prepare_batch(batch, 7)(slice(0, 2))
    second = task.prepare_batch(batch, 7)(slice(2, 6))
    for name, value in whole.items():
        torch.testing.assert_close(first[name] * (2 / 6) + second[name] * (4 / 6), value)
