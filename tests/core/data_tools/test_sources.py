"""What a source folder holds: annotation files, labels beside images, further text files."""

from pathlib import Path

import pytest
from conftest import call, jpeg

from core.data_tools.annotations import Annotation
from core.data_tools.sources import find_source, image_files
from core.runtime.errors import UserError


def folder(path: Path, files: dict[str, str | bytes], images: tuple[str, ...] = ()) -> Path:
    for name in images:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(jpeg(1))
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name",
    [
        "README.txt",
        "readme_first.TXT",
        "LICENSE.txt",
        "classes.txt",
        "notes.md",
        "Thumbs.db",
        ".DS_Store",
        "._labels.txt",
        "requirements.txt",
        "text_about_the_images.txt",
        "settings.json",
    ],
)
def test_files_without_image_names_are_no_annotations(name: str, tmp_path: Path) -> None:
    content = '{"a": 1}\n' if name.endswith("json") else "This data set is free.\nCite us.\n"
    source = find_source(folder(tmp_path, {name: content}, ("1.png", "2.JPG")))
    assert not source.labeled
    assert [row.image for row in source.annotations()] == ["1.png", "2.JPG"]


def test_an_ignored_text_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "in", {"story.txt": "Once upon a time\n"}, ("1.png",))
    code, out, err = call(
        capsys, "data", "build", tmp_path / "in", tmp_path / "out", "--processes", 1
    )
    assert code == 0
    assert "without labels" in out
    assert "story.txt" in err


def test_an_annotation_file_beside_a_readme_is_used(tmp_path: Path) -> None:
    folder(tmp_path, {"README.txt": "1.png shows a word\n", "train.txt": "1.png a\n"}, ("1.png",))
    assert list(find_source(tmp_path).annotations()) == [Annotation("1.png", "a")]
    folder(tmp_path, {"val.csv": "2.png,b\n"})
    with pytest.raises(UserError, match=r"several annotation files \(train\.txt, val\.csv\)"):
        find_source(tmp_path)


def test_system_files_are_no_images(tmp_path: Path) -> None:
    names = ("a/1.png", "__MACOSX/a/._1.png", "a/._1.png", ".cache/2.png", "3.JPEG")
    folder(tmp_path, {}, names)
    assert list(image_files(tmp_path)) == ["3.JPEG", "a/1.png"]


@pytest.mark.parametrize(
    "pattern", ["img_{}.txt", "gt_img_{}.txt", "IMG_{}.TXT", "img_{}.gt.txt", "img_{}.png.txt"]
)
def test_each_image_may_have_its_label_in_a_file_beside_it(pattern: str, tmp_path: Path) -> None:
    images = tuple(f"sub/img_{number}.png" for number in range(4))
    texts = {"sub/" + pattern.format(number): f"w {number}\r\n" for number in range(4)}
    source = find_source(folder(tmp_path, {**texts}, images))
    assert source.labeled
    assert list(source.annotations()) == [
        Annotation(image, f"w {number}") for number, image in enumerate(images)
    ]
    assert list(find_source(tmp_path / "sub").annotations())[3] == Annotation("img_3.png", "w 3")


def test_label_files_that_hold_no_single_word_are_problems(tmp_path: Path) -> None:
    texts: dict[str, str | bytes] = {
        "1.txt": "one\n",
        "2.txt": "a\nb\n",
        "3.txt": b"caf\xe9",
        "5.txt": "38,43,92,21,1,2,3,4,word\n",
        "6.txt": "drei".encode("utf-16"),
        "7.txt": "",
    }
    source = find_source(folder(tmp_path, texts, tuple(f"{n}.png" for n in range(1, 8))))
    rows = list(source.annotations())
    assert [row.image for row in rows if row.problem] == ["2.png", "3.png", "4.png", "5.png"]
    assert [row.label for row in rows if not row.problem] == ["one", "drei", ""]


def test_thousands_of_text_files_give_a_short_line(tmp_path: Path) -> None:
    folder(tmp_path, {f"gt_img_{number}.txt": "word\n" for number in range(2000)})
    with pytest.raises(UserError, match="1,997 more") as error:
        find_source(tmp_path)
    assert len(str(error.value)) < 300 + len(str(tmp_path))
    folder(tmp_path, {}, ("img_7.png",))
    source = find_source(tmp_path)
    assert list(source.annotations()) == [Annotation("img_7.png", "word")]
    assert "1,996 more" in source.notes[0]
    assert len(source.notes[0]) < 300 + len(str(tmp_path))


def test_a_list_and_files_beside_images_are_not_mixed(tmp_path: Path) -> None:
    folder(tmp_path, {"1.txt": "a\n", "list.txt": "1.png b\n"}, ("1.png",))
    with pytest.raises(UserError, match=r"list\.txt"):
        find_source(tmp_path)
    folder(tmp_path, {"gt.txt": "1.png c\n"})  # a usual name comes first
    assert list(find_source(tmp_path).annotations()) == [Annotation("1.png", "c")]
