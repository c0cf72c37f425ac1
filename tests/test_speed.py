"""Quick paths compute what plain ones compute; `run.py bench` measures them. Nothing here looks at a clock."""

import json
import math
import os
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from commands import run_command
from conftest import call
from torch import Tensor

from analysis.bench.limits import precisions
from analysis.bench.measure import Row
from analysis.bench.reading import plain_read
from analysis.bench.training import agreement
from analysis.bench.work import Work, rendered_words
from core.config import Encoder, Evaluate, Precision, RecognizerModel, TextDecoder, identity
from core.model.compile import can_compile
from core.model.kernels.attention import attend, split_qkv
from core.model.kernels.dropout import kept, next_draw, position_seeded_dropout
from core.model.recognizer import Recognizer
from core.training.evaluate import read_batch

BEAMS = 5
Capture = pytest.CaptureFixture[str]


def projected(
    kind: torch.dtype, images: int = 5, queries: int = 40, keys: int = 70
) -> list[Tensor]:
    """Queries of some rows and keys and values of others, as two linear layers leave them."""
    source = torch.Generator().manual_seed(0)
    sizes = ((images, queries, 1, 3, 16), (images, keys, 2, 3, 16))
    return [torch.randn(size, generator=source).to(kind).requires_grad_() for size in sizes]


def explicit(
    projected: list[Tensor], mask: Tensor | None, kept_share: list[Tensor] | None = None
) -> Tensor:
    """Attention by its formula, in double precision."""
    queries, keys, values = (part.double() for part in split_qkv(projected))
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
    if kept_share is not None:
        weights = weights * torch.stack(kept_share)
    return (weights @ values).transpose(1, 2).flatten(2)


def gradients(output: Tensor, projected: list[Tensor]) -> list[Tensor]:
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return list(torch.autograd.grad(output, projected, towards))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kind", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_and_its_gradients_are_those_of_the_formula(
    kind: torch.dtype, within: float, masked: bool
) -> None:
    """bf16 goes through matrix products on a CPU, few queries too; many in fp32 through PyTorch's kernel."""
    mask = (
        torch.rand(5, 1, 40, 70, generator=torch.Generator().manual_seed(2)) < 0.7
        if masked
        else None
    )
    for queries in (40, 3):
        inputs = projected(kind, queries=queries)
        seen = None if mask is None else mask[:, :, :queries]
        ours, right = attend(*inputs, mask=seen), explicit(inputs, seen)
        pairs = [
            (ours, right),
            *zip(gradients(ours, inputs), gradients(right, inputs), strict=True),
        ]
        for one, other in pairs:
            assert (one.double() - other.double()).norm() <= within * other.double().norm()


