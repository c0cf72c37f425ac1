"""The section of a card with the measured numbers, and what their intervals cover."""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.cards.lineage import CardRuns
from analysis.cards.measured import (
    EvaluationResult,
    ProbeMeasure,
    SubsetAccuracy,
    evaluation_result,
    probe_measures,
    sibling_accuracies,
)
from analysis.tables.clusters import listed_photographs
from analysis.tables.footnotes import DROP_REASONS
from core.text.markdown import code_span, escape, table

INTERVALS = (
    "The 95 % intervals cover the choice of test images only. This is **one seed**: training again "
    "with another seed can move a number by more than its interval."
)


def results_section(runs: CardRuns, results: Sequence[EvaluationResult]) -> Iterator[str]:
    """The evaluations and probes of a model. results: of its evaluations."""
    measures = probe_measures(runs)
    if results or measures:
        yield INTERVALS
        yield ""
    for result in results:
        yield from _evaluation(runs, result)
    if not results and runs.model.stage == "finetune":
        yield "No evaluation of this recognizer is recorded."
        yield ""
        yield from _validation(runs)
    if measures:
        yield from _probes(measures)
    elif runs.probes:
        yield "Its probes have no readable predictions."
        yield ""
    if runs.model.stage == "pretrain":
        if not measures:
            yield "No probe of this encoder is recorded."
            yield ""
        yield from _transfers(runs)


def _validation(runs: CardRuns) -> Iterator[str]:
    metrics = runs.model.metrics
    if metrics.get("validation_images"):
        yield (
            f"On validation words of its training: {metrics['validation_correct']:,} of "
            f"{metrics['validation_images']:,} correct. Such words can have guided choices, so "
            "this is no test result."
        )
        yield ""


def _evaluation(runs: CardRuns, result: EvaluationResult) -> Iterator[str]:
    config = result.run.evaluation
    readings = result.readings
    yield f"### Accuracy of words, evaluation {result.run.id}"
    yield ""
    yield f"- Protocol {code_span(readings.protocol)}: {escape(readings.protocol_statement)}."
    decoding = "greedy" if config.beams == 1 else f"beam search of width {config.beams}"
    yield f"- Decoding: {decoding}. Label policy: {readings.labels}."
    if config.last > 1:
        yield f"- These are the last weights; the tables of the suite average {config.last}."
    yield ""
    rows = [_accuracy_row(one) for one in (*result.subsets, *result.averages)]
    head = ("test set", "correct", "images", "accuracy, %", "95 % interval", "data", "fingerprint")
    yield from table(head, rows)
    yield ""
    yield from _data_note(result)
    yield from _dropped(result)
    yield from _seeds(runs, result)


def _accuracy_row(one: SubsetAccuracy) -> tuple[str, ...]:
    estimate = one.estimate
    interval = f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"
    value = f"{100 * estimate.value:.1f}"
    if one.correct is None or one.images is None:
        return (f"**{one.name}**", "", "", f"**{value}**", interval, "", "")
    roots = ", ".join(code_span(root.name or "not recorded") for root in one.roots)
    prints = ", ".join(code_span(root.fingerprint) for root in one.roots)
    name = code_span(one.name)
    return (name, f"{one.correct:,}", f"{one.images:,}", value, interval, roots, prints)


def _data_note(result: EvaluationResult) -> Iterator[str]:
    """What the names of data mean, and what the intervals take for granted."""
    roots = [root for one in result.subsets for root in one.roots]
    if any(root.is_rendered for root in roots):
        yield (
            "`synthetic:NAME` are words that this suite rendered in the manner of the test set "
            "NAME. They are not that set."
        )
        yield ""
    if result.photographs:
        yield (
            "Words of one photograph are not independent. The intervals take photographs as "
            f"clusters: {listed_photographs(result.photographs)}."
        )
        yield ""
    independent = [
        one.name
        for one in result.subsets
        if one.name not in result.photographs and not all(root.is_rendered for root in one.roots)
    ]
    if independent:
        yield (
            f"The intervals of {', '.join(map(code_span, independent))} treat images as "
            "independent. Words of one photograph are alike, so true intervals are wider where "
            "several were cut from one."
        )
        yield ""


def _dropped(result: EvaluationResult) -> Iterator[str]:
    for name, counts in result.readings.dropped.items():
        reasons = [
            DROP_REASONS[reason].format(f"{count:,}")
            for reason, count in counts.items()
            if count and reason in DROP_REASONS
        ]
        if reasons:
            yield f"- {code_span(name)}, every image scored: {'; '.join(reasons)}."
            yield ""


def _seeds(runs: CardRuns, result: EvaluationResult) -> Iterator[str]:
    """What other seeds of the recipe give on the same test."""
    others = sibling_accuracies(runs, result)
    if not others:
        yield "No other seed of this recipe is recorded on this test."
        yield ""
        return
    values = [100 * value for value in (result.w_avg, *others.values())]
    listed = ", ".join(f"{value:.1f}" for value in values)
    yield (
        f"Accuracy over all images of this and {len(others)} other seeds of the same recipe: "
        f"{listed} % (standard deviation {np.std(values, ddof=1):.1f} points). "
        f"The others: {', '.join(map(code_span, others))}."
    )
    yield ""


def _probes(measures: Sequence[ProbeMeasure]) -> Iterator[str]:
    yield "### Probes of the frozen encoder"
    yield ""
    yield (
        "A probe trains a small head on features of the frozen encoder. It measures what the "
        "encoder knows, and is no score of a recognizer. Values are means over the probe's test "
        "sets. The paper reports no such number."
    )
    yield ""
    rows = []
    for one in measures:
        factor = one.endpoint.factor
        digits = 2 if one.endpoint.unit == "nats" else 1
        estimate = one.estimate
        better = ", lower is better" if one.endpoint.lower_is_better else ""
        rows.append(
            (
                code_span(one.run.id),
                code_span(one.endpoint.source),
                one.description + better,
                f"{factor * estimate.value:.{digits}f} {one.endpoint.unit}",
                f"{factor * estimate.low:.{digits}f} to {factor * estimate.high:.{digits}f}",
                f"{one.words:,}",
                code_span(str(one.run.inputs.get("encoder"))),
            )
        )
    head = ("probe", "head", "measure", "value", "95 % interval", "words", "encoder")
    yield from table(head, rows)
    yield ""


def _transfers(runs: CardRuns) -> Iterator[str]:
    """Recognizers that started from this encoder."""
    rows = []
    for recognizer, evaluations in runs.transfers.items():
        for evaluation in evaluations:
            result = evaluation_result(evaluation)
            images = sum(one.images for one in result.readings.counts.values())
            rows.append(
                (
                    code_span(recognizer),
                    code_span(evaluation.id),
                    f"{100 * result.w_avg:.1f}",
                    f"{images:,}",
                    code_span(result.readings.protocol),
                )
            )
    if not rows:
        yield "No evaluated recognizer that started from this encoder is recorded."
        return
    yield "### Recognizers that started from this encoder"
    yield ""
    yield "Their own cards have each test set with its interval."
    yield ""
    head = ("fine-tuning", "evaluation", "accuracy over all images, %", "images", "protocol")
    yield from table(head, rows)
