"""Notes of `score`: labels of which a protocol leaves nothing, and Unicode forms."""

from pathlib import Path

import pytest
from conftest import call

CAFE = ("caf\u00e9", "cafe\u0301")  # NFC and NFD


def notes_of(
    capsys: pytest.CaptureFixture[str], path: Path, pairs: list[tuple[str, str]], protocol: str
) -> str:
    lines = [f"{prediction}\t{label}\n" for prediction, label in pairs]
    path.write_text("prediction\tlabel\n" + "".join(lines), encoding="utf-8")
    code, out, _ = call(capsys, "score", path, "--protocol", protocol)
    assert code == 0
    return "\n".join(line for line in out.splitlines() if line.startswith("note"))


@pytest.mark.parametrize(
    "label", ["\u4e16\u754c", "\u0634\u0643\u0631\u0627", "\ud55c\uad6d", "!?", "\U0001f600"]
)
@pytest.mark.parametrize("protocol", ["waics", "alnum_case_sensitive", "openocr"])
def test_labels_of_which_a_protocol_leaves_nothing_are_counted(
    label: str, protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("\u4f60", label), ("abc", "abd"), ("x", label)]
    notes = notes_of(capsys, tmp_path / "p.tsv", pairs, protocol)
    assert f"2 labels have nothing left under {protocol}" in notes
    assert "1 of them count as correct" in notes
    assert "--protocol chinese" in notes
    for other in ("case_sensitive", "chinese"):
        assert "nothing left" not in notes_of(capsys, tmp_path / "p.tsv", pairs, other)


@pytest.mark.parametrize(
    ("pair", "protocols"),
    [
        (CAFE, ["waics", "case_sensitive", "alnum_case_sensitive", "chinese", "openocr"]),
        (("\uff21\uff12", "A2"), ["waics", "case_sensitive"]),  # full width
        (("\ufb01ne", "fine"), ["waics", "case_sensitive", "chinese"]),  # a ligature
        (("a\u200bb", "ab"), ["case_sensitive", "chinese"]),  # a zero-width space
        (("stra\u00dfe", "strasse"), ["waics", "case_sensitive", "chinese"]),
        (("STRASSE", "stra\u00dfe"), ["waics", "chinese"]),
        (("\u212a9", "K9"), ["case_sensitive", "alnum_case_sensitive"]),  # the Kelvin sign
    ],
)
def test_predictions_that_are_wrong_by_their_unicode_form_are_counted(
    pair: tuple[str, str],
    protocols: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for protocol in protocols:
        for order in (pair, pair[::-1]):
            notes = notes_of(capsys, tmp_path / "p.tsv", [order, ("x", "y")], protocol)
            assert "1 predictions are wrong only by their Unicode form" in notes


@pytest.mark.parametrize(
    "pair", [("ne", "\ufb01ne"), ("5", "\u2460 5"), ("strae", "stra\u00dfe"), ("cafe", CAFE[1])]
)
def test_predictions_that_are_correct_by_their_unicode_form_are_counted(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = notes_of(capsys, tmp_path / "p.tsv", [pair], "waics")
    assert "1 predictions are correct only by their Unicode form" in notes


@pytest.mark.parametrize(
    "pair",
    [
        ("abc", "ABC"),
        ("\u00c9t\u00e9", "\u00e9t\u00e9"),
        ("caf", CAFE[0]),
        ("abd", "abc"),
        CAFE[:1] * 2,
    ],
)
@pytest.mark.parametrize("protocol", ["waics", "case_sensitive"])
def test_other_differences_are_no_differences_of_form(
    pair: tuple[str, str], protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Unicode form" not in notes_of(capsys, tmp_path / "p.tsv", [pair], protocol)
