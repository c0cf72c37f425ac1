"""Argument types: which texts are numbers, seeds, GPUs, paths and devices."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import call

import run
from core.runtime.errors import UserError
from experiments.cli import argument_types

COUNT = argument_types.whole_number(1, 64)
MINUTES = argument_types.real_number(0, 1440)
NO_NUMBERS = ["", " 3 ", "3 ", "+3", "1e3", "0x10", "1_0", "٣", "³", "3.0", "nan", "inf", "-inf"]
AMBIGUOUS = ["010", "00"]


@pytest.mark.parametrize("text", ["1", "2", "64"])
def test_a_whole_number_is_decimal_digits_within_the_range(text: str) -> None:
    assert COUNT(text) == int(text)


@pytest.mark.parametrize("text", [*NO_NUMBERS, *AMBIGUOUS, "0", "-1", "65", "9" * 5000])
def test_other_texts_are_no_whole_number_and_the_range_is_named(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="from 1 to 64"):
        COUNT(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1.5", 1.5), (".5", 0.5), ("5.", 5), ("1e3", 1000), ("1E-2", 0.01)],
)
def test_a_real_number_may_have_a_point_and_an_exponent(text: str, value: float) -> None:
    assert MINUTES(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 3",
        "nan",
        "NaN",
        "inf",
        "infinity",
        "-1",
        "-0.5",
        "1e9",
        "1e400",
        "0x10",
        "1_0",
        "٣",
        "1,5",
    ],
)
def test_other_texts_are_no_real_number_and_the_range_is_named(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="from 0 to 1440"):
        MINUTES(text)


def test_seeds_are_different_whole_numbers() -> None:
    assert argument_types.seeds("0,7,4294967295") == (0, 7, 2**32 - 1)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-79", tuple(range(80))),
        ("3-3", (3,)),
        ("9,0-2,4294967294-4294967295", (9, 0, 1, 2, 2**32 - 2, 2**32 - 1)),
        ("0-999", tuple(range(1000))),
    ],
)
def test_a_range_of_seeds_contains_both_ends(text: str, numbers: tuple[int, ...]) -> None:
    assert argument_types.seeds(text) == numbers


@pytest.mark.parametrize(
    "text",
    [
        *("", "0,,1", "0,0", "-1", "1.5", "0 1", "a", "99999999999999999999", "4294967296", "٣"),
        *("0-", "0-1-2", "0--1", "-1-2", "5-2", "0 - 3", "00-3", "0..3", "0-2,1", "0-4294967296"),
    ],
)
def test_other_texts_are_no_seeds(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        argument_types.seeds(text)


def test_more_seeds_than_a_thousand_are_refused() -> None:
    for text in (",".join(map(str, range(1001))), "0-1000", "0-4294967295"):
        with pytest.raises(ArgumentTypeError, match="1000"):
            argument_types.seeds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("all", "all"), ("0", (0,)), ("3,1", (3, 1)), ("0-2", (0, 1, 2))]
)
def test_gpus_are_all_or_different_ids(text: str, value: object) -> None:
    assert argument_types.gpus(text) == value


@pytest.mark.parametrize(
    "text", ["", "ALL", "0,0", "-1", "0,-1", "1024", "cuda:0", "all,1", "0;1", "1-0"]
)
def test_other_texts_are_no_gpus(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        argument_types.gpus(text)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_names_of_devices_that_can_compute_are_accepted(text: str) -> None:
    assert argument_types.device_name(text) == text


@pytest.mark.parametrize(
    "text", ["", "foo", "meta", "CPU", "gpu", "cpu:0", "cuda:", "cuda:01", "cuda:-1"]
)
def test_other_names_of_devices_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="cuda:1"):
        argument_types.device_name(text)


@pytest.mark.parametrize(
    "parse", [argument_types.path, argument_types.folder, argument_types.path_or_name]
)
def test_a_leading_tilde_is_the_home_folder(
    parse: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(parse("~/x")) == tmp_path / "x"
    assert Path(parse("./~/x")) == Path("~/x")
    with pytest.raises(ArgumentTypeError):
        parse("~no-such-user/x")
    with pytest.raises(ArgumentTypeError):
        parse("")


def test_a_charset_file_may_be_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert argument_types.charset_source("file:~/a.txt") == f"file:{tmp_path / 'a.txt'}"
    assert argument_types.charset_source("ascii94") == "ascii94"


@pytest.mark.parametrize("inside", ["", "runs"])
def test_a_dangling_link_to_a_folder_is_named(inside: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArgumentTypeError, match="nowhere, which does not exist"):
        argument_types.folder(str(link / inside))
    (tmp_path / "nowhere").mkdir()
    assert argument_types.folder(str(link / inside)) == link / inside


@pytest.mark.parametrize("parse", [argument_types.folder, argument_types.output_file])
def test_a_path_below_a_file_or_a_dangling_link_is_refused(
    parse: Callable[[str], Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentTypeError, match="file is a file; choose a folder"):
        parse(str(tmp_path / "file" / "x" / "y"))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArgumentTypeError, match="link is a symbolic link"):
        parse(str(tmp_path / "link" / "x"))
    assert parse(str(tmp_path / "new" / "x")) == tmp_path / "new" / "x"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="is a folder; give a file"):
        argument_types.output_file(str(tmp_path))


OUT_OF_RANGE = [
    ("x.yaml --jobs 100000", "--jobs", "1 to 1024"),
    ("x.yaml --jobs 0", "--jobs", "1 to 1024"),
    ("x.yaml --workers 1e3", "--workers", "1 to 1024"),
    ("x.yaml --num-workers 1000", "--num-workers", "0 to 256"),
    ("x.yaml --micro-batch 0", "--micro-batch", "1 to 65536"),
    ("x.yaml --checkpoint-minutes nan", "--checkpoint-minutes", "0 to 1440"),
    ("x.yaml --checkpoint-minutes inf", "--checkpoint-minutes", "0 to 1440"),
    ("x.yaml --checkpoint-minutes 1e9", "--checkpoint-minutes", "0 to 1440"),
    ("x.yaml --checkpoint-minutes -1", "--checkpoint-minutes", "0 to 1440"),
    ("x.yaml --seeds 99999999999999999999", "--seeds", "0 to 4294967295"),
    ("x.yaml --gpus 99999", "--gpus", "0 to 1023"),
    ("x.yaml --processes 65", "--processes", "1 to 64"),
    ("plan x.yaml --seeds 1.5", "--seeds", "0 to 4294967295"),
    ("logs x --lines 1000000000000", "--lines", "1 to 100000"),
    ("grid x --images 0", "--images", "1 to 10000"),
    ("grid x --images 1000000", "--images", "1 to 10000"),
    ("score x --max-length 1000000", "--max-length", "2 to 200"),
    ("report --jobs 65", "--jobs", "1 to 64"),
    ("data build x y --processes 100000", "--processes", "1 to 1024"),
    ("data check x --max-length 1", "--max-length", "2 to 200"),
    ("data check x --processes 0", "--processes", "1 to 1024"),
    ("data overlap x y --threshold 128", "--threshold", "0 to 127"),
    ("data suspects x --predictions y --confidence 1.1", "--confidence", "0 to 1"),
    ("data charset x --min-count 0", "--min-count", "1 to 1000000000"),
]


@pytest.mark.parametrize(("words", "option", "allowed"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_one_sentence_with_option_and_range(
    words: str, option: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, *words.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    assert option in err
    assert allowed in err


@pytest.mark.parametrize(
    "words", ["x.yaml", "plan x.yaml", "compare x.yaml", "predict a.png --model m", "bench"]
)
@pytest.mark.parametrize("device", ["foo", "meta", "cuda:x"])
def test_a_device_that_computes_nowhere_is_refused_by_every_command(
    words: str, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, *words.split(), "--device", device)
    assert (code, out) == (2, "")
    assert "--device" in err
    assert device in err


def test_every_path_of_a_command_expands_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option or argument that takes a path has a type that expands ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = run.make_parser()
    for words, name in (
        ("run ~/a.yaml", "files"),
        ("run a.yaml --results=~/r", "results"),
        ("run a.yaml --launcher slurm --cluster ~/c.yaml", "cluster"),
        ("report ~/a.yaml", "files"),
        ("report --results ~/r", "results"),
        ("report --out ~/page.html", "out"),
        ("sweep-report a.yaml --write-experiment=~/b.yaml", "write_experiment"),
        ("score ~/predictions.csv", "file"),
        ("score a --labels strict --charset file:~/c.txt", "charset"),
        ("grid r --out ~/figures", "out"),
        ("logs r --results ~/r", "results"),
        ("import ~/a.pth ~/b.safetensors", "checkpoint"),
        ("import ~/a.pth ~/b.safetensors", "out"),
        ("export ~/a.safetensors ~/b.pth", "model"),
        ("export ~/a.safetensors ~/b.pth", "out"),
        ("predict ~/a.png --model m", "images"),
        ("predict a.png --model ~/m.safetensors", "model"),
        ("bench --data ~/lmdb", "data"),
        ("data build ~/labels.tsv ~/out", "source"),
        ("data build ~/labels.tsv ~/out", "out"),
        ("data build a b --images ~/photos", "images"),
        ("data check ~/lmdb", "roots"),
        ("data overlap ~/a b", "train"),
        ("data overlap a ~/b", "test"),
        ("data overlap a b --out ~/f.tsv", "out"),
        ("data suspects ~/a --predictions b", "root"),
        ("data suspects a --predictions ~/b", "predictions"),
        ("data suspects a --predictions b --out ~/c", "out"),
        ("peer ppocrv6 ~/a --out b", "roots"),
        ("peer ppocrv6 a --out ~/b", "out"),
        ("data charset ~/a", "roots"),
        ("data charset a --out ~/c.txt", "out"),
    ):
        value = getattr(parser.parse_args(words.split()), name)
        first = value[0] if isinstance(value, list) else value
        assert str(tmp_path) in str(first), words


def test_an_unknown_option_is_one_sentence_that_names_the_command() -> None:
    with pytest.raises(UserError, match=r"--jobs.*run\.py plan --help"):
        run.make_parser().parse_args(["plan", "x.yaml", "--jobs", "3"])
