"""What recognizers read wrong: from stored readings to counts, figures and pictures; notebooks that hold nothing but calls."""

import json
import warnings
from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from test_tables import row, table, write_evaluation

from analysis.figures.error_figures import (
    accuracy_figure,
    confusion_figure,
    kinds_figure,
    only_figure,
)
from analysis.figures.recognition_errors import (
    KINDS,
    Errors,
    accuracy,
    commonest,
    confusions,
    disagreements,
    errors_of,
    kinds,
    only_by,
    told,
    zipf,
)
from analysis.report.open_results import Images
from analysis.style import COLUMN, FigureWriter, figure_of
from analysis.sweep_report.open_sweep import open_sweeps
from core.runtime.errors import UserError
from experiments.planning.data_roots import Root
from results.store import Store

READ = [  # label, what the first reads, what the second reads
    ("House", "house", "house"),
    ("mine", "nine", "mine"),
    ("world", "word", "world"),
    ("cat", "cat", "cats"),
    ("xqzkv", "xqzkv", "xpzkw"),
    ("good-bye", "goodbye", "goodby"),
]


def write_readings(
    store: Store, run_id: str, readings: list[tuple[str, str]], right: list[int], readable: int = 1
) -> str:
    """An evaluation whose first subset, `plain`, has all but the last two images, and `odd` those."""
    cut = len(readings) - 2
    write_evaluation(store, run_id, {"plain": right[:cut], "odd": right[cut:]})
    places = [("plain", number) for number in range(cut)] + [("odd", number) for number in range(2)]
    lines = [(*place, *texts, 0.5, readable) for place, texts in zip(places, readings, strict=True)]
    store.run(run_id).write_predictions(lines)
    bits = [bool(one) for one in right]
    store.run(run_id).write_correct({"plain": bits[:cut], "odd": bits[cut:]})
    return run_id


@pytest.fixture
def errors(tmp_path: Path) -> Errors:
    store = Store(tmp_path)
    write_readings(
        store, "evaluate-a", [(label, one) for label, one, _ in READ], [1, 0, 0, 1, 1, 1]
    )
    write_readings(
        store, "evaluate-b", [(label, two) for label, _, two in READ], [1, 1, 1, 0, 0, 0]
    )
    (found,), blocked_experiments = errors_of(
        [table(store, [row("a", "evaluate-a"), row("b", "evaluate-b", against=("a",))])], 0
    )
    assert blocked_experiments == []
    return found


def test_accuracies_by_group_add_up_to_the_stored_counts(errors: Errors) -> None:
    for by in ("length", "frequency", "subset"):
        shares = accuracy(errors.readings, by)
        assert shares.groupby("row", observed=True)[
            ["correct", "images"]
        ].sum().to_numpy().tolist() == [[4, 6], [3, 6]]
        assert (shares["low"] <= shares["accuracy"]).all()
        assert (shares["accuracy"] <= shares["high"]).all()
    lengths = accuracy(errors.readings, "length").query("row == 'a'")
    assert dict(zip(lengths["length"], lengths["images"], strict=True)) == {
        "3": 1,
        "4": 1,
        "5": 3,
        "7": 1,
    }  # no hyphen
    assert (
        told(accuracy(errors.readings, "subset"))
        .loc["odd", "a"]
        .startswith("100.0 (34.2 to 100.0)")
    )


def test_a_word_is_told_from_what_is_none() -> None:
    assert zipf("the") > 7 > zipf("house") > 5
    assert zipf("xqzkv") == 0
    assert zipf("", "zh") == 0


def test_confusions_are_the_fewest_edits_over_wrong_readings(errors: Errors) -> None:
    found = confusions(errors.readings)
    edits = {
        (line.row, line.what): line.count
        for line in found.drop(columns=["of"]).rename(columns={"count": "n"}).itertuples()
    }
    assert set(edits) == {
        ("a", "m → n"),
        ("a", "l lost"),
        ("b", "s added"),
        ("b", "q → p"),
        ("b", "v → w"),
        ("b", "e lost"),
    }
    assert found["count"].tolist() == [1] * 6
    assert found.set_index("what")["of"].to_dict() == {
        **{"m → n": 1, "l lost": 1, "s added": 0, "q → p": 1, "v → w": 1},
        "e lost": 3,  # house, mine, goodbye
    }
    assert commonest(found, 2).columns.tolist() == ["in labels", "a", "b"]


