"""The experiment on EMA features as target: its rows, their runs, and their cost."""

from pathlib import Path
from typing import Any

import pytest
from plans import cells_of, plan_of

from core.config import EmaFeatureTarget, EmaRepair, Mask, Pretrain
from core.runtime.errors import UserError
from experiments.cli.plan_report import describe_plan
from experiments.planning.plan import Plan, resolved_schedule
from experiments.planning.run_cost import run_cost
from experiments.planning.schema import HERE
from results.store import Store

FILE = HERE / "beyond_target.yaml"
LMIM = "MAE features (LMIM)"
DSHM = "like DSHM (EMA features, EMA [cls], seeded blocks)"
SHARED = {  # row -> file and row that have the same run
    LMIM: ("ablation_target", LMIM),
    "MAE features, no alignment": ("ablation_alignment", "guidance"),
    "pixels": ("ablation_target", "pixels"),
}
SCALES = ["smoke", "mini", "overnight", "small", "paper"]


def pretraining(plan: Plan, row: str) -> Pretrain:
    config = plan.runs[cells_of(plan, "beyond_target", row)[0].trainings[0]].config
    assert isinstance(config, Pretrain)
    return config


def cost_of(plan: Plan, row: str) -> tuple[int, float]:
    """Images and operations of a row's pre-training and of its teacher's."""
    (cell,) = cells_of(plan, "beyond_target", row)
    runs = [plan.runs[name] for name in (cell.trainings[0], cell.teacher) if name]
    images = [resolved_schedule(run).images for run in runs]
    operations = [run_cost(run, plan).operations for run in runs]
    return sum(images), sum(map(float.__mul__, operations, map(float, images)))


@pytest.mark.parametrize("scale", SCALES)
def test_rows_of_the_papers_targets_share_runs_of_tables_1_and_4(
    tmp_path: Path, scale: str
) -> None:
    files = [HERE / f"{name}.yaml" for name in ("ablation_target", "ablation_alignment")]
    plan = plan_of(tmp_path, FILE, *files, scale=scale, seeds=[0])
    for row, (experiment, same) in SHARED.items():
        (cell,) = cells_of(plan, "beyond_target", row)
        assert cell.trainings == cells_of(plan, experiment, same)[0].trainings


@pytest.mark.parametrize("scale", SCALES)
def test_rows_of_ema_features_have_no_teacher_and_differ_in_what_they_name(
    tmp_path: Path, scale: str
) -> None:
    plan = plan_of(tmp_path, FILE, scale=scale, seeds=[0])
    variants = plan.experiments["beyond_target"].variants
    names = [row.name for row in variants if "EMA" in row.name or "DSHM" in row.name]
    assert len(names) == 7
    lmim = pretraining(plan, LMIM)
    kept = {"target", "alignment", "mask", "optimizer"}
    for name in names:
        config = pretraining(plan, name)
        (cell,) = cells_of(plan, "beyond_target", name)
        assert cell.teacher == ""
        assert not config.needs_teacher
        assert config.target == EmaFeatureTarget(kind="ema_feature", momentum=0.99)
        assert config.model_dump(exclude=kept) == lmim.model_dump(exclude=kept)
    assert pretraining(plan, "EMA features").alignment == lmim.alignment
    assert pretraining(plan, "EMA features, no alignment").alignment is None
    repair = EmaRepair(kind="ema", momentum=0.99, final_momentum=1.0)
    for name in ("EMA features, EMA [cls]", DSHM):
        alignment = pretraining(plan, name).alignment
        assert alignment is not None
        assert alignment.repair == repair
    assert pretraining(plan, "EMA features, EMA [cls]").mask == lmim.mask
    assert pretraining(plan, DSHM).mask == Mask(kind="seeded_blocks", ratio=0.8, block_share=0.5)


@pytest.mark.parametrize("scale", ["smoke", "mini", "overnight", "small"])
def test_rows_of_equal_images_see_those_of_lmim_and_its_teacher(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, FILE, scale=scale, seeds=[0])
    images, _ = cost_of(plan, LMIM)
    for name in ("pixels", "EMA features", "like DSHM"):
        assert cost_of(plan, f"{name}, equal images")[0] == images


@pytest.mark.parametrize("scale", ["mini", "overnight", "small"])
def test_a_row_of_equal_arithmetic_costs_as_much_as_lmim_and_its_teacher(
    tmp_path: Path, scale: str
) -> None:
    plan = plan_of(tmp_path, FILE, scale=scale, seeds=[0])
    _, operations = cost_of(plan, LMIM)
    _, equal = cost_of(plan, "EMA features, equal arithmetic")
    assert equal == pytest.approx(operations, rel=0.02)


def test_a_plan_of_ema_features_alone_has_no_stage_of_a_teacher(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    target = "{kind: ema_feature, momentum: 0.9}"
    file.write_text(f"title: t\nset: {{pretrain.target: {target}}}\nvariants: [{{name: a}}]\n")
    plan = plan_of(tmp_path, file)
    stages = [run["stage"] for run in describe_plan(plan, Store(tmp_path)).as_json()["runs"]]
    assert stages == ["pretrain", "finetune", "evaluate"]


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ({"kind": "ema_feature", "momentum": True}, "momentum: must be"),
        ({"kind": "ema_feature", "momentum": 1.5}, "momentum: "),
        ({"kind": "ema_feature", "momentum": 0.9, "final_momentum": 0.8}, "final_momentum"),
        ({"kind": "mae_feature", "momentum": 0.9}, "momentum: "),
        ({"kind": "ema_feature", "normalized": True}, "normalized: "),
        ({"kind": "ema"}, "ema_feature"),
    ],
    ids=str,
)
def test_a_mistake_in_a_target_is_named_with_its_key(
    tmp_path: Path, target: dict[str, Any], part: str
) -> None:
    with pytest.raises(UserError) as raised:
        plan_of(tmp_path, overrides={"pretrain.target": target})
    assert str(raised.value).startswith("--set: pretrain.target")
    assert part in str(raised.value)
