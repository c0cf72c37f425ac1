"""Words in photos: TextOCR, COCO-Text, SynthText, PaddleOCR's detection files, and the crops."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from photos import (
    BLUE,
    BOX,
    GREEN,
    RED,
    TURNED,
    crops_of,
    draw_photo,
    is_color,
    labels_and_reasons,
    pixels_of,
)
from PIL import Image
from scipy.io import savemat

from core.data.word_images import WordImages, decode_image
from core.data_tools import build
from core.data_tools.crops import OUTSIDE, TOO_SMALL, word_corners
from core.data_tools.line_formats import NO_LIST, NO_WORDS
from core.data_tools.photo_words import ILLEGIBLE, UNEQUAL
from core.data_tools.reading import Margin, Reading
from core.data_tools.sources import find_source
from core.runtime.errors import UserError

OUTSIDE_BOX = ((400, 30), (460, 30), (460, 50), (400, 50))


def flat(corners: Any) -> list[float]:
    return [value for corner in corners for value in corner]


def textocr(words: list[dict[str, Any]], **further: Any) -> dict[str, Any]:
    """A document in TextOCR's layout. words: without image_id, all in photo `p`."""
    anns = {f"p_{number}": {"image_id": "p", **word} for number, word in enumerate(words)}
    imgs = {"p": {"id": "p", "set": "train", "file_name": "train/p.png"}}
    return {"info": {}, "imgs": imgs, "anns": anns, "imgToAnns": {"p": list(anns)}} | further


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A folder with the photo `train/p.png`, which shows two words."""
    draw_photo(tmp_path / "train" / "p.png", (BOX, TURNED))
    return tmp_path


def test_words_of_textocr_are_cut_out_level(photo: Path) -> None:
    words = [
        {"utf8_string": "Box", "points": flat(BOX)},
        {"utf8_string": "Turned", "points": flat(TURNED)},
    ]
    source = written(photo / "words.json", textocr(words))
    assert find_source(source).format == "textocr"
    assert labels_and_reasons(source) == (["Box", "Turned"], [])
    box, turned = crops_of(source)
    for pixels in (box, turned):
        assert pixels.shape == (20, 60, 3)
        assert is_color(pixels[10, 10], GREEN)
        assert is_color(pixels[10, 50], BLUE)
    assert all(is_color(pixel, GREEN) for pixel in box[:, :30].reshape(-1, 3))


def test_illegible_empty_and_broken_words_of_textocr_are_skipped_with_reasons(photo: Path) -> None:
    words: list[dict[str, Any]] = [
        {"utf8_string": ".", "points": flat(BOX)},
        {"utf8_string": "", "points": flat(BOX)},
        {"utf8_string": "far", "points": flat(OUTSIDE_BOX)},
        {"utf8_string": "dot", "points": flat(((5, 5), (6, 5), (6, 6), (5, 6)))},
        {"utf8_string": "none"},
        {"utf8_string": "nan", "points": [1, 2, 3, 4, 5, math.nan]},
        {"utf8_string": "odd", "points": [1, 2, 3]},
        {"utf8_string": "huge", "points": [0, 0, 1e300, 0, 1e300, 1e300, 0, 1e300]},
        {"points": flat(BOX)},
        {"utf8_string": "lost", "points": flat(BOX), "image_id": "q"},
        {"utf8_string": "kept", "bbox": [20, 30, 60, 20]},
    ]
    labels, reasons = labels_and_reasons(written(photo / "words.json", textocr(words)))
    assert labels == ["kept"]
    no_polygon = "no polygon and no box of numbers"
    assert reasons == [
        *(ILLEGIBLE, "empty label", OUTSIDE, TOO_SMALL, no_polygon, no_polygon, no_polygon),
        *(OUTSIDE, "no utf8_string", "image_id is none of imgs"),
    ]


def test_a_missing_and_a_broken_photo_are_skipped(tmp_path: Path) -> None:
    source = written(tmp_path / "w.json", textocr([{"utf8_string": "a", "points": flat(BOX)}]))
    assert labels_and_reasons(source)[1] == ["image cannot be read (No such file or directory)"]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "p.png").write_bytes(b"no image")
    assert labels_and_reasons(source)[1] == ["image cannot be decoded"]


def coco_text(words: list[dict[str, Any]]) -> dict[str, Any]:
    """A document in COCO-Text's layout, with numbers as ids and a photo of each set."""
    anns = {
        str(number): {"id": number, "image_id": 7, "class": "machine printed", **word}
        for number, word in enumerate(words)
    }
    imgs = {
        "7": {"id": 7, "set": "train", "file_name": "train/p.png"},
        "8": {"id": 8, "set": "val", "file_name": "train/p.png"},
    }
    return {"cats": {}, "anns": anns, "imgs": imgs, "imgToAnns": {"7": list(range(len(words)))}}


