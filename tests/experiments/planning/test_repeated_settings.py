"""Two keys of one file, or of `--set`, that set the same value are an error that names both."""

from pathlib import Path

import pytest
from plans import plan_of
from sweep_helpers import TINY, write_sweep

from core.runtime.errors import UserError
from core.runtime.former_keys import with_current_keys
from experiments.planning.changes import parse_overrides
from sweeps.engine.schema import read_sweep

REPEATED = [
    ("pretrain.mask.ratio: 0.7, pretrain: {mask: {ratio: 0.8}}", "pretrain.mask.ratio"),
    ("pretrain.mask: {ratio: 0.8}, pretrain.mask.ratio: 0.7", "pretrain.mask.ratio"),
    ("pretrain.mask.ratio: 0.7, pretrain.mask: {kind: block}", "pretrain.mask.ratio"),
    ("finetune.labels: {count: 3}, finetune.labels.count: 4", "finetune.labels.count"),
    ("pretrain.optimiser.batch: 8, pretrain.optimizer.batch: 9", "pretrain.optimizer.batch"),
    ("pretrain: {optimiser: {batch: 8}}, pretrain.optimizer: {batch: 9}", "optimizer.batch"),
]


@pytest.mark.parametrize(("settings", "key"), REPEATED)
@pytest.mark.parametrize("shared", [True, False])
def test_an_experiment_that_sets_a_value_twice_is_refused(
    tmp_path: Path, settings: str, key: str, shared: bool
) -> None:
    row = "variants: [{name: a}]" if shared else f"variants: [{{name: a, set: {{{settings}}}}}]"
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(["title: t", row, *([f"set: {{{settings}}}"] if shared else [])]))
    with pytest.raises(UserError) as raised:
        plan_of(tmp_path, file)
    source = "set" if shared else "a"
    assert str(raised.value).startswith(f"{file}: {source}: ")
    assert key in str(raised.value)
    assert "again by" in str(raised.value)


@pytest.mark.parametrize(
    "pairs",
    [
        ["pretrain.mask.ratio=0.7", "pretrain.mask={ratio: 0.8}"],
        ["pretrain.mask={kind: block, ratio: 0.8}", "pretrain.mask.ratio=0.7"],
        ["pretrain={mask: {ratio: 0.7}}", "pretrain.mask={ratio: 0.8}"],
        ["pretrain.mask.ratio=0.7", "pretrain.mask.ratio=0.8"],
    ],
)
def test_set_options_that_set_a_value_twice_are_refused(pairs: list[str]) -> None:
    with pytest.raises(UserError, match=r"^--set.*pretrain\.mask\.ratio .*keep one"):
        parse_overrides(pairs)


def test_a_sweep_that_sets_a_value_twice_is_refused(tmp_path: Path) -> None:
    section = {"finetune": {"optimizer": {"batch": 8}}}
    with pytest.raises(UserError, match=r"set: finetune\.optimizer\.batch .*'finetune'"):
        read_sweep(write_sweep(tmp_path, set=TINY | section))
    former = {"a.optimiser.batch": {"int": [1, 2]}, "a.optimizer.batch": {"int": [1, 2]}}
    with pytest.raises(UserError, match=r"space: a\.optimiser\.batch and a\.optimizer\.batch"):
        read_sweep(write_sweep(tmp_path, space=former))


def test_a_key_in_both_spellings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimiser and optimizer"):
        with_current_keys({"pretrain": {"optimiser": {}, "optimizer": {}}})
    file = tmp_path / "mine.yaml"
    file.write_text("title: t\nvariants: [{name: a}, {name: b, against: a, compare_with: a}]")
    with pytest.raises(UserError, match=r"variants\.1.*against and compare_with"):
        plan_of(tmp_path, file)


def test_a_dotted_key_can_add_to_a_section_above_it() -> None:
    pairs = ["pretrain.mask={kind: block}", "pretrain.mask.ratio=0.7"]
    assert parse_overrides(pairs)["pretrain.mask.ratio"] == 0.7
    two_sections = ["pretrain.mask.ratio=0.7", "pretrain={mask: {kind: block2}}"]
    with pytest.raises(UserError):
        parse_overrides(two_sections)
