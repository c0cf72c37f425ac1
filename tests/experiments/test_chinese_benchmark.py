"""Plans of the Chinese benchmark: charsets, teachers, roots."""

from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from core.config import Finetune, Pretrain
from core.runtime.errors import UserError
from core.synthetic.config import Synthetic
from core.synthetic.vocabulary import vocabulary_characters
from experiments.planning.plan import Plan, resolved_schedule
from experiments.planning.recipe import read_recipe
from experiments.planning.schema import HERE, file_layer


def benchmark(results: Path, scale: str, **overrides: Any) -> Plan:
    return plan_of(results, HERE / "chinese_benchmark.yaml", scale=scale, overrides=overrides)


def finetune_configs(plan: Plan) -> list[Finetune]:
    return [run.config for run in plan.runs.values() if isinstance(run.config, Finetune)]


def test_synthetic_words_bring_their_charset(tmp_path: Path) -> None:
    configs = finetune_configs(benchmark(tmp_path, "smoke"))
    words = Synthetic(
        language="zh", train=128, validation=16, test=16, vocabulary=100, letters=(1, 3)
    )
    assert len(configs) == 4
    assert {config.charset for config in configs} == {vocabulary_characters(words)}
    assert {config.max_length for config in configs} == {40}


@pytest.mark.parametrize("scale", ["mini", "overnight"])
def test_chinese_words_have_the_image_and_the_number_of_english_ones(
    tmp_path: Path, scale: str
) -> None:
    recipe = read_recipe([file_layer("base", "lmim"), file_layer("scales", scale)])
    assert recipe.synthetic is not None
    assert recipe.synthetic_chinese is not None
    assert recipe.synthetic_chinese.language == "zh"
    assert recipe.synthetic_chinese.image == recipe.synthetic.image

    def pretraining_images(plan: Plan) -> set[int]:
        runs = plan.runs.values()
        return {resolved_schedule(run).images for run in runs if isinstance(run.config, Pretrain)}

    (english,) = pretraining_images(plan_of(tmp_path, scale=scale))
    (chinese,) = pretraining_images(benchmark(tmp_path, scale))
    assert chinese == pytest.approx(english, rel=1e-3)  # an epoch has whole batches only


def test_the_teacher_of_lmim_is_the_encoder_of_the_mim_row(tmp_path: Path) -> None:
    plan = benchmark(tmp_path, "smoke")
    mim, lmim = (plan.cells[number].trainings[0] for number in (2, 3))
    assert plan.runs[lmim].inputs == {"teacher": mim}


def test_at_paper_scale_sizes_are_known_without_the_charset_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMIM_DATA", raising=False)
    plan = benchmark(tmp_path, "paper")
    configs = finetune_configs(plan)
    assert {len(config.charset) for config in configs} == {7934}
    assert {config.optimizer.epochs for config in configs} == {60}
    assert any(
        "characters.txt" in run.unmet and "run.py data charset" in run.unmet
        for run in plan.runs.values()
    )


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_a_charset_file_that_is_given_is_used(scale: str, tmp_path: Path) -> None:
    file = tmp_path / "characters.txt"
    file.write_text("一二三", encoding="utf-8")
    plan = benchmark(tmp_path, scale, **{"finetune.charset": f"file:{file}"})
    assert {config.charset for config in finetune_configs(plan)} == {"一二三"}
    assert not any(run.unmet for run in plan.runs.values())


def test_characters_that_are_given_are_used_and_need_no_file(tmp_path: Path) -> None:
    plan = benchmark(tmp_path, "smoke", **{"finetune.charset": "一"})
    assert {config.charset for config in finetune_configs(plan)} == {"一"}
    assert not any(run.unmet for run in plan.runs.values())


@pytest.mark.parametrize("wrong", [5, [[1]], [{"a": 1}]])
def test_roots_of_a_wrong_type_are_named_in_the_error(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(UserError, match=r"--set: finetune\.data\.roots"):
        benchmark(tmp_path, "mini", **{"finetune.data.roots": wrong})
