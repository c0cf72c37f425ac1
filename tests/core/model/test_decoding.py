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


def make_recognizer(charset: str = "ascii94", max_length: int = 8, seed: int = 0) -> Recognizer:
    """A small recognizer with random weights."""
    torch.manual_seed(seed)
    encoder = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")
    decoder = TextDecoder(width=32, layers=2, heads=2, feedforward=32)
    config = RecognizerModel(
        encoder=encoder, decoder=decoder, charset=charset, max_length=max_length
    )
    model = Recognizer(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def images(count: int = 6) -> Tensor:
    return torch.rand(count, 3, 32, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1


def set_eos_bias(model: Recognizer, value: float) -> None:
    """Make all words end at the first position (large value), or none before max_length."""
    with torch.no_grad():
        model.classify.bias[model.charset.eos] = value


def test_greedy_decoding_with_and_without_cache_gives_the_same_tokens() -> None:
    model = make_recognizer()
    set_eos_bias(model, -100)
    tokens, _ = model.greedy_decode(images())
    assert tokens.shape == (6, model.config.max_length)
    assert torch.equal(tokens, decode_without_cache(model, images()))


def test_greedy_probabilities_equal_those_of_teacher_forcing() -> None:
    model = make_recognizer()
    set_eos_bias(model, -100)
    tokens, probabilities = model.greedy_decode(images())
    lengths = torch.full((len(tokens),), tokens.shape[1])
    logits = model(images(), tokens, lengths)
    expected = logits.softmax(-1).max(-1).values
    torch.testing.assert_close(expected, probabilities, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits.argmax(-1), tokens)


def test_decoding_stops_once_every_word_has_its_eos() -> None:
    model = make_recognizer()
    set_eos_bias(model, 100)
    assert model.greedy_decode(images())[0].shape == (6, 1)
    assert model.beam_search(images(), BEAMS)[0].shape == (6, 1)


def test_beam_search_with_one_beam_is_greedy() -> None:
    model = make_recognizer()
    greedy, greedy_probabilities = model.greedy_decode(images())
    tokens, probabilities = model.beam_search(images(), 1)
    for image in range(len(greedy)):
        ends = (greedy[image] == model.charset.eos).nonzero()
        stop = int(ends[0]) + 1 if len(ends) else greedy.shape[1]
        assert torch.equal(tokens[image, :stop], greedy[image, :stop])
        expected = greedy_probabilities[image, :stop]
        torch.testing.assert_close(probabilities[image, :stop], expected)


def test_recognition_is_greedy_by_default() -> None:
    model = make_recognizer()
    assert recognize_batch(model, images()) == recognize_batch(model, images(), beams=1)


@torch.no_grad()
def log_likelihood(model: Recognizer, image: Tensor, tokens: tuple[int, ...]) -> float:
    """Log-likelihood of a text by teacher forcing, in nats."""
    logits = model(image[None], torch.tensor([tokens]), torch.tensor([len(tokens)]))[0]
    log_probabilities = logits.log_softmax(-1)
    return sum(float(log_probabilities[step, token]) for step, token in enumerate(tokens))


def test_a_beam_search_that_is_wide_enough_finds_the_likeliest_text() -> None:
    """All texts of up to three positions are compared."""
    model = make_recognizer("ab", max_length=3)
    classes = model.charset.classes
    eos = model.charset.eos
    texts = [text for length in (1, 2, 3) for text in product(range(classes), repeat=length)]
    complete = [
        text for text in texts if eos not in text[:-1] and (text[-1] == eos or len(text) == 3)
    ]
    tokens, probabilities = model.beam_search(images(), classes**2)
    for row, image in enumerate(images()):
        scores = {text: log_likelihood(model, image, text) for text in complete}
        best = max(scores, key=lambda text: scores[text])
        assert tuple(tokens[row, : len(best)].tolist()) == best
        score = probabilities[row].log().sum().item()
        assert score == pytest.approx(scores[best], abs=1e-4)


def test_more_beams_give_likelier_texts_and_here_never_less_likely_ones() -> None:
    model = make_recognizer(seed=4)
    greedy = [confidence for _, confidence in recognize_batch(model, images(16), beams=1)]
    searched = [confidence for _, confidence in recognize_batch(model, images(16), beams=BEAMS)]
    gains = [wide - narrow for narrow, wide in zip(greedy, searched, strict=True)]
    assert min(gains) >= -1e-6
    assert max(gains) > 1e-6


def test_a_greedy_evaluation_keeps_its_identity() -> None:
    """The key `beams` was added after the first published runs."""
    settings = {"subsets": {"one": {"roots": ["synthetic:general"]}}, "precision": "fp32"}
    greedy = Evaluate.model_validate(settings)
    searched = Evaluate.model_validate(settings | {"beams": 5})
    assert "beams" not in identity_fields(greedy)
    assert identity_fields(searched)["beams"] == 5