def test_kinds_of_error_are_a_partition(errors: Errors) -> None:
    found = kinds(errors.readings)
    assert found["wrong"].to_dict() == {"a": 2, "b": 3}
    assert found.loc["a", list(KINDS)].tolist() == [50, 0, 50, 0, 0]
    assert found[list(KINDS)].sum(axis=1).tolist() == pytest.approx([100, 100])
    assert found.loc["a", "another word"] == 100  # nine, word
    assert found.loc["b", "another word"] == pytest.approx(100 / 3)  # cats


def test_a_label_that_cannot_be_read_is_a_kind_of_its_own_and_no_confusion(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_readings(store, "evaluate-a", [("ab", "xy")] * 3, [0] * 3, readable=0)
    (found,), _ = errors_of([table(store, [row("a", "evaluate-a")])], 0)
    assert kinds(found.readings).loc["a", "not readable"] == 100
    assert confusions(found.readings).empty
    with pytest.raises(UserError, match="no characters are confused"):
        confusion_figure(confusions(found.readings))


def test_a_row_that_reads_everything_has_no_shares_of_errors(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_readings(store, "evaluate-a", [("ab", "ab")] * 3, [1] * 3)
    (found,), _ = errors_of([table(store, [row("a", "evaluate-a")])], 0)
    assert kinds(found.readings)["wrong"].tolist() == [0]
    assert kinds_figure(kinds(found.readings)).get_xlabel() == "share of wrong readings (%)"


def test_a_row_without_the_seed_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_readings(store, "evaluate-a", [("ab", "ab")] * 3, [1] * 3)
    made = table(store, [row("a", "evaluate-a"), row("b", "evaluate-b", against=("a",))])
    (found,), blocked_experiments = errors_of([made], 0)
    assert blocked_experiments == [
        "mine: b has no complete evaluation at seed 0; its evaluation is planned."
    ]
    assert found.runs == ["evaluate-a"]
    with pytest.raises(UserError, match=r"mine: no row 'b' is complete at seed 0; choose from a"):
        found.pair(None, None)
    assert errors_of([made], 3)[0] == []
    assert (
        "mine: a has no complete evaluation at seed 3; it is complete at 0."
        in errors_of([made], 3)[1]
    )


def test_the_rows_set_side_by_side_are_those_that_the_experiment_compares_first(
    errors: Errors,
) -> None:
    assert errors.pair(None, None) == ("b", "a")
    assert errors.pair("a", "b") == ("a", "b")
    with pytest.raises(UserError, match=r"no row 'c' is complete"):
        errors.pair("c", None)


def test_disagreements_count_what_only_one_of_two_reads(errors: Errors) -> None:
    found = disagreements(errors, "b", "a")
    assert found["only b"].to_dict() == {"plain": 2, "odd": 0}
    assert found["only a"].to_dict() == {"plain": 1, "odd": 2}
    assert (found["p (Holm)"] <= 1).all()
    assert only_by(errors, "b", "a")["label"].tolist() == ["mine", "world"]
    assert only_by(errors, "a", "b")[["subset", "index", "by_other"]].to_numpy().tolist() == [
        ["plain", 3, "cats"],
        ["odd", 0, "xpzkw"],
        ["odd", 1, "goodby"],
    ]


def test_rows_on_other_images_are_not_set_side_by_side(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for run, data in (("evaluate-a", "here"), ("evaluate-b", "elsewhere")):
        write_evaluation(store, run, {"plain": [1, 0]}, data=data)
    (found,), _ = errors_of([table(store, [row("a", "evaluate-a"), row("b", "evaluate-b")])], 0)
    with pytest.raises(UserError, match="a and b: not comparable; data: plain has other images"):
        disagreements(found, "a", "b")


def test_figures_have_their_axes_named_and_are_as_wide_as_a_column(
    errors: Errors, tmp_path: Path
) -> None:
    for by, across, up in (
        ("length", "characters of the label", "accuracy (%)"),
        ("frequency", "accuracy (%)", "Zipf frequency of the label"),
        ("subset", "accuracy (%)", "test subset"),
    ):
        axes = accuracy_figure(accuracy(errors.readings, by))
        assert (axes.get_xlabel(), axes.get_ylabel()) == (across, up)
        assert figure_of(axes).get_figwidth() == COLUMN
        assert [text.get_text() for text in figure_of(axes).legends[0].get_texts()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["plain (4)", "odd (2)"]
    bars = confusion_figure(confusions(errors.readings))
    assert bars.get_xlabel() == "times in wrong readings"
    assert kinds_figure(kinds(errors.readings)).get_xlabel() == "share of wrong readings (%)"
    album = FigureWriter(tmp_path / "album", "mini")
    shown = album.show(bars, errors.name("confusions"), "Confusions.", errors.runs, [0])
    assert shown.caption == "Confusions. Scale mini, seed 0; runs evaluate-a, evaluate-b."
    assert all(path.stat().st_size for path in shown.files)


def test_pictures_show_what_each_of_two_read_a_row_for_each_subset(
    errors: Errors, tmp_path: Path
) -> None:
    path = write_lmdb(tmp_path / "data", [(jpeg(20 * number), "x") for number in range(4)])
    images = {name: Images((Root(name, path, name, 4),)) for name in ("plain", "odd")}
    axes = only_figure(errors, "a", "b", images)
    assert [len(one.images) for one in axes] == [1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert [axes[0].get_ylabel(), axes[6].get_ylabel()] == ["plain", "odd"]
    assert (axes[7].get_title(), axes[7].get_xlabel()) == ("goodbye", "goodby")
    with pytest.raises(UserError, match="images that evaluate-a read are not here"):
        only_figure(errors, "a", "b", {})


def test_a_recorded_sweep_is_opened_with_its_pictures_and_one_that_was_not_run_is_told(
    tmp_path: Path,
) -> None:
    published = "results/published/mini"
    (opened,), missing = open_sweeps(
        ["sweeps/mask_ratio.yaml", "sweeps/finetune.yaml"], "mini", published
    )
    assert len(missing) == 1
    assert "this sweep has not been run" in missing[0]
    assert "Trial 8: pretrain.mask.kind=random" in opened.text()
    assert opened.table().data.index[0] == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [
            next(iter(drawn)).get_xlabel()
            for drawn in opened.pictures.values()
            if not isinstance(drawn, str)
        ] == [
            *("trial", "mask.kind", "mask.kind", "importance (PED-ANOVA)"),
        ]
    shown = opened.show("history", "accuracy by trial.", tmp_path)
    assert shown.caption.endswith(
        "Scale mini, seed 0; runs pretrain-1b6717e0db8a, pretrain-26643fcc362f, finetune-2157ad5a2eb7."
    )
    assert [one.name for one in open_sweeps(None, None, published)[0]] == ["mask_ratio"]
    assert open_sweeps(None, None, tmp_path)[1][0].endswith(
        "`python run.py sweeps/mask_ratio.yaml` makes one."
    )


def test_the_notebooks_hold_calls_and_no_outputs() -> None:
    for name in ("errors", "sweeps"):
        cells = json.loads(Path(f"analysis/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code[0]["metadata"]["tags"] == ["parameters"]
        set_there = [line.split(" = ")[0] for line in code[0]["source"]]
        assert {"RESULTS", "FILES", "SCALE", "OUT"} <= set(set_there)
        for cell in code:
            assert not cell["outputs"]
            assert cell["execution_count"] is None
            assert not any(
                word in "".join(cell["source"]) for word in ("def ", "if ", "while ", "lambda")
            )
