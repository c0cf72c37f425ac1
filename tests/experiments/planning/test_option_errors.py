"""Mistakes in labels, frozen blocks, CTC, checkpoints, transfers, endpoints and probes."""

import re
from pathlib import Path

import pytest
from commands import REPOSITORY
from plans import plan_of

from core.config import Finetune
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from experiments.planning import schema
from experiments.planning.changes import parse_overrides

MISTAKES: list[tuple[list[str], str, tuple[str, ...]]] = [
    (["finetune.labels={count: -1}"], "finetune.labels.count", ("-1", "above 0")),
    (["finetune.labels={share: 2}"], "finetune.labels.share", ("2", "above 1")),
    (["finetune.labels=some"], "finetune.labels", ("'some'", "strict", "released", "count")),
    (["finetune.labels=true"], "finetune.labels", ("True", "strict")),
    (["finetune.labels={count: 3, share: 0.5}"], "finetune.labels", ("count", "share", "0.5")),
    (["finetune.labels={cuont: 3}"], "finetune.labels.cuont", ("allowed: count, share",)),
    (["finetune.frozen_blocks=99"], "finetune.frozen_blocks", ("99", "depth 2")),
    (["finetune.frozen_blocks=-1"], "finetune.frozen_blocks", ("-1", "below 0")),
    (["finetune.ctc_weight=-1"], "finetune.ctc_weight", ("-1", "below 0")),
    (["finetune.decoder=null", "finetune.ctc_weight=1"], "finetune.ctc_weight", ("null",)),
    (["finetune.validate_every=0"], "finetune.validate_every", ("0", "above 0")),
    (["evaluate.last=0"], "evaluate.last", ("0", "below 1")),
    (["evaluate.last=99"], "evaluate.last", ("99", "above 50")),
    (["transfers=0"], "transfers", ("0", "below 1")),
    (["primary=nonsense"], "primary", ("'nonsense'", "fine-tuned", "words, characters")),
    (["primary=x words"], "primary", ("'x words'", "fine-tuned words")),
    (["primary=fine-tuned characters"], "primary", ("choose from", "fine-tuned cer")),
    (["probes={x: {head: {kind: linear}}}"], "probes.x.head.kind", ("'linear'", "ctc_linear")),
    (["probes={x: {head: {lr: 1}}}"], "probes.x.head.kind", ("required", "ctc_bilstm")),
    (["probes.x={head: 3}"], "probes.x.head", ("section", "3")),
    (["probes={x: {images: 0, head: {kind: decoder}}}"], "probes.x.images", ("0", "above 0")),
    (["probes={x: {head: {kind: decoder, lr: 0}}}"], "probes.x.head.lr", ("0", "above 0")),
    (["probes={x: {head: {kind: ctc_linear, rl: 1}}}"], "probes.x.head.rl", ("batch, clip",)),
    (["pretrain.target={kind: pixel, normalized: 3}"], "pretrain.target.normalized", ("3",)),
]


@pytest.mark.parametrize(("pairs", "key", "parts"), MISTAKES)
def test_a_mistake_in_an_option_names_key_value_and_choices(
    tmp_path: Path, pairs: list[str], key: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as raised:
        plan_of(tmp_path, overrides=parse_overrides(pairs))
    message = str(raised.value)
    assert message.startswith(f"--set: {key}: ")
    assert all(part in message for part in parts)
    assert len(message.splitlines()) == 1


def test_a_wrong_primary_endpoint_names_the_experiment_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for name in ("nonsense", "words", "x words", "fine-tuned characters"):
        file.write_text(f"title: t\nprimary: {name}\nvariants: [{{name: a}}]")
        with pytest.raises(UserError, match=rf"mine\.yaml: primary: .*{name}"):
            plan_of(tmp_path, file)


@pytest.mark.parametrize("name", ["nonsense", "x words"])
def test_a_wrong_primary_endpoint_names_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def read(path: Path) -> dict[str, object]:
        content = read_yaml(path)
        return content | ({"primary": name} if path.name == "smoke.yaml" else {})

    monkeypatch.setattr("experiments.planning.schema.read_yaml", read)
    schema.file_layer.cache_clear()
    try:
        with pytest.raises(UserError, match=rf"experiments/scales/smoke\.yaml: primary: .*{name}"):
            plan_of(tmp_path)
    finally:
        schema.file_layer.cache_clear()


def test_the_example_of_the_options_is_planned(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, REPOSITORY / "experiments" / "examples" / "options.yaml")
    finetunings = [run for run in plan.runs.values() if run.stage == "finetune"]
    configs = [run.config for run in finetunings if isinstance(run.config, Finetune)]
    assert {run.images() for run in finetunings} == {512, 64, 256}
    assert {config.last_checkpoints for config in configs} == {3}
    assert {config.frozen_blocks for config in configs} == {0, 1}
    assert {config.ctc_weight for config in configs} == {0, 0.2}
    assert any(config.decoder is None for config in configs)
    assert {cell.transfer for cell in plan.cells} == {0, 1}
    assert plan.primary == {"options": "characters nll"}
    assert all(cell.probes for cell in plan.cells)


def test_the_guide_describes_every_option_of_the_example() -> None:
    guide = (REPOSITORY / "experiments" / "README.md").read_text(encoding="utf-8")
    example = (REPOSITORY / "experiments" / "examples" / "options.yaml").read_text(encoding="utf-8")
    options = ("labels", "frozen_blocks", "ctc_weight", "decoder", "validate_every", "last")
    for option in (*options, "transfers"):
        assert re.search(rf"\b{option}:", example), option
        assert re.search(rf"`[a-z.]*{option}[`:]", guide), option
