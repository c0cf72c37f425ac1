"""Bundles: a round trip of runs, and what is refused before anything is written."""

import hashlib
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import call

from core.runtime.errors import UserError
from results.bundle import MANIFEST, read_bundle, write_bundle
from results.store import Store

RUN = "finetune-0123456789ab"
RECORD = f"runs/{RUN}/record.json"
WEIGHTS = f"runs/{RUN}/model.safetensors"
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def file_of(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_zip(
    path: Path,
    contents: dict[str, bytes],
    mode: int = stat.S_IFREG,
    listed: dict[str, object] | None = None,
) -> Path:
    """A zip file with a manifest that fits; `mode` is that of all files but the manifest.

    listed: keys of the manifest in place of those that fit."""
    files = {name: file_of(content) for name, content in contents.items()}
    manifest = {"format": 1, "experiment": "e", "scale": "smoke", "files": files} | (listed or {})
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (mode | 0o644) << 16
            bundle.writestr(entry, content)
        bundle.writestr(MANIFEST, json.dumps(manifest))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A results folder with a complete run, and files that are not bundled."""
    folder = tmp_path / "results" / "runs" / RUN
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    (folder / "predictions.csv").write_text("subset,index\n")
    (folder / "model.safetensors").write_bytes(SAFETENSORS)
    for name in ("checkpoint.safetensors", "model.pth", "traceback.txt", "state.json"):
        (folder / name).write_bytes(b"not bundled")
    (folder / "config.json").symlink_to("/etc/hostname")
    return Store(tmp_path / "results")


@pytest.fixture
def bundle(store: Store, tmp_path: Path) -> Path:
    path = tmp_path / "runs.zip"
    write_bundle(store, [RUN], path, experiment="e", scale="smoke", seeds=[0])
    return path


def contents(store: Store) -> dict[str, bytes]:
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in store.root.rglob("*")
        if path.is_file()
    }


def test_a_round_trip_keeps_every_bit_and_leaves_out_checkpoints_and_links(
    bundle: Path, store: Store, tmp_path: Path
) -> None:
    other = Store(tmp_path / "other")
    manifest, added = read_bundle(other, bundle)
    assert added == manifest.runs == [RUN]
    names = ("metrics.jsonl", "model.safetensors", "predictions.csv", "record.json")
    source = contents(store)
    assert contents(other) == {f"runs/{RUN}/{n}": source[f"runs/{RUN}/{n}"] for n in names}
    assert other.run(RUN).state().name == "complete"
    assert [path.name for path in other.root.iterdir()] == ["runs"]


def test_equal_runs_give_equal_bundles(bundle: Path, store: Store, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    write_bundle(store, [RUN], again, experiment="e", scale="smoke", seeds=[0])
    assert again.read_bytes() == bundle.read_bytes()


def test_a_run_that_is_here_gets_only_what_it_lacks(bundle: Path, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    read_bundle(other, bundle)
    assert read_bundle(other, bundle)[1] == []
    whole = contents(other)
    (other.root / WEIGHTS).unlink()
    assert read_bundle(other, bundle)[1] == [RUN]
    assert contents(other) == whole


def test_a_run_with_other_content_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    read_bundle(other, bundle)
    (other.root / RECORD).write_text('{"other": 1}')
    before = contents(other)
    with pytest.raises(UserError, match="other content"):
        read_bundle(other, bundle)
    assert contents(other) == before


def test_a_run_that_is_not_complete_here_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.run(RUN).folder.mkdir(parents=True)
    with pytest.raises(UserError, match="not complete"):
        read_bundle(other, bundle)
    assert contents(other) == {}


def test_any_damaged_byte_of_the_weights_is_found(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    start = bytes(content).index(SAFETENSORS)
    content[start + len(SAFETENSORS) - 1] ^= 1
    bundle.write_bytes(content)
    refused(bundle, tmp_path, "damaged")


def refused(bundle: Path, tmp_path: Path, reason: str) -> None:
    """Assert that a bundle is refused and that nothing is written."""
    root = tmp_path / "target"
    with pytest.raises(UserError, match=reason):
        read_bundle(Store(root), bundle)
    assert not root.exists()


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../record.json",
        f"runs/{RUN}/../../../record.json",
        f"runs/../{RUN}/record.json",
        "runs/finetune-1/record.json",
        f"runs\\{RUN}\\record.json",
        f"runs/{RUN}/",
        f"runs/{RUN}/model.pth",
        f"runs/{RUN}/checkpoint.safetensors",
        f"runs/{RUN}/record.json\n",
        f"runs/{RUN}/.lock",
        "run.py",
    ],
)
def test_a_foreign_path_is_refused(name: str, tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "a.zip", {RECORD: b"{}", name: b"{}"})
    refused(bundle, tmp_path, "nothing was written")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR])
def test_what_is_no_ordinary_file_is_refused(mode: int, tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "a.zip", {RECORD: b"{}"}, mode)
    refused(bundle, tmp_path, "nothing was written")


FITS = {RECORD: file_of(b"{}")}
MANIFESTS: list[tuple[str, dict[str, object]]] = [
    ("another hash", {"files": {RECORD: file_of(b"[]")}}),
    ("a smaller size", {"files": {RECORD: FITS[RECORD] | {"size": 1}}}),
    ("a larger size", {"files": {RECORD: FITS[RECORD] | {"size": 1 << 60}}}),
    ("a negative size", {"files": {RECORD: FITS[RECORD] | {"size": -1}}}),
    ("a file that is absent", {"files": FITS | {WEIGHTS: file_of(b"")}}),
    ("no files", {"files": {}}),
    ("another format", {"format": 2}),
    ("escape codes", {"experiment": "\x1b[2J"}),
]


@pytest.mark.parametrize(
    "listed", [listed for _, listed in MANIFESTS], ids=[name for name, _ in MANIFESTS]
)
def test_a_manifest_that_does_not_fit_is_refused(listed: dict[str, object], tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {RECORD: b"{}"}, listed=listed), tmp_path, "damaged")


def test_a_pickle_in_place_of_weights_is_refused(tmp_path: Path) -> None:
    pickle = b"\x80\x04\x95" + bytes(30)
    bundle = write_zip(tmp_path / "a.zip", {RECORD: b"{}", WEIGHTS: pickle})
    refused(bundle, tmp_path, "not a safetensors file")


def test_a_run_without_a_record_is_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {WEIGHTS: SAFETENSORS}), tmp_path, "record.json")


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x05\x06" + bytes(18)])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", tmp_path, "bundle")


def test_an_interruption_leaves_nothing_and_a_second_try_adds_the_run(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(tmp_path / "other")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("results.bundle._sync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read_bundle(other, bundle)
    assert contents(other) == {}
    assert read_bundle(other, bundle)[1] == [RUN]


@pytest.mark.slow
def test_whole_runs_are_complete_after_unbundling_and_give_the_same_table(
    experiment: Path,
    finished: tuple[Path, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = finished[0]
    out = tmp_path / "runs.zip"
    other = tmp_path / "other"
    options = ("--scale", "smoke")
    packed, _, _ = call(capsys, "bundle", experiment, out, *options, "--results", results)
    unpacked, _, _ = call(capsys, "unbundle", out, "--results", other)
    assert (packed, unpacked) == (0, 0)
    table = table_of(capsys, "compare", experiment, *options, "--results")
    assert table(results) == table(other)
    _, text, _ = call(capsys, "status", experiment, *options, "--results", other, "--json")
    assert {run["state"] for run in json.loads(text)["runs"]} == {"complete"}
    weights = sorted(path.relative_to(results) for path in results.glob("runs/*/model.safetensors"))
    assert weights
    for path in weights:
        assert (other / path).read_bytes() == (results / path).read_bytes()


def table_of(
    capsys: pytest.CaptureFixture[str], *words: object
) -> Callable[[Path], tuple[int, str]]:
    """Results folder -> exit code and output of a command, with the folder's name left out."""

    def run(results: Path) -> tuple[int, str]:
        code, text, _ = call(capsys, *words, results)
        return code, text.replace(str(results), "RESULTS")

    return run
