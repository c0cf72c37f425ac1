"""Several fine-tunings of one pre-trained encoder, and the order of a plan's runs."""

from pathlib import Path

from plans import plan_of

EXPERIMENT = """
title: two methods
seeds: [0, 1]
variants:
  - name: mim
    method: MIM
  - name: lmim
"""


def write(folder: Path, text: str = EXPERIMENT) -> Path:
    path = folder / "two.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_transfers_share_their_pretraining_and_have_their_own_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, write(tmp_path), overrides={"transfers": 3})
    cells = [cell for cell in plan.cells if (cell.variant, cell.seed) == (0, 1)]
    assert [cell.transfer for cell in cells] == [0, 1, 2]
    pretrainings, finetunings = zip(*(cell.trainings for cell in cells), strict=True)
    assert len(set(pretrainings)) == 1
    assert len(set(finetunings)) == 3
    seeds = [getattr(plan.runs[name].config, "seed", None) for name in finetunings]
    assert seeds == [1, 100_001, 200_001]


def test_the_first_transfer_is_the_run_of_a_plan_without_transfers(tmp_path: Path) -> None:
    once = plan_of(tmp_path, write(tmp_path))
    more = plan_of(tmp_path, write(tmp_path), overrides={"transfers": 2})
    assert once.runs.keys() < more.runs.keys()
    assert {cell.evaluate for cell in once.cells} == {
        cell.evaluate for cell in more.cells if cell.transfer == 0
    }


def test_all_runs_of_a_seed_come_before_those_of_the_next_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, write(tmp_path))
    order = list(plan.runs)
    of_seed: list[set[str]] = [
        {
            run
            for cell in plan.cells
            if cell.seed == seed
            for run in (*cell.trainings, cell.evaluate)
        }
        for seed in (0, 1)
    ]
    last = max(order.index(run) for run in of_seed[0])
    first = min(order.index(run) for run in of_seed[1])
    assert last < first
    for position, run in enumerate(plan.runs.values()):
        assert all(order.index(name) < position for name in run.inputs.values())


def test_a_label_subset_sets_the_images_and_steps_of_fine_tuning(tmp_path: Path) -> None:
    labels = {"finetune.labels": {"count": 32}, "finetune.optimizer.batch": 16}
    plan = plan_of(tmp_path, write(tmp_path), overrides=labels)
    assert {run.images() for run in plan.runs.values() if run.stage == "finetune"} == {32}


def test_a_row_can_replace_the_size_of_the_label_subset(tmp_path: Path) -> None:
    text = EXPERIMENT + "    set:\n      finetune.labels:\n        share: 0.5\n"
    path = write(
        tmp_path, text.replace("variants:", "set:\n  finetune.labels: {count: 8}\nvariants:")
    )
    plan = plan_of(tmp_path, path)
    sizes = {run.images() for run in plan.runs.values() if run.stage == "finetune"}
    assert len(sizes) == 2
    assert 8 in sizes
