"""The experiment on repairs of the alignment loss: its rows, its runs, its measures of collapse."""

from pathlib import Path

import numpy as np
import pytest
from plans import TABLE1, cells_of, plan_of

from analysis.figures.alignment import CLS, alignment_measures, model_features
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import choose_words, draw_words
from core.config import Pretrain, RandomFeatureTarget
from core.runtime import safetensors_io
from core.training.parameters import exported_tensors
from core.training.pretrain import make_model
from experiments.planning.plan import Plan
from experiments.planning.schema import HERE

FILE = HERE / "beyond_repair.yaml"
TABLE1_ROWS = ("no guidance", "guidance", "guidance + alignment (LMIM)")
KINDS = ["normalized", "predictor", "ema", "vicreg", "sigreg", "uniformity", "infonce"]


def pretrainings(plan: Plan) -> dict[str, tuple[str, Pretrain]]:
    """Row -> run and config of its pre-training. A control row has none."""
    found: dict[str, tuple[str, Pretrain]] = {}
    for variant in plan.experiments["beyond_repair"].variants:
        run = cells_of(plan, "beyond_repair", variant.name)[0].trainings[0]
        config = plan.runs[run].config
        if isinstance(config, Pretrain):
            found[variant.name] = run, config
    return found


@pytest.mark.parametrize("scale", ["smoke", "mini", "overnight", "small", "paper"])
def test_each_repair_is_one_row_beside_the_runs_of_table_1(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, TABLE1, FILE, scale=scale, seeds=[0])
    rows = pretrainings(plan)
    for name in TABLE1_ROWS:
        (cell,) = cells_of(plan, "ablation_alignment", name)
        assert rows[name][0] == cell.trainings[0]
    repairs = [config.alignment.repair for _, config in rows.values() if config.alignment]
    assert [repair.kind for repair in repairs if repair is not None] == KINDS
    assert len({run for run, _ in rows.values()}) == len(TABLE1_ROWS) + len(KINDS)


def test_each_repair_is_compared_with_no_alignment_and_with_the_papers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, FILE, scale="smoke")
    variants = plan.experiments["beyond_repair"].variants[len(TABLE1_ROWS) :][: len(KINDS)]
    assert {variant.compare_with for variant in variants} == {TABLE1_ROWS[1:]}


def test_encoders_of_all_rows_load_and_have_measures_of_collapse(tmp_path: Path) -> None:
    models = []
    for name, (run, planned) in pretrainings(plan_of(tmp_path, FILE, scale="smoke")).items():
        target = RandomFeatureTarget(kind="random_feature")  # needs no teacher's file
        config = planned.model_copy(update={"target": target})
        path = tmp_path / f"{run}.safetensors"
        weights = exported_tensors(make_model(config, None))
        safetensors_io.save(path, weights, {"config": config.model_dump(mode="json")})
        models.append(PretrainedModel(name, run, 0, config, path, None))
    size = models[0].config.encoder.image
    words = draw_words(choose_words(8), size)
    redrawn = draw_words(words.labels, size, variant=1)
    measures = alignment_measures(model_features(models, words, redrawn))
    of_cls = measures[measures["features"] == CLS]
    assert list(of_cls["row"]) == [*(model.name for model in models), "untrained"]
    for column in ("variance / mean square", "effective rank", "uniformity"):
        assert np.isfinite(of_cls[column]).all()
    assert all(0 <= estimate.value <= 1 for estimate in of_cls["recall@1"])