def test_coco_text_skips_by_legibility_and_chooses_a_set(photo: Path) -> None:
    words: list[dict[str, Any]] = [
        {"utf8_string": ".", "legibility": "legible", "mask": flat(BOX)},
        {"utf8_string": "x", "legibility": "illegible", "mask": flat(BOX)},
        {"legibility": "legible", "mask": flat(BOX)},
        {"utf8_string": "Val", "legibility": "legible", "bbox": [20, 30, 60, 20], "image_id": 8},
    ]
    source = written(photo / "cocotext.v2.json", coco_text(words))
    assert find_source(source).format == "cocotext"
    assert labels_and_reasons(source) == ([".", "Val"], [ILLEGIBLE, "no utf8_string"])
    assert labels_and_reasons(source, Reading(split="val")) == (["Val"], [])
    with pytest.raises(UserError, match="sets are train, val"):
        labels_and_reasons(source, Reading(split="test"))


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("step", [1, -1])
def test_any_order_of_coco_texts_corners_gives_upright_text(
    first: int, step: int, photo: Path
) -> None:
    corners = [BOX[(first + step * number) % 4] for number in range(4)]
    words = [{"utf8_string": "a", "legibility": "legible", "mask": flat(corners)}]
    (pixels,) = crops_of(written(photo / "cocotext.json", coco_text(words)))
    assert pixels.shape == (20, 60, 3)
    assert is_color(pixels[10, 10], GREEN)


def test_counterclockwise_corners_give_no_mirror_image(photo: Path) -> None:
    corners = (TURNED[0], *TURNED[:0:-1])
    words = [{"utf8_string": "a", "points": flat(corners)}]
    (pixels,) = crops_of(written(photo / "words.json", textocr(words)))
    assert is_color(pixels[10, 10], GREEN)


@pytest.mark.parametrize(
    "points",
    [
        (*BOX[:2], (90, 40), *BOX[2:]),  # five corners
        ((20, 30), (90, 50), (90, 30), (20, 50)),  # crossing sides
        ((20, 30), (90, 30), (30, 35), (20, 50)),  # not convex
    ],
)
def test_other_polygons_stand_for_their_bounding_box(points: Any) -> None:
    assert word_corners(points, None) == ((20, 30), (90, 30), (90, 50), (20, 50))


@pytest.mark.parametrize(
    ("margin", "shape"), [(Margin(0.25, "height"), (30, 70, 3)), (Margin(3, "px"), (26, 66, 3))]
)
def test_a_margin_widens_boxes_and_turned_words_on_each_side(
    margin: Margin, shape: tuple[int, ...], photo: Path
) -> None:
    words = [
        {"utf8_string": "Box", "points": flat(BOX)},
        {"utf8_string": "Turned", "points": flat(TURNED)},
    ]
    source = written(photo / "words.json", textocr(words))
    for pixels in crops_of(source, Reading(margin=margin)):
        assert pixels.shape == shape
        assert is_color(pixels[1, shape[1] // 2], RED)
        assert is_color(pixels[shape[0] // 2, 12], GREEN)


def test_a_word_that_is_partly_outside_repeats_the_border(tmp_path: Path) -> None:
    corners = tuple((x - 100, y - 44) for x, y in TURNED)  # two corners are outside
    draw_photo(tmp_path / "train" / "p.png", ())
    words = [{"utf8_string": "a", "points": flat(corners)}]
    (pixels,) = crops_of(written(tmp_path / "words.json", textocr(words)))
    assert all(is_color(pixel, RED) for pixel in pixels.reshape(-1, 3))


# SynthText


def write_mat(path: Path, photos: list[tuple[str, Any, list[str]]]) -> Path:
    """A gt.mat. photos: name, (2, 4, words) boxes, lines of text."""
    cells: dict[str, Any] = {}
    for number, key in enumerate(("imnames", "wordBB", "txt")):
        cells[key] = np.empty((1, len(photos)), dtype=object)
        for position, content in enumerate(photos):
            cells[key][0, position] = content[number]
    savemat(path, cells)
    return path


def test_words_of_synthtext_follow_its_lines_and_spaces(photo: Path) -> None:
    boxes = np.array([BOX, TURNED, BOX], dtype=float).transpose(2, 1, 0)
    lines = ["one two ", " three  "]
    single = np.array(BOX, dtype=float).T  # (2, 4), as the data set stores a photo of one word
    write_mat(
        photo / "gt.mat",
        [("train/p.png", boxes, lines), ("train/p.png", single, ["alone"])],
    )
    assert find_source(photo).format == "synthtext"
    assert labels_and_reasons(photo) == (["one", "two", "three", "alone"], [])
    assert is_color(crops_of(photo)[1][10, 50], BLUE)


def test_a_photo_of_synthtext_with_more_words_than_boxes_is_skipped(photo: Path) -> None:
    single = np.array(BOX, dtype=float).T
    file = write_mat(photo / "gt.mat", [("train/p.png", single, ["two words"])])
    assert labels_and_reasons(file) == ([], [UNEQUAL, UNEQUAL])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "not a complete MAT file"),
        (b"MATLAB 5.0 MAT-file, Platform: x", "not a complete MAT file"),
        (b"MATLAB 7.3 MAT-file, Platform: x", "-v7"),
    ],
)
def test_a_damaged_mat_file_gives_one_sentence(content: bytes, part: str, tmp_path: Path) -> None:
    (tmp_path / "gt.mat").write_bytes(content)
    with pytest.raises(UserError, match=part) as error:
        labels_and_reasons(tmp_path / "gt.mat")
    assert "\n" not in str(error.value)


def test_a_mat_file_of_other_data_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "other.mat", {"imnames": np.array(["a"])})
    with pytest.raises(UserError, match="no wordBB, txt"):
        labels_and_reasons(tmp_path / "other.mat")


