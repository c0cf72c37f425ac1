"""Released checkpoints in and out, and every way in which a file can be wrong."""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call, jpeg, write_lmdb
from golden_weights import golden_image, golden_state, load_golden, normal
from PIL import Image
from torch import Tensor

from core.checkpoints.released import (
    export_released,
    from_released,
    read_recognizer,
    read_released,
    to_released,
)
from core.config import PretrainModel, RecognizerModel
from core.data.word_images import WordImages
from core.lmim import LMIM
from core.model.masking import visible_count, visible_from_noise
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.model.vit import position_table
from core.runtime import safetensors_io
from core.text.protocols import PROTOCOLS, Reading
from experiments.planning.planner import make_plan
from results.store import Store

Files = dict[str, Path]


def released_tables(kind: str) -> dict[str, Tensor]:
    """What the released files hold besides trained weights."""
    table = position_table(48, 256, 16)
    if kind == "recognizer":
        return {
            "encoder.pos_embed": table,
            "pos_embed": table,
            "decoder.position_enc.position_table": torch.zeros(1, 200, 64),
        }
    return {f"{part}.pos_embed": table for part in ("model_maeenc", "model_maeenc_momentum")} | {
        "decoder_pos_embed": position_table(64, 256, 16)
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files as the released codes write them, with the golden weights."""
    folder = tmp_path_factory.mktemp("released")
    states = {
        kind: golden_state(load_golden(kind)["names"]) | released_tables(kind)
        for kind in ("lmim", "recognizer")
    }
    encoder = {
        name.removeprefix("model_maeenc."): value
        for name, value in states["lmim"].items()
        if "maeenc." in name
    }
    states["maerec"] = encoder | {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_embed.weight": torch.zeros(32, 48),
    }
    arguments = {
        "lmim": {"mask_ratio": 0.8},
        "recognizer": {"nb_classes": 97, "max_len": 25},
        "maerec": {},
    }
    for kind, state in states.items():
        args = argparse.Namespace(**arguments[kind])
        torch.save(
            {"model": state, "optimizer": {}, "epoch": 9, "scaler": {}, "args": args},
            folder / f"{kind}.pth",
        )
    return {kind: folder / f"{kind}.pth" for kind in states}


def altered(path: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = safetensors_io.load_pickle(path)
    change(content)
    torch.save(content, out)
    return out


def import_file(
    capsys: pytest.CaptureFixture[str], path: Path, out: Path, *options: str
) -> dict[str, Any]:
    code, text, err = call(capsys, "import", path, out, "--json", *options)
    assert code == 0, err
    return json.loads(text)


def assert_golden_pretraining(path: Path) -> None:
    weights, metadata = safetensors_io.load(path)
    model = LMIM(PretrainModel.model_validate(metadata["config"])).eval()
    safetensors_io.load_into(model, weights, "", path)
    golden, visible = (
        load_golden("lmim"),
        visible_from_noise(normal("noise", [3, 256]), visible_count(256, 0.8)),
    )
    output = model(
        golden_image("image", [3, 3, 32, 128]),
        golden_image("guidance_view", [3, 3, 32, 128]),
        visible,
    )
    assert output.alignment is not None
    for value, name in (
        (output.loss, "loss"),
        (output.reconstruction, "recon"),
        (output.alignment, "align"),
    ):
        assert value.item() == pytest.approx(golden[name], rel=1e-4)


def assert_golden_reading(path: Path) -> None:
    config, weights = read_recognizer(path)
    model, golden = Recognizer(config).eval(), load_golden("recognizer")
    safetensors_io.load_into(model, weights, "", path)
    images = golden_image("image", [4, 3, 32, 128])
    tokens, lengths = model.charset.encode(golden["words"], golden["max_len"])
    assert sequence_cross_entropy(
        model(images, tokens, lengths), tokens, lengths
    ).item() == pytest.approx(golden["loss"], rel=1e-4)
    assert model.read(images)[0].tolist() == golden["greedy_ids"]


def test_imported_weights_give_the_golden_numbers(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = import_file(capsys, files["lmim"], tmp_path / "lmim.safetensors")
    assert (report["kind"], report["matched"], report["missing"]) == ("LMIM pre-trained", 129, [])
    assert report["ignored"] == {"decoder_pos_embed": "a table that we compute"}
    assert_golden_pretraining(tmp_path / "lmim.safetensors")
    report = import_file(capsys, files["recognizer"], tmp_path / "reader.safetensors")
    assert report["kind"] == "LMIM fine-tuned"
    assert set(report["ignored"]) == {
        "pos_embed",
        "decoder.position_enc.position_table",
        *report["ignored"],
    }
    assert report["config"]["decoder"] == {
        "width": 64,
        "layers": 2,
        "heads": 4,
        "feedforward": 32,
        "dropout": 0.1,
    }
    assert "encoder.heads" in report["assumed"]
    assert_golden_reading(tmp_path / "reader.safetensors")
    assert_golden_reading(files["recognizer"])  # a .pth may be named wherever a recognizer is


def test_the_published_samples_are_imported(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_file(capsys, shared / "parity" / "lmim_pretrain.pth", tmp_path / "a.safetensors")
    assert_golden_pretraining(tmp_path / "a.safetensors")
    import_file(capsys, shared / "parity" / "lmim_finetune.pth", tmp_path / "b.safetensors")
    assert_golden_reading(tmp_path / "b.safetensors")


def test_maerec_gives_an_encoder(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = import_file(capsys, files["maerec"], tmp_path / "m.safetensors")
    assert report["kind"] == "MAERec pre-trained"
    assert report["ignored"]["mask_token"] == "MAE's own decoder, not needed"
    theirs, ours = (
        safetensors_io.load(tmp_path / "m.safetensors")[0],
        from_released(golden_state(load_golden("lmim")["names"])),
    )
    assert torch.equal(
        theirs["encoder.blocks.1.attn.qkv.weight"], ours["encoder.blocks.1.attn.qkv.weight"]
    )


def test_import_says_what_became_of_every_weight(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "import", files["recognizer"], tmp_path / "x.safetensors")
    assert code == 0
    for text in (
        "matched  87 of 91",
        "pos_embed): an alias of the encoder's",
        "missing  nothing",
        "assumed  encoder.heads=3",
    ):
        assert text in out, out


@pytest.mark.parametrize("kind", ["lmim", "recognizer"])
def test_export_is_the_inverse_of_import(
    files: Files, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_file(capsys, files[kind], tmp_path / "x.safetensors")
    assert call(capsys, "export", tmp_path / "x.safetensors", tmp_path / "y.pth")[0] == 0
    before, after = (
        safetensors_io.load_pickle(path)["model"] for path in (files[kind], tmp_path / "y.pth")
    )
    assert set(before) <= set(after)
    assert set(after) - set(before) <= {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    for name in load_golden(kind)["names"]:
        if not name.endswith("position_table") and not name.startswith(
            ("patch_embed", "pos_embed")
        ):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    import_file(capsys, tmp_path / "y.pth", tmp_path / "z.safetensors")


def test_a_file_without_its_teacher_is_imported_and_says_so(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = altered(files["lmim"], tmp_path / "bare.pth", drop("model_maeenc_momentum."))
    report = import_file(capsys, bare, tmp_path / "bare.safetensors")
    assert report["missing"] == ["target.encoder (the frozen teacher)"]
    code, out, _ = call(capsys, "export", tmp_path / "bare.safetensors", tmp_path / "out.pth")
    assert (code, "without the frozen teacher" in out) == (0, True)
    assert (
        import_file(capsys, tmp_path / "out.pth", tmp_path / "again.safetensors")["matched"]
        == report["matched"]
    )


def test_names_of_a_distributed_model_are_read(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrap(content: dict[str, Any]) -> None:
        content["model"] = {f"module.{name}": value for name, value in content["model"].items()}

    import_file(
        capsys, altered(files["recognizer"], tmp_path / "m.pth", wrap), tmp_path / "m.safetensors"
    )
    assert_golden_reading(tmp_path / "m.safetensors")


def test_an_exported_file_never_replaces_a_folder(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_file(capsys, files["lmim"], tmp_path / "x.safetensors")
    (tmp_path / "folder.pth").mkdir()
    code, _, err = call(capsys, "export", tmp_path / "x.safetensors", tmp_path / "folder.pth")
    assert (code, err.count("error: ")) == (2, 1)
    (tmp_path / "text.pth").write_text("some text")
    code, _, err = call(capsys, "import", tmp_path / "text.pth", tmp_path / "y.safetensors")
    assert (code, "damaged" in err) == (2, True)
    assert call(capsys, "import", tmp_path, tmp_path / "y.safetensors")[0] == 2


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: [
        content["model"].pop(key) for key in list(content["model"]) if name in key
    ]


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("lmim", drop("model_maeenc.blocks.1."), "first missing: encoder.blocks.1.norm1.weight"),
        (
            "lmim",
            drop("model_maeenc_momentum.blocks.2."),
            "first missing: target.encoder.blocks.2.norm1.weight",
        ),
        ("lmim", drop("model_maeenc.cls_token"), "encoder.cls_token is missing"),
        ("recognizer", drop("patch_embed"), "patch_embed.proj.weight is missing"),
        ("recognizer", drop("layer_stack.0."), "is missing"),
        (
            "recognizer",
            lambda content: content["model"].update(
                {"decoder.classifier.weight": torch.zeros(60, 64)}
            ),
            "has 60 classes; name its 57 characters",
        ),
        (
            "recognizer",
            lambda content: content["model"].update({"linear_norm.0.weight": torch.zeros(32, 48)}),
            "bridge.0.weight has shape [32, 48], not [64, 48]",
        ),
        (
            "lmim",
            lambda content: content["model"].update(
                {"model_maeenc.pos_embed": torch.zeros(1, 257, 48)}
            ),
            "encoder.positions is neither the released table nor the grid's",
        ),
        (
            "lmim",
            lambda content: content.update(model={"conv1.weight": torch.zeros(3)}),
            "0 of 1 weights matched (first: conv1",
        ),
        (
            "lmim",
            lambda content: content["model"].update(
                {"model_maeenc.cls_token": torch.zeros(1, 1, 40)}
            ),
            "pos_embed has shape [1, 257, 48]",
        ),
        (
            "maerec",
            lambda content: content["model"].update(
                {"patch_embed.proj.weight": torch.zeros(48, 48)}
            ),
            "shapes that no such model has",
        ),
        ("lmim", lambda content: content.update(model={}), "holds no state dict"),
        ("lmim", lambda content: content.update(model=3), "holds no state dict"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_sentence(
    files: Files,
    kind: str,
    change: Callable[[dict[str, Any]], None],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = altered(files[kind], tmp_path / "bad.pth", change)
    code, _, err = call(capsys, "import", bad, tmp_path / "x.safetensors")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_another_depth_than_said_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(
        capsys, "import", files["lmim"], tmp_path / "x.safetensors", "--set", "encoder.depth=12"
    )
    assert code == 2
    assert "first missing: encoder.blocks.3.norm1.weight); was it made with another depth" in err
    code, _, err = call(
        capsys, "import", files["lmim"], tmp_path / "x.safetensors", "--set", "encoder.depths=12"
    )
    assert (code, "encoder.depths" in err) == (2, True)


@pytest.mark.parametrize("kind", ["lmim", "recognizer"])
def test_another_table_than_said_is_refused(
    files: Files, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(
        capsys, "import", files[kind], tmp_path / "x.safetensors", "--set", "encoder.positions=grid"
    )
    assert code == 2
    assert "encoder.positions is the released table; set encoder.positions=released" in err
    assert not (tmp_path / "x.safetensors").exists()


class Harm:
    """A pickle that would make a file, if it were trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_nothing_in_a_pickle_is_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "harm"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Harm(mark)}, tmp_path / "torch.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Harm(mark)}))
    for name in ("torch.pth", "plain.pth"):
        code, _, err = call(capsys, "import", tmp_path / name, tmp_path / "x.safetensors")
        assert code == 2
        assert "without executing code" in err
        assert err.count("\n") == 1
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused_in_a_sentence(
    files: Files, kept: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = files["lmim"].read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: int(kept * len(whole))])
    code, _, err = call(capsys, "import", tmp_path / "cut.pth", tmp_path / "x.safetensors")
    assert code == 2
    assert "damaged" in err
    assert err.count("\n") == 1
    assert call(capsys, "import", tmp_path / "nowhere.pth", tmp_path / "x.safetensors")[0] == 2
    assert call(capsys, "import", files["lmim"], tmp_path / "x.pth")[0] == 2


