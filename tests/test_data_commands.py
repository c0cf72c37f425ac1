"""`run.py data`: building, checking and comparing LMDB folders, as a user calls it."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from commands import run_command, started, wait_until
from conftest import call, jpeg, write_lmdb
from PIL import Image, ImageDraw, ImageFilter

from core.data.batches import ShuffledBatches
from core.data.lmdb_folder import COUNT_KEY, find_roots, fingerprint, irregular
from core.data.word_images import WordImages
from core.data_tools.annotations import read_items, source_items
from core.data_tools.build import build
from core.data_tools.overlap import BITS, THRESHOLD, find_matches, hash_images
from core.runtime.errors import UserError
from core.synthetic.fonts import font
from experiments.planning import registry as datasets

REPOSITORY = Path(__file__).resolve().parent.parent


def images_in(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"word_{number}.png" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(jpeg(number * 7 % 256))
    return names


# build


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gt.txt", '\ufeffword_1.png, "Tire\\"d"\r\nword_2.png, "a, b"\r\nword_3.png, "x"\r\n'),
        ("gt.txt", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("gt.txt", 'word_1.png Tire"d\nword_2.png a, b\nword_3.png x\n'),
        ("gt.txt", 'word_1.png,Tire"d\nword_2.png , a, b\nword_3.png ,x\n'),
        ("train_gt.txt", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("train.json", '{"filename": "word_1.png", "text": "Tire\\"d"}\n{"filename": "word_2.png", "text": "a, b"}\n'
         '{"filename": "word_3.png", "text": "x"}\n'),
        ("labels.tsv", 'label\tfilename\nTire"d\tword_1.png\na, b\tword_2.png\nx\tword_3.png\n'),
        ("labels.tsv", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("labels.csv", 'filename,text\nword_1.png,"Tire""d"\nword_2.png,"a, b"\nword_3.png,x\n'),
        ("train.jsonl", '{"filename": "word_1.png", "text": "Tire\\"d"}\n{"filename": "word_2.png", "text": "a, b"}\n'
         '{"img_path": "word_3.png", "instances": [{"text": "x"}]}\n'),
        ("annotation.json", json.dumps({"metainfo": {}, "data_list": [
            {"img_path": f"word_{number}.png", "instances": [{"text": text}]}
            for number, text in enumerate(['Tire"d', "a, b", "x"], 1)
        ]})),
    ],
)  # fmt: skip
def test_every_kind_of_annotation_becomes_the_same_data(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in", 3)
    (tmp_path / "in" / name).write_text(text, encoding="utf-8")
    code, out, _ = call(
        capsys, "data", "build", tmp_path / "in", tmp_path / "out", "--processes", 1
    )
    assert code == 0
    assert "3 samples" in out
    built = WordImages([str(tmp_path / "out")])
    assert list(built.labels()) == ['Tire"d', "a, b", "x"]
    assert [built.raw(index) for index in range(3)] == [
        (tmp_path / "in" / f"word_{n}.png").read_bytes() for n in (1, 2, 3)
    ]


def test_a_folder_of_images_becomes_data_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in" / "b", 2)
    images_in(tmp_path / "in" / "a", 1)
    assert (
        call(capsys, "data", "build", tmp_path / "in", tmp_path / "out", "--processes", 1)[0] == 0
    )
    built = WordImages([str(tmp_path / "out")])
    assert list(built.labels()) == [None] * 3
    assert built.raw(0) == (tmp_path / "in" / "a" / "word_1.png").read_bytes()


def test_what_is_skipped_is_counted_named_and_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in", 5)
    (tmp_path / "in" / "word_2.png").write_bytes(b"no image")
    lines = [
        "word_1.png\tone",
        "word_2.png\ttwo",
        "absent.png\tx",
        "word_3.png\t ",
        "lonely",
        "word_4.png\tfour",
    ]
    (tmp_path / "in" / "gt.txt").write_text("\n".join(lines))
    code, out, _ = call(capsys, "data", "build", tmp_path / "in", tmp_path / "out", "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["samples"], result["skipped"]) == (2, 4)
    assert set(result["reasons"]) == {
        "image cannot be decoded",
        "image cannot be read (No such file or directory)",
        "empty label",
        "no label",
    }
    assert list(WordImages([str(tmp_path / "out")]).labels()) == ["one", "four"]
    skipped = (tmp_path / "out" / "skipped.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in skipped] == [
        ["2", "word_2.png"], ["3", "absent.png"], ["4", "word_3.png"], ["5", "lonely"],
    ]  # fmt: skip


def test_an_interrupted_build_is_never_taken_for_a_whole_one_and_goes_on(tmp_path: Path) -> None:
    names = images_in(tmp_path / "in", 700)
    (tmp_path / "in" / "word_5.png").write_bytes(b"broken")
    (tmp_path / "in" / "word_690.png").write_bytes(b"broken")
    (tmp_path / "in" / "gt.txt").write_text("".join(f"{name}\t{name[5:-4]}\n" for name in names))
    folder, items = source_items(tmp_path / "in")
    assert build(items, folder, tmp_path / "out", 1, should_stop=lambda: True) is None
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no LMDB here"):
        WordImages([str(tmp_path / "out")])
    with (
        lmdb.open(str(tmp_path / ".out.building"), readonly=True, lock=False) as begun,
        begun.begin() as transaction,
    ):
        assert transaction.get(COUNT_KEY) is None
    seen = []
    progress = build(
        items,
        folder,
        tmp_path / "out",
        2,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert progress is not None
    assert seen[0] == (512, 700)  # it went on after the first 256
    labels = list(WordImages([str(tmp_path / "out")]).labels())
    assert labels == [str(number) for number in range(1, 701) if number not in (5, 690)]
    assert [
        line.split("\t")[0] for line in (tmp_path / "out" / "skipped.tsv").read_text().splitlines()
    ] == ["5", "690"]


def test_a_killed_build_goes_on_with_the_same_command(tmp_path: Path) -> None:
    names = images_in(tmp_path / "in", 3000)
    (tmp_path / "in" / "gt.txt").write_text("".join(f"{name}\t{name[5:-4]}\n" for name in names))
    command = [
        sys.executable,
        "run.py",
        "data",
        "build",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--processes",
        "1",
    ]
    begun = tmp_path / ".out.building" / "data.mdb"
    with started(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: begun.exists() and begun.stat().st_size > 100_000, process, pause=0.002)
        process.kill()
    assert not (tmp_path / "out").exists()
    run_command(command, check=True)
    assert list(WordImages([str(tmp_path / "out")]).labels()) == [
        str(number) for number in range(1, 3001)
    ]
    assert not begun.exists()


def test_a_build_that_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in", 2)
    for place, sentence in [
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "empty", "nothing to build it from"),
        (tmp_path / "bad", "none of 1 images can be used"),
        (tmp_path / "two", "several annotation files"),
        (tmp_path / "json", "not valid JSON"),
    ]:
        if place.name != "nowhere":
            place.mkdir()
        if place.name == "bad":
            (place / "gt.txt").write_text("absent.png\tx\n")
        if place.name == "two":
            [(place / name).write_text("a\tb\n") for name in ("gt.txt", "labels.tsv")]
        if place.name == "json":
            (place / "annotation.json").write_text("{")
        code, _, err = call(capsys, "data", "build", place, tmp_path / "out")
        assert code == 2, place
        assert sentence in err
        assert "Traceback" not in err
    (tmp_path / "there").mkdir()
    code, _, err = call(capsys, "data", "build", tmp_path / "in", tmp_path / "there")
    assert (code, "is there already" in err) == (2, True)


def test_a_build_with_the_wrong_folder_of_images_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "images", 2)
    (tmp_path / "train.jsonl").write_text(
        '{"filename": "word_1.png", "text": "a"}\n{"filename": "word_2.png", "text": "b"}\n'
    )
    code, _, err = call(capsys, "data", "build", tmp_path / "train.jsonl", tmp_path / "out")
    assert (code, "--images DIR says where the images lie" in err) == (2, True)
    options = ["--images", tmp_path / "images"]
    assert (
        call(capsys, "data", "build", tmp_path / "train.jsonl", tmp_path / "out", *options)[0] == 0
    )
    assert list(WordImages([str(tmp_path / "out")]).labels()) == ["a", "b"]


def test_names_may_hold_spaces_and_odd_ones_are_skipped(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 1)
    (tmp_path / "in" / "my word 1.png").write_bytes(jpeg(3))
    lines = ["my word 1.png hello", 'word_1.png\tx, "y"', "a\0b.png\tz"]
    (tmp_path / "in" / "gt.txt").write_text("\n".join(lines))
    folder, items = source_items(tmp_path / "in")
    progress = build(items, folder, tmp_path / "out", 1)
    assert progress is not None
    assert list(WordImages([str(tmp_path / "out")]).labels()) == ["hello", 'x, "y"']
    assert progress.reasons == {"the image's name is no file name": 1}


def test_what_is_not_whole_is_neither_found_nor_read(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 300)
    folder, items = source_items(tmp_path / "in")
    assert build(items, folder, tmp_path / "all" / "a", 1, should_stop=lambda: True) is None
    with pytest.raises(UserError, match="begun, but not whole"):
        WordImages([str(tmp_path / "all" / ".a.building")])
    with pytest.raises(UserError, match="no LMDB at or below"):
        find_roots(str(tmp_path / "all"))


def test_another_source_does_not_go_on_with_a_build(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 3)
    folder, items = source_items(tmp_path / "in")
    build(items, folder, tmp_path / "out", 1, should_stop=lambda: True)
    images_in(tmp_path / "in", 4)
    with pytest.raises(UserError, match="begun from another source"):
        build(items, folder, tmp_path / "out", 1)


def test_mmocr_entries_without_one_word_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(
        json.dumps(
            {
                "data_list": [
                    {"img_path": "a", "instances": [{"text": "x"}, {"text": "y"}]},
                    {"text": "z"},
                    3,
                ]
            }
        )
    )
    assert [bool(item.problem) for item in read_items(file)] == [True, True, True]


# check


def damaged_copy(tmp_path: Path) -> str:
    """Twelve images: two broken, an image and a label missing, a count that is one too small."""
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number), f"w{number}") for number in range(12)
    ]
    samples[2], samples[7] = (b"broken", "b"), (jpeg(7)[:200], "c")
    samples[4], samples[5] = (None, "gone"), (jpeg(5), None)
    samples[8] = (jpeg(1), "same")
    return write_lmdb(tmp_path / "damaged", samples, count=11)


def test_check_names_everything_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "data", "check", damaged_copy(tmp_path), "--json")
    report = json.loads(out)["roots"][0]
    assert code == 1
    assert report["images"] == 11
    assert report["undecodable"]["first"] == ["image-000000003", "image-000000008"]
    assert report["missing_images"]["first"] == ["image-000000005"]
    assert report["missing_labels"]["first"] == ["label-000000006"]
    assert report["beyond_count"]["first"] == ["image-000000012", "label-000000012"]
    assert report["duplicates"]["first"] == [["image-000000002", "image-000000009"]]
    assert len(report["problems"]) == 4
    code, out, _ = call(capsys, "data", "check", tmp_path / "damaged")
    assert all(
        name in out
        for name in ("image-000000003", "image-000000005", "label-000000006", "num-samples is 11")
    )


def test_one_bad_root_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_lmdb(tmp_path / "good", [(jpeg(1), "a"), (jpeg(2), "b")])
    large = write_lmdb(tmp_path / "large", [(jpeg(1), "a")], count=3)
    cut = write_lmdb(tmp_path / "cut", [(jpeg(number), "a") for number in range(40)])
    with open(f"{cut}/data.mdb", "r+b") as file:
        file.truncate(8192)
    with lmdb.open(large) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"label-000000001", b"\xff\xfe")
    code, out, _ = call(
        capsys, "data", "check", good, large, cut, tmp_path / "nowhere", tmp_path / "ic13", "--json"
    )
    result = json.loads(out)
    assert code == 1
    assert [report["problems"] == [] for report in result["roots"]] == [True, False]
    problems = " ".join(result["roots"][1]["problems"])
    assert "num-samples is 3, but the last image is number 1" in problems
    assert "1 labels are not UTF-8: label-000000001" in problems
    assert [
        text
        for text in ("cut short", "nowhere: no such folder", "https://rrc.cvc.uab.es/?ch=2")
        if text in str(result)
    ] != []
    assert len(result["missing"]) == 3


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(number), "w" * number) for number in range(1, 20)])
    command = f"{sys.executable} run.py data check {root} --json | head -c 10"
    output = run_command(["sh", "-c", command])
    assert (len(output.stdout), output.stderr.count("Traceback")) == (10, 0)


def test_folders_are_taken_for_the_sets_that_they_are_named_after() -> None:
    names = {
        "SVT": "svt",
        "iiit5k_test": "iiit5k",
        "IIIT5k_3000": "iiit5k",
        "svt_train": "svt_train",
        "train": None,
        "ic15_1811": "ic15",
    }
    assert {name: datasets.recognize(f"/data/{name}") for name in names} == names


def test_check_counts_what_labels_lose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["ok", "x" * 24, "x" * 25, "café", "a b", "!!", None]
    root = write_lmdb(
        tmp_path / "words", [(jpeg(number), label) for number, label in enumerate(labels)]
    )
    report = json.loads(call(capsys, "data", "check", root, "--json")[1])["roots"][0]
    found = report["labels"]
    assert (found["over_long"], found["unknown_characters"], found["unlabeled"]) == (1, 2, 1)
    assert (found["wrong_under_strict"], found["replaced_under_released"]) == (2, 2)
    assert found["characters_outside"] == {"é": 1, " ": 1}
    assert found["protocols"]["waics"] == {"empty": 1, "altered": 3}
    assert found["lengths"] == {"2": 2, "3": 1, "4": 1, "24": 1, "25": 1}


def test_check_knows_named_sets_by_place_and_by_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LMIM_DATA", "LMIM_SHARED", "LMIM_DATA_FILE"):
        monkeypatch.delenv(variable, raising=False)
    root = write_lmdb(tmp_path / "CUTE80", [(jpeg(1), "a")])
    code, out, _ = call(capsys, "data", "check", root)
    assert code == 1
    assert "1 images, where cute has 288" in out
    monkeypatch.setenv("LMIM_ROOT_SVTP", write_lmdb(tmp_path / "mine", [(jpeg(1), "a")]))
    assert "where svtp has 645" in call(capsys, "data", "check", "svtp")[1]
    code, out, _ = call(capsys, "data", "check", "ic15")
    assert code == 1
    assert "ic15: LMIM_DATA is not set" in out
    assert "https://rrc.cvc.uab.es/?ch=4" in out
    assert "1,811 or 2,077 images" in out
    user = tmp_path / "mine.yaml"
    user.write_text(f"ic15: {root}\n")
    monkeypatch.setenv("LMIM_DATA_FILE", str(user))
    assert datasets.locate("ic15") == root
    user.write_text("ic99: /x\n")
    code, _, err = call(capsys, "data", "check", "ic15")
    assert (code, "ic99: no data set of that name" in err) == (2, True)


def test_real_sets_have_their_known_sizes(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"iiit5k_train": 2000, "svt_train": 257, "iiit5k_test": 3000, "svt_test": 647}
    code, out, _ = call(
        capsys, "data", "check", *(shared / "str" / name for name in names), "--json"
    )
    reports = json.loads(out)["roots"]
    assert code == 0
    assert {Path(report["root"]).name: report["images"] for report in reports} == names
    assert all(
        report["problems"] == [] and report["images"] in report["known_sizes"] for report in reports
    )
    assert reports[2]["labels"]["unknown_characters"] == 57


# overlap


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
    """A training root, a test root, and the training root's number of images; its images 3, 4 and 5 are in the test root."""
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
    return write_lmdb(tmp_path / "train", train), write_lmdb(tmp_path / "test", test), len(train)


