"""May the numbers of a model be compared with the paper's? The answer, and its reasons."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from analysis.cards.lineage import CardRuns, RecordedRun
from analysis.cards.paper_recipe import differences
from core.config import Finetune, Pretrain
from core.text.protocols import PROTOCOLS
from experiments.planning.registry import registry
from results.reported import METRICS, reported

# The training data of the paper's tables (experiments/*.yaml), and what this suite uses where the
# paper's choice has no labels.
PAPER_DATA: Mapping[str, tuple[frozenset[str], ...]] = {
    "pretrain": (
        frozenset({"union14m_u_book32", "union14m_u_openvino"}),
        frozenset({"union14m_u"}),
        frozenset({"ucti_11m"}),
    ),
    "finetune": (
        frozenset({"union14m_l"}),
        frozenset({"ard"}),
        frozenset(f"chinese_{part}_train" for part in ("scene", "web", "document", "handwriting")),
    ),
}
SHOWN = 3  # settings that a reason names


@dataclass(frozen=True)
class Check:
    """One condition of a comparison with the paper.

    question: in a few words.
    answer: yes, no or unknown.
    why: the fact that decides it.
    of_test: it concerns the test, and not how the model was made.
    """

    question: str
    answer: str
    why: str
    of_test: bool = False


@dataclass(frozen=True)
class PaperComparison:
    """The answer, its explanation, and the conditions.

    answer: starts with Yes or No.
    explanation: one or two sentences.
    """

    answer: str
    explanation: str
    checks: tuple[Check, ...]


def compare_with_paper(runs: CardRuns) -> PaperComparison:
    """Whether the accuracies of a model may be compared with the paper's."""
    if not runs.evaluations:
        return PaperComparison(
            "No",
            "There is no accuracy of this model to compare: an encoder reads no text by itself. "
            "The paper reports accuracies of fine-tuned recognizers on test sets, and no number of "
            "a probe or of an encoder alone. Recognizers that started from this encoder have cards "
            "of their own, which answer this for their numbers."
            if runs.model.stage == "pretrain"
            else "There is no accuracy of this model to compare: no evaluation of it is recorded.",
            tuple(_checks_of_training(runs)),
        )
    checks = (*_checks_of_tests(runs), *_checks_of_training(runs))
    if any(check.answer != "yes" for check in checks if check.of_test):
        return PaperComparison(
            "No",
            "The numbers are not on the same scale as the paper's, because the test is another one "
            "(see the table). They neither confirm nor refute the paper, and a lower or higher "
            "number here says nothing about its method.",
            checks,
        )
    if any(check.answer != "yes" for check in checks):
        return PaperComparison(
            "No, not as a re-run of the paper",
            "The test and the scoring are the paper's, so the numbers are on one scale, as those "
            "of two different models are. But this model was made in another way (see the table), "
            "so a difference neither confirms nor refutes the paper.",
            checks,
        )
    return PaperComparison(
        "Yes",
        "Compare it with the paper's row that has the same settings. Mind the interval: it covers "
        "the choice of test images only, and another seed may move this number by more. The "
        "paper reports one run per row, without seeds and intervals.",
        checks,
    )


def _checks_of_tests(runs: CardRuns) -> Iterator[Check]:
    sizes = "; ".join(dict.fromkeys(_other_images(runs)))
    yield Check(
        "same test images?",
        "no" if sizes else "yes",
        sizes or f"names and sizes are those of the paper's test sets{_missing_subsets(runs)}",
        of_test=True,
    )
    statements = "; ".join(dict.fromkeys(_other_scoring(runs)))
    yield Check(
        "same scoring?",
        "no" if statements else "yes",
        statements
        or "the protocol is the paper's; labels that the recognizer cannot express are counted as "
        "the results say",
        of_test=True,
    )


