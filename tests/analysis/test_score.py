"""The command `score`: stored predictions under protocols and label policies, without a model."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call

from analysis.tables.prediction_files import read_predictions
from analysis.tables.score import score
from core.text.protocols import PROTOCOLS, Prediction

CONTENT_OF_FORM = {
    "brackets.txt": '0 [a] b]] [a] b]]\n1 [] [x]\n2 [it"s] [It"s]\n',
    "named.txt": '0 [a] b]] [a] b]]\n   \n1  []  [x]\n2 [it"s] [It"s] \n',
    "table.tsv": 'label\tprediction\na] b]\ta] b]\nx\t\nIt"s\tit"s\n',
    "bare.tsv": 'a] b]\ta] b]\n\tx\nit"s\tIt"s\n',
    "numbered.tsv": '0\ta] b]\ta] b]\n1\t\tx\n2\tit"s\tIt"s\n',
    "table.csv": 'index,gt,pred\n0,a] b],a] b]\n1,x,\n2,"It""s","it""s"\n',
    "lines.jsonl": '{"pred": "a] b]", "gt": "a] b]"}\n{"pred": "", "gt": "x"}\n'
    '{"pred": "it\\"s", "gt": "It\\"s"}\n',
    "ours.csv": "subset,index,label,prediction,confidence,readable\n"
    "s,0,a] b],a] b],0.5,1\n"
    "s,1,x,,0.5,1\n"
    's,2,"It""s","it""s",0.25,1\n',
}


def score_json(capsys: pytest.CaptureFixture[str], file: Path, *options: object) -> Any:
    code, out, err = call(capsys, "score", file, *options, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("name", "accuracy", "similarity"),
    [("CRNN_web", "56.21", "0.745"), ("SEED_web", "31.35", "0.571")],
)
def test_published_scores_of_another_group_are_reproduced_to_the_printed_digit(
    shared: Path, name: str, accuracy: str, similarity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shared / "predictions" / f"{name}.txt"
    result = score_json(capsys, file, "--protocol", "chinese")
    assert (f"{result['accuracy']:.2f}", f"{result['ned']:.3f}") == (accuracy, similarity)
    assert result["images"] == 14059
    assert result["interval"][0] < result["accuracy"] < result["interval"][1]
    assert f"accuracy {accuracy} %" in call(capsys, "score", file, "--protocol", "chinese")[1]


@pytest.mark.parametrize("name", CONTENT_OF_FORM)
def test_every_form_of_a_file_gives_the_same_predictions(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("\ufeff" + CONTENT_OF_FORM[name].replace("\n", "\r\n"), encoding="utf-8")
    (predictions,) = read_predictions(file).values()
    assert [(item.index, item.label, item.prediction) for item in predictions] == [
        (0, "a] b]", "a] b]"),
        (1, "x", ""),
        (2, 'It"s', 'it"s'),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("0 [a] [b]\nbroken\n", "line 2: not `index [prediction] [label]`"),
        ('{"pred": "a", "gt": "b"}\n{"pred": "a"}\n', "line 2: no text under label"),
        ('{"pred": "a", "gt": "b"}\n{"pred\n', "line 2: not a JSON object"),
        ('{"pred": "a", "gt": "b"}\nnull\n', "line 2: not a JSON object"),
        ("prediction\tlabel\na\n", "line 2: 1 columns, not 2"),
        ("prediction\tlabel\n", "a header without lines"),
        ("image\tprediction\tcolor\n1\ta\ta\n", "a header without label"),
        ("just words\n", "none of the forms"),
        ("3\n", "none of the forms"),
        ('prediction,label\n"a,b\n', "not valid CSV"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(
    text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.txt"
    file.write_text(text)
    code, _, err = call(capsys, "score", file)
    assert code == 2
    assert str(file) in err
    assert part in err


def test_a_file_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "score", tmp_path / "nowhere")
    assert code == 2
    assert str(tmp_path / "nowhere") in err


def test_a_confidence_that_is_not_a_number_counts_as_zero(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"pred": "a", "gt": "a", "score": [0.9]}\n{"pred": "a", "gt": "a", "score": "n/a"}\n'
    )
    assert [item.confidence for item in read_predictions(file)[""]] == [0.0, 0.0]


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """Labels of which three are too long, and one has an unknown character."""
    pairs = [
        ("one", "one"),
        ("x" * 24, "nonsense"),
        ("café", "caf"),
        ("four", ""),
        ("five", "five"),
        ("y" * 30, "yyy"),
    ]
    file = tmp_path / "p.tsv"
    lines = [f"{prediction}\t{label}\n" for label, prediction in pairs]
    file.write_text("prediction\tlabel\n" + "".join(lines))
    return file


@pytest.mark.parametrize(("policy", "correct"), [("strict", 2), ("released", 5)])
def test_the_label_policy_is_an_option(
    policy_file: Path, policy: str, correct: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score_json(capsys, policy_file, "--labels", policy)["correct"] == correct


def test_both_policies_are_compared_image_by_image(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = score_json(capsys, policy_file, "--labels", "both")
    assert (both["strict"]["correct"], both["released"]["correct"]) == (2, 5)
    assert [(image["index"], image["scored_as"]) for image in both["differences"]] == [
        (1, "caf"),
        (2, "caf"),
        (5, "one"),
    ]
    assert all(
        (image["strict"], image["released"]) == (False, True) for image in both["differences"]
    )
    assert "\n3 images" in call(capsys, "score", policy_file, "--labels", "both")[1]


def test_the_longest_text_of_the_recognizer_is_an_option(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = score_json(capsys, policy_file, "--labels", "released", "--max-length", "40")
    assert longer["correct"] == 3


def test_a_policy_under_the_chinese_protocol_needs_a_charset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.txt"
    file.write_text("0 [湖] [湖]\n", encoding="utf-8")
    characters = tmp_path / "set.txt"
    characters.write_text("湖\n", encoding="utf-8")
    options = ["--protocol", "chinese", "--labels", "strict"]
    code, _, err = call(capsys, "score", file, *options)
    assert code == 2
    assert "--charset" in err
    assert score_json(capsys, file, *options, "--charset", f"file:{characters}")["correct"] == 1


def test_our_predictions_are_scored_by_subset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "predictions.csv"
    lines = [
        "subset,index,label,prediction,confidence,readable",
        "curve,0,a,a,1,1",
        "curve,1,b,x,1,1",
        "general,0,c,c,1,1",
        "general,1,d,d,1,0",
        "general,1,e,e,1,1",
    ]
    file.write_text("\n".join(lines) + "\n")
    result = score_json(capsys, file)
    assert result["subsets"]["curve"]["correct"] == 1
    assert result["subsets"]["general"]["correct"] == 2
    assert result["avg"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert result["w_avg"] == pytest.approx(60)
    notes = result["notes"]
    assert any(note.startswith("curve: 2 images") and "2,426" in note for note in notes)
    assert any(note.startswith("general: 1 indices occur more than once") for note in notes)
    assert any(note.startswith("general: 1 images count as wrong") for note in notes)


def test_a_score_sums_its_predictions() -> None:
    predictions = [Prediction(0, "A", "a", 1.0), Prediction(1, "B", "c", 1.0)]
    result = score(predictions, PROTOCOLS["waics"])
    assert (result.correct, result.images) == (1, 2)
    assert (result.accuracy, result.ned) == (50.0, 0.5)
