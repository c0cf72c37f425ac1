"""Export under the released names."""

from pathlib import Path

import pytest
import torch
from conftest import call
from golden_weights import golden_state, load_golden
from released_files import Files, import_file, write_released_files

from core.checkpoints.export import export_released
from core.checkpoints.released import read_released
from core.checkpoints.released_names import from_released, to_released
from core.config import PretrainModel, RecognizerModel
from core.runtime import pickle_io, safetensors_io
from core.runtime.errors import UserError

Capture = pytest.CaptureFixture[str]
SIZES = {
    "encoder": {"width": 48, "depth": 3, "heads": 3},
    "decoder": {"width": 64, "heads": 4},
}
BRANCHES = {"guidance": {}, "alignment": {}, "target": {"kind": "mae_feature"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


@pytest.mark.parametrize("kind", ["lmim", "recognizer"])
def test_export_is_the_inverse_of_import(
    files: Files, kind: str, tmp_path: Path, capsys: Capture
) -> None:
    import_file(capsys, files[kind], tmp_path / "x.safetensors")
    assert call(capsys, "export", tmp_path / "x.safetensors", tmp_path / "y.pth")[0] == 0
    before = pickle_io.load_pickle(files[kind])["model"]
    after = pickle_io.load_pickle(tmp_path / "y.pth")["model"]
    assert set(before) <= set(after)
    assert set(after) - set(before) <= {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    for name in load_golden(kind)["names"]:
        is_alias = name.startswith(("patch_embed", "pos_embed"))
        if not name.endswith("position_table") and not is_alias:
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    import_file(capsys, tmp_path / "y.pth", tmp_path / "z.safetensors")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("lmim", PretrainModel.model_validate(SIZES | BRANCHES)),
        ("recognizer", RecognizerModel.model_validate(SIZES)),
    ],
)
def test_every_released_name_is_exported(
    kind: str, config: PretrainModel | RecognizerModel
) -> None:
    state = golden_state(load_golden(kind)["names"])
    assert set(state) <= set(to_released(from_released(state), config))


def test_an_exported_file_never_replaces_a_folder(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    import_file(capsys, files["lmim"], tmp_path / "x.safetensors")
    (tmp_path / "folder.pth").mkdir()
    code, _, err = call(capsys, "export", tmp_path / "x.safetensors", tmp_path / "folder.pth")
    assert code == 2
    assert err.count("error: ") == 1
    assert (tmp_path / "folder.pth").is_dir()


def test_an_encoder_alone_is_not_exported(files: Files, tmp_path: Path) -> None:
    imported = read_released(files["maerec"])
    path = tmp_path / "m.safetensors"
    safetensors_io.save(path, imported.weights, imported.metadata())
    with pytest.raises(UserError, match=r"m\.safetensors: holds no complete LMIM"):
        export_released(path, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