def _other_images(runs: CardRuns) -> Iterator[str]:
    known = _paper_subsets()
    for evaluation in runs.evaluations:
        sizes = PROTOCOLS[evaluation.evaluation.protocol].sizes
        names: dict[str, list[str]] = {}
        for subset, roots in evaluation.roots.items():
            images = sum(root.images for root in roots)
            if all(root.is_rendered for root in roots):
                reason = "words rendered by this suite, not the paper's photographs"
            elif {root.data_set for root in roots} != {subset} or subset not in known:
                reason = "not a test set of the paper, or not shown to be one"
            elif subset in sizes and images != sizes[subset]:
                reason = f"{images:,} images, not {sizes[subset]:,}"
            else:
                continue
            names.setdefault(reason, []).append(subset)
        for reason, subsets in names.items():
            which = "all test sets" if len(subsets) == len(evaluation.roots) else ", ".join(subsets)
            yield f"{which}: {reason}"


def _missing_subsets(runs: CardRuns) -> str:
    """What averages over a part of a benchmark mean; "" if all of it was evaluated."""
    benchmarks = _paper_subsets()
    evaluated = {subset for evaluation in runs.evaluations for subset in evaluation.roots}
    for benchmark in sorted({benchmarks[subset] for subset in evaluated}):
        subsets = reported().subsets[benchmark]
        count = len(evaluated & set(subsets))
        if count < len(subsets):
            return (
                f"; averages here are over {count} of the paper's {len(subsets)} sets, so only "
                "single sets are on the paper's scale"
            )
    return ""


def _paper_subsets() -> dict[str, str]:
    """Test set of the paper -> its benchmark."""
    content = reported()
    return {
        subset: table.benchmark
        for table in content.tables.values()
        if table.is_of_paper
        for subset in content.subsets[table.benchmark]
    }


def _other_scoring(runs: CardRuns) -> Iterator[str]:
    benchmarks = _paper_subsets()
    for evaluation in runs.evaluations:
        protocol = evaluation.evaluation.protocol
        for subset in evaluation.roots:
            papers = METRICS[benchmarks[subset]] if subset in benchmarks else "waics"
            if protocol != papers:
                yield f"protocol {protocol}, not {papers}"


def _checks_of_training(runs: CardRuns) -> Iterator[Check]:
    absent = runs.absent
    other = "; ".join(_other_data(runs))
    missing = f"the record of the {' and the '.join(absent)} is missing" if absent else ""
    yield Check(
        "same training data?",
        "no" if other else "unknown" if absent else "yes",
        other or missing or "the data sets are the paper's, or those that this suite names for it",
    )
    unequal = [one for one in differences(runs) if not one.is_studied]
    listed = ", ".join(f"{one.training} {one.key}" for one in unequal[:SHOWN])
    more = ", ..." if len(unequal) > SHOWN else ""
    size = _size_note(runs)
    yield Check(
        "same recipe?",
        "no" if unequal else "unknown" if absent else "yes",
        f"{size}{len(unequal)} settings differ that the paper does not vary ({listed}{more})"
        if unequal
        else missing or "all settings are the paper's, or values that its tables vary",
    )


def _size_note(runs: CardRuns) -> str:
    config = runs.model.config
    if not isinstance(config, Pretrain | Finetune):
        return ""
    encoder = config.encoder
    height, width = encoder.image
    if (encoder.width, encoder.depth, encoder.image) == (384, 12, (32, 128)):
        return ""
    return (
        f"the encoder has width {encoder.width} and {encoder.depth} blocks for images of "
        f"{height} x {width} pixels (the paper: width 384, 12 blocks, 32 x 128); "
    )


def _other_data(runs: CardRuns) -> Iterator[str]:
    for name, run in runs.trainings.items():
        if name == "teacher":
            continue
        if reason := _data_reason(run):
            yield f"{name}: {reason}"


def _data_reason(run: RecordedRun) -> str:
    """Why the training data of a run are not the paper's; "" if they are."""
    roots = run.roots.get("train", [])
    names = {root.name for root in roots}
    if not roots:
        return "not recorded"
    if all(root.is_rendered for root in roots):
        return "words rendered by this suite"
    if "mixed" in run.roots or names not in PAPER_DATA[run.stage]:
        return "other data sets than the paper's"
    for name in names:
        images = sum(root.images for root in roots if root.name == name)
        known = registry()[name].images
        if known and images not in known:
            return f"{name} with {images:,} images, not {' or '.join(f'{n:,}' for n in known)}"
    return ""
