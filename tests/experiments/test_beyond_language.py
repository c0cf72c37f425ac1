"""The experiment on language use: its rows, its shared runs, its words."""

from pathlib import Path

import pytest
from plans import TABLE1, cells_of, plan_of

from core.config import HiddenLetterHead, Probe
from core.runtime.errors import UserError
from core.synthetic.config import LANGUAGE_SPLITS
from core.synthetic.dataset import write_splits
from experiments.planning.disk_estimate import disk_use, rendered_bytes
from experiments.planning.schema import HERE
from experiments.running.capacity import bytes_to_write
from results.store import Store

FILE = HERE / "beyond_language.yaml"
REPAIRS = HERE / "beyond_repair.yaml"
PROBE = "hidden_letter"


@pytest.mark.parametrize("scale", ["smoke", "mini", "overnight", "small"])
def test_rows_share_pre_training_with_table_1_and_the_repairs(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, TABLE1, REPAIRS, FILE, scale=scale, seeds=[0])
    shared = {
        "no guidance": "ablation_alignment",
        "guidance": "ablation_alignment",
        "guidance + alignment (LMIM)": "ablation_alignment",
        "EMA teacher (BYOL, DSHM)": "beyond_repair",
        "InfoNCE": "beyond_repair",
        "VICReg": "beyond_repair",
        "SIGReg (LeJEPA)": "beyond_repair",
    }
    for row, other in shared.items():
        (own,) = cells_of(plan, "beyond_language", row)
        (of_other,) = cells_of(plan, other, row)
        assert own.trainings == of_other.trainings
        assert own.evaluate == of_other.evaluate
        assert {name: own.probes[name] for name in of_other.probes} == dict(of_other.probes)
    names = [variant.name for variant in plan.experiments["beyond_language"].variants]
    assert names == ["MIM", *shared, "control: scratch"]


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_each_row_has_a_probe_of_hidden_letters_on_its_own_splits(
    tmp_path: Path, scale: str
) -> None:
    plan = plan_of(tmp_path, FILE, scale=scale, seeds=[0])
    assert plan.primary["beyond_language"] == "hidden_letter language_use"
    for cell in plan.cells:
        run = plan.runs[cell.probes[PROBE]]
        assert isinstance(run.config, Probe)
        assert isinstance(run.config.head, HiddenLetterHead)
        roots = [root for group in run.data.values() for root in group]
        assert [Path(root.path).name for root in roots] == list(LANGUAGE_SPLITS)
        assert all(root.synthetic is not None for root in roots)
        assert not any(root.unmet for root in roots)
        assert [root.images for root in roots] == [
            factor * root.synthetic.test
            for root, factor in zip(roots, LANGUAGE_SPLITS.values(), strict=True)
            if root.synthetic is not None
        ]


def test_a_scale_without_rendered_words_is_planned_but_cannot_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, FILE, scale="paper", seeds=[0])
    run = plan.runs[plan.cells[0].probes[PROBE]]
    unmet = [root.unmet for group in run.data.values() for root in group]
    assert all("synthetic.test" in reason for reason in unmet)
    assert len(unmet) == len(LANGUAGE_SPLITS)


def test_any_experiment_can_declare_the_probe(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("title: t\nvariants:\n  - name: mim\n    method: MIM\n", encoding="utf-8")
    setting = {"probes": {"letters": {"head": {"kind": "hidden_letter", "margin": 3}}}}
    plan = plan_of(tmp_path, file, scale="smoke", overrides=setting)
    (cell,) = plan.cells
    config = plan.runs[cell.probes["letters"]].config
    assert isinstance(config, Probe)
    assert config.head == HiddenLetterHead(kind="hidden_letter", margin=3)
    assert list(config.subsets) == ["words", "random_letters"]
    named = {"probes.letters.data.roots": ["synthetic:train"], "synthetic.boxes": True}
    plan = plan_of(tmp_path, file, scale="smoke", overrides=setting | named)
    config = plan.runs[plan.cells[0].probes["letters"]].config
    assert isinstance(config, Probe)
    assert config.data.roots == ("synthetic:train",)
    other = {"probes.letters.data.roots": ["synthetic:language"]}
    with pytest.raises(UserError, match="unknown synthetic split"):
        plan_of(tmp_path, file, scale="smoke", overrides=setting | other)


def test_words_to_render_take_the_estimated_space(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, FILE, scale="smoke", seeds=[0])
    run = plan.runs[plan.cells[0].probes[PROBE]]
    (root,) = run.data["train"]
    words = root.synthetic
    assert words is not None
    folder = Path(root.path).parent
    estimated = rendered_bytes(words, for_language=True)
    assert bytes_to_write([run], Store(tmp_path)) - disk_use(run).kept >= estimated
    assert list(write_splits(words, folder, 1, lambda: False, for_language=True))
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert estimated == pytest.approx(written, rel=0.2)