# PaddleOCR


def test_paddleocrs_detection_file_gives_crops(photo: Path) -> None:
    words = [
        {"transcription": "Box", "points": [list(corner) for corner in BOX]},
        {"transcription": "###", "points": [list(corner) for corner in BOX]},
        {"transcription": "far", "points": [list(corner) for corner in OUTSIDE_BOX]},
    ]
    lines = [
        f"train/p.png\t{json.dumps(words)}",
        "train/p.png\t[]",
        'train/p.png\t[{"transcription": "cut',
        "train/absent.png\t" + json.dumps(words[:1]),
        "no tab",
    ]
    (photo / "Label.txt").write_text("\n".join(lines), encoding="utf-8")
    assert find_source(photo).format == "paddleocr"
    labels, reasons = labels_and_reasons(photo)
    assert labels == ["Box"]
    assert reasons == [
        *(ILLEGIBLE, OUTSIDE, NO_WORDS, NO_LIST),
        *("image cannot be read (No such file or directory)", "no label"),
    ]


def test_augmented_images_of_paddleocr_are_samples_of_their_own(photo: Path) -> None:
    lines = ['["train/p.png", "train/p.png"]\tjoint', "train/p.png\t[1] x"]
    (photo / "rec_gt_train.txt").write_text("\n".join(lines), encoding="utf-8")
    assert find_source(photo / "rec_gt_train.txt").format == "paddleocr"
    assert labels_and_reasons(photo / "rec_gt_train.txt") == (["joint", "joint", "[1] x"], [])
    as_text = list(find_source(photo / "rec_gt_train.txt", Reading(format="text")).annotations())
    assert as_text[0].image == '["train/p.png", "train/p.png"]'


# The command


@pytest.mark.slow
def test_the_report_counts_what_was_skipped_and_names_the_format(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        {"utf8_string": "Box", "points": flat(BOX)},
        {"utf8_string": ".", "points": flat(BOX)},
        {"utf8_string": ".", "points": flat(TURNED)},
    ]
    source = written(photo / "words.json", textocr(words))
    words_in = [source, photo / "out", "--margin", "2px", "--processes", 1]
    code, out, _ = call(capsys, "data", "build", *words_in, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["format"] == "textocr"
    assert (result["samples"], result["skipped"]) == (1, 2)
    assert result["reasons"] == {ILLEGIBLE: 2}
    built = WordImages([str(photo / "out")])
    assert list(built.labels()) == ["Box"]
    raw = built.raw(0)
    assert raw is not None
    assert pixels_of(raw).shape == (24, 64, 3)


@pytest.mark.parametrize("margin", ["-1", "0.1 px", "9", "2000px", "nan", ""])
def test_a_margin_is_a_share_of_the_height_or_pixels(
    margin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "data", "build", "a.json", "out", f"--margin={margin}")
    assert code == 2
    assert "such as 0.1" in err


@pytest.mark.parametrize(
    ("reading", "flag"),
    [
        (Reading(margin=Margin(3, "px")), "--margin"),
        (Reading(split="train"), "--split"),
        (Reading(image_column="file"), "--image-column"),
        (Reading(text_column="file"), "--text-column"),
    ],
)
def test_an_option_of_another_format_is_refused(
    reading: Reading, flag: str, tmp_path: Path
) -> None:
    (tmp_path / "gt.txt").write_text("a.png word\n")
    with pytest.raises(UserError, match=f"{flag}: .*lines `image label`"):
        find_source(tmp_path, reading)


def test_a_folder_of_images_has_no_format_to_choose(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.png")
    with pytest.raises(UserError, match="no annotation file"):
        find_source(tmp_path, Reading(format="csv"))


def test_a_json_file_that_is_not_textocrs_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", [{"filename": "a.png", "text": "a"}])
    with pytest.raises(UserError, match="`imgs` and `anns`"):
        list(find_source(file, Reading(format="textocr")).annotations())


def test_a_photo_is_decoded_once_for_its_words(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build._photo.cache_clear()
    decoded = []

    def decode(raw: bytes) -> Image.Image | None:
        decoded.append(raw)
        return decode_image(raw)

    monkeypatch.setattr(build, "decode_image", decode)
    words = [{"utf8_string": f"w{number}", "points": flat(BOX)} for number in range(5)]
    source = find_source(written(photo / "words.json", textocr(words)))
    samples = [build.read_sample(word, str(source.folder)) for word in source.annotations()]
    assert len(samples) == 5
    assert len(decoded) == 1
