"""Outputs of PaddleOCR, MMOCR, deep-text-recognition-benchmark and PARSeq, and their labels."""

import json
import pickle
from pathlib import Path

import pytest
from conftest import call, jpeg

from analysis.tables.prediction_files import read_prediction_file
from analysis.tables.prediction_formats import PredictionReading
from core.runtime.errors import UserError

LABELS = "imgs/1.png\tJOINT\nimgs/2.png\tHOUSE\n"
RULE = "-" * 80
DTRB_HEAD = f"{RULE}\n{'image_path':25s}\t{'predicted_labels':25s}\tconfidence score\n{RULE}\n"
DTRB_TABLE = f"{RULE}\n{'Ground Truth':25s} | {'Prediction':25s} | Confidence Score & T/F\n{RULE}\n"
PADDLE = "[2026/01/31 10:00:00] ppocr INFO: "
OUTPUTS = {  # each reads JOINT in 1.png and Hous in 2.png
    "predict_rec.log": f"{PADDLE}Predicts of ./imgs/1.png:('JOINT', 0.9998)\n"
    f"{PADDLE}Predicts of ./imgs/2.png:('Hous', np.float32(0.97))\n"
    f"{PADDLE}The predict total time is 0.1\n",
    "predict_rec_old.log": "Predicts of a/1.png:['JOINT', 0.9998]\n"
    'Predicts of a/2.png:("Hous", 0.97)\n',
    "infer_rec.log": f"{PADDLE}load pretrain successful\n"
    f"{PADDLE}infer_img: doc/1.png\n{PADDLE}\t result: JOINT\t0.9998\n"
    f"{PADDLE}infer_img: doc/2.png\n{PADDLE}\t result: Hous\t0.97\n{PADDLE}success!\n",
    "predicts_rec.txt": "doc/1.png\tJOINT\t0.9998\ndoc/2.png\tHous\t0.97\n",
    "distilled.txt": '1.png\t{"Student": {"label": "JOINT", "score": 0.9}, "Teacher": '
    '{"label": "x", "score": 0.8}}\n2.png\t{"Student": {"label": "Hous", "score": 0.9}}\n',
    "paddleocr3.jsonl": '{"input_path": "1.png", "page_index": null, "rec_text": "JOINT", '
    '"rec_score": 0.9}\n{"res": {"input_path": "2.png", "rec_text": "Hous", '
    '"rec_score": 0.8}}\n',
    "log_demo_result.txt": f"{DTRB_HEAD}{'demo/1.png':25s}\t{'JOINT':25s}\t0.9998\n"
    f"{DTRB_HEAD}{'demo/2.png':25s}\t{'Hous':25s}\t0.9700\n",
    "read.log": "Additional keyword arguments: {}\nimgs/1.png: JOINT\nimgs/2.png: Hous\n",
    "mmocr.json": json.dumps(
        [
            {"img_path": "x/1.png", "pred_text": {"item": "JOINT", "score": [0.9, 0.8]}},
            {"img_path": "x/2.png", "rec_texts": ["Hous"], "rec_scores": [0.9]},
        ]
    ),
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return written(tmp_path / "labels.tsv", LABELS)


def texts(path: Path, labels: Path | None = None, name: str | None = None) -> list[tuple[str, str]]:
    """(label, prediction) of each image."""
    (rows,) = read_prediction_file(path, PredictionReading(name, labels)).subsets.values()
    return [(row.label, row.prediction) for row in rows]


@pytest.mark.parametrize("name", OUTPUTS)
def test_texts_of_a_program_meet_their_labels_by_the_names_of_images(
    name: str, labels: Path, tmp_path: Path
) -> None:
    path = written(tmp_path / name, OUTPUTS[name])
    assert texts(path, labels) == [("JOINT", "JOINT"), ("HOUSE", "Hous")]


@pytest.mark.parametrize("name", sorted(set(OUTPUTS) - {"paddleocr3.jsonl", "mmocr.json"}))
def test_texts_without_labels_name_the_option_that_gives_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--truth FILE gives the labels"):
        texts(written(tmp_path / name, OUTPUTS[name]))


@pytest.mark.parametrize("suffix", ["", "_res"])
def test_a_folder_of_mmocr_has_a_file_for_each_image(
    suffix: str, labels: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preds"
    folder.mkdir()
    for name, content in (
        ("1", {"rec_texts": ["JOINT"], "rec_scores": [0.9]}),
        ("2", {"text": "Hous", "scores": 0.8}),
    ):
        written(folder / f"{name}{suffix}.json", json.dumps(content))
    assert texts(folder, labels) == [("JOINT", "JOINT"), ("HOUSE", "Hous")]
    assert texts(folder, labels, "mmocr") == texts(folder, labels)


def test_samples_of_mmocr_have_labels_themselves(tmp_path: Path) -> None:
    sample = {"img_path": "1.png", "pred_text": {"item": "a"}, "gt_text": {"item": "b"}}
    assert texts(written(tmp_path / "a.json", json.dumps([sample]))) == [("b", "a")]


def test_tables_of_a_training_log_have_labels_themselves(tmp_path: Path) -> None:
    rows = f"{'JOINT':25s} | {'JOINT':25s} | 0.9998\tTrue\n{'a | b':25s} | {'':25s} | 0.1\tFalse\n"
    path = written(tmp_path / "log_train.txt", f"[1/9] Train loss: 1\n{DTRB_TABLE}{rows}{RULE}\n")
    assert texts(path) == [("JOINT", "JOINT"), ("a | b", "")]
    written(path, (DTRB_TABLE + rows) * 2)
    with pytest.raises(UserError, match="2 tables"):
        texts(path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("dataset_root:    data\t dataset: SVT\n85.0\n", "averages"),
        (f"{RULE}\nAcc 87.400\t normalized_ED 0.912\n", "averages"),
        ("accuracy: IIIT5k_3000: 87.4\tSVT: 85.0\ttotal_accuracy: 86.1\t\n", "averages"),
        ("| Dataset | # samples | Accuracy | 1 - NED |\n|:--|\n", "averages"),
        ("Predicts of 1.png:('cut\n", "none of the forms"),
        (f"{PADDLE}Predicts of 1.png:('a', f())\n", "line 1: no text and score"),
        (f"{DTRB_HEAD}1.png\ta\n", "line 4: not image_path"),
        ('[{"img_path": "1.png", "rec_texts": ["a", "b"]}]', "2 texts in rec_texts"),
        ('1.png\t{"A": {"label": "x"}, "B": {"label": "y"}}\n', "several recognizers"),
        ('{"predictions": [{"rec_texts": ["a"], "rec_scores": [1]}]}', "no text under index"),
        ("", "empty"),
    ],
)
def test_a_malformed_output_gives_one_sentence(
    content: str, part: str, labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=part) as error:
        texts(written(tmp_path / "out.txt", content), labels)
    assert "\n" not in str(error.value)


def test_a_line_in_another_form_is_named(labels: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "out.txt", "1.png: JOINT\nTraceback\n")
    with pytest.raises(UserError, match="line 2: not `image: text`"):
        texts(path, labels, "parseq")
    with pytest.raises(UserError, match="line 1: not `image<TAB>text<TAB>score`"):
        texts(path, labels, "paddleocr")


def test_a_pickle_is_refused_and_not_loaded(labels: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps([{"pred_text": "a"}]))
    with pytest.raises(UserError, match="executes code"):
        texts(path, labels)


def test_a_log_that_is_not_utf8_names_the_line(labels: Path, tmp_path: Path) -> None:
    path = tmp_path / "read.log"
    path.write_bytes(b"1.png: JOINT\n2.png: caf\xe9\n")
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        texts(path, labels)


def test_a_named_format_is_used(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "ab,c\tab\n")
    assert texts(path) == [("ab", "ab,c")]
    assert texts(path, name="csv") == [("c\tab", "ab")]
    assert texts(path, name="tsv") == [("ab", "ab,c")]


# labels of another file


def test_missing_and_unknown_images_are_counted_and_noted(labels: Path, tmp_path: Path) -> None:
    written(labels, LABELS + "imgs/3.png\t!!!\nlonely\n")
    path = written(tmp_path / "read.log", "1.png: JOINT\n9.png: X\n")
    content = read_prediction_file(path, PredictionReading(truth=labels))
    (rows,) = content.subsets.values()
    assert [(row.label, row.prediction, row.scorable) for row in rows] == [
        ("JOINT", "JOINT", True),
        ("HOUSE", "", False),
        ("!!!", "", False),  # not correct, although nothing of the label is compared
    ]
    form, unknown, missing, unusable = content.notes
    assert "parseq" in form
    assert [note.split()[0] for note in (unknown, missing, unusable)] == ["1", "2", "1"]
    assert "9.png" in unknown
    assert "imgs/2.png" in missing


def test_equal_names_in_several_folders_are_told_apart_by_the_folders(tmp_path: Path) -> None:
    labels = written(tmp_path / "gt.txt", "a/1.png x\nb/1.png y\n")
    path = written(tmp_path / "read.log", "data/b/1.png: Y\n.\\a\\1.png: X\n")
    assert texts(path, labels) == [("y", "Y"), ("x", "X")]
    written(path, "1.png: X\n")
    with pytest.raises(UserError, match=r"2 labels fit the image 1\.png"):
        texts(path, labels)


@pytest.mark.parametrize(
    ("predictions", "truth", "part"),
    [
        ("7.png: a\n", "1.png b\n", "no label for any image"),
        ("image,prediction,label\n1.png,a,a\n", "1.png b\n", "has labels itself"),
        ("1.png: a\n", "\n", "no labels"),
        ("1.png: a\n", '1.png\t[{"transcription": "a", "points": [[1,1],[2,1],[2,2]]}]', "photos"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(
    predictions: str, truth: str, part: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "out.txt", predictions)
    with pytest.raises(UserError, match=part):
        texts(path, written(tmp_path / "gt.txt", truth))


def test_a_folder_of_images_with_label_files_is_a_truth(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "1.png").write_bytes(jpeg(1))
    written(folder / "1.txt", "JOINT")
    path = written(tmp_path / "read.log", "1.png: JOINT\n")
    assert texts(path, folder) == [("JOINT", "JOINT")]


def test_the_command_scores_with_labels_of_another_file(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "read.log", OUTPUTS["read.log"])
    code, out, _ = call(capsys, "score", path, "--truth", labels, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["correct"], result["images"]) == (1, 2)
