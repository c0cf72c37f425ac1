"""Recognition errors: counts from stored predictions, and figures."""

from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from table_records import make_row, make_table, write_evaluation

from analysis.figures.confusions import KINDS, count_confusions, error_kinds, most_common
from analysis.figures.disagreements import disagreements, recognized_only_by
from analysis.figures.error_figures import (
    accuracy_figure,
    confusion_figure,
    disagreement_figure,
    kinds_figure,
)
from analysis.figures.recognition_errors import (
    RecognitionErrors,
    accuracy_by_group,
    accuracy_table,
    recognition_errors,
    zipf,
)
from analysis.report.subset_images import SubsetImages
from analysis.style import COLUMN, FigureWriter, figure_of
from core.runtime.errors import UserError
from experiments.planning.data_roots import Root
from results.store import Store

PREDICTIONS = [  # label, prediction of row a, prediction of row b
    ("House", "house", "house"),
    ("mine", "nine", "mine"),
    ("world", "word", "world"),
    ("cat", "cat", "cats"),
    ("xqzkv", "xqzkv", "xpzkw"),
    ("good-bye", "goodbye", "goodby"),
]


def write_predictions(
    store: Store,
    run_id: str,
    predictions: list[tuple[str, str]],
    correct: list[int],
    scorable: int = 1,
) -> None:
    """An evaluation of two subsets: `odd` has the last two images, `plain` the others."""
    cut = len(predictions) - 2
    write_evaluation(store, run_id, {"plain": correct[:cut], "odd": correct[cut:]})
    keys = [("plain", number) for number in range(cut)] + [("odd", 0), ("odd", 1)]
    store.run(run_id).write_predictions(
        [(*key, *texts, 0.5, scorable, "") for key, texts in zip(keys, predictions, strict=True)]
    )
    flags = [bool(value) for value in correct]
    store.run(run_id).write_correct({"plain": flags[:cut], "odd": flags[cut:]})


def errors_of_one_row(store: Store) -> RecognitionErrors:
    (errors,), _ = recognition_errors([make_table(store, [make_row("a", "evaluate-a")])], 0)
    return errors


@pytest.fixture
def errors(tmp_path: Path) -> RecognitionErrors:
    store = Store(tmp_path)
    of_a = [(label, text) for label, text, _ in PREDICTIONS]
    of_b = [(label, text) for label, _, text in PREDICTIONS]
    write_predictions(store, "evaluate-a", of_a, [1, 0, 0, 1, 1, 1])
    write_predictions(store, "evaluate-b", of_b, [1, 1, 1, 0, 0, 0])
    rows = [make_row("a", "evaluate-a"), make_row("b", "evaluate-b", compare_with=("a",))]
    (errors,), unavailable = recognition_errors([make_table(store, rows)], 0)
    assert unavailable == []
    return errors


@pytest.mark.parametrize("by", ["length", "frequency", "subset"])
def test_accuracies_by_group_sum_to_the_stored_counts(errors: RecognitionErrors, by: str) -> None:
    accuracies = accuracy_by_group(errors.predictions, by)
    sums = accuracies.groupby("row", observed=True)[["correct", "images"]].sum()
    assert sums.to_numpy().tolist() == [[4, 6], [3, 6]]
    assert (accuracies["low"] <= accuracies["accuracy"]).all()
    assert (accuracies["accuracy"] <= accuracies["high"]).all()


def test_lengths_are_those_of_normalized_labels(errors: RecognitionErrors) -> None:
    lengths = accuracy_by_group(errors.predictions, "length").query("row == 'a'")
    images = dict(zip(lengths["length"], lengths["images"], strict=True))
    assert images == {"3": 1, "4": 1, "5": 3, "7": 1}  # without the hyphen


def test_accuracy_table_shows_intervals(errors: RecognitionErrors) -> None:
    text = accuracy_table(accuracy_by_group(errors.predictions, "subset")).loc["odd", "a"]
    assert str(text).startswith("100.0 (34.2 to 100.0)")


def test_zipf_frequency_of_unknown_words_is_zero() -> None:
    assert zipf("the") > 7 > zipf("house") > 5
    assert zipf("xqzkv") == 0
    assert zipf("", "zh") == 0


def test_confusions_are_the_minimal_edits_of_wrong_predictions(errors: RecognitionErrors) -> None:
    confusions = count_confusions(errors.predictions)
    edits = set(zip(confusions["row"], confusions["what"], strict=True))
    assert edits == {
        ("a", "m → n"),
        ("a", "l deleted"),
        ("b", "s inserted"),
        ("b", "q → p"),
        ("b", "v → w"),
        ("b", "e deleted"),
    }
    assert confusions["count"].tolist() == [1] * 6
    assert confusions.set_index("what")["in_labels"].to_dict() == {
        "m → n": 1,
        "l deleted": 1,
        "s inserted": 0,
        "q → p": 1,
        "v → w": 1,
        "e deleted": 3,  # house, mine, goodbye
    }
    assert most_common(confusions, 2).columns.tolist() == ["in labels", "a", "b"]


def test_kinds_of_error_sum_to_100_percent(errors: RecognitionErrors) -> None:
    kinds = error_kinds(errors.predictions)
    assert kinds["wrong"].to_dict() == {"a": 2, "b": 3}
    assert list(kinds.loc["a", list(KINDS)]) == [50, 0, 50, 0, 0]
    assert kinds[list(KINDS)].sum(axis=1).tolist() == pytest.approx([100, 100])
    assert kinds.loc["a", "another word"] == 100  # nine, word
    assert kinds.loc["b", "another word"] == pytest.approx(100 / 3)  # cats


