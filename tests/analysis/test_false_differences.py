"""Groups of seeds of one recipe: how often they are called different."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from plans import plan_of
from simulated_differences import EQUAL_WEIGHTS, simulate_differences
from table_records import write_evaluation

from analysis.tables.endpoint_records import EndpointRecords, parse_endpoint
from analysis.tables.false_differences import (
    FalseDifferences,
    divide_seeds,
    false_differences,
    report_false_differences,
)
from analysis.tables.intervals import bootstrap
from analysis.tables.planned import tables_of
from analysis.tables.verdicts import difference_verdict
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml
from experiments.planning.plan import resolved_schedule
from experiments.planning.schema import HERE
from results.store import Store

WORDS = 100
ROW = "one recipe"
DEFAULTS: dict[str, Any] = {"level": 0.95, "seeds_per_row": 3, "pairs": 200}


def write_run(store: Store, name: str, correct: np.ndarray, nll: np.ndarray) -> str:
    """A complete evaluation. correct, nll: (words,)."""
    values = {"x": correct.astype(int).tolist()}
    likelihoods = {"x": nll.tolist()}
    return write_evaluation(store, name, values, nll=likelihoods, config={"protocol": "waics"})


def made_runs(store: Store, abilities: Sequence[float]) -> dict[int, list[str]]:
    """Seed -> runs, with normal noise of words and of predictions. abilities: of each seed."""
    random = np.random.default_rng(0)
    difficulty = random.normal(0, 1, WORDS)
    runs = {}
    for seed, ability in enumerate(abilities):
        margin = ability + difficulty + random.normal(0, 0.5, WORDS)
        runs[seed] = [write_run(store, f"evaluate-{seed}", margin > 0, 4 - margin / 2)]
    return runs


def counted(store: Store, measure: str, abilities: Sequence[float], **options: Any) -> Any:
    """The false differences of seeds with these abilities."""
    runs = {ROW: made_runs(store, abilities)}
    records = EndpointRecords(parse_endpoint(f"fine-tuned {measure}"), runs, store)
    return false_differences(records, ROW, **(DEFAULTS | options))


def test_the_first_pairs_share_no_seed_and_all_groups_are_disjoint() -> None:
    pairs = list(divide_seeds(range(20), 3, 40, np.random.default_rng(0)))
    assert pairs[:3] == [
        ((0, 1, 2), (3, 4, 5)),
        ((6, 7, 8), (9, 10, 11)),
        ((12, 13, 14), (15, 16, 17)),
    ]
    assert len(pairs) == 40
    assert all(len({*first, *second}) == 6 for first, second in pairs)
    assert len(set(pairs)) == 40


def test_divisions_depend_only_on_the_random_seed() -> None:
    first, second, other = (
        list(divide_seeds(range(20), 3, 40, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert first == second
    assert first[:3] == other[:3]
    assert first[3:] != other[3:]


@pytest.mark.parametrize("measure", ["words", "nll"])
def test_seeds_of_equal_means_are_seldom_called_different(tmp_path: Path, measure: str) -> None:
    abilities = np.random.default_rng(1).normal(0, 0.4, 120)
    found: FalseDifferences = counted(Store(tmp_path), measure, list(abilities), pairs=60)
    assert (found.seeds, found.pairs, found.disjoint_pairs) == (120, 60, 20)
    assert found.different <= 7  # 5 % of 60, and 2.3 standard errors
    assert found.disjoint_share.low <= 5
    assert found.detectable is not None
    assert found.detectable > 0


def test_a_shifted_group_is_called_different(tmp_path: Path) -> None:
    """Every second group of three seeds is better: the disjoint pairs show it."""
    noise = np.random.default_rng(1).normal(0, 0.05, 24)
    abilities = noise + np.tile([0, 0, 0, 1.5, 1.5, 1.5], 4)
    found: FalseDifferences = counted(Store(tmp_path), "words", list(abilities), pairs=1)
    assert (found.disjoint_pairs, found.disjoint_different, found.share) == (4, 4, 100)
    assert found.disjoint_share.low > 5


def test_wider_intervals_call_fewer_seeds_different(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, 24)
    abilities = noise + np.tile([0, 0, 0, 1.0, 1.0, 1.0], 4)
    shares = []
    for level in (0.95, 0.9999):
        store = Store(tmp_path / str(level))
        found: FalseDifferences = counted(store, "words", list(abilities), level=level, pairs=20)
        assert found.expected == pytest.approx(100 * (1 - level))
        shares.append(found.share)
    assert shares[0] > shares[1]


def test_too_few_seeds_make_no_pair(tmp_path: Path) -> None:
    assert counted(Store(tmp_path), "words", [0.0] * 5) is None
    with pytest.raises(ValueError, match="2 seeds"):
        counted(Store(tmp_path), "words", [0.0] * 5, seeds_per_row=1)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment of one row with 12 complete evaluations in `tmp_path / results`."""
    file = tmp_path / "many.yaml"
    content = {"title": "many seeds", "variants": [{"name": ROW, "method": "scratch"}]}
    file.write_text(dump_yaml(content))
    plan = plan_of(tmp_path / "results", file, seeds=range(12))
    store = Store(tmp_path / "results")
    random = np.random.default_rng(0)
    for cell in plan.cells:
        margin = random.normal(0, 1, WORDS)
        write_run(store, cell.evaluate, margin > 0, 4 - margin / 2)
    for table in tables_of(plan, store, recorded=False):
        table.write()
    return file