def test_overlap_finds_equal_and_near_images_and_writes_a_list_that_the_reader_takes(
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


def test_unrelated_words_are_far_apart(shared: Path) -> None:
    """The margin behind the threshold: of 647 x 2,000 pairs of two real sets none comes near it."""
    roots = [str(shared / "str" / name) for name in ("svt_test", "iiit5k_train")]
    hashes = [hash_images(root, 0, len(WordImages([root]))) for root in roots]
    assert find_matches(hashes[0], hashes[1], THRESHOLD + 16) == []
    assert len(find_matches(hashes[0], hashes[0], 0)) == len(hashes[0][1])


def test_overlap_refuses_a_threshold_that_means_nothing(
    overlapping: tuple[str, str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "data", "overlap", *overlapping[:2], "--threshold", BITS)
    assert (code, "unrelated images differ in about half" in err) == (2, True)


# charset


def test_a_charset_is_built_from_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(1), "ba c"), (jpeg(2), "cé"), (jpeg(3), None)])
    code, out, err = call(capsys, "data", "charset", root)
    assert (code, out) == (0, "abcé\n")
    assert "4 characters, 7 classes" in err
    file = tmp_path / "set.txt"
    assert call(capsys, "data", "charset", root, "--out", file, "--least", 2)[0] == 0
    assert file.read_text(encoding="utf-8") == "c\n"
    assert json.loads(
        call(capsys, "data", "check", root, "--charset", f"file:{file}", "--json")[1]
    )["roots"][0]["labels"]["characters_outside"] == {"a": 1, "b": 1, " ": 1, "é": 1}
    code, _, err = call(capsys, "data", "check", root, "--charset", "file:/nowhere")
    assert (code, "no such file" in err) == (2, True)


