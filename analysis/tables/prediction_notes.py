"""Notes on a score of stored predictions: facts that a reader needs besides the numbers."""

from collections.abc import Iterator, Mapping, Sequence

from analysis.tables.prediction_columns import all_numbers
from core.text.protocols import Prediction, Protocol, is_correct
from core.text.unicode_forms import depends_on_form

REMEDIES = ("chinese", "case_sensitive")  # protocols that keep letters of all scripts


def prediction_notes(
    subsets: Mapping[str, Sequence[Prediction]], protocol: Protocol
) -> Iterator[str]:
    """The notes on each subset: images, sizes, labels that are numbers or not compared, forms."""
    for subset, predictions in subsets.items():
        prefix = f"{subset}: " if subset else ""
        for note in _notes(subset, predictions, protocol):
            yield prefix + note


def _notes(subset: str, predictions: Sequence[Prediction], protocol: Protocol) -> Iterator[str]:
    count = len(predictions)
    repeated = count - len({prediction.index for prediction in predictions})
    if repeated:
        yield f"{repeated} indices occur more than once; every line is counted"
    unscorable = sum(not prediction.scorable for prediction in predictions)
    if unscorable:
        why = "the recognizer cannot express their label, or the image is broken"
        yield f"{unscorable} images count as wrong: {why}"
    yield from _number_notes(predictions)
    yield from _empty_label_notes(predictions, protocol)
    yield from _form_notes(predictions, protocol)
    expected = protocol.sizes.get(subset)
    if expected is not None and expected != count:
        yield f"{count:,} images, but protocol {protocol.name} has {expected:,}: not comparable"


def _number_notes(predictions: Sequence[Prediction]) -> Iterator[str]:
    """Labels, or predictions, that are all numbers while the others are none: scores?"""
    labels = [row.label for row in predictions]
    texts = [row.prediction for row in predictions]
    for kind, numbers, others in (
        ("label", labels, texts),
        ("prediction", texts, labels),
    ):
        if all_numbers(numbers) and not any(all_numbers([text]) for text in others):
            yield (
                f"every {kind} is a number (such as {numbers[0]!r}), and the texts beside them are "
                f"none; check that the column of {kind}s is not one of scores"
            )


def _empty_label_notes(predictions: Sequence[Prediction], protocol: Protocol) -> Iterator[str]:
    """Labels of which the protocol leaves nothing to compare."""
    normalize = protocol.normalize
    empty = [row for row in predictions if row.label and not normalize(row.label)]
    if not empty:
        return
    correct = sum(is_correct(row, protocol) for row in empty)
    others = [name for name in REMEDIES if name != protocol.name]
    yield (
        f"{len(empty)} labels have nothing left under {protocol.name} (such as "
        f"{empty[0].label!r}); {correct} of them count as correct because nothing is left of "
        f"the prediction either; --protocol {' or --protocol '.join(others)} compares them"
    )


def _form_notes(predictions: Sequence[Prediction], protocol: Protocol) -> Iterator[str]:
    """Comparisons that Unicode normalization would change, in both directions."""
    dependent = [
        row
        for row in predictions
        if row.scorable and depends_on_form(row.prediction, row.label, protocol.normalize)
    ]
    for verdict in ("wrong", "correct"):
        rows = [row for row in dependent if is_correct(row, protocol) == (verdict == "correct")]
        if rows:
            yield (
                f"{len(rows)} predictions are {verdict} only by their Unicode form (such as "
                f"{rows[0].prediction!a} and {rows[0].label!a}); protocol {protocol.name} compares "
                "code points, so write predictions and labels in the same form"
            )
