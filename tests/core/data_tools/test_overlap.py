"""`run.py data overlap`: equal files, near duplicates, the filter list."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import call, write_lmdb
from PIL import Image, ImageDraw, ImageFilter

from core.data.word_images import WordImages
from core.data_tools.overlap import BITS, THRESHOLD, find_matches, hash_images
from core.synthetic.fonts import font


def word(text: str, size: int, face: int) -> Image.Image:
    names = [
        ("font_roboto", "Roboto-Bold"),
        ("font_caladea", "Caladea-Regular"),
        ("matplotlib", "DejaVuSerif"),
    ]
    image = Image.new("RGB", (int(size * 0.7 * len(text)) + 10, size + 16), (230, 220, 200))
    ImageDraw.Draw(image).text((5, 5), text, fill=(20, 30, 60), font=font(*names[face % 3], size))
    return image


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture
def overlapping(tmp_path: Path) -> tuple[str, str, int]:
    """A training root, a test root, and the number of training images.

    The training images 3, 4 and 5 are in the test root.
    """
    words = [
        "street",
        "market",
        "hotel",
        "coffee",
        "exit",
        "parking",
        "museum",
        "bakery",
        "garden",
        "station",
    ]
    pictures = [word(text, 40, number) for number, text in enumerate(words)]
    train = [
        (encoded(picture), text) for picture, text in zip(pictures[:7], words, strict=False)
    ] + [(b"broken", "x")]
    larger = pictures[4].resize(
        (pictures[4].width * 2, pictures[4].height * 2), Image.Resampling.BICUBIC
    )
    softer = (
        pictures[5].filter(ImageFilter.GaussianBlur(0.6)).point(lambda value: min(255, value + 12))
    )
    test = [(encoded(picture), text) for picture, text in zip(pictures[7:], words[7:], strict=True)]
    test += [
        (encoded(pictures[3]), "coffee"),
        (encoded(larger, 70), "exit"),
        (encoded(softer, 60), "parking"),
    ]
    train_root = write_lmdb(tmp_path / "train", [*train])
    test_root = write_lmdb(tmp_path / "test", [*test])
    return train_root, test_root, len(train)


def test_overlap_finds_equal_and_near_images_and_writes_a_filter_list(
    overlapping: tuple[str, str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test, count = overlapping
    out = tmp_path / "list.tsv"
    code, text, _ = call(capsys, "data", "overlap", train, test, "--out", out, "--json")
    result = json.loads(text)
    assert code == 0
    assert (result["exact"], result["near"], result["unreadable"]) == (1, 2, 1)
    assert {match["index"]: match["other"] for match in result["matches"]} == {3: 3, 4: 4, 5: 5}
    images = WordImages([train], [str(out)])
    assert len(images.selection()) == count - 3
    assert set(images.selection()[np.arange(count - 3)].tolist()) == {0, 1, 2, 6, 7}


def test_unrelated_words_are_far_above_the_threshold(shared: Path) -> None:
    """The margin behind the threshold: of 647 x 2,000 pairs of two real sets none comes near it."""
    roots = [str(shared / "str" / name) for name in ("svt_test", "iiit5k_train")]
    hashes = [hash_images(root, 0, len(WordImages([root]))) for root in roots]
    assert find_matches(hashes[0], hashes[1], THRESHOLD + 16) == []
    assert len(find_matches(hashes[0], hashes[0], 0)) == len(hashes[0])


def test_overlap_refuses_a_threshold_of_unrelated_images(
    overlapping: tuple[str, str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "data", "overlap", *overlapping[:2], "--threshold", BITS)
    assert code == 2
    assert "--threshold" in err
