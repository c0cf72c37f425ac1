"""Building a release: its files, equal bytes, and what is refused before anything is written."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from core.runtime.errors import UserError
from results.bundle import read_bundle
from results.release import Checkout, check_release, main, write_release
from results.store import Store

VERSION = "1.2.0"
RUN = "finetune-0123456789ab"
WITHOUT_WEIGHTS = "evaluate-0123456789ab"
PUBLISHED = "results/published/small"
WEIGHTS = f"{PUBLISHED}/runs/{RUN}/model.safetensors"
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
FILES = {
    "CHANGELOG.md": f"# Changelog\n\n## Unreleased\n\n## {VERSION} (2026-11-25)\n\n- One thing.\n",
    "CITATION.cff": f"version: {VERSION}\n",
    ".zenodo.json": json.dumps({"version": VERSION}),
    f"{PUBLISHED}/tables/t.mini.json": "[]",
    f"{PUBLISHED}/runs/{RUN}/record.json": '{"seed": 3}',
    f"{PUBLISHED}/runs/{WITHOUT_WEIGHTS}/record.json": '{"seed": 3}',
}


def commit(checkout: Checkout, message: str) -> str:
    """Commit everything; returns the commit."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    checkout.git("add", "--all")
    checkout.git(*identity, "commit", "--quiet", "-m", message)
    return checkout.git("rev-parse", "HEAD").decode().strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with a published folder. Its weights are in the first commit alone."""
    root = tmp_path / "checkout"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / WEIGHTS).write_bytes(SAFETENSORS)
    made = Checkout(root)
    made.git("init", "--quiet")
    commit(made, "With weights")
    (root / WEIGHTS).unlink()
    commit(made, "Without weights")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_release_has_the_source_the_weights_and_hashes(
    checkout: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "release"
    assert main([VERSION, str(out), "--weights", "small=HEAD~1"], checkout.root) == 0
    files = contents(out)
    assert sorted(files) == ["SHA256SUMS", f"lmim-{VERSION}.tar.xz", "small.zip"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in files)
    with tarfile.open(fileobj=io.BytesIO(files[f"lmim-{VERSION}.tar.xz"])) as archive:
        names = {member.name for member in archive if member.isfile()}
    assert names == {f"lmim-{VERSION}/{name}" for name in FILES}
    sums = files.pop("SHA256SUMS").decode().splitlines()
    assert sums == [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files)]


def test_the_bundle_adds_the_weights_to_the_published_records(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_release(checkout, VERSION, tmp_path / "release", {"small": "HEAD~1"})
    manifest, added = read_bundle(Store(checkout.root / PUBLISHED), tmp_path / "release/small.zip")
    assert (manifest.experiment, manifest.scale, manifest.seeds) == ("small", "mini", (3,))
    assert manifest.runs == added == [RUN]
    assert (checkout.root / WEIGHTS).read_bytes() == SAFETENSORS


def test_equal_commits_give_equal_bytes_from_a_folder_too(
    checkout: Checkout, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(checkout.root / PUBLISHED, results)
    (results / "runs" / RUN / "model.safetensors").write_bytes(SAFETENSORS)
    write_release(checkout, VERSION, tmp_path / "first", {"small": "HEAD~1"})
    write_release(checkout, VERSION, tmp_path / "second", {"small": str(results)})
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CITATION.cff", ".zenodo.json"])
def test_a_version_that_a_file_does_not_name_is_refused(checkout: Checkout, name: str) -> None:
    check_release(checkout, VERSION)
    path = checkout.root / name
    path.write_text(path.read_text().replace(VERSION, "1.1.0"))
    commit(checkout, "Another version")
    with pytest.raises(UserError, match=name):
        check_release(checkout, VERSION)


def test_entries_that_wait_for_a_version_are_refused(checkout: Checkout) -> None:
    path = checkout.root / "CHANGELOG.md"
    path.write_text(path.read_text().replace("## Unreleased\n", "## Unreleased\n\n- New.\n"))
    commit(checkout, "Wait")
    with pytest.raises(UserError, match="Unreleased"):
        check_release(checkout, VERSION)


@pytest.mark.parametrize("name", ["CHANGELOG.md", "a new file"])
def test_a_changed_checkout_is_refused(checkout: Checkout, name: str) -> None:
    (checkout.root / name).write_text("changed")
    with pytest.raises(UserError, match=name):
        check_release(checkout, VERSION)


def test_weights_in_the_repository_are_refused(checkout: Checkout) -> None:
    (checkout.root / WEIGHTS).write_bytes(SAFETENSORS)
    commit(checkout, "Weights")
    with pytest.raises(UserError, match=WEIGHTS):
        check_release(checkout, VERSION)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ("small=HEAD", "HEAD: no weights"),
        ("other=HEAD~1", "other: no such folder"),
        ("small=no-such-commit", "no-such-commit"),
    ],
)
def test_absent_weights_leave_no_files(
    checkout: Checkout,
    tmp_path: Path,
    weights: str,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.iterdir())
    options = [VERSION, str(tmp_path / "release"), "--weights", weights]
    assert main(options, checkout.root) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert problem in error
    assert sorted(tmp_path.iterdir()) == before


def test_weights_without_a_record_are_refused(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.root / PUBLISHED / "runs" / RUN)
    commit(checkout, "Without the record")
    with pytest.raises(UserError, match=RUN):
        write_release(checkout, VERSION, tmp_path / "release", {"small": "HEAD~2"})


def test_an_existing_folder_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    with pytest.raises(UserError, match="exists"):
        write_release(checkout, VERSION, tmp_path / "release", {})


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git status"):
        check_release(Checkout(tmp_path), VERSION)
