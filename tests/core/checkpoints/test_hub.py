"""Folders for model hubs: what they hold, and that the model comes back bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from conftest import STAGE
from finetune_config import config as finetune_settings

from core.checkpoints.hub import load_model, read_hub_config, write_hub_folder
from core.config import Encoder, Finetune, Mask, Pretrain, ReconstructionDecoder
from core.lmim import LMIM
from core.model.ctc import make_recognizer
from core.model.recognizer import Recognizer
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.training.evaluate import load_recognizer, recognize_batch
from core.training.parameters import exported_tensors, recognizer_tensors

SIZE = (32, 128)
ENCODER = Encoder(image=SIZE, patch=(16, 8), width=16, depth=3, heads=2, positions="grid")
IMAGES = torch.rand(3, 3, 32, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


def saved_recognizer(folder: Path, **changes: object) -> tuple[Finetune, Path]:
    """A recognizer with random weights, as a fine-tuning writes it."""
    config = finetune_settings(**changes)
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    metadata = {"stage": "finetune", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, recognizer_tensors(make_recognizer(config)), metadata)
    return config, path


@pytest.fixture
def recognizer(tmp_path: Path) -> Path:
    """The weights of a recognizer."""
    folder = tmp_path / "recognizer"
    folder.mkdir()
    return saved_recognizer(folder, encoder=ENCODER.model_dump())[1]


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """The weights of a pre-training."""
    config = Pretrain(
        encoder=ENCODER,
        decoder=ReconstructionDecoder(width=16, depth=1, heads=2, order="SA-FFN"),
        mask=Mask(),
        guidance=None,
        alignment=None,
        target={"kind": "pixel"},
        **STAGE,
    )
    torch.manual_seed(0)
    path = tmp_path / "pretrained" / "model.safetensors"
    path.parent.mkdir()
    metadata = {"stage": "pretrain", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, exported_tensors(LMIM(config)), metadata)
    return path


def test_a_recognizer_comes_back_bit_by_bit(recognizer: Path, tmp_path: Path) -> None:
    files = write_hub_folder(recognizer, "finetune-1", "card\n", tmp_path / "hub")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "hub").iterdir()}
    before = load_recognizer(recognizer, torch.device("cpu")).eval()
    after = load_model(tmp_path / "hub")
    assert isinstance(after, Recognizer)
    with torch.inference_mode():
        assert torch.equal(before.encoder(IMAGES), after.encoder(IMAGES))
    assert recognize_batch(before, IMAGES) == recognize_batch(after, IMAGES)
    assert not after.training


def test_a_recognizer_without_decoder_comes_back(tmp_path: Path) -> None:
    config, path = saved_recognizer(tmp_path, decoder=None)
    write_hub_folder(path, "finetune-1", "card\n", tmp_path / "hub")
    before = load_recognizer(path, torch.device("cpu")).eval()
    height, width = config.encoder.image
    images = IMAGES[:, :, :height, :width]
    after = load_model(tmp_path / "hub")
    assert not isinstance(after, VisionTransformer)
    assert recognize_batch(before, images) == recognize_batch(after, images)
    text = read_hub_config(tmp_path / "hub").text
    assert text is not None
    assert text.blank == text.unknown + 1


def test_a_pretraining_gives_its_encoder(pretrained: Path, tmp_path: Path) -> None:
    write_hub_folder(pretrained, "pretrain-1", "card\n", tmp_path / "hub")
    before = load_model(pretrained)
    after = load_model(tmp_path / "hub")
    assert isinstance(before, VisionTransformer)
    assert isinstance(after, VisionTransformer)
    with torch.inference_mode():
        assert torch.equal(before(IMAGES), after(IMAGES))


def test_the_config_has_what_other_programs_need(recognizer: Path, tmp_path: Path) -> None:
    write_hub_folder(recognizer, "finetune-1", "card\n", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text(encoding="utf-8"))
    assert (config["image"]["height"], config["image"]["width"]) == (32, 128)
    assert config["image"]["mean"] == config["image"]["std"] == [0.5, 0.5, 0.5]
    assert config["text"]["characters"].startswith("0123456789abc")
    assert config["text"]["eos"] == len(config["text"]["characters"])
    assert config["run"] == "finetune-1"


def test_folders_of_the_data_do_not_reach_the_hub(tmp_path: Path) -> None:
    _, path = saved_recognizer(tmp_path, data={"roots": ["/home/somebody/words"]})
    write_hub_folder(path, "finetune-1", "card\n", tmp_path / "hub")
    for file in (tmp_path / "hub").iterdir():
        assert b"somebody" not in file.read_bytes()


def test_nothing_in_the_folder_is_a_pickle(recognizer: Path, tmp_path: Path) -> None:
    write_hub_folder(recognizer, "finetune-1", "card\n", tmp_path / "hub")
    for file in (tmp_path / "hub").iterdir():
        start = file.read_bytes()[:4]
        assert not start.startswith((b"\x80", b"PK"))


def test_a_folder_with_content_is_refused(recognizer: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="empty"):
        write_hub_folder(recognizer, "finetune-1", "card\n", hub)
    assert [path.name for path in hub.iterdir()] == ["note.txt"]


def test_a_failure_leaves_the_folder_empty(
    recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("core.checkpoints.hub.write_text", fail)
    with pytest.raises(OSError, match="no space"):
        write_hub_folder(recognizer, "finetune-1", "card\n", tmp_path / "hub")
    assert not list((tmp_path / "hub").iterdir())


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_type": "bert"}'])
def test_a_folder_of_another_kind_is_named(
    pretrained: Path, tmp_path: Path, content: str | None
) -> None:
    hub = tmp_path / "hub"
    write_hub_folder(pretrained, "pretrain-1", "card\n", hub)
    (hub / "config.json").unlink()
    if content is not None:
        (hub / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(hub)


def test_weights_of_another_size_are_refused(pretrained: Path, tmp_path: Path) -> None:
    write_hub_folder(pretrained, "pretrain-1", "card\n", tmp_path / "hub")
    path = tmp_path / "hub" / "config.json"
    path.write_text(path.read_text().replace('"depth": 3', '"depth": 2'))
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(tmp_path / "hub")
