"""`run.py data check`: problems, notes, known sizes, names of data sets."""

import json
import sys
from pathlib import Path

import lmdb
import pytest
from commands import run_command
from conftest import call, jpeg, write_lmdb

from core.data.lmdb_folder import find_roots
from experiments.planning import registry


def damaged_copy(tmp_path: Path) -> str:
    """Twelve images: two broken, an image and a label missing, a count that is one too small."""
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number), f"w{number}") for number in range(12)
    ]
    samples[2] = (b"broken", "b")
    samples[4] = (None, "gone")
    samples[5] = (jpeg(5), None)
    samples[7] = (jpeg(7)[:200], "c")
    samples[8] = (jpeg(1), "same")
    return write_lmdb(tmp_path / "damaged", samples, count=11)


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_an_unreadable_root_does_not_hide_the_others(
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
    assert len(result["missing"]) == 3
    missing = " ".join(result["missing"])
    assert "cut short" in missing
    assert "nowhere: no such folder" in missing
    assert "https://rrc.cvc.uab.es/?ch=2" in missing, "where ic13 is published"


def test_a_closed_pipe_ends_a_command_without_traceback(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(number), "w" * number) for number in range(1, 20)])
    command = f"{sys.executable} run.py data check {root} --json | head -c 10"
    output = run_command(["sh", "-c", command])
    assert len(output.stdout) == 10
    assert "Traceback" not in output.stderr


def test_folders_have_the_name_of_the_data_set_in_their_name() -> None:
    names = {
        "SVT": "svt",
        "iiit5k_test": "iiit5k",
        "IIIT5k_3000": "iiit5k",
        "svt_train": "svt_train",
        "train": None,
        "ic15_1811": "ic15",
    }
    assert {name: registry.data_set_name(f"/data/{name}") for name in names} == names


def test_check_counts_the_effect_of_policies_and_protocols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["ok", "x" * 24, "x" * 25, "café", "a b", "!!", None]
    root = write_lmdb(
        tmp_path / "words", [(jpeg(number), label) for number, label in enumerate(labels)]
    )
    _, out, _ = call(capsys, "data", "check", root, "--json")
    counts = json.loads(out)["roots"][0]["labels"]
    assert (counts["over_long"], counts["unknown_characters"], counts["unlabeled"]) == (1, 2, 1)
    assert (counts["wrong_under_strict"], counts["replaced_under_released"]) == (2, 2)
    assert counts["characters_outside"] == {"é": 1, " ": 1}
    assert counts["protocols"]["waics"] == {"empty": 1, "altered": 3}
    assert counts["lengths"] == {"2": 2, "3": 1, "4": 1, "24": 1, "25": 1}


def test_check_compares_with_known_sizes_by_name_and_by_folder(
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
    assert registry.locate("ic15") == root
    user.write_text("ic99: /x\n")
    code, _, err = call(capsys, "data", "check", "ic15")
    assert code == 2
    assert "ic99" in err


@pytest.mark.slow
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


def test_nested_roots_are_checked_separately(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("u/a", "u/b"):
        write_lmdb(tmp_path / name, [(jpeg(1), None)])
    assert len(find_roots(str(tmp_path / "u"))) == 2
    reports = json.loads(call(capsys, "data", "check", tmp_path / "u", "--json")[1])["roots"]
    assert [report["labeled"] for report in reports] == [False, False]
    assert all("no labels: for pre-training only" in report["notes"] for report in reports)
