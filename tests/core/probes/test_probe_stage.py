"""The probe stage: the encoder stays frozen; results are deterministic and complete."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import jpeg, write_lmdb
from probe_runs import HEADS, probe_config, run_probe
from pydantic import ValidationError

from core.config import Finetune, Optimizer, TextDecoder, identity_fields
from core.model.vit import VisionTransformer
from core.probes.features import FeatureCache
from core.probes.results import ProbeResult
from core.probes.stage import CACHE, make_encoder
from core.runtime.errors import UserError
from core.training.finetune import make_model
from core.training.run_context import Interrupted, RunContext, RunProgress


def _without_times(result: ProbeResult) -> ProbeResult:
    return replace(result, metrics=replace(result.metrics, seconds=0, feature_seconds=0))


@pytest.mark.parametrize("head", HEADS)
def test_a_probe_leaves_the_encoder_unchanged_and_in_evaluation_mode(
    head: str,
    probe_words: Path,
    encoder_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bool] = []
    encoders: list[VisionTransformer] = []
    forward = VisionTransformer.forward

    def spy(module: VisionTransformer, *arguments: Any) -> torch.Tensor:
        calls.append(any(part.training for part in module.modules()) or torch.is_grad_enabled())
        encoders.append(module)
        return forward(module, *arguments)

    monkeypatch.setattr(VisionTransformer, "forward", spy)
    before = hashlib.sha256(encoder_file.read_bytes()).hexdigest()
    config = probe_config(probe_words, head)
    initial = make_encoder(config, encoder_file).state_dict()
    run_probe(config, encoder_file, tmp_path / "run")
    assert hashlib.sha256(encoder_file.read_bytes()).hexdigest() == before
    assert calls
    assert not any(calls)
    for name, tensor in encoders[0].state_dict().items():
        assert torch.equal(tensor, initial[name]), name
    assert not any(parameter.requires_grad for parameter in encoders[0].parameters())


@pytest.mark.parametrize("head", HEADS)
def test_a_probe_is_deterministic_with_and_without_a_cache(
    head: str, probe_words: Path, encoder_file: Path, tmp_path: Path
) -> None:
    config = probe_config(probe_words, head)
    cache = FeatureCache(tmp_path / "cache")
    first = run_probe(config, encoder_file, tmp_path / "a", cache=cache)
    again = run_probe(config, encoder_file, tmp_path / "b", cache=FeatureCache(cache.folder))
    assert _without_times(first) == _without_times(again)
    uncached = run_probe(config, encoder_file, tmp_path / "c", cache=FeatureCache(tmp_path, 0))
    for name, counts in first.metrics.characters.items():
        other = uncached.metrics.characters[name]
        assert other.nll == pytest.approx(counts.nll, rel=1e-3)
        assert abs(other.correct - counts.correct) <= 2


def test_the_seed_changes_the_result(probe_words: Path, encoder_file: Path, tmp_path: Path) -> None:
    results = [
        run_probe(probe_config(probe_words, "ctc_linear", seed=seed), encoder_file, tmp_path)
        for seed in (0, 1)
    ]
    assert results[0].metrics.characters != results[1].metrics.characters


@pytest.mark.parametrize("head", HEADS)
def test_the_sums_of_a_subset_are_those_of_its_words(
    head: str, probe_words: Path, tmp_path: Path
) -> None:
    result = run_probe(probe_config(probe_words, head), None, tmp_path)
    metrics = result.metrics.to_json()
    for name, words in result.words.items():
        counts = result.metrics.characters[name]
        assert len(words) == result.metrics.counts[name].images == 8
        assert [word.prediction for word in words] == result.predictions[name]
        assert counts.correct == sum(word.correct for word in words)
        letters = sum(len(word.prediction.label) for word in words)
        assert counts.characters == counts.reference_characters == letters
        assert counts.nll_characters == letters + (len(words) if head == "decoder" else 0)
        assert metrics["characters"][name]["edits"] == counts.edits
        assert 0 <= counts.correct <= counts.characters
    assert metrics["training"]["words"] == 60
    assert metrics["head"] == head
    assert set(metrics["dropped"]) == {"training", "general", "contextless"}


def test_predicted_characters_are_as_many_as_those_of_the_label(
    probe_words: Path, tmp_path: Path
) -> None:
    result = run_probe(probe_config(probe_words), None, tmp_path)
    for word in result.words["contextless"]:
        assert len(word.prediction.prediction) == len(word.prediction.label) == word.characters
        assert word.edits >= 0


def test_an_untrained_encoder_has_the_weights_that_fine_tuning_from_scratch_starts_with(
    probe_words: Path,
) -> None:
    config = probe_config(probe_words, seed=3)
    finetune = Finetune(
        encoder=config.encoder,
        decoder=TextDecoder(width=16, layers=1, heads=2, feedforward=16),
        optimizer=Optimizer(base_lr=1e-3),
        data=config.data,
        precision="fp32",
        seed=3,
    )
    weights = make_model(finetune, None).encoder.state_dict()
    for name, tensor in make_encoder(config, None).state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_features_in_the_run_folder_are_removed_at_the_end(
    probe_words: Path, tmp_path: Path
) -> None:
    run_probe(probe_config(probe_words), None, tmp_path)
    assert not (tmp_path / CACHE).exists()


@pytest.mark.parametrize("head", HEADS)
def test_a_probe_stops_when_it_is_asked_to(head: str, probe_words: Path, tmp_path: Path) -> None:
    reports: list[RunProgress] = []
    context = RunContext(
        torch.device("cpu"),
        should_stop=lambda: len(reports) == 2,
        on_progress=reports.append,
    )
    with pytest.raises(Interrupted):
        run_probe(probe_config(probe_words, head), None, tmp_path, context=context)
    assert reports[0].unit == "images"
    assert not (tmp_path / CACHE).exists()


def test_the_head_is_trained_on_the_number_of_images(probe_words: Path, tmp_path: Path) -> None:
    result = run_probe(probe_config(probe_words, "decoder", images=20), None, tmp_path)
    assert result.metrics.training["words"] == 20


def test_words_without_boxes_are_an_error_of_the_character_head(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "train", [(jpeg(9), "ab"), (jpeg(7), "cd")])
    with pytest.raises(UserError, match=r"synthetic\.boxes"):
        run_probe(probe_config(tmp_path, subsets={"a": {"roots": [root]}}), None, tmp_path)


def test_an_encoder_of_other_sizes_is_an_error(
    probe_words: Path, encoder_file: Path, tmp_path: Path
) -> None:
    config = probe_config(probe_words)
    wider = config.encoder.model_copy(update={"width": 32})
    with pytest.raises(UserError, match="shape"):
        run_probe(config.model_copy(update={"encoder": wider}), encoder_file, tmp_path)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"head": {"kind": "svm"}}, "head"),
        ({"head": {"kind": "ctc_linear", "hidden": 3}}, "hidden"),
        ({"head": {"kind": "characters", "ridges": [0.0]}}, "ridges"),
        ({"features": "scaled"}, "features"),
        ({"images": 0}, "images"),
        ({"subsets": {}}, "subsets"),
        ({"data": {"roots": ["a"], "mix": {"roots": ["b"], "share": 0.5}}}, "mix"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=key):
        probe_config(tmp_path, **settings)


def test_defaults_are_no_part_of_the_identity(tmp_path: Path) -> None:
    fields = identity_fields(probe_config(tmp_path))
    assert not fields.keys() & {"features", "images", "max_length", "protocol", "precision"}
    assert fields["head"] == {"kind": "characters"}
