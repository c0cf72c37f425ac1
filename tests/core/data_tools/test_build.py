"""`run.py data build`: formats of annotations, skipped images, interruption, errors."""

import json
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from commands import run_command, started, wait_until
from conftest import call, jpeg

from core.data.key_layout import COUNT_KEY
from core.data.lmdb_folder import find_roots
from core.data.word_images import WordImages
from core.data_tools.annotation_formats import read_annotations
from core.data_tools.build import build
from core.data_tools.sources import find_source
from core.runtime.errors import UserError

pytestmark = pytest.mark.slow  # each build starts processes


def images_in(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"word_{number}.png" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(jpeg(number * 7 % 256))
    return names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gt.txt", '\ufeffword_1.png, "Tire\\"d"\r\nword_2.png, "a, b"\r\nword_3.png, "x"\r\n'),
        ("gt.txt", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("gt.txt", 'word_1.png Tire"d\nword_2.png a, b\nword_3.png x\n'),
        ("gt.txt", 'word_1.png,Tire"d\nword_2.png , a, b\nword_3.png ,x\n'),
        ("train_gt.txt", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("train.json", '{"filename": "word_1.png", "text": "Tire\\"d"}\n'
         '{"filename": "word_2.png", "text": "a, b"}\n'
         '{"filename": "word_3.png", "text": "x"}\n'),
        ("labels.tsv", 'label\tfilename\nTire"d\tword_1.png\na, b\tword_2.png\nx\tword_3.png\n'),
        ("labels.tsv", 'word_1.png\tTire"d\nword_2.png\ta, b\nword_3.png\tx\n'),
        ("labels.csv", 'filename,text\nword_1.png,"Tire""d"\nword_2.png,"a, b"\nword_3.png,x\n'),
        ("train.jsonl", '{"filename": "word_1.png", "text": "Tire\\"d"}\n'
         '{"filename": "word_2.png", "text": "a, b"}\n'
         '{"img_path": "word_3.png", "instances": [{"text": "x"}]}\n'),
        ("annotation.json", json.dumps({"metainfo": {}, "data_list": [
            {"img_path": f"word_{number}.png", "instances": [{"text": text}]}
            for number, text in enumerate(['Tire"d', "a, b", "x"], 1)
        ]})),
    ],
)  # fmt: skip
def test_every_annotation_format_gives_the_same_data(
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


def test_a_folder_of_images_gives_data_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in" / "b", 2)
    images_in(tmp_path / "in" / "a", 1)
    code, _, _ = call(capsys, "data", "build", tmp_path / "in", tmp_path / "out", "--processes", 1)
    assert code == 0
    built = WordImages([str(tmp_path / "out")])
    assert list(built.labels()) == [None] * 3
    assert built.raw(0) == (tmp_path / "in" / "a" / "word_1.png").read_bytes()


def test_skipped_images_are_counted_and_listed_with_reasons(
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


@pytest.mark.slow
def test_an_interrupted_build_is_not_usable_and_resumes(tmp_path: Path) -> None:
    names = images_in(tmp_path / "in", 700)
    (tmp_path / "in" / "word_5.png").write_bytes(b"broken")
    (tmp_path / "in" / "word_690.png").write_bytes(b"broken")
    (tmp_path / "in" / "gt.txt").write_text("".join(f"{name}\t{name[5:-4]}\n" for name in names))
    source = find_source(tmp_path / "in")
    assert (
        build(source.annotations, source.folder, tmp_path / "out", 1, should_stop=lambda: True)
        is None
    )
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
        source.annotations,
        source.folder,
        tmp_path / "out",
        2,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert progress is not None
    assert seen[0] == (512, 700)  # resumed after the first 256
    labels = list(WordImages([str(tmp_path / "out")]).labels())
    assert labels == [str(number) for number in range(1, 701) if number not in (5, 690)]
    assert [
        line.split("\t")[0] for line in (tmp_path / "out" / "skipped.tsv").read_text().splitlines()
    ] == ["5", "690"]


@pytest.mark.slow
def test_a_killed_build_resumes_with_the_same_command(tmp_path: Path) -> None:
    names = images_in(tmp_path / "in", 3000)
    (tmp_path / "in" / "gt.txt").write_text("".join(f"{name}\t{name[5:-4]}\n" for name in names))
    source, out = tmp_path / "in", tmp_path / "out"
    command = [sys.executable, "run.py", "data", "build", source, out, "--processes", "1"]
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


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (None, "no such file or folder"),
        ({}, "no image and no annotation"),
        ({"gt.txt": "absent.png\tx\n"}, "none of 1 images can be used"),
        ({"gt.txt": "a\tb\n", "labels.tsv": "a\tb\n"}, "several annotation files"),
        ({"annotation.json": "{"}, "not valid JSON"),
    ],
)
def test_an_unusable_source_exits_with_code_2_and_a_reason(
    files: dict[str, str] | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    if files is not None:
        source.mkdir()
        for name, text in files.items():
            (source / name).write_text(text)
    code, _, err = call(capsys, "data", "build", source, tmp_path / "out")
    assert code == 2
    assert reason in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    code, _, err = call(capsys, "data", "build", tmp_path / "in", tmp_path / "out")
    assert code == 2
    assert "already exists" in err
    assert not list((tmp_path / "out").iterdir())


def test_a_build_with_the_wrong_image_folder_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_in(tmp_path / "images", 2)
    (tmp_path / "train.jsonl").write_text(
        '{"filename": "word_1.png", "text": "a"}\n{"filename": "word_2.png", "text": "b"}\n'
    )
    code, _, err = call(capsys, "data", "build", tmp_path / "train.jsonl", tmp_path / "out")
    assert code == 2
    assert "--images DIR" in err
    options = ["--images", tmp_path / "images"]
    code, _, _ = call(capsys, "data", "build", tmp_path / "train.jsonl", tmp_path / "out", *options)
    assert code == 0
    assert list(WordImages([str(tmp_path / "out")]).labels()) == ["a", "b"]


def test_image_names_may_contain_spaces_and_invalid_ones_are_skipped(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 1)
    (tmp_path / "in" / "my word 1.png").write_bytes(jpeg(3))
    lines = ["my word 1.png hello", 'word_1.png\tx, "y"', "a\0b.png\tz"]
    (tmp_path / "in" / "gt.txt").write_text("\n".join(lines))
    source = find_source(tmp_path / "in")
    progress = build(source.annotations, source.folder, tmp_path / "out", 1)
    assert progress is not None
    assert list(WordImages([str(tmp_path / "out")]).labels()) == ["hello", 'x, "y"']
    assert progress.reasons == {"image name is not a valid file name": 1}


def test_an_unfinished_build_is_neither_found_nor_read(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 300)
    source = find_source(tmp_path / "in")
    assert (
        build(
            source.annotations, source.folder, tmp_path / "all" / "a", 1, should_stop=lambda: True
        )
        is None
    )
    with pytest.raises(UserError, match="build is unfinished"):
        WordImages([str(tmp_path / "all" / ".a.building")])
    with pytest.raises(UserError, match="no LMDB at or below"):
        find_roots(str(tmp_path / "all"))


def test_a_build_does_not_resume_from_another_source(tmp_path: Path) -> None:
    images_in(tmp_path / "in", 3)
    source = find_source(tmp_path / "in")
    build(source.annotations, source.folder, tmp_path / "out", 1, should_stop=lambda: True)
    images_in(tmp_path / "in", 4)
    with pytest.raises(UserError, match="build of another source"):
        build(source.annotations, source.folder, tmp_path / "out", 1)


def test_mmocr_entries_without_exactly_one_word_have_a_problem(tmp_path: Path) -> None:
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
    assert [bool(annotation.problem) for annotation in read_annotations(file)] == [True, True, True]
