"""Released checkpoints as inputs of experiments, in place of runs."""

import json
from pathlib import Path

import pytest
from conftest import call, write_lmdb
from golden_weights import golden_image
from PIL import Image
from released_files import Files, write_released_files

from experiments.planning.planner import make_plan
from results.store import Store

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
EVALUATE = "title: t\nvariants: [{{name: released, set: {{init.recognizer: {file}}}}}]\n"
FINETUNE = """title: t
variants:
  - {{name: from a file, set: {{init.encoder: {file}}}}}
  - {{name: scratch, set: {{init.encoder: scratch}}}}
"""
SIZES = {
    "encoder.width": 48,
    "encoder.depth": 3,
    "encoder.heads": 3,
    "encoder.patch": [4, 4],
    "encoder.positions": "released",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


def test_a_checkpoint_replaces_the_run_that_would_make_it(
    files: Files, experiment: Path, tmp_path: Path
) -> None:
    experiment.write_text(FINETUNE.format(file=files["maerec"]))
    plan = make_plan(
        [experiment],
        "smoke",
        Store(tmp_path),
        precision=lambda: "fp32",
        overrides=SIZES,
        seeds=None,
    )
    stages = [run.stage for run in plan.runs.values()]
    assert stages == ["finetune", "evaluate", "finetune", "evaluate"]
    inputs = [run.inputs for run in plan.runs.values() if run.stage == "finetune"]
    assert inputs == [{"encoder": f"file:{files['maerec']}"}, {}]
    experiment.write_text(EVALUATE.format(file=files["recognizer"]))
    plan = make_plan(
        [experiment], "smoke", Store(tmp_path), precision=lambda: "fp32", overrides={}, seeds=None
    )
    assert [run.stage for run in plan.runs.values()] == ["evaluate"]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Four images that the golden recognizer has seen."""
    samples: list[tuple[bytes | None, str | None]] = []
    for number in range(4):
        image = golden_image(f"image {number}", [3, 32, 128])
        path = tmp_path / f"{number}.png"
        Image.fromarray(((image + 1) * 127.5).byte().permute(1, 2, 0).numpy()).save(path)
        samples.append((path.read_bytes(), f"w{number}"))
    return write_lmdb(tmp_path / "data", samples)


def run_smoke(capsys: Capture, experiment: Path, *settings: str) -> str:
    """The output of a run at scale smoke."""
    options = [part for setting in settings for part in ("--set", setting)]
    folder = experiment.parent / "results"
    common = ("--scale", "smoke", "--results", folder, "--device", "cpu", "--jobs", 1)
    code, out, err = call(capsys, "run", experiment, *common, *options)
    assert code == 0, err
    return out


def test_a_released_recognizer_is_evaluated(
    files: Files, experiment: Path, root: str, capsys: Capture
) -> None:
    experiment.write_text(EVALUATE.format(file=files["recognizer"]))
    out = run_smoke(capsys, experiment, f"evaluate.subsets={{mine: {{roots: [{root}]}}}}")
    assert "| released | measured | 0.0" in out or "measured" in out


def test_a_released_encoder_is_fine_tuned(
    files: Files, experiment: Path, root: str, capsys: Capture
) -> None:
    experiment.write_text(FINETUNE.format(file=files["maerec"]))
    settings = [
        f"evaluate.subsets={{mine: {{roots: [{root}]}}}}",
        f"finetune.data.roots=[{root}]",
        "finetune.validation=null",
        "finetune.optimizer.batch=4",
        *(f"{key}={json.dumps(value)}" for key, value in SIZES.items()),
    ]
    assert "scratch − from a file" in run_smoke(capsys, experiment, *settings)


def test_an_encoder_of_another_size_is_refused_before_anything_runs(
    files: Files, experiment: Path, tmp_path: Path, capsys: Capture
) -> None:
    experiment.write_text(FINETUNE.format(file=files["maerec"]))
    options = ("--scale", "smoke", "--results", tmp_path / "r", "--device", "cpu")
    code, _, err = call(capsys, "run", experiment, *options)
    assert code == 2
    assert "maerec.pth: encoder.positions" in err
