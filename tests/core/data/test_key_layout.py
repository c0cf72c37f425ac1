"""Keys of LMDB roots: numbers from 0, unpadded numbers, wrong counts, further keys."""

import json
from collections.abc import Mapping
from pathlib import Path

import lmdb
import pytest
from conftest import call, jpeg, write_lmdb

from core.data.lmdb_folder import fingerprint, key_layout, root_irregularity
from core.data.word_images import WordImages

IMAGES = 12


def samples(pattern: str = "{}-{:09d}", first: int = 1) -> dict[bytes, bytes]:
    """Keys and values of some labeled images. pattern: of kind and number."""
    keys: dict[bytes, bytes] = {}
    for number in range(IMAGES):
        keys[pattern.format("image", first + number).encode()] = jpeg(number)
        keys[pattern.format("label", first + number).encode()] = f"w{number}".encode()
    return keys


def root_of(folder: Path, keys: Mapping[bytes, bytes], count: bytes | None = b"12") -> str:
    folder.mkdir()
    with (
        lmdb.open(str(folder), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in keys.items():
            transaction.put(key, value)
        if count is not None:
            transaction.put(b"num-samples", count)
    return str(folder)


@pytest.mark.parametrize(
    ("pattern", "first", "sentences"),
    [
        ("{}-{:09d}", 0, ["counts from 0"]),
        ("{}-{}", 1, ["keys are not padded"]),
        ("{}-{}", 0, ["counts from 0", "keys are not padded"]),
        ("{}-{:06d}", 1, ["keys have 6 digits"]),
        ("{}-{:08d}", 0, ["counts from 0", "keys have 8 digits"]),
    ],
)
@pytest.mark.parametrize("count", [b"12", None])
def test_unusual_numbers_are_read_and_said_in_one_sentence(
    pattern: str,
    first: int,
    sentences: list[str],
    count: bytes | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = root_of(tmp_path / "a", samples(pattern, first), count)
    images = WordImages([root])
    labels = [f"w{number}" for number in range(IMAGES)]
    assert list(images.labels()) == labels == [images.label(index) for index in range(IMAGES)]
    assert [images.raw(index) for index in range(IMAGES)] == [jpeg(n) for n in range(IMAGES)]
    assert all(sentence in root_irregularity(root) for sentence in sentences)
    code, out, _ = call(capsys, "data", "check", root, "--json")
    report = json.loads(out)["roots"][0]
    assert code == (0 if count else 1)
    assert len(report["problems"]) == (0 if count else 1)
    assert [note for note in report["notes"] if all(part in note for part in sentences)]
    standard = root_of(tmp_path / "b", samples())
    assert fingerprint(root) == fingerprint(standard)


def test_a_stray_key_does_not_change_how_a_standard_root_is_read(tmp_path: Path) -> None:
    plain = fingerprint(root_of(tmp_path / "plain", samples()))
    for name, key in (("a", b"image-0"), ("b", b"image-000000000"), ("c", b"image-x")):
        root = root_of(tmp_path / name, samples() | {key: b"stray"})
        assert key_layout(root).description == ""
        assert fingerprint(root) == plain


def test_a_root_without_its_first_image_counts_from_1(tmp_path: Path) -> None:
    keys = samples()
    del keys[b"image-000000001"]
    images = WordImages([root_of(tmp_path / "a", keys)])
    assert [images.raw(0), images.raw(1)] == [None, jpeg(1)]


@pytest.mark.parametrize(
    ("count", "used", "shown"),
    [
        (b"99999999999", IMAGES, "99,999,999,999"),
        (b"999999999", IMAGES, "999,999,999"),
        (b"9" * 5000, IMAGES, "9999"),
        (b"-5", IMAGES, "-5"),
        (b"abc", IMAGES, "abc"),
        (b"", IMAGES, "''"),
        (b"\xff\x00", IMAGES, "xff"),
        (b"0", IMAGES, "0"),
        (b"3.0", IMAGES, "3.0"),
        (b"5", 5, "5"),
        (b"15", 15, "15"),
        (b"12\n", IMAGES, ""),
    ],
)
def test_every_wrong_count_is_one_sentence_in_every_command(
    count: bytes, used: int, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = root_of(tmp_path / "a", samples(), count)
    assert len(WordImages([root])) == used
    code, out, _ = call(capsys, "data", "check", root, "--json")
    problems = json.loads(out)["roots"][0]["problems"]
    assert code == bool(shown)
    assert sum("num-samples is" in problem for problem in problems) == bool(shown)
    out_file = tmp_path / "list.tsv"
    for command in (("overlap", root, root, "--out", out_file), ("charset", root)):
        code, _, err = call(capsys, "data", *command)
        assert code == 0
        assert ("num-samples is" in err) == bool(shown)
        assert shown in err
        assert len(err) < 1000


@pytest.mark.parametrize("kinds", [["wh"], ["lexicon"], ["wh", "path"]])
@pytest.mark.parametrize("labeled", [True, False])
def test_known_further_keys_are_only_a_note(
    kinds: list[str], labeled: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {key: value for key, value in samples().items() if labeled or key.startswith(b"image")}
    for kind in kinds:
        keys |= {f"{kind}-{number:09d}".encode(): b"50_20" for number in range(1, IMAGES + 1)}
    root = root_of(tmp_path / "a", keys)
    assert root_irregularity(root) == ""
    code, out, _ = call(capsys, "data", "check", root, "--json")
    report = json.loads(out)["roots"][0]
    assert (code, report["problems"]) == (0, [])
    assert report["harmless_keys"] == dict.fromkeys(kinds, IMAGES)


def test_unknown_keys_stay_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = root_of(tmp_path / "a", samples() | {b"wh-x": b"", b"wh-1": b"", b"mask-000000001": b""})
    code, out, _ = call(capsys, "data", "check", root, "--json")
    assert code == 1
    assert json.loads(out)["roots"][0]["other_keys"]["count"] == 3


def test_the_fingerprint_of_a_standard_root_is_that_of_version_0_1(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "a", [(b"first", "a"), (b"second", None), (None, "c")])
    assert fingerprint(root) == ("03457eb04322815c", 3)
