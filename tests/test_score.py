"""Stored predictions under named protocols and label policies, without a model."""

import json
from pathlib import Path
from typing import get_args

import pytest
from conftest import call

from analysis.tables.intervals import wilson
from analysis.tables.score import read_predictions, score
from core.config import Evaluate
from core.text.charset import Charset
from core.text.protocols import (
    PROTOCOLS,
    Reading,
    as_released,
    as_strict,
    count,
    edit_similarity,
    is_correct,
)
from experiments.cli.models import PROTOCOL_NAMES

ASCII = Charset()


def right(label: str, prediction: str) -> set[str]:
    """The protocols under which a reading is correct."""
    return {
        name
        for name, protocol in PROTOCOLS.items()
        if is_correct(Reading(0, label, prediction, 1.0), protocol)
    }


def test_the_protocols_are_named_in_one_place() -> None:
    assert (
        get_args(Evaluate.model_fields["protocol"].annotation) == PROTOCOL_NAMES == tuple(PROTOCOLS)
    )
    assert all(
        protocol.statement and protocol.labels and protocol.averaging
        for protocol in PROTOCOLS.values()
    )
    assert (PROTOCOLS["waics"].sizes["ic13"], PROTOCOLS["waics"].sizes["ic15"]) == (1015, 2077)
    assert (PROTOCOLS["openocr"].sizes["ic13"], PROTOCOLS["openocr"].sizes["ic15"]) == (857, 1811)


@pytest.mark.parametrize(
    ("label", "prediction", "protocols"),
    [
        ("It's", "It's", {"waics", "case_sensitive", "alnum_case_sensitive", "chinese", "openocr"}),
        ("It's", "Its", {"waics", "alnum_case_sensitive", "openocr"}),
        ("It's", "its", {"waics", "openocr"}),
        ("It's", "IT'S", {"waics", "chinese", "openocr"}),
        ("two words", "twowords", {"waics", "case_sensitive", "alnum_case_sensitive", "openocr"}),
        ("ＡＢ１！", "ab1!", {"chinese"}),
        ("漢語　里", "汉语 里", {"chinese"} | {"waics", "alnum_case_sensitive", "openocr"}),
        ("後面", "后面", {"chinese", "waics", "alnum_case_sensitive", "openocr"}),
        ("abc", "abd", set()),
    ],
)
def test_each_protocol_compares_as_it_says(
    label: str, prediction: str, protocols: set[str]
) -> None:
    assert right(label, prediction) == protocols


