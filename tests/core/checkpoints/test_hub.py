"""Folders for model hubs: what they hold, and that the model comes back bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from finetune_config import config as finetune_settings

from core.checkpoints.hub import load_model, read_hub_config, write_hub_folder
from core.config import Finetune
from core.model.ctc import make_recognizer
from core.model.recognizer import Recognizer
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.training.evaluate import load_recognizer, recognize_batch
from core.training.parameters import recognizer_tensors
from results.provenance import REPOSITORY

RUNS = REPOSITORY / "results/published/former_mini/runs"
RECOGNIZER = RUNS / "finetune-90cdb03b9856/model.safetensors"
ENCODER = RUNS / "pretrain-1204b2f24b6b/model.safetensors"
IMAGES = torch.rand(3, 3, 32, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


def saved_recognizer(folder: Path, **changes: object) -> tuple[Finetune, Path]:
    """A recognizer with random weights, as a fine-tuning writes it."""
    config = finetune_settings(**changes)
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    metadata = {"stage": "finetune", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, recognizer_tensors(make_recognizer(config)), metadata)
    return config, path


def test_a_recognizer_comes_back_bit_by_bit(tmp_path: Path) -> None:
    files = write_hub_folder(RECOGNIZER, "finetune-1", "card\n", tmp_path / "hub")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "hub").iterdir()}
    before = load_recognizer(RECOGNIZER, torch.device("cpu")).eval()
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


def test_a_pretraining_gives_its_encoder(tmp_path: Path) -> None:
    write_hub_folder(ENCODER, "pretrain-1", "card\n", tmp_path / "hub")
    before = load_model(ENCODER)
    after = load_model(tmp_path / "hub")
    assert isinstance(before, VisionTransformer)
    assert isinstance(after, VisionTransformer)
    with torch.inference_mode():
        assert torch.equal(before(IMAGES), after(IMAGES))


def test_the_config_has_what_other_programs_need(tmp_path: Path) -> None:
    write_hub_folder(RECOGNIZER, "finetune-1", "card\n", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
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


def test_nothing_in_the_folder_is_a_pickle(tmp_path: Path) -> None:
    write_hub_folder(RECOGNIZER, "finetune-1", "card\n", tmp_path)
    for file in tmp_path.iterdir():
        start = file.read_bytes()[:4]
        assert not start.startswith((b"\x80", b"PK"))


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="empty"):
        write_hub_folder(RECOGNIZER, "finetune-1", "card\n", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_failure_leaves_the_folder_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("core.checkpoints.hub.write_text", fail)
    with pytest.raises(OSError, match="no space"):
        write_hub_folder(RECOGNIZER, "finetune-1", "card\n", tmp_path / "hub")
    assert not list((tmp_path / "hub").iterdir())


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_type": "bert"}'])
def test_a_folder_of_another_kind_is_named(tmp_path: Path, content: str | None) -> None:
    write_hub_folder(ENCODER, "pretrain-1", "card\n", tmp_path)
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    write_hub_folder(ENCODER, "pretrain-1", "card\n", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"depth": 3', '"depth": 2'))
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(tmp_path)
