"""Names of endpoints: what a table can compare rows by."""

from collections.abc import Mapping
from typing import Literal, get_args

Measure = Literal[
    "words", "characters", "cer", "nll", "in_words", "in_random_letters", "language_use"
]
MEASURES: tuple[Measure, ...] = get_args(Measure)
RECOGNIZER_MEASURES: tuple[Measure, ...] = ("words", "cer", "nll")
CHARACTER_MEASURES: tuple[Measure, ...] = ("characters", "nll")
HIDDEN_LETTER_MEASURES: tuple[Measure, ...] = ("in_words", "in_random_letters", "language_use")
# Measures of a probe by the `kind` of its head; of the others: RECOGNIZER_MEASURES.
PROBE_MEASURES = {"characters": CHARACTER_MEASURES, "hidden_letter": HIDDEN_LETTER_MEASURES}
RANDOM_LETTERS = "random_letters"  # test subset of a hidden letter; others are words
FINE_TUNED = "fine-tuned"  # the source of the recognizer's endpoints; other sources are probes
DEFAULT_ENDPOINT = f"{FINE_TUNED} words"


def split_endpoint(name: str) -> tuple[str, Measure]:
    """(source, measure) of an endpoint's name, such as `fine-tuned words`.

    The source is FINE_TUNED or the name of a probe. Raises ValueError for another form.
    """
    source, _, measure = name.rpartition(" ")
    for known in MEASURES:
        if known == measure and source.strip() == source != "":
            return source, known
    raise ValueError(
        f"{name!r} is not an endpoint; write SOURCE MEASURE: {FINE_TUNED} or the name of a probe, "
        f"then one of {', '.join(MEASURES)}"
    )


def measures_of(head: str) -> tuple[Measure, ...]:
    """The measures of a probe. head: the `kind` of its head."""
    return PROBE_MEASURES.get(head, RECOGNIZER_MEASURES)


def check_endpoint(name: str, heads: Mapping[str, str]) -> None:
    """Raise ValueError unless an experiment can have an endpoint.

    name: of the endpoint.
    heads: name of each probe -> `kind` of its head.
    """
    source, measure = split_endpoint(name)
    measures = {FINE_TUNED: RECOGNIZER_MEASURES}
    measures |= {probe: measures_of(head) for probe, head in heads.items()}
    if measure not in measures.get(source, ()):
        choices = [f"{known} {each}" for known, allowed in measures.items() for each in allowed]
        raise ValueError(f"{name!r} is not measured here; choose from {', '.join(choices)}")
