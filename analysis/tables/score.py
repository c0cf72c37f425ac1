"""Scores of stored predictions under a protocol and a label policy, without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.tables.clusters import (
    Clusters,
    count_photographs,
    design_effect,
    score_note,
    sizes_of,
)
from analysis.tables.intervals import pooled_accuracy, wilson
from analysis.tables.prediction_files import PredictionFile, Subsets, read_prediction_file
from analysis.tables.prediction_formats import AS_FOUND, PredictionReading
from analysis.tables.prediction_notes import prediction_notes
from analysis.tables.prediction_photos import PhotoRoot, clusters_of_file
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
    interval: its 95 % Wilson interval, in percent; with clusters by their design effect.
    correct, images: counts.
    ned: normalized edit similarity, in [0, 1].
    photographs: that the words were cut from, if they are taken as clusters.
    design_effect: of these clusters on the variance of the accuracy.
    """

    accuracy: float
    interval: tuple[float, float]
    correct: int
    images: int
    ned: float
    photographs: int | None = None
    design_effect: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The score as JSON values, without what only clusters have if there are none."""
        return {name: value for name, value in asdict(self).items() if value is not None}

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
            **self.total.as_json(),
            "label_version": self.protocol.labels,
            "averaging": self.protocol.averaging,
            "sizes": dict(self.protocol.sizes),
            "labels": self.labels,
            "statement": self.statement,
        }
        if self.subsets:
            values["subsets"] = {name: score.as_json() for name, score in self.subsets.items()}
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
    photo_roots: Sequence[PhotoRoot] = (),
) -> FileScore:
    """Score a file of predictions.

    path: the file.
    protocol_name: a name in PROTOCOLS.
    policy: a label policy; None uses the file's own flags.
    charset: the characters of the recognizer.
    max_length: the longest text of the recognizer.
    reading: how the file is read.
    photo_roots: test sets that name the photographs of their words, which are then clusters.

    Raises UserError if the file is not valid.
    """
    content = read_prediction_file(path, reading)
    clusters = clusters_of_file(path, content.subsets, photo_roots)
    scored = _apply_policy(content, policy, charset, max_length)
    return _score_content(path, PROTOCOLS[protocol_name], policy, scored, clusters)


def compare_policies(
    path: Path,
    protocol_name: str,
    charset: Charset,
    max_length: int,
    reading: PredictionReading = AS_FOUND,
    photo_roots: Sequence[PhotoRoot] = (),
) -> PolicyComparison:
    """Score a file under both label policies. The arguments are those of `score_file`."""
    content = read_prediction_file(path, reading)
    clusters = clusters_of_file(path, content.subsets, photo_roots)
    protocol = PROTOCOLS[protocol_name]
    contents = {
        policy: _apply_policy(content, policy, charset, max_length)
        for policy in ("strict", "released")
    }
    strict, released = (contents[policy].subsets for policy in ("strict", "released"))
    differences = []
    for subset, predictions in content.subsets.items():
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
        policy: _score_content(path, protocol, policy, scored, clusters)
        for policy, scored in contents.items()
    }
    return PolicyComparison(scores, tuple(differences))


def _apply_policy(
    content: PredictionFile, policy: str | None, charset: Charset, max_length: int
) -> PredictionFile:
    """Predictions under a label policy; None keeps the file's own flags."""
    subsets: Subsets = content.subsets
    if policy == "strict":
        subsets = {
            subset: apply_strict_policy(predictions, charset, max_length)
            for subset, predictions in subsets.items()
        }
    if policy == "released":
        subsets = {
            subset: apply_released_policy(predictions, charset, max_length)[0]
            for subset, predictions in subsets.items()
        }
    return PredictionFile(subsets, content.notes)


def _score_content(
    path: Path,
    protocol: Protocol,
    policy: str | None,
    content: PredictionFile,
    clusters: Mapping[str, Clusters],
) -> FileScore:
    subsets = content.subsets
    every = [prediction for predictions in subsets.values() for prediction in predictions]
    has_subsets = list(subsets) != [""]
    notes = [*content.notes, *prediction_notes(subsets, protocol)]
    if clusters:
        notes.append(score_note(count_photographs(clusters)))
    return FileScore(
        file=str(path),
        protocol=protocol,
        policy=policy,
        total=score(every, protocol, _joined(subsets, clusters)),
        subsets={
            name: score(predictions, protocol, clusters.get(name))
            for name, predictions in subsets.items()
        }
        if has_subsets
        else {},
        notes=tuple(notes),
    )


def _joined(subsets: Subsets, clusters: Mapping[str, Clusters]) -> Clusters | None:
    """The clusters (n,) of the words of all subsets; None if no subset has any."""
    if not clusters:
        return None
    parts: list[Clusters] = []
    for name, predictions in subsets.items():
        first = int(parts[-1].max()) + 1 if parts else 0
        parts.append(first + clusters.get(name, np.arange(len(predictions))))
    return np.concatenate(parts)


def score(
    predictions: Sequence[Prediction], protocol: Protocol, clusters: Clusters | None = None
) -> Score:
    """The score of predictions under a protocol.

    clusters: (n,) the photograph of each word; None: words are independent.
    """
    is_right = [is_correct(prediction, protocol) for prediction in predictions]
    correct = sum(is_right)
    images = len(predictions)
    effect = design_effect(is_right, clusters)
    share = wilson(correct, images, effect)
    return Score(
        accuracy=100 * correct / images,
        interval=(100 * share.low, 100 * share.high),
        correct=correct,
        images=images,
        ned=edit_similarity(predictions, protocol),
        photographs=None if clusters is None else len(sizes_of(clusters)),
        design_effect=None if clusters is None else round(effect, 4),
    )