def test_attention_with_dropout_and_its_gradients_are_those_of_the_formula_with_the_same_weights_dropped() -> (
    None
):
    inputs, seed = projected(torch.float32, images=32), 7
    with position_seeded_dropout(seed, range(32), 32):
        ours = attend(*inputs, dropout=0.25)
    with position_seeded_dropout(seed, range(32), 32):
        draw = next_draw(32)
    assert draw is not None
    # a chunk's images are attended to in one piece here, and so drawn for at once
    whole = [
        kept((2, 3, 40, 70), 0.25, source).double() / 0.75
        for source, _ in draw.sources(torch.device("cpu"))
    ]
    right = explicit(inputs, None, list(torch.cat(whole)))
    torch.testing.assert_close(ours.double(), right, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(ours, inputs), gradients(right, inputs), strict=True):
        torch.testing.assert_close(one.double(), other.double(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_outside_of_a_training_step_weights_are_dropped_as_pytorch_draws(kind: torch.dtype) -> None:
    inputs = projected(kind)
    with torch.no_grad():
        whole, first, second = (
            attend(*inputs),
            attend(*inputs, dropout=0.5),
            attend(*inputs, dropout=0.5),
        )
    assert not torch.equal(first, whole)
    assert not torch.equal(first, second)


def test_what_dropout_keeps_is_a_share_without_pattern() -> None:
    keep = kept((400, 1001), 0.1, torch.Generator().manual_seed(0)).double()
    assert keep.mean().item() == pytest.approx(0.9, abs=4 * (0.09 / keep.numel()) ** 0.5)
    centered = keep - keep.mean()
    for step in (1, 2, 3, 4):  # four values come of one random number
        correlation = (centered[:, step:] * centered[:, :-step]).mean() / centered.var()
        assert abs(correlation) < 4 / keep.numel() ** 0.5


# reading


def reader(classes: str = "ascii94", length: int = 8, seed: int = 0) -> Recognizer:
    torch.manual_seed(seed)
    encoder = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")
    decoder = TextDecoder(width=32, layers=2, heads=2, feedforward=32)
    model = Recognizer(
        RecognizerModel(encoder=encoder, decoder=decoder, charset=classes, max_length=length)
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def words(count: int = 6) -> Tensor:
    return torch.rand(count, 3, 32, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_greedy_reading_with_a_cache_reads_what_every_prefix_computed_anew_reads() -> None:
    model = reader()
    with torch.no_grad():
        model.classify.bias[model.charset.eos] = -100  # so that all positions are read
    assert torch.equal(model.read(words())[0], plain_read(model, words()))


def test_a_search_with_one_beam_is_greedy() -> None:
    model = reader()
    assert [text for text, _ in read_batch(model, words())] == [
        text for text, _ in read_batch(model, words(), beams=1)
    ]
    (ours, surely), (greedy, rate) = model.search(words(), 1), model.read(words())
    for image in range(len(words())):
        ends = (greedy[image] == model.charset.eos).nonzero()
        stop = int(ends[0]) + 1 if len(ends) else greedy.shape[1]
        assert torch.equal(ours[image, :stop], greedy[image, :stop])
        torch.testing.assert_close(surely[image, :stop], rate[image, :stop])


@torch.no_grad()
def likelihood(model: Recognizer, image: Tensor, tokens: tuple[int, ...]) -> float:
    """Of a text, by teacher forcing; in nats."""
    logits = model(image[None], torch.tensor([tokens]), torch.tensor([len(tokens)]))[0]
    return sum(float(logits[step].log_softmax(-1)[token]) for step, token in enumerate(tokens))


def test_a_search_wide_enough_finds_the_likeliest_text_of_all() -> None:
    """Three classes besides PADDING and UNKNOWN would do; all texts of up to three positions are tried."""
    model = reader("ab", length=3)
    classes, eos = model.charset.classes, model.charset.eos
    texts = [text for length in (1, 2, 3) for text in product(range(classes), repeat=length)]
    whole = [
        text for text in texts if eos not in text[:-1] and (text[-1] == eos or len(text) == 3)
    ]  # ended, or cut at max_length
    found, probabilities = model.search(words(), classes**2)
    for image in range(len(words())):
        best = max(whole, key=lambda text: likelihood(model, words()[image], text))
        assert tuple(found[image, : len(best)].tolist()) == best
        assert probabilities[image].log().sum().item() == pytest.approx(
            likelihood(model, words()[image], best), abs=1e-4
        )


def test_more_beams_never_read_a_less_likely_text_here_and_sometimes_a_likelier_one() -> None:
    model = reader(seed=4)
    greedy, searched = (
        [confidence for _, confidence in read_batch(model, words(16), beams=beams)]
        for beams in (1, BEAMS)
    )
    assert all(wide >= narrow - 1e-6 for narrow, wide in zip(greedy, searched, strict=True))
    assert any(wide > narrow + 1e-6 for narrow, wide in zip(greedy, searched, strict=True))


def test_a_greedy_evaluation_keeps_its_identity() -> None:
    """The option came after the first published runs."""
    subsets = {"one": {"roots": ["rendered:general"]}}
    plain, wide = (
        Evaluate.model_validate({"subsets": subsets, "precision": "fp32", **more})
        for more in ({}, {"beams": 5})
    )
    assert "beams" not in identity(plain)
    assert identity(wide)["beams"] == 5


# precision


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(rendered_words(16), quick=True)


def test_bf16_agrees_with_fp32_over_50_steps(work: Work) -> None:
    assert agreement(work, 4, 50, "bf16") < 0.01


@pytest.fixture
def _own_compiler_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual cache may hold code that was compiled for other instructions of this processor; such code aborts."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("_own_compiler_cache")
@pytest.mark.skipif(not can_compile("cpu"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-4), ("bf16", 0.01)])
def test_compiled_blocks_agree_with_fp32_over_50_steps(
    work: Work, precision: Precision, within: float
) -> None:
    if precision not in precisions("cpu"):
        pytest.skip(
            "this processor does not multiply bf16 natively; what is compiled for bf16 takes minutes there"
        )
    assert agreement(work, 4, 50, precision, compiled=True) < within


def test_equal_seeds_give_equal_runs_in_bf16(work: Work) -> None:
    assert agreement(work, 4, 3, "fp32") == 0
    first, second = (agreement(work, 4, 10, "bf16") for _ in range(2))
    assert first == second > 0


# the benchmark


def test_bench_measures_each_thing_beside_the_plain_path_and_the_limits(
    capsys: Capture, tmp_path: Path
) -> None:
    what = ("limits", "start", "input", "pretrain", "feeding")
    code, out, _ = call(capsys, "bench", "--quick", "--json", "--results", tmp_path, *what)
    report = json.loads(out)
    assert code == 0
    assert report["machine"]["cores"] >= 1
    assert report["work"] == "tiny"
    rows = report["measured"]
    assert {row["what"] for row in rows} == set(what)
    assert all(row["rate"] > 0 and all(second > 0 for second in row["seconds"]) for row in rows)
    steps = {row["path"]: row for row in rows if row["what"] == "pretrain"}
    native = precisions("cpu")
    assert steps.keys() == {"plain", *(f"ours, {precision}" for precision in native)}
    assert all(row["ratios"]["x plain"] > 0 and row["memory_mb"] > 0 for row in steps.values())
    for precision in native:
        assert (
            0
            < steps[f"ours, {precision}"]["ratios"][f"of the {precision} matrix product's rate"]
            < 1
        )
    assert len(report["left_out"]) == 2 - len(native)
    (fed,) = (row for row in rows if row["what"] == "feeding")
    assert 0 < fed["ratios"]["share of time waiting for data"] < 1


def test_bench_tells_of_reading_teams_and_growing_indices_in_tables(
    capsys: Capture, tmp_path: Path
) -> None:
    what = ("profile", "reading", "team", "index", "views")
    code, out, err = call(capsys, "bench", "--quick", "--results", tmp_path, *what)
    assert code == 0
    assert all(f"### {name}" in out for name in what[:-1])
    for text in (
        "matrix products",
        "beam search, width 5, fp32",
        "times greedy's cost",
        "64 GPUs, on paper",
        "10,000 images",
    ):
        assert text in out
    assert "5 of 5: views" in err
    assert (tmp_path / "bench" / "views.png").stat().st_size > 10_000


def test_bench_compares_two_commands_at_once_with_one_after_the_other(capsys: Capture) -> None:
    code, out, _ = call(capsys, "bench", "--quick", "--json", "sharing")
    rows = {row["path"]: row for row in json.loads(out)["measured"]}
    assert code == 0
    assert rows.keys() == {"one alone", "two at once"}
    assert rows["two at once"]["ratios"].keys() == {
        "x the work of one after the other",
        "x their time",
    }
    assert all(ratio > 0 for row in rows.values() for ratio in row["ratios"].values())


def test_bench_leaves_out_what_the_processor_does_not_do_natively(tmp_path: Path) -> None:
    """oneDNN and PyTorch are limited to AVX2, where a bf16 product takes ten to a hundred times as long as in fp32."""
    avx2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = run_command(
        [sys.executable, "run.py", "bench", "--quick", "--json", "limits"],
        env=os.environ | avx2,
        check=True,
    )
    report = json.loads(done.stdout)
    assert [row["case"] for row in report["measured"]] == ["matrix product, fp32", "memory copy"]
    (sentence,) = report["left_out"]
    assert sentence.startswith("bf16 is left out")


def test_bench_answers_a_wrong_name_with_the_right_ones(capsys: Capture, tmp_path: Path) -> None:
    code, _, err = call(capsys, "bench", "speed")
    assert code == 2
    assert "there is no such measurement; choose from limits, start" in err
    code, _, err = call(capsys, "bench", "input", "--data", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: no such folder" in err


def test_an_interrupted_bench_tells_what_it_had_measured(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Work) -> list[Row]:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.bench.inputs.measure_input", stop)
    code, out, err = call(capsys, "bench", "--quick", "limits", "input")
    assert code == 130
    assert "matrix product, fp32" in out
    assert "what was measured before input follows" in err