def test_unscorable_images_are_a_kind_of_error_and_no_confusion(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_predictions(store, "evaluate-a", [("ab", "xy")] * 3, [0] * 3, scorable=0)
    predictions = errors_of_one_row(store).predictions
    assert error_kinds(predictions).loc["a", "not scorable"] == 100
    confusions = count_confusions(predictions)
    assert confusions.empty
    with pytest.raises(UserError, match="no characters are confused"):
        confusion_figure(confusions)


def test_row_without_errors_has_a_figure_without_bars(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_predictions(store, "evaluate-a", [("ab", "ab")] * 3, [1] * 3)
    kinds = error_kinds(errors_of_one_row(store).predictions)
    assert kinds["wrong"].tolist() == [0]
    axes = kinds_figure(kinds)
    assert axes.get_xlabel() == "share of wrong predictions (%)"
    assert not axes.containers


def test_row_without_the_seed_is_named_and_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_predictions(store, "evaluate-a", [("ab", "ab")] * 3, [1] * 3)
    rows = [make_row("a", "evaluate-a"), make_row("b", "evaluate-b", compare_with=("a",))]
    made = make_table(store, rows)
    (errors,), (message,) = recognition_errors([made], 0)
    assert message.startswith("mine: b has no complete evaluation at seed 0")
    assert "planned" in message
    assert errors.runs == ["evaluate-a"]
    with pytest.raises(UserError, match="no row 'b' is complete at seed 0; choose from a"):
        errors.pair(None, None)
    none, messages = recognition_errors([made], 3)
    assert none == []
    assert "mine: a has no complete evaluation at seed 3; it is complete at 0." in messages


def test_default_pair_is_the_first_declared_comparison(errors: RecognitionErrors) -> None:
    assert errors.pair(None, None) == ("b", "a")
    assert errors.pair("a", "b") == ("a", "b")
    with pytest.raises(UserError, match="no row 'c' is complete"):
        errors.pair("c", None)


def test_disagreements_count_images_that_only_one_row_recognizes(
    errors: RecognitionErrors,
) -> None:
    counts = disagreements(errors, "b", "a")
    assert counts["only b"].to_dict() == {"plain": 2, "odd": 0}
    assert counts["only a"].to_dict() == {"plain": 1, "odd": 2}
    assert (counts["p (Holm)"] <= 1).all()
    assert recognized_only_by(errors, "b", "a")["label"].tolist() == ["mine", "world"]
    only_a = recognized_only_by(errors, "a", "b")[["subset", "index", "second_prediction"]]
    assert only_a.to_numpy().tolist() == [
        ["plain", 3, "cats"],
        ["odd", 0, "xpzkw"],
        ["odd", 1, "goodby"],
    ]


def test_rows_on_different_images_are_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for run, data in (("evaluate-a", "here"), ("evaluate-b", "elsewhere")):
        write_evaluation(store, run, {"plain": [1, 0]}, data=data)
    rows = [make_row("a", "evaluate-a"), make_row("b", "evaluate-b")]
    (errors,), _ = recognition_errors([make_table(store, rows)], 0)
    with pytest.raises(UserError, match=r"a and b: not comparable; .*plain"):
        disagreements(errors, "a", "b")


@pytest.mark.parametrize(
    ("by", "x_label", "y_label"),
    [
        ("length", "characters of the label", "accuracy (%)"),
        ("frequency", "accuracy (%)", "Zipf frequency of the label"),
        ("subset", "accuracy (%)", "test subset"),
    ],
)
def test_accuracy_figures_have_labels_and_the_width_of_a_column(
    errors: RecognitionErrors, by: str, x_label: str, y_label: str
) -> None:
    axes = accuracy_figure(accuracy_by_group(errors.predictions, by))
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x_label, y_label)
    assert figure_of(axes).get_figwidth() == COLUMN
    assert [text.get_text() for text in figure_of(axes).legends[0].get_texts()] == ["a", "b"]


def test_groups_of_an_accuracy_figure_show_their_size(errors: RecognitionErrors) -> None:
    axes = accuracy_figure(accuracy_by_group(errors.predictions, "subset"))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["plain (4)", "odd (2)"]


def test_confusion_figure_is_saved_with_its_runs(errors: RecognitionErrors, tmp_path: Path) -> None:
    axes = confusion_figure(count_confusions(errors.predictions))
    assert axes.get_xlabel() == "times in wrong predictions"
    writer = FigureWriter(tmp_path / "figures", "mini")
    name = errors.figure_name("confusions")
    figure = writer.save(axes, name, "Confusions.", errors.runs, [0])
    assert figure.caption == "Confusions. Scale mini, seed 0; runs evaluate-a, evaluate-b."
    assert all(path.stat().st_size for path in figure.files)


def test_disagreement_figure_has_a_row_of_images_per_subset(
    errors: RecognitionErrors, tmp_path: Path
) -> None:
    path = write_lmdb(tmp_path / "data", [(jpeg(20 * number), "x") for number in range(4)])
    images = {name: SubsetImages((Root(name, path, name, 4),)) for name in ("plain", "odd")}
    axes = disagreement_figure(errors, "a", "b", images)
    assert [len(cell.images) for cell in axes] == [1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert [axes[0].get_ylabel(), axes[6].get_ylabel()] == ["plain", "odd"]
    assert (axes[7].get_title(), axes[7].get_xlabel()) == ("goodbye", "goodby")
    with pytest.raises(UserError, match="images of evaluate-a are not available"):
        disagreement_figure(errors, "a", "b", {})
