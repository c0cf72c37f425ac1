"""`run.py data card`: what it states of an LMDB folder, and what it leaves open."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import call, jpeg, write_lmdb

from core.data.lmdb_folder import fingerprint
from core.data_tools.card_facts import script_of
from core.runtime.yaml import parse_yaml

Capture = pytest.CaptureFixture[str]
LABELS = ("a|b", "`x`", "*bold*", "<b>", "two words", "é", "字", "12")


def words(folder: Path) -> str:
    """Images of two sizes, with labels that Markdown could take for its own, and a broken image."""
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number, (40, 20)), label) for number, label in enumerate(LABELS)
    ]
    samples += [(jpeg(99, (200, 50)), "wide"), (b"broken", "broken"), (jpeg(7), None)]
    return write_lmdb(folder, samples)


def card_of(capsys: Capture, *arguments: object) -> str:
    code, out, err = call(capsys, "data", "card", *arguments, "--processes", 1)
    assert code == 0, err
    return out


def cells(card: str, name: str) -> list[str]:
    """The cells of the table row that begins with a name."""
    (line,) = (line for line in card.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]


def front_matter(card: str) -> dict[str, Any]:
    content = parse_yaml(card.split("---\n")[1], "card")
    assert isinstance(content, dict)
    return content


def test_a_card_counts_images_labels_and_characters(tmp_path: Path, capsys: Capture) -> None:
    root = words(tmp_path / "words")
    card = card_of(capsys, root)
    assert cells(card, "images") == ["11"]
    assert cells(card, "images with a label") == ["10"]
    assert cells(card, "images that cannot be decoded") == ["1"]
    assert fingerprint(root)[0] in card
    assert cells(card, "width, pixels") == ["40", "40", "40", "40", "40", "200", "200"]
    assert cells(card, "characters") == ["1", "2", "3", "4", "6", "9"]
    assert cells(card, "labels") == ["2", "1", "3", "1", "2", "1"]
    assert cells(card, "Cjk") == ["1", "1"]
    assert "1 labels have white space" in card
    assert "image-000000010" in card


def test_labels_cannot_break_the_card(tmp_path: Path, capsys: Capture) -> None:
    card = card_of(capsys, words(tmp_path / "words"))
    (line,) = (line for line in card.splitlines() if line.startswith("Some labels: "))
    assert "`a|b`" in line
    assert "`` `x` ``" in line
    assert "`*bold*`" in line
    assert "`<b>`" in line


def test_the_license_is_unknown_unless_it_is_stated(tmp_path: Path, capsys: Capture) -> None:
    root = words(tmp_path / "words")
    card = card_of(capsys, root)
    assert front_matter(card)["license"] == "unknown"
    assert "Unknown" in card.split("## License")[1]
    (tmp_path / "words" / "LICENSE.txt").write_text("\nMy own *license*\n")
    card = card_of(capsys, root)
    assert front_matter(card)["license"] == "unknown"
    assert "`My own *license*`" in card.split("## License")[1]
    stated = card_of(capsys, root, "--license", "cc-by-4.0")
    assert front_matter(stated)["license"] == "cc-by-4.0"


def test_a_build_leaves_a_record_for_the_card(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "1.png").write_bytes(jpeg(1))
    (tmp_path / "2.png").write_bytes(b"broken")
    (tmp_path / "labels.tsv").write_text("1.png\tone\n2.png\ttwo\n")
    out = tmp_path / "built"
    assert call(capsys, "data", "build", tmp_path / "labels.tsv", out, "--processes", 1)[0] == 0
    record = json.loads((out / "build.json").read_text(encoding="utf-8"))
    assert (record["samples"], record["skipped"]) == (1, 1)
    made = card_of(capsys, out).split("## How it was made")[1].split("\n## ")[0]
    assert "`labels.tsv`" in made
    assert "1 x image cannot be decoded" in made
    assert str(tmp_path) not in made
    unknown = card_of(capsys, words(tmp_path / "words"))
    assert "Not recorded" in unknown.split("## How it was made")[1]


def test_suspects_and_overlap_are_counted(tmp_path: Path, capsys: Capture) -> None:
    root = words(tmp_path / "words")
    suspects = tmp_path / "suspects.json"
    listed = {"protocol": "waics", "confidence": 0.9, "images": 9}
    one = {"index": 7, "label": "12", "prediction": "1", "confidence": 0.95, "edits": 1}
    suspects.write_text(json.dumps(listed | {"suspects": [one]}))
    overlap = tmp_path / "overlap.tsv"
    lines = ["# images of words that are also in test: equal files", "fingerprint\tindex\tkind"]
    lines += [f"{fingerprint(root)[0]}\t{index}\texact" for index in range(3)]
    overlap.write_text("\n".join(lines) + "\n")
    card = card_of(capsys, root, "--suspects", suspects, "--overlap", overlap)
    problems = card.split("## Known problems")[1].split("\n## ")[0]
    assert "1 of 9 labels" in problems
    assert "3 exact" in problems
    assert "not examined" not in problems
    assert card_of(capsys, root).count("not examined") == 2


@pytest.mark.parametrize("content", ["", "fingerprint\tindex\nabc\t1\n", "other\n"])
def test_an_overlap_of_other_data_is_refused(content: str, tmp_path: Path, capsys: Capture) -> None:
    root = words(tmp_path / "words")
    file = tmp_path / "overlap.tsv"
    file.write_text(content)
    code, out, err = call(capsys, "data", "card", root, "--overlap", file, "--processes", 1)
    assert (code, out) == (2, "")
    assert "overlap.tsv" in err


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"protocol": "waics", "confidence": 1, "images": 2, "suspects": [{}]}']
)
def test_other_files_are_no_suspects(content: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "suspects.json"
    file.write_text(content)
    root = words(tmp_path / "words")
    code, out, err = call(capsys, "data", "card", root, "--suspects", file, "--processes", 1)
    assert (code, out) == (2, "")
    assert "suspects.json" in err


def test_suspects_of_other_labels_are_refused(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "suspects.json"
    one = {"index": 7, "label": "other", "prediction": "1", "confidence": 0.95, "edits": 1}
    listed = {"protocol": "waics", "confidence": 0.9, "images": 9, "suspects": [one]}
    file.write_text(json.dumps(listed))
    root = words(tmp_path / "words")
    code, _, err = call(capsys, "data", "card", root, "--suspects", file, "--processes", 1)
    assert code == 2
    assert "image 7" in err


@pytest.mark.parametrize("labeled", [True, False])
def test_the_experiment_of_a_card_can_be_planned(
    labeled: bool, tmp_path: Path, capsys: Capture
) -> None:
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number), "a" if labeled else None) for number in range(3)
    ]
    root = write_lmdb(tmp_path / "mine", samples)
    card = card_of(capsys, root)
    (lines,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert "/data/mine" in lines
    file = tmp_path / "mine.yaml"
    file.write_text(lines.replace("/data/mine", root))
    code, out, err = call(
        capsys, "plan", file, "--scale", "smoke", "--results", tmp_path / "results"
    )
    assert code == 0, err
    assert "evaluate-" in out


def test_a_folder_of_several_roots_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write_lmdb(tmp_path / "all" / "one", [(jpeg(1), "a")])
    write_lmdb(tmp_path / "all" / "two", [(jpeg(2), "b")])
    code, out, err = call(capsys, "data", "card", tmp_path / "all")
    assert (code, out) == (2, "")
    assert "2 LMDB folders" in err


def test_a_known_data_set_is_named(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "card.md"
    root = shared / "str" / "iiit5k_test"
    assert call(capsys, "data", "card", root, "--out", out)[0] == 0
    card = out.read_text(encoding="utf-8")
    assert "IIIT5K-Words" in card
    assert cells(card, "images") == ["3,000"]
    assert "This is one of them" in card
    assert front_matter(card)["size_categories"] == ["1K<n<10K"]


@pytest.mark.parametrize(
    ("mark", "script"),
    [("a", "Latin"), ("字", "Cjk"), ("я", "Cyrillic"), ("7", "digits and numbers"), ("!", None)],
)
def test_scripts_follow_from_characters(mark: str, script: str | None) -> None:
    assert script_of(mark) == (script or "punctuation")