def test_the_command_takes_all_stored_seeds(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = experiment.parent / "results"
    options = ("--scale", "smoke", "--results", results, "--pairs", 5)
    code, out, _ = call(capsys, "false-differences", experiment, *options, "--json")
    assert code == 0
    (report,) = json.loads(out)
    assert (report["experiment"], report["row"], report["seeds_per_row"]) == ("many", ROW, 3)
    by_name = {one["endpoint"]: one for one in report["endpoints"]}
    assert by_name.keys() == {"fine-tuned words", "fine-tuned cer", "fine-tuned nll"}
    words = by_name["fine-tuned words"]
    assert (words["seeds"], words["pairs"], words["disjoint_pairs"]) == (12, 5, 2)
    assert words["expected"] == 5
    assert by_name["fine-tuned nll"]["expected"] == 2.5  # two exploratory endpoints
    code, out, _ = call(capsys, "false-differences", experiment, *options)
    assert code == 0
    assert out.count("fine-tuned words (%)") == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--row", "other"), f"choose --row from {ROW}"),
        (("--seeds-per-row", "7"), "12 complete seeds"),
        (("--seeds", "0,1,2"), "3 complete seeds"),
        (("--seeds-per-row", "1"), "--seeds-per-row"),
    ],
)
def test_a_wrong_choice_says_what_to_choose(
    experiment: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str], part: str
) -> None:
    results = experiment.parent / "results"
    arguments = (experiment, "--scale", "smoke", "--results", results, *options)
    code, out, err = call(capsys, "false-differences", *arguments)
    assert (code, out) == (2, "")
    assert part in err


def test_a_table_of_several_rows_needs_the_name_of_one(tmp_path: Path) -> None:
    (table,) = tables_of(plan_of(tmp_path), Store(tmp_path), recorded=False)
    with pytest.raises(UserError, match="which row"):
        report_false_differences(table, None, seeds_per_row=3, pairs=200)


def test_the_example_of_one_recipe_has_short_runs_and_one_probe(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, HERE / "examples" / "same_recipe.yaml", seeds=[0])
    (cell,) = plan.cells
    assert set(cell.probes) == {"characters"}
    finetune, pretrain = (resolved_schedule(plan.runs[run]).images for run in cell.trainings[::-1])
    assert (finetune, pretrain) == (64, 128)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "between", "level"),
    [
        (3, 0.2, 0.95),
        (3, 0.6, 0.95),
        (5, 0.6, 0.95),
        (3, 0.6, 0.9955),  # one of 11 exploratory endpoints
        (5, 0.6, 0.9955),
    ],
)
def test_equal_rows_are_called_different_no_more_often_than_the_level_allows(
    seeds: int, between: float, level: float
) -> None:
    """Simulated rows whose seeds differ; every seed is evaluated on the same images.

    The bound is the allowed share and 2.6 of its Monte-Carlo errors."""
    random = np.random.default_rng(seeds)
    trials = 3000
    different = 0
    for trial in range(trials):
        values = simulate_differences(random, seeds, 60, between, advantage=0)
        (estimate,) = bootstrap(values, EQUAL_WEIGHTS, paired=True, seed=trial, level=level)
        different += difference_verdict(estimate, None) != "undecided"
    allowed = 1 - level
    error = (allowed * level / trials) ** 0.5
    assert different / trials <= allowed + 2.6 * error
