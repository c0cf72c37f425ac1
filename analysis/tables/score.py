"""Scores of stored predictions under a protocol and a label policy, without a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.tables.intervals import pooled_accuracy, wilson
from analysis.tables.prediction_files import PredictionFile, Subsets, read_prediction_file
from analysis.tables.prediction_formats import AS_FOUND, PredictionReading
from analysis.tables.prediction_notes import prediction_notes
from core.text.charset import Charset
from core.text.protocols import (
    LABEL_POLICIES,
    PROTOCOLS,
    Prediction,
    Protocol,
    apply_released_policy,
    apply_strict_policy,
    edit_similarity,
    is_correct,
)


@dataclass(frozen=True)
class Score:
    """The score of one subset, or of a whole file.

    accuracy: in percent.
    interval: its 95 % Wilson interval, in percent.
    correct, images: counts.
    ned: normalized edit similarity, in [0, 1].
    """

    accuracy: float
    interval: tuple[float, float]
    correct: int
    images: int
    ned: float

    def line(self, name: str, width: int) -> str:
        """The score as a line of text."""
        low, high = self.interval
        return (
            f"{name:{width}}  accuracy {self.accuracy:.2f} %  [{low:.2f}, {high:.2f}]  "
            f"{self.correct:,} of {self.images:,}  NED {self.ned:.3f}"
        )


@dataclass(frozen=True)
class FileScore:
    """The score of a file of predictions under a protocol.

    file: its path.
    protocol: the protocol.
    policy: a label policy, or None for the file's own flags.
    total: the score over all images.
    subsets: subset -> score; empty if the file names no subsets.
    notes: facts that a reader needs besides the numbers, a text each.
    """

    file: str
    protocol: Protocol
    policy: str | None
    total: Score
    subsets: dict[str, Score]
    notes: tuple[str, ...]

    @property
    def labels(self) -> str:
        """The label policy for people."""
        return self.policy or "as the file has them"

    @property
    def statement(self) -> str:
        """The protocol and the label policy in words."""
        policy = f"; {LABEL_POLICIES[self.policy]}" if self.policy else ""
        return self.protocol.statement + policy

    @property
    def average(self) -> float:
        """Avg: the mean over subsets, in percent."""
        return sum(score.accuracy for score in self.subsets.values()) / len(self.subsets)

    @property
    def weighted_average(self) -> float:
        """W-Avg: the accuracy over all images of the subsets, in percent."""
        correct = [score.correct for score in self.subsets.values()]
        images = [score.images for score in self.subsets.values()]
        return 100 * pooled_accuracy(correct, images)

    def as_json(self) -> dict[str, Any]:
        """The score as JSON values; `subsets`, `avg` and `w_avg` only if the file names subsets."""
        values = {
            "file": self.file,
            "protocol": self.protocol.name,
            **asdict(self.total),
            "label_version": self.protocol.labels,
            "averaging": self.protocol.averaging,
            "sizes": dict(self.protocol.sizes),
            "labels": self.labels,
            "statement": self.statement,
        }
        if self.subsets:
            values["subsets"] = {name: asdict(score) for name, score in self.subsets.items()}
            values["avg"] = self.average
            values["w_avg"] = self.weighted_average
        return values | {"notes": list(self.notes)}

    def text(self) -> str:
        """The score for people."""
        scores = self.subsets | {"all": self.total}
        width = max(map(len, scores))
        lines = [f"protocol {self.protocol.name}: {self.statement}", f"labels: {self.labels}"]
        lines += [score.line(name, width) for name, score in scores.items()]
        if self.subsets:
            lines.append(f"Avg {self.average:.2f}  W-Avg {self.weighted_average:.2f}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class PolicyDifference:
    """An image that is correct under one label policy only.

    scored_as: the label under the policy `released`.
    strict, released: whether the prediction is correct under the policy.
    """

    subset: str
    index: int
    label: str
    prediction: str
    scored_as: str
    strict: bool
    released: bool

    def line(self) -> str:
        """The difference as a line of text."""
        image = f"{self.subset} {self.index}".strip()
        policy = "strict" if self.strict else "released"
        scored = "" if self.scored_as == self.label else f", scored as {self.scored_as!r}"
        return (
            f"  {image}: label {self.label!r}, predicted {self.prediction!r}; "
            f"correct under {policy} only{scored}"
        )


@dataclass(frozen=True)
class PolicyComparison:
    """The scores of a file under both label policies, and the images that differ."""

    scores: dict[str, FileScore]
    differences: tuple[PolicyDifference, ...]

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values: a score under each policy's name, and `differences`."""
        scores = {policy: score.as_json() for policy, score in self.scores.items()}
        return scores | {"differences": [asdict(image) for image in self.differences]}

    def text(self) -> str:
        """The comparison for people."""
        lines = [score.text() for score in self.scores.values()]
        lines.append(f"{len(self.differences)} images differ between the policies:")
        return "\n".join([*lines, *(image.line() for image in self.differences)])


