"""Import of released checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from golden_weights import golden_state, load_golden
from released_files import (
    Files,
    altered,
    assert_golden_pretraining,
    assert_golden_recognition,
    drop,
    import_file,
    write_released_files,
)

from core.checkpoints.load import load_weights
from core.checkpoints.released import read_released
from core.checkpoints.released_config import with_setting
from core.checkpoints.released_names import from_released, released_kind
from core.config import PretrainModel
from core.runtime import safetensors_io

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


def test_imported_pretraining_weights_give_the_golden_losses(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "lmim.safetensors"
    report = import_file(capsys, files["lmim"], out)
    assert report["kind"] == "LMIM pre-trained"
    assert report["matched"] == 129
    assert report["missing"] == []
    assert report["ignored"].keys() == {"decoder_pos_embed"}
    assert_golden_pretraining(out)


def test_an_imported_recognizer_gives_the_golden_tokens(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "recognizer.safetensors"
    report = import_file(capsys, files["recognizer"], out)
    assert report["kind"] == "LMIM fine-tuned"
    assert {"pos_embed", "decoder.position_enc.position_table"} <= report["ignored"].keys()
    assert report["config"]["decoder"] == {
        "width": 64,
        "layers": 2,
        "heads": 4,
        "feedforward": 32,
        "dropout": 0.1,
    }
    assert "encoder.heads" in report["assumed"]
    assert_golden_recognition(out)


def test_a_released_recognizer_is_used_without_import(files: Files) -> None:
    assert_golden_recognition(files["recognizer"])


def test_the_published_samples_are_imported(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    import_file(capsys, shared / "parity" / "lmim_pretrain.pth", tmp_path / "a.safetensors")
    assert_golden_pretraining(tmp_path / "a.safetensors")
    import_file(capsys, shared / "parity" / "lmim_finetune.pth", tmp_path / "b.safetensors")
    assert_golden_recognition(tmp_path / "b.safetensors")


def test_a_maerec_file_gives_an_encoder(files: Files, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "maerec.safetensors"
    report = import_file(capsys, files["maerec"], out)
    assert report["kind"] == "MAERec pre-trained"
    assert "not needed" in report["ignored"]["mask_token"]
    imported = safetensors_io.load(out)[0]
    expected = from_released(golden_state(load_golden("lmim")["names"]))
    name = "encoder.blocks.1.attn.qkv.weight"
    assert torch.equal(imported[name], expected[name])


def test_the_import_lists_every_weight(files: Files, tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = call(capsys, "import", files["recognizer"], tmp_path / "x.safetensors")
    assert code == 0
    assert "87 of 91" in out
    assert "pos_embed): an alias of the encoder's" in out
    assert "encoder.heads=3" in out


def test_the_metadata_name_the_file_and_its_epoch(files: Files) -> None:
    weights, metadata = load_weights(files["lmim"])
    assert metadata["stage"] == "pretrain"
    assert metadata["imported"]["file"] == "lmim.pth"
    assert metadata["imported"]["epoch"] == 9
    assert metadata["imported"]["args"] == {"mask_ratio": 0.8}
    assert metadata["imported"]["kind"] == "LMIM pre-trained"
    assert len(metadata["imported"]["sha256"]) == 64
    assert PretrainModel.model_validate(metadata["config"]).encoder.width == 48
    assert "encoder.blocks.0.attn.qkv.weight" in weights


def test_a_file_without_its_teacher_is_imported_and_reported(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    bare = altered(files["lmim"], tmp_path / "bare.pth", drop("model_maeenc_momentum."))
    report = import_file(capsys, bare, tmp_path / "bare.safetensors")
    assert report["missing"] == ["target.encoder (the frozen teacher)"]
    code, out, _ = call(capsys, "export", tmp_path / "bare.safetensors", tmp_path / "out.pth")
    assert code == 0
    assert "without the frozen teacher" in out
    again = import_file(capsys, tmp_path / "out.pth", tmp_path / "again.safetensors")
    assert again["matched"] == report["matched"]


def test_the_prefix_of_a_distributed_model_is_removed(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    def wrap(content: dict[str, Any]) -> None:
        content["model"] = {f"module.{name}": value for name, value in content["model"].items()}

    wrapped = altered(files["recognizer"], tmp_path / "m.pth", wrap)
    import_file(capsys, wrapped, tmp_path / "m.safetensors")
    assert_golden_recognition(tmp_path / "m.safetensors")


def test_a_setting_of_the_user_replaces_an_assumed_one(files: Files) -> None:
    imported = read_released(files["lmim"], {"encoder.heads": 4})
    assert isinstance(imported.config, PretrainModel)
    assert imported.config.encoder.heads == 4
    assert "encoder.heads" not in imported.assumed
    assert "encoder.heads" in read_released(files["lmim"]).assumed


def test_a_nested_setting_is_replaced_in_a_copy() -> None:
    settings = {"encoder": {"width": 1}, "guidance": None}
    changed = with_setting(settings, ["encoder", "depth"], 2)
    assert changed == {"encoder": {"width": 1, "depth": 2}, "guidance": None}
    assert with_setting(settings, ["guidance", "strength"], "weak")["guidance"] == {
        "strength": "weak"
    }
    assert settings == {"encoder": {"width": 1}, "guidance": None}
    with pytest.raises(ValueError, match="depth"):
        with_setting(settings, ["encoder", "width", "depth"], 2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model_maeenc.cls_token", "LMIM pre-trained"),
        ("linear_norm.0.weight", "LMIM fine-tuned"),
        ("blocks.0.norm1.weight", "MAERec pre-trained"),
        ("conv1.weight", None),
    ],
)
def test_the_kind_of_a_file_follows_from_its_names(name: str, kind: str | None) -> None:
    assert released_kind([name]) == kind
