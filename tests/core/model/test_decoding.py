"""Greedy decoding and beam search of the recognizer."""

from itertools import product

import pytest
import torch
from torch import Tensor

from analysis.bench.decoding import decode_without_cache
from core.config import Encoder, Evaluate, RecognizerModel, TextDecoder, identity_fields
from core.model.recognizer import Recognizer
from core.training.evaluate import recognize_batch

BEAMS = 5


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
    assert torch.equal(model.greedy_decode(words())[0], decode_without_cache(model, words()))


def test_a_search_with_one_beam_is_greedy() -> None:
    model = reader()
    assert [text for text, _ in recognize_batch(model, words())] == [
        text for text, _ in recognize_batch(model, words(), beams=1)
    ]
    (ours, surely), (greedy, rate) = model.beam_search(words(), 1), model.greedy_decode(words())
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
    found, probabilities = model.beam_search(words(), classes**2)
    for image in range(len(words())):
        best = max(whole, key=lambda text: likelihood(model, words()[image], text))
        assert tuple(found[image, : len(best)].tolist()) == best
        assert probabilities[image].log().sum().item() == pytest.approx(
            likelihood(model, words()[image], best), abs=1e-4
        )


def test_more_beams_never_read_a_less_likely_text_here_and_sometimes_a_likelier_one() -> None:
    model = reader(seed=4)
    greedy, searched = (
        [confidence for _, confidence in recognize_batch(model, words(16), beams=beams)]
        for beams in (1, BEAMS)
    )
    assert all(wide >= narrow - 1e-6 for narrow, wide in zip(greedy, searched, strict=True))
    assert any(wide > narrow + 1e-6 for narrow, wide in zip(greedy, searched, strict=True))


def test_a_greedy_evaluation_keeps_its_identity() -> None:
    """The option came after the first published runs."""
    subsets = {"one": {"roots": ["synthetic:general"]}}
    plain, wide = (
        Evaluate.model_validate({"subsets": subsets, "precision": "fp32", **more})
        for more in ({}, {"beams": 5})
    )
    assert "beams" not in identity_fields(plain)
    assert identity_fields(wide)["beams"] == 5
