"""Headers, separators and encodings of prediction files."""

from pathlib import Path

import pytest
from conftest import call

from analysis.tables.prediction_files import read_predictions
from core.runtime.errors import UserError


@pytest.mark.parametrize(
    "header",
    [
        "prediction,label,image",
        "y_pred,y_true,image",
        "PRED,GT,FILENAME",
        "output,target,path",
        "text,label,img_path",
        "recognition,ground_truth,img",
        "Predicted Text,Ground Truth,Image Name",
        "pred-text,gt-text,id",
    ],
)
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_usual_column_names_are_known_in_any_order(
    header: str, separator: str, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    cells = dict(zip(header.split(","), ("read", "true", "x.png"), strict=True))
    names = list(cells)
    for order in (names, names[::-1], names[1:] + names[:1], names[:2], names[1::-1]):
        line = separator.join(cells[name] for name in order)
        path.write_text(f"{separator.join(order)}\n{line}\n", encoding="utf-8")
        (row,) = read_predictions(path)[""]
        assert (row.prediction, row.label) == ("read", "true")


@pytest.mark.parametrize(
    "header",
    [
        *("my_text,true_text1", "out_text\tmy_ref_text", "a_b,c_d,e_f", "guess,answer"),
        *("actual,expected", "image,foo,bar", "GT1,PRED1", "my output;my truth"),
        "no.,erkannt,soll",
    ],
)
def test_an_unknown_header_is_refused_with_the_known_names(header: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    separator = next(mark for mark in "\t,;" if mark in header)
    cells = [str(number) for number in range(header.count(separator) + 1)]
    path.write_text(f"{header}\n{separator.join(cells)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 1: unknown column names.*y_pred.*y_true"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("header", "missing"),
    [("text,prediction", "label"), ("label,words", "prediction"), ("img\tocr\tconf", "label")],
)
def test_a_header_without_one_of_both_texts_is_refused(
    header: str, missing: str, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(f"{header}\n{header}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line 1: a header without {missing}"):
        read_predictions(path)


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("prediction,label,Label\na,b,c\n", encoding="utf-8")
    with pytest.raises(UserError, match="'label' occurs twice"):
        read_predictions(path)


@pytest.mark.parametrize(
    "line", ["TEXT,text", "0,OUTPUT,OUTPUT", "word_1.png,LABEL,TEXT", "7\tresult\tword", "new,now"]
)
def test_words_that_are_column_names_are_images_where_that_is_clear(
    line: str, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(f"{line}\n", encoding="utf-8")
    (rows,) = read_predictions(path).values()
    assert len(rows) == 1


def test_a_tsv_with_a_quoted_header_has_quoted_cells(tmp_path: Path) -> None:
    path = tmp_path / "predictions.tsv"
    path.write_text('"prediction"\t"label"\n"a"\t"say ""b"""\n', encoding="utf-8")
    (row,) = read_predictions(path)[""]
    assert (row.prediction, row.label) == ("a", 'say "b"')


def test_an_error_counts_blank_lines_and_lines_of_quoted_cells(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text('prediction,label\n\n"a\nb",c\n\nx,1,000\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 6: 3 columns, not 2"):
        read_predictions(path)


TEXT = "prediction,label\ncafé,café\nabc,abd\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(TEXT.encode(encoding))
    rows = read_predictions(path)[""]
    assert [(row.prediction, row.label) for row in rows] == [("café", "café"), ("abc", "abd")]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (TEXT.encode("latin-1"), "line 2"),
        (TEXT.replace("é", "ş").encode("cp1254"), "line 2"),
        ("prediction,label\n你好,世界\n".encode("gbk"), "line 2"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le")[:-1], "UTF-16"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_in_another_encoding_gets_one_sentence(
    content: bytes, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    code, out, err = call(capsys, "score", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}")
    assert part in err
    assert err.count("\n") == 1
