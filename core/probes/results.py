"""What a probe returns, and its JSON form in `record.json`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.text.edit_distance import compare
from core.text.protocols import Counts, Prediction, Protocol, count_correct


@dataclass(frozen=True)
class HeadPrediction:
    """The prediction of a head for one word.

    text: predicted characters.
    confidence: probability of the text, in [0, 1].
    label: the text that is compared with the prediction; for head `characters` the characters that
        have boxes, for head `hidden_letter` the hidden one, in the charset's case.
    nll: negative log-likelihood of the label in nats; None if the head cannot express the label.
    nll_symbols: characters in this likelihood; with head `decoder` also the end of the word.
    correct: characters of the label that are predicted at their place; None: they are aligned.
    """

    text: str
    confidence: float
    label: str
    nll: float | None = None
    nll_symbols: int = 0
    correct: int | None = None


@dataclass(frozen=True)
class ProbedWord:
    """The prediction for one test word, and its counts.

    correct, characters: characters that are predicted, out of those of the label. For head
        `characters` at their places; else aligned, after the protocol's normalization.
    edits, reference_characters: Levenshtein distance to the label, and characters of the label,
        after the protocol's normalization.
    nll_symbols: characters in the prediction's likelihood.

    A word that is not scorable has the edits of an empty prediction.
    """

    prediction: Prediction
    correct: int
    characters: int
    edits: int
    reference_characters: int
    nll_symbols: int


def probed_word(
    index: int, scorable: bool, predicted: HeadPrediction, normalize: Callable[[str], str]
) -> ProbedWord:
    """The counts of one word.

    index: number of the word in its subset.
    scorable: whether the label can be expressed and the image was decoded.
    predicted: by the head.
    normalize: of the protocol."""
    comparison = compare(predicted.label, predicted.text if scorable else "", normalize)
    at_places = predicted.correct is not None
    nll = None if predicted.nll is None else round(predicted.nll, 5)
    prediction = Prediction(
        index, predicted.label, predicted.text, round(predicted.confidence, 6), scorable, nll
    )
    return ProbedWord(
        prediction=prediction,
        correct=comparison.kept if predicted.correct is None else predicted.correct,
        characters=len(predicted.label) if at_places else comparison.characters,
        edits=comparison.edits,
        reference_characters=comparison.characters,
        nll_symbols=predicted.nll_symbols,
    )


@dataclass(frozen=True)
class CharacterCounts:
    """Sums over the words of a subset.

    correct, characters: character accuracy = correct / characters.
    edits, reference_characters: CER = edits / reference_characters.
    nll, nll_characters: negative log-likelihood per character = nll / nll_characters, over the
        words whose label the head can express. With head `decoder` the end of a word counts as a
        character.
    """

    correct: int
    characters: int
    edits: int
    reference_characters: int
    nll: float
    nll_characters: int


def character_counts(words: Sequence[ProbedWord]) -> CharacterCounts:
    """The sums over some words."""
    likely = [(row.prediction.nll, row.nll_symbols) for row in words]
    known = [(nll, symbols) for nll, symbols in likely if nll is not None]
    return CharacterCounts(
        correct=sum(row.correct for row in words),
        characters=sum(row.characters for row in words),
        edits=sum(row.edits for row in words),
        reference_characters=sum(row.reference_characters for row in words),
        nll=round(sum(nll for nll, _ in known), 4),
        nll_characters=sum(symbols for _, symbols in known),
    )


@dataclass(frozen=True)
class ProbeMetrics:
    """What a probe records: counts for each subset, and how the head was trained.

    head: kind of the head. features: kind of the features.
    protocol, labels, protocol_statement: as of an evaluation.
    counts: subset -> correct words and words.
    characters: subset -> sums over characters.
    dropped: "training" or subset -> reason -> words.
    training: what the head's training records: words, chosen ridge, steps, ...
    text_reference: subset -> words, and how many hidden letters are guessed without the image
        (core/probes/text_reference.py); empty unless the head is `hidden_letter`.
    encoder_sha256: of the encoder's weights, equal before and after the probe.
    seconds: of the whole stage. feature_seconds: of these, for the features.
    """

    head: str
    features: str
    protocol: str
    labels: str
    protocol_statement: str
    counts: dict[str, Counts]
    characters: dict[str, CharacterCounts]
    dropped: dict[str, dict[str, int]]
    training: dict[str, Any]
    text_reference: dict[str, dict[str, int]]
    encoder_sha256: str
    seconds: float
    feature_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The `metrics` of `record.json`."""
        return asdict(self)


@dataclass(frozen=True)
class ProbeResult:
    """Metrics, and the words of each subset in the order of their images."""

    metrics: ProbeMetrics
    words: dict[str, list[ProbedWord]]

    @property
    def predictions(self) -> dict[str, list[Prediction]]:
        """The predictions of each subset, as an evaluation stores them."""
        return {name: [word.prediction for word in words] for name, words in self.words.items()}


def correct_words(words: Iterable[ProbedWord], protocol: Protocol) -> Counts:
    """Correct words and words under a protocol."""
    return count_correct((word.prediction for word in words), protocol)