def test_released_names_cover_every_weight() -> None:
    for kind, model in (("lmim", PretrainModel), ("recognizer", RecognizerModel)):
        state = golden_state(load_golden(kind)["names"])
        encoder = {"width": 48, "depth": 3, "heads": 3}
        parts = (
            {"guidance": {}, "alignment": {}, "target": {"kind": "mae_feature"}}
            if kind == "lmim"
            else {}
        )
        config = model.model_validate(
            {"encoder": encoder, "decoder": {"width": 64, "heads": 4}} | parts
        )
        back = to_released(from_released(state), config)
        assert set(state) <= set(back)


# predict, and checkpoints in place of runs


def test_predict_reads_images_and_names_those_it_cannot(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.JPG", "deep/c.jpg")):
        Image.new("RGB", (60 + number, 20), (number, 99, 3)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"x")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    code, out, err = call(
        capsys,
        "predict",
        tmp_path / "in",
        "--model",
        files["recognizer"],
        "--json",
        "--device",
        "cpu",
    )
    rows = {Path(row["image"]).name: row for row in json.loads(out)}
    assert code == 1
    assert set(rows) == {"a.png", "b.JPG", "c.jpg", "broken.png"}
    assert "error" in rows["broken.png"]
    assert "broken.png: cannot be read or decoded" in err
    assert all(
        0 <= rows[name]["confidence"] <= 1 and isinstance(rows[name]["text"], str)
        for name in ("a.png", "c.jpg")
    )
    code, out, _ = call(
        capsys,
        "predict",
        tmp_path / "in" / "a.png",
        "--model",
        files["recognizer"],
        "--device",
        "cpu",
    )
    assert code == 0
    assert out.split("\t")[0].endswith("a.png")


@pytest.mark.parametrize(
    ("images", "model", "sentence"),
    [
        ("nowhere", "recognizer", "no such file or folder"),
        ("empty", "recognizer", "no image in this folder"),
        ("a.png", "finetune-123", "neither a file nor a run"),
        ("a.png", "lmim", "holds no recognizer"),
    ],
)
def test_predict_refuses_in_a_sentence(
    files: Files,
    images: str,
    model: str,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (60, 20)).save(tmp_path / "a.png")
    named = files.get(model, model)
    code, _, err = call(
        capsys,
        "predict",
        tmp_path / images,
        "--model",
        named,
        "--results",
        tmp_path,
        "--device",
        "cpu",
    )
    assert (code, sentence in err) == (2, True)


EVALUATE = "title: t\nvariants: [{{name: released, set: {{given.recognizer: {file}}}}}]\n"
FINETUNE = """title: t
variants:
  - {{name: from a file, set: {{given.encoder: {file}}}}}
  - {{name: scratch, set: {{given.encoder: scratch}}}}
"""
SIZES = {"encoder": {"width": 48, "depth": 3, "heads": 3, "patch": [4, 4], "positions": "released"}}


def test_checkpoints_stand_in_for_runs(files: Files, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(FINETUNE.format(file=files["maerec"]))
    sizes = {f"encoder.{key}": value for key, value in SIZES["encoder"].items()}
    plan = make_plan(
        [file], "smoke", Store(tmp_path), precision=lambda: "fp32", overrides=sizes, seeds=None
    )
    assert [run.stage for run in plan.runs.values()] == [
        "finetune",
        "evaluate",
        "finetune",
        "evaluate",
    ]
    assert [run.inputs for run in plan.runs.values() if run.stage == "finetune"] == [
        {"encoder": f"file:{files['maerec']}"},
        {},
    ]
    file.write_text(EVALUATE.format(file=files["recognizer"]))
    plan = make_plan(
        [file], "smoke", Store(tmp_path), precision=lambda: "fp32", overrides={}, seeds=None
    )
    assert [run.stage for run in plan.runs.values()] == ["evaluate"]


def test_a_released_recogniser_is_evaluated_and_a_released_encoder_fine_tuned(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [golden_image(f"image {number}", [3, 32, 128]) for number in range(4)]
    jpegs = []
    for number, image in enumerate(images):
        path = tmp_path / f"{number}.png"
        Image.fromarray(((image + 1) * 127.5).byte().permute(1, 2, 0).numpy()).save(path)
        jpegs.append((path.read_bytes(), f"w{number}"))
    root = write_lmdb(tmp_path / "data", jpegs)
    file = tmp_path / "experiment.yaml"
    common = ["--scale", "smoke", "--results", tmp_path / "results", "--device", "cpu", "--jobs", 1]
    subset = f"evaluate.subsets={{mine: {{roots: [{root}]}}}}"
    file.write_text(EVALUATE.format(file=files["recognizer"]))
    code, out, err = call(capsys, "run", file, *common, "--set", subset)
    assert code == 0, err
    assert "| released | measured | 0.0" in out or "measured" in out
    file.write_text(FINETUNE.format(file=files["maerec"]))
    sizes = [f"encoder.{key}={json.dumps(value)}" for key, value in SIZES["encoder"].items()]
    settings = [
        subset,
        f"finetune.data.roots=[{root}]",
        "finetune.validation=null",
        "finetune.optimizer.batch=4",
        *sizes,
    ]
    code, out, err = call(
        capsys, "run", file, *common, *(part for setting in settings for part in ("--set", setting))
    )
    assert code == 0, err
    assert "scratch − from a file" in out


def test_a_grid_shows_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_lmdb(
        tmp_path / "data",
        [(jpeg(number), f"w{number}") for number in range(8)] + [(b"broken", "x")],
    )
    run = Store(tmp_path / "results").run("evaluate-1")
    metrics = {"protocol": "waics", "labels": "strict"}
    run.write_json(
        "record.json", {"stage": "evaluate", "metrics": metrics, "data": {"mine": [{"path": root}]}}
    )
    run.write_predictions(
        ("mine", number, f"w{number}", f"w{min(number, 5)}", 0.9, 1) for number in range(9)
    )
    code, out, _ = call(capsys, "grid", "evaluate-1", "--results", tmp_path / "results")
    assert code == 0
    with Image.open(out.strip()) as picture:
        assert picture.width > 1000
    from analysis.figures.predictions import choose, word_grid

    readings = [Reading(number, f"w{number}", f"w{min(number, 5)}", 0.9) for number in range(9)]
    chosen = choose(readings, PROTOCOLS["waics"], 4)
    assert [one.index for one in chosen] == [0, 5, 6, 8]
    axes = word_grid(WordImages([root]), chosen, PROTOCOLS["waics"], "title")
    assert [place.get_title() for place in axes[:4]] == ["w0", "w5", "w5\n[w6]", "w5\n[w8]"]
    assert [len(place.images) for place in axes[:4]] == [1, 1, 1, 0]
    assert call(capsys, "grid", "evaluate-2", "--results", tmp_path / "results")[0] == 2


def test_an_encoder_of_another_size_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(FINETUNE.format(file=files["maerec"]))
    code, _, err = call(
        capsys, "run", file, "--scale", "smoke", "--results", tmp_path / "r", "--device", "cpu"
    )
    assert code == 2
    assert (
        "encoder.positions is another table; set encoder.positions, image and patch as it was made"
        in err
    )


def test_export_refuses_what_is_no_model(files: Files, tmp_path: Path) -> None:
    imported = read_released(files["maerec"])
    safetensors_io.save(tmp_path / "m.safetensors", imported.weights, imported.metadata())
    with pytest.raises(Exception, match="an encoder alone has no place there"):
        export_released(tmp_path / "m.safetensors", tmp_path / "out.pth")
