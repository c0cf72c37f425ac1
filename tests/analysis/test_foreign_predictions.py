"""Files of predictions as other programs write them: scores, headers, scripts, Unicode forms."""

from pathlib import Path

import pytest
from conftest import call

from analysis.tables.prediction_files import read_predictions
from core.runtime.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "imgs/1.png\tJOINT\t0.9998\nimgs/2.png\tHOUSE\t0.9731\n",
        "imgs/1.png,JOINT,99.8\nimgs/2.png,HOUSE,97.31\n",
        "JOINT\t1.0\nHOUSE\t0.97\n",
        "1,JOINT,1e-3\n2,HOUSE,9.9e-1\n",
        "1,JOINT,99.8%\n2,HOUSE,97.1%\n",
    ],
)
def test_scores_are_not_taken_for_labels(text: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="scores and no labels"):
        read_predictions(path)


@pytest.mark.parametrize(
    "text",
    [
        "1,12,12\n2,7,17\n",  # house numbers
        "1,3.50,3.50\n2,4.99,4.98\n",  # prices
        "image,prediction,label\n1,a,0.5\n",  # a header names the column
    ],
)
def test_labels_that_are_numbers_are_scored(text: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.txt"
    path.write_text(text, encoding="utf-8")
    (rows,) = read_predictions(path).values()
    assert rows[0].label in ("12", "3.50", "0.5")


@pytest.mark.parametrize(
    "header",
    [
        "prediction,label,image",
        "y_pred,y_true,image",
        "PRED,GT,FILENAME",
        "output,target,path",
        "recognition,ground_truth,img",
    ],
)
def test_usual_column_names_are_known_in_any_order(header: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    cells = dict(zip(header.split(","), ("read", "true", "x.png"), strict=True))
    for order in (list(cells), list(cells)[::-1]):
        line = ",".join(cells[name] for name in order)
        path.write_text(f"{','.join(order)}\n{line}\n", encoding="utf-8")
        (row,) = read_predictions(path)[""]
        assert (row.prediction, row.label) == ("read", "true")


@pytest.mark.parametrize("header", ["my_text,true_text", "out_text\tref_text", "a_b,c_d,e_f"])
def test_an_unknown_header_is_refused_with_the_known_names(header: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    separator = "\t" if "\t" in header else ","
    line = separator.join("x" * (header.count(separator) + 1))
    path.write_text(f"{header}\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 1: unknown column names.*prediction.*label"):
        read_predictions(path)


def notes_of(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    code, out, _ = call(capsys, "score", path, *options)
    assert code == 0
    return "\n".join(line for line in out.splitlines() if line.startswith("note"))


@pytest.mark.parametrize(
    "label", ["\u4e16\u754c", "\u0634\u0643\u0631\u0627", "\ud55c\uad6d", "!?", "\U0001f600"]
)
def test_labels_of_which_a_protocol_leaves_nothing_are_counted(
    label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"prediction,label\n\u4f60,{label}\nabc,abd\n", encoding="utf-8")
    notes = notes_of(capsys, path)
    assert "1 labels have nothing left under waics" in notes
    assert "--protocol" in notes
    assert "nothing left" not in notes_of(capsys, path, "--protocol", "case_sensitive")


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("caf\u00e9", "cafe\u0301"),  # NFC and NFD
        ("\uff21\uff22", "AB"),  # full width
        ("\ufb01ne", "fine"),  # a ligature
        ("a\u200bb", "ab"),  # a zero-width space
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_texts_that_differ_in_their_unicode_form_are_named(
    prediction: str, label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"prediction,label\n{prediction},{label}\nx,y\n", encoding="utf-8")
    notes = notes_of(capsys, path, "--protocol", "case_sensitive")
    assert "1 predictions are wrong only by their Unicode form" in notes


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a\nb\na\n", "'a' (U+0061) occurs 2 times"),
        ("a\n0 b\nc\n", "line 2"),
        ("a\nb\ncd\n", "line 3"),
        ("", "no characters"),
        ("a\x00b", "U+0000"),
    ],
)
def test_a_mistake_in_a_charset_file_names_character_or_line(
    content: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charset = tmp_path / "charset.txt"
    charset.write_text(content, encoding="utf-8")
    predictions = tmp_path / "p.csv"
    predictions.write_text("prediction,label\na,a\n", encoding="utf-8")
    options = ("--labels", "strict", "--charset", f"file:{charset}")
    code, _, err = call(capsys, "score", predictions, *options)
    assert code == 2
    assert part in err


@pytest.mark.parametrize("content", ["abc", "a b c", "a\r\nb\r\nc\r\n", "\ufeffa\nb\nc", "ab\ncd"])
def test_usual_charset_files_are_read(content: str, tmp_path: Path) -> None:
    from core.text.charset import resolve_charset

    path = tmp_path / "charset.txt"
    path.write_bytes(content.encode())
    assert resolve_charset(f"file:{path}") in ("abc", "abcd")