def test_nested_roots_are_checked_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("u/a", "u/b"):
        write_lmdb(tmp_path / name, [(jpeg(1), None)])
    assert len(find_roots(str(tmp_path / "u"))) == 2
    reports = json.loads(call(capsys, "data", "check", tmp_path / "u", "--json")[1])["roots"]
    assert [report["labeled"] for report in reports] == [False, False]
    assert all("no labels: for pre-training only" in report["notes"] for report in reports)


def anonymous_memory() -> int:
    """Kilobytes of this process that are not pages of mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def index_of(folder: Path, count: int, labels: bool) -> str:
    """An LMDB of so many one-byte images."""
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 34, sync=False) as environment:
        for name in (b"image", b"label") if labels else (b"image",):
            for start in range(1, count + 1, 1 << 20):
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    numbers = range(start, min(start + (1 << 20), count + 1))
                    cursor.putmulti(
                        ((b"%s-%09d" % (name, number), b"x") for number in numbers), append=True
                    )
        with environment.begin(write=True) as transaction:
            transaction.put(COUNT_KEY, str(count).encode())
    return str(folder)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
@pytest.mark.parametrize(("largest", "labels"), [(10_000_000, False), (300_000, True)])
def test_memory_does_not_grow_with_the_number_of_images(
    largest: int, labels: bool, tmp_path: Path
) -> None:
    """Opening, fingerprint, labels, and a thousand batches from the middle of an epoch: ten million images without labels, as
    Union14M-U has them, cost what a thousand cost, and one shuffled part (8 MB, and the same again while it is drawn)."""
    grown = []
    for count in (1000, largest):
        root = index_of(tmp_path / str(count), count, labels)
        before = anonymous_memory()
        images = WordImages([root])
        assert (fingerprint(root)[1], irregular(root)) == (count, "")
        assert sum(label == "x" for label in images.labels()) == (count if labels else 0)
        steps = count // 64 // 2
        batches = ShuffledBatches([images.selection()], [64], steps, steps + 1000, seed=0)
        shown = [index for batch in batches for index in batch]
        assert images.raw(shown[0]) == b"x"
        assert 0 <= min(shown) <= max(shown) < count
        del shown
        grown.append(anonymous_memory() - before)
        shutil.rmtree(root)
    assert grown[1] < grown[0] + 24_000
