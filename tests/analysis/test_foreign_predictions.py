"""Columns of prediction files that other programs write: scores and image names are no texts."""

from pathlib import Path

import pytest
from conftest import call

from analysis.tables.prediction_files import read_prediction_file, read_predictions
from core.runtime.errors import UserError


def written(folder: Path, text: str) -> Path:
    path = folder / "predictions.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "imgs/1.png\tJOINT\t0.9998\nimgs/2.png\tHOUSE\t0.9731\n",
        "imgs/1.png,JOINT,99.8\nimgs/2.png,HOUSE,97.31\n",
        "imgs/1.png;JOINT;0.9998\nimgs/2.png;HOUSE;0.9731\n",
        "imgs/1.png\tJOINT\t0,9998\nimgs/2.png\tHOUSE\t0,9731\n",
        "JOINT\t1.0\nHOUSE\t0.97\n",
        "1,JOINT,1e-3\n2,HOUSE,9.9e-1\n",
        "1,JOINT,99.8%\n2,HOUSE,97.1%\n",
        "1,JOINT,-0.0003\n2,HOUSE,-1.27\n",  # log likelihoods
        "1,JOINT,1\n2,HOUSE,0.97\n",
        "1,JOINT,nan\n2,HOUSE,0.97\n",
        "1.png,3.50,0.9998\n2.png,4.99,0.9\n",  # predicted prices and their scores
    ],
)
def test_scores_are_not_taken_for_labels(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scores and no labels"):
        read_predictions(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    ["1.png\t0.9998\tJOINT\n2.png\t0.97\tHOUSE\n", "0.5,JOINT\n0.75,HOUSE\n", "1,1e-3,JOINT\n"],
)
def test_scores_are_not_taken_for_predictions(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scores and no predictions"):
        read_predictions(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "imgs/1.png\tJOINT\nimgs/2.JPG\tHOUSE\n",  # images and labels
        'imgs/1.png\t[{"transcription": "JOINT", "points": []}]\n',  # PaddleOCR's Label.txt
        "JOINT,1.png\nHOUSE,2.png\n",
    ],
)
def test_names_of_images_are_not_taken_for_texts(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names of images"):
        read_predictions(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1,12,12\n2,7,17\n", "12"),  # house numbers
        ("1,3.50,3.50\n2,4.99,4.98\n", "3.50"),  # prices
        ("3.50,3.80\n", "3.80"),  # a price that is predicted wrongly
        ("image,prediction,label\n1,a,0.5\n", "0.5"),  # a header names the column
        ("1,JOINT,JOINT\n2,9.99,9.98\n", "JOINT"),
        ('{"pred": "12", "gt": 12}\n', "12"),
        ('{"pred": 3.50, "gt": 3.50}\n', "3.50"),
    ],
)
def test_labels_that_are_numbers_are_scored(text: str, label: str, tmp_path: Path) -> None:
    (rows,) = read_predictions(written(tmp_path, text)).values()
    assert rows[0].label == label


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("image,text,label\n1,JOINT,0.9998\n2,HOUSE,0.97\n", "label"),
        ('{"text": "JOINT", "label": 0.9998}\n', "label"),
        ("1\tJOINT\t98\n2\tHOUSE\t100\n", "label"),
        ("prediction,label\n0.9998,JOINT\n0.97,HOUSE\n", "prediction"),
    ],
)
def test_numbers_beside_words_are_noted(
    text: str, column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "score", written(tmp_path, text))
    assert code == 0
    assert f"note: every {column} is a number" in out


@pytest.mark.parametrize(
    "text",
    [
        '{"image": "1.png", "text": "JOINT", "score": 0.9998}\n',
        '[{"image": "1.png", "text": "JOINT", "score": 0.9998}]\n',
        "image,text,score\n1.png,JOINT,0.9998\n",
        "text\tscore\nJOINT\t0.9998\n",
    ],
)
def test_a_named_score_is_no_label(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"label.*ground_truth"):
        read_predictions(written(tmp_path, text))


@pytest.mark.parametrize("value", ["true", "null", "NaN", "[1]"])
def test_a_json_label_that_is_no_text_or_number_is_refused(value: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'{{"pred": "a", "gt": "a"}}\n\n{{"pred": "a", "gt": {value}}}\n')
    with pytest.raises(UserError, match="line 3: no text under label"):
        read_predictions(path)


def test_the_columns_of_a_file_without_header_are_noted(tmp_path: Path) -> None:
    content = read_prediction_file(written(tmp_path, "\nfoo,bar\n"))
    assert len(content.notes) == 1
    assert "prediction, label" in content.notes[0]
    assert "line 2" in content.notes[0]
    assert not read_prediction_file(written(tmp_path, "pred,gt\nfoo,bar\n")).notes