@pytest.mark.parametrize(
    ("name", "accuracy", "similarity"),
    [("CRNN_web", "56.21", "0.745"), ("SEED_web", "31.35", "0.571")],
)
def test_a_peers_published_scores_come_out_to_the_printed_digit(
    shared: Path, name: str, accuracy: str, similarity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shared / "predictions" / f"{name}.txt"
    code, out, _ = call(capsys, "score", file, "--protocol", "chinese", "--json")
    result = json.loads(out)
    assert code == 0
    assert (f"{result['accuracy']:.2f}", f"{result['ned']:.3f}", result["images"]) == (
        accuracy,
        similarity,
        14059,
    )
    assert result["interval"][0] < result["accuracy"] < result["interval"][1]
    assert f"accuracy {accuracy} %" in call(capsys, "score", file, "--protocol", "chinese")[1]


FORMS = {
    "brackets.txt": '0 [a] b]] [a] b]]\n1 [] [x]\n2 [it"s] [It"s]\n',
    "named.txt": '0 [a] b]] [a] b]]\n   \n1  []  [x]\n2 [it"s] [It"s] \n',
    "table.tsv": 'label\tprediction\na] b]\ta] b]\nx\t\nIt"s\tit"s\n',
    "bare.tsv": 'a] b]\ta] b]\n\tx\nit"s\tIt"s\n',
    "numbered.tsv": '0\ta] b]\ta] b]\n1\t\tx\n2\tit"s\tIt"s\n',
    "table.csv": 'index,gt,pred\n0,a] b],a] b]\n1,x,\n2,"It""s","it""s"\n',
    "lines.jsonl": '{"pred": "a] b]", "gt": "a] b]"}\n{"pred": "", "gt": "x"}\n{"pred": "it\\"s", "gt": "It\\"s"}\n',
    "ours.csv": "subset,index,label,prediction,confidence,readable\ns,0,a] b],a] b],0.5,1\ns,1,x,,0.5,1\n"
    's,2,"It""s","it""s",0.25,1\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_predictions_is_read_alike(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("\ufeff" + FORMS[name].replace("\n", "\r\n"), encoding="utf-8")
    (readings,) = read_predictions(file).values()
    assert [(one.index, one.label, one.prediction) for one in readings] == [
        (0, "a] b]", "a] b]"),
        (1, "x", ""),
        (2, 'It"s', 'it"s'),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("0 [a] [b]\nbroken\n", "line 2: not `index [prediction] [label]`"),
        ('{"pred": "a", "gt": "b"}\n{"pred": "a"}\n', "line 2: no text under label"),
        ('{"pred": "a", "gt": "b"}\n{"pred\n', "line 2: not a JSON object"),
        ("prediction\tlabel\na\n", "line 2: 1 columns, not 2"),
        ("just words\n", "none of the forms"),
        ("prediction\tlabel\n", "a header and nothing below it"),
        ("image\tprediction\ttruth\n1\ta\ta\n", "a header without label"),
        ("3\n", "none of the forms"),
        ('{"pred": "a", "gt": "b"}\nnull\n', "line 2: not a JSON object"),
        ('prediction,label\n"a,b\n', "not valid CSV"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_its_line(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text(text)
    code, _, err = call(capsys, "score", tmp_path / "file.txt")
    assert code == 2
    assert sentence in err
    assert call(capsys, "score", tmp_path / "nowhere")[0] == 2


def test_a_confidence_told_in_another_way_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"pred": "a", "gt": "a", "score": [0.9]}\n{"pred": "a", "gt": "a", "score": "n/a"}\n'
    )
    assert [one.confidence for one in read_predictions(file)[""]] == [0.0, 0.0]


def test_similarity_counts_characters() -> None:
    pairs = [("abcd", "abcd"), ("abcd", "abxd"), ("ab", ""), ("!!", "")]
    readings = [
        Reading(number, label, prediction, 1.0) for number, (label, prediction) in enumerate(pairs)
    ]
    assert edit_similarity(readings, PROTOCOLS["waics"]) == pytest.approx((1 + 0.75 + 0 + 1) / 4)


def test_wilson_interval_agrees_with_the_printed_example() -> None:
    """Newcombe (1998), Table I: 81 of 263 and 0 of 20, method 3."""
    printed = {(81, 263): (0.2553, 0.3662), (0, 20): (0.0, 0.1611)}
    for counts, interval in printed.items():
        assert (wilson(*counts).low, wilson(*counts).high) == pytest.approx(interval, abs=1e-4)
    assert wilson(20, 20).high == pytest.approx(1.0)


SAMPLES = [
    Reading(0, "one", "one", 1.0),
    Reading(1, "x" * 24, "nonsense", 1.0),
    Reading(2, "café", "caf", 1.0),
    Reading(3, "four", "", 0.0, readable=False),  # its image is broken
    Reading(4, "five", "five", 1.0),
    Reading(5, "y" * 30, "yyy", 1.0),
]


def test_label_policies_differ_as_they_say() -> None:
    strict = as_strict(SAMPLES, ASCII, 25)
    assert [is_correct(one, PROTOCOLS["waics"]) for one in strict] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
    released, replaced = as_released(strict, ASCII, 25)
    assert replaced == 3
    assert [one.index for one in released] == [0, 1, 2, 3, 4, 5]
    assert [one.label for one in released] == [
        "one",
        "caf",
        "caf",
        "five",
        "five",
        "one",
    ]  # after the last comes the first
    assert count(released, PROTOCOLS["waics"]).correct == 6


def test_policies_are_options_of_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.tsv"
    file.write_text(
        "prediction\tlabel\n" + "".join(f"{one.prediction}\t{one.label}\n" for one in SAMPLES)
    )
    correct = {
        policy: json.loads(call(capsys, "score", file, "--labels", policy, "--json")[1])["correct"]
        for policy in ("strict", "released")
    }
    assert correct == {
        "strict": 2,
        "released": 5,
    }  # a text file does not tell which image is broken
    both = json.loads(call(capsys, "score", file, "--labels", "both", "--json")[1])
    assert (both["strict"]["correct"], both["released"]["correct"]) == (2, 5)
    assert [(one["index"], one["scored_as"]) for one in both["differences"]] == [
        (1, "caf"),
        (2, "caf"),
        (5, "one"),
    ]
    assert "0 images" not in call(capsys, "score", file, "--labels", "both")[1]
    longer = call(capsys, "score", file, "--labels", "released", "--max-length", "40", "--json")[1]
    assert json.loads(longer)["correct"] == 3


def test_a_policy_under_the_chinese_protocol_needs_a_charset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("0 [湖] [湖]\n", encoding="utf-8")
    (tmp_path / "set.txt").write_text("湖\n", encoding="utf-8")
    options = ["--protocol", "chinese", "--labels", "strict"]
    code, _, err = call(capsys, "score", tmp_path / "p.txt", *options)
    assert (code, "name its characters with --charset" in err) == (2, True)
    code, out, _ = call(
        capsys,
        "score",
        tmp_path / "p.txt",
        *options,
        "--charset",
        f"file:{tmp_path / 'set.txt'}",
        "--json",
    )
    assert (code, json.loads(out)["correct"]) == (0, 1)


def test_our_predictions_are_scored_by_subset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "predictions.csv"
    rows = [
        "curve,0,a,a,1,1",
        "curve,1,b,x,1,1",
        "general,0,c,c,1,1",
        "general,1,d,d,1,0",
        "general,1,e,e,1,1",
    ]
    file.write_text("subset,index,label,prediction,confidence,readable\n" + "\n".join(rows) + "\n")
    result = json.loads(call(capsys, "score", file, "--json")[1])
    assert result["subsets"]["curve"]["correct"] == 1
    assert result["subsets"]["general"]["correct"] == 2
    assert (result["avg"], result["w_avg"]) == (
        pytest.approx(100 * (1 / 2 + 2 / 3) / 2),
        pytest.approx(60),
    )
    notes = " ".join(result["notes"])
    assert "curve: 2 images, where protocol waics has 2,426" in notes
    assert "general: 1 indices occur more than once" in notes
    assert "general: 1 images count as wrong whatever was read" in notes


def test_scores_are_sums_of_rows() -> None:
    result = score([Reading(0, "A", "a", 1.0), Reading(1, "B", "c", 1.0)], PROTOCOLS["waics"])
    assert (result["correct"], result["images"], result["accuracy"], result["ned"]) == (
        1,
        2,
        50.0,
        0.5,
    )