def score_file(
    path: Path,
    protocol_name: str,
    policy: str | None,
    charset: Charset,
    max_length: int,
    reading: PredictionReading = AS_FOUND,
) -> FileScore:
    """Score a file of predictions.

    path: the file.
    protocol_name: a name in PROTOCOLS.
    policy: a label policy; None uses the file's own flags.
    charset: the characters of the recognizer.
    max_length: the longest text of the recognizer.
    reading: how the file is read.

    Raises UserError if the file is not valid.
    """
    content = read_prediction_file(path, reading)
    scored = PredictionFile(
        _apply_policy(content.subsets, policy, charset, max_length), content.notes
    )
    return _score_content(path, PROTOCOLS[protocol_name], policy, scored)


def compare_policies(
    path: Path,
    protocol_name: str,
    charset: Charset,
    max_length: int,
    reading: PredictionReading = AS_FOUND,
) -> PolicyComparison:
    """Score a file under both label policies. The arguments are those of `score_file`."""
    content = read_prediction_file(path, reading)
    subsets = content.subsets
    protocol = PROTOCOLS[protocol_name]
    strict = _apply_policy(subsets, "strict", charset, max_length)
    released = _apply_policy(subsets, "released", charset, max_length)
    differences = []
    for subset, predictions in subsets.items():
        for original, first, second in zip(
            predictions, strict[subset], released[subset], strict=True
        ):
            difference = PolicyDifference(
                subset=subset,
                index=original.index,
                label=original.label,
                prediction=original.prediction,
                scored_as=second.label,
                strict=is_correct(first, protocol),
                released=is_correct(second, protocol),
            )
            if difference.strict != difference.released:
                differences.append(difference)
    scores = {
        "strict": _score_content(path, protocol, "strict", PredictionFile(strict, content.notes)),
        "released": _score_content(
            path, protocol, "released", PredictionFile(released, content.notes)
        ),
    }
    return PolicyComparison(scores, tuple(differences))


def _apply_policy(
    subsets: Subsets, policy: str | None, charset: Charset, max_length: int
) -> Subsets:
    """Predictions under a label policy; None keeps the file's own flags."""
    if policy == "strict":
        return {
            subset: apply_strict_policy(predictions, charset, max_length)
            for subset, predictions in subsets.items()
        }
    if policy == "released":
        return {
            subset: apply_released_policy(predictions, charset, max_length)[0]
            for subset, predictions in subsets.items()
        }
    return subsets


def _score_content(
    path: Path, protocol: Protocol, policy: str | None, content: PredictionFile
) -> FileScore:
    subsets = content.subsets
    every = [prediction for predictions in subsets.values() for prediction in predictions]
    has_subsets = list(subsets) != [""]
    return FileScore(
        file=str(path),
        protocol=protocol,
        policy=policy,
        total=score(every, protocol),
        subsets={name: score(predictions, protocol) for name, predictions in subsets.items()}
        if has_subsets
        else {},
        notes=(*content.notes, *prediction_notes(subsets, protocol)),
    )


def score(predictions: Sequence[Prediction], protocol: Protocol) -> Score:
    """The score of predictions under a protocol."""
    correct = sum(is_correct(prediction, protocol) for prediction in predictions)
    images = len(predictions)
    share = wilson(correct, images)
    return Score(
        accuracy=100 * correct / images,
        interval=(100 * share.low, 100 * share.high),
        correct=correct,
        images=images,
        ned=edit_similarity(predictions, protocol),
    )
