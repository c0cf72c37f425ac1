"""Losses, features, decoded texts and gradients equal those of the released code.

Weights and inputs are regenerated from names (tests/golden_weights.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE
from golden_weights import golden_image, golden_state, load_golden, normal
from torch import Tensor

from core.checkpoints.released_names import from_released
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
from core.lmim import LMIM, LMIMOutput
from core.model.masking import hidden_patches, visible_from_noise
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.model.vit import position_table
from core.runtime.safetensors_io import load_into

TOLERANCE = 1e-4
ENCODER = Encoder(width=48, depth=3, heads=3)


def assert_described(tensor: Tensor, golden: Mapping[str, Any]) -> None:
    """Compare shape, moments, and first and last values with the golden file (six decimals)."""
    assert list(tensor.shape) == golden["shape"]
    assert tensor.mean().item() == pytest.approx(golden["mean"], rel=TOLERANCE, abs=1e-6)
    assert tensor.std().item() == pytest.approx(golden["std"], rel=TOLERANCE)
    flat = tensor.detach().flatten()
    torch.testing.assert_close(flat[:8], torch.tensor(golden["first"]), rtol=TOLERANCE, atol=2e-6)
    torch.testing.assert_close(flat[-8:], torch.tensor(golden["last"]), rtol=TOLERANCE, atol=2e-6)


def assert_gradients(model: torch.nn.Module, golden: Mapping[str, Any]) -> None:
    """Compare the gradient norm of every trained parameter."""
    names = {
        ours: released
        for released in golden["grad_norm"]
        for ours in from_released_name(released, golden)
    }
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    assert names.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(
            golden["grad_norm"][names[name]], rel=TOLERANCE
        ), name


def from_released_name(name: str, golden: Mapping[str, Any]) -> list[str]:
    """Our names of a released parameter.

    The other names are needed too, because they determine the kind of the checkpoint."""
    marked = {key: torch.tensor(float(key == name)).view(1, 1) for key in golden["names"]}
    return [ours for ours, value in from_released(marked).items() if value.item() == 1]


@pytest.fixture(scope="module")
def pretraining() -> tuple[LMIM, LMIMOutput]:
    golden = load_golden("lmim")
    config = Pretrain(
        encoder=ENCODER,
        decoder=ReconstructionDecoder(width=64, depth=2, heads=4),
        mask=Mask(),
        guidance=Guidance(),
        alignment=Alignment(),
        target={"kind": "mae_feature"},
        **STAGE,
    )
    model = LMIM(config).eval()
    load_into(model, from_released(golden_state(golden["names"])), "", Path("golden"))
    visible = visible_from_noise(normal("noise", [3, 256]), visible_count(256, 0.8))
    output = model(
        golden_image("image", [3, 3, 32, 128]),
        golden_image("guidance_view", [3, 3, 32, 128]),
        visible,
    )
    output.loss.backward()
    assert int(hidden_patches(visible, 256).sum()) == golden["mask_sum"]
    return model, output


def test_pretraining_losses_equal_the_released_codes(pretraining: tuple[LMIM, LMIMOutput]) -> None:
    golden = load_golden("lmim")
    _, output = pretraining
    assert output.alignment is not None
    assert output.loss.item() == pytest.approx(golden["loss"], rel=TOLERANCE)
    assert output.reconstruction.item() == pytest.approx(golden["recon"], rel=TOLERANCE)
    assert output.alignment.item() == pytest.approx(golden["align"], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("features", "masked_latent"),
        ("guidance_features", "guidance_latent"),
        ("target", "target"),
        ("prediction", "prediction"),
    ],
)
def test_pretraining_features_equal_the_released_codes(
    pretraining: tuple[LMIM, LMIMOutput], part: str, name: str
) -> None:
    assert_described(getattr(pretraining[1], part), load_golden("lmim")[name])


def test_pretraining_gradients_equal_the_released_codes(
    pretraining: tuple[LMIM, LMIMOutput],
) -> None:
    assert_gradients(pretraining[0], load_golden("lmim"))


@pytest.mark.parametrize(("part", "width"), [("encoder", 48), ("decoder", 64)])
def test_the_position_table_equals_the_released_codes(part: str, width: int) -> None:
    assert_described(position_table(width, 256, 16), load_golden("lmim")["position_table"][part])


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    decoder = TextDecoder(width=64, layers=2, heads=4, feedforward=32)
    model = Recognizer(Finetune(encoder=ENCODER, decoder=decoder, **STAGE)).eval()
    load_into(
        model, from_released(golden_state(load_golden("recognizer")["names"])), "", Path("golden")
    )
    return model


def test_recognizer_loss_logits_and_gradients_equal_the_released_codes(
    recognizer: Recognizer,
) -> None:
    golden = load_golden("recognizer")
    images = golden_image("image", [4, 3, 32, 128])
    tokens, lengths = recognizer.charset.encode(golden["words"], golden["max_len"])
    assert lengths.tolist() == golden["lengths_with_eos"]
    logits = recognizer(images, tokens, lengths)
    loss = sequence_cross_entropy(logits, tokens, lengths)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(golden["loss"], rel=TOLERANCE)
    assert_described(recognizer.encoder(images), golden["encoder_features"])
    assert_described(logits, golden["logits"])
    assert_gradients(recognizer, golden)


def test_greedy_decoding_equals_the_released_codes(recognizer: Recognizer) -> None:
    golden = load_golden("recognizer")
    tokens, probabilities = recognizer.greedy_decode(golden_image("image", [4, 3, 32, 128]))
    assert tokens.tolist() == golden["greedy_ids"]
    expected = torch.tensor(golden["greedy_max_probability"])
    torch.testing.assert_close(probabilities, expected, rtol=TOLERANCE, atol=1e-6)


def test_cross_attention_while_decoding_equals_the_released_codes(recognizer: Recognizer) -> None:
    golden = load_golden("recognizer")
    tokens = torch.tensor(golden["greedy_ids"])
    lengths = torch.full((4,), golden["max_len"])
    attention = recognizer.decoder_layers[-1].cross_attention
    seen: dict[str, Tensor] = {}
    attention.register_forward_hook(
        lambda module, inputs, output: seen.update(queries=inputs[0], keys=inputs[1])
    )
    recognizer(golden_image("image", [4, 3, 32, 128]), tokens, lengths)
    queries = attention.query(seen["queries"]).unflatten(-1, (4, 16)).transpose(1, 2)
    weights = (queries @ seen["keys"].squeeze(2).permute(0, 2, 3, 1) / 16**0.5).softmax(-1).mean(1)
    assert_described(weights, golden["cross_attention_last_layer_mean_over_heads"])


def test_parameter_counts_equal_the_published_ones() -> None:
    encoder = Encoder()
    pretrain = Pretrain(
        encoder=encoder,
        decoder=ReconstructionDecoder(),
        mask=Mask(),
        guidance=Guidance(),
        alignment=Alignment(),
        target={"kind": "mae_feature"},
        **STAGE,
    )
    with torch.device("meta"):
        assert sum(p.numel() for p in LMIM(pretrain).parameters() if p.requires_grad) == 30_314_368
        recognizer = Recognizer(Finetune(encoder=encoder, decoder=TextDecoder(), **STAGE))
    assert sum(p.numel() for p in recognizer.parameters()) == 35_791_457


def test_the_parameter_count_for_chinese_equals_the_published_one(tmp_path: Path) -> None:
    file = tmp_path / "characters.txt"
    file.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 7934))) + "\n", encoding="utf-8")
    config = Finetune(
        encoder=Encoder(), decoder=TextDecoder(), max_length=40, charset=f"file:{file}", **STAGE
    )
    with torch.device("meta"):
        model = Recognizer(config)
    assert model.charset.classes == 7937
    assert sum(p.numel() for p in model.parameters()) == 43_827_457
