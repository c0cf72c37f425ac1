"""Builds the files of a release in a new folder; it uploads nothing.

    python -m results.release 0.3.0 OUT --weights former_mini=b76c8df

OUT/lmim-VERSION.tar.xz  the source of HEAD, without weights; equal bytes for equal commits
OUT/NAME.zip             a bundle (`results.bundle`) of the runs of results/published/NAME that have
                         weights: these, and the records of HEAD
OUT/SHA256SUMS           hashes of these files, for `sha256sum --check`

Weights are taken from a results folder, or from a commit that still held them.
"""

import argparse
import hashlib
import json
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from results.bundle import WEIGHTS, read_bundle, write_bundle
from results.provenance import REPOSITORY
from results.store import Store

PUBLISHED = "results/published"
SUMS = "SHA256SUMS"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
UNRELEASED = re.compile(r"^## Unreleased$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"[a-z0-9_]+")
XZ_PRESET = 6  # finds repetitions in 8 MB


@dataclass(frozen=True)
class Checkout:
    """A git checkout of the suite."""

    root: Path

    def git(self, *arguments: str) -> bytes:
        """The output of a git command. Raises UserError with git's message if it fails."""
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode(errors="replace").strip()
            raise UserError(f"git {arguments[0]}: {message or 'failed'}")
        return done.stdout

    def files(self, commit: str, folder: str = ".") -> list[str]:
        """The paths of all files of a commit below a folder. Raises UserError."""
        names = self.git("ls-tree", "-r", "-z", "--name-only", commit, "--", folder)
        return [name for name in names.decode().split("\0") if name]


# Checks


def check_release(checkout: Checkout, version: str) -> None:
    """Raise UserError unless HEAD can be released under this version."""
    if changed := checkout.git("status", "--porcelain").decode().strip():
        first = changed.splitlines()[0].split(maxsplit=1)[-1]
        raise UserError(f"{first}: not committed; commit or remove all changes before a release")
    for place, versions in stated_versions(checkout.root).items():
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise UserError(f"{place}: no version {version} (it has {known}); write it there first")
    waiting = UNRELEASED.search((checkout.root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if waiting and waiting[1].strip():
        raise UserError(
            f"CHANGELOG.md: Unreleased has entries; move them below the heading of {version}"
        )
    weights = [name for name in checkout.files("HEAD") if name.endswith(WEIGHT_SUFFIXES)]
    if weights:
        raise UserError(f"{weights[0]}: weights do not belong in the repository; remove them")


def stated_versions(root: Path) -> dict[str, list[str]]:
    """File -> the versions that it names; each of these files must name a release."""
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    zenodo = json.loads((root / ".zenodo.json").read_text(encoding="utf-8"))
    return {
        "CHANGELOG.md": re.findall(r"^## (\d[\w.]*) \(", changelog, re.MULTILINE),
        "CITATION.cff": [str(read_yaml(root / "CITATION.cff")["version"])],
        ".zenodo.json": [str(zenodo["version"])],
    }


# Files


def write_release(checkout: Checkout, version: str, out: Path, weights: dict[str, str]) -> None:
    """Write all files of a release into the new folder `out`; on an error there is none.

    weights: name of a published folder -> a results folder or a commit with its weights.

    Raises UserError if the checkout is not ready, `out` exists, or weights are absent."""
    if out.exists():
        raise UserError(f"{out}: exists; name a new folder")
    check_release(checkout, version)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=out.parent) as temporary:
        folder = Path(temporary) / "files"
        folder.mkdir()
        write_source(checkout, version, folder / f"lmim-{version}.tar.xz")
        for name, source in weights.items():
            write_weights(checkout, name, source, folder / f"{name}.zip")
        write_sums(folder)
        folder.rename(out)


def write_source(checkout: Checkout, version: str, path: Path) -> None:
    """Write the files of HEAD as tar.xz, which keeps files that many runs share once."""
    tar = checkout.git("archive", "--format=tar", f"--prefix=lmim-{version}/", "HEAD")
    path.write_bytes(lzma.compress(tar, preset=XZ_PRESET))


def write_weights(checkout: Checkout, name: str, source: str, path: Path) -> None:
    """Write the bundle of a published folder, and check it as `unbundle` does.

    Raises UserError if the source has no weights of its runs."""
    published = checkout.root / PUBLISHED / name
    if not NAME.fullmatch(name) or not published.is_dir():
        raise UserError(f"--weights {name}: no such folder below {PUBLISHED}")
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=path.parent.parent) as temporary:
        store = Store(Path(temporary) / "runs_with_weights")
        seeds: set[int] = set()
        for run, file, content in _weights(checkout, name, source):
            folder = store.run(run).folder
            if not folder.exists():
                if not (published / "runs" / run / "record.json").is_file():
                    raise UserError(f"{source}: {run} has weights and no record in {published}")
                shutil.copytree(
                    published / "runs" / run, folder, ignore=shutil.ignore_patterns("*.safetensors")
                )
                seeds.add(store.run(run).record()["seed"])
            (folder / file).write_bytes(content)
        if not seeds:
            raise UserError(f"{source}: no weights of runs of {name}")
        runs = [folder.name for folder in (store.root / "runs").iterdir()]
        scale = _scale(published)
        write_bundle(store, runs, path, experiment=name, scale=scale, seeds=sorted(seeds))
        read_bundle(Store(Path(temporary) / "check"), path)


def _weights(checkout: Checkout, name: str, source: str) -> Iterator[tuple[str, str, bytes]]:
    """Run, file name and content of all weights of a results folder or a commit."""
    if Path(source).is_dir():
        for path in sorted((Path(source) / "runs").glob("*/*")):
            if re.fullmatch(WEIGHTS, path.name):
                yield path.parent.name, path.name, path.read_bytes()
        return
    for file in checkout.files(source, f"{PUBLISHED}/{name}/runs"):
        *_, run, file_name = file.split("/")
        if re.fullmatch(WEIGHTS, file_name):
            yield run, file_name, checkout.git("show", f"{source}:{file}")


def _scale(published: Path) -> str:
    """The scale of a published folder's tables; "several" if they have more than one."""
    scales = {path.name.split(".")[1] for path in published.glob("tables/*.json")}
    return scales.pop() if len(scales) == 1 else "several"


def write_sums(folder: Path) -> None:
    """Write the hashes of all files of a folder, as `sha256sum` does."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


# The command


def _named_source(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not (name and separator and source):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER or NAME=COMMIT")
    return name, source


def main(arguments: Sequence[str], root: Path = REPOSITORY) -> int:
    """Build a release and print the sizes of its files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m results.release")
    parser.add_argument("version", metavar="VERSION", help="as CITATION.cff has it")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        type=_named_source,
        metavar="NAME=SOURCE",
        help="folder of results/published = results folder, or commit, that has its weights",
    )
    options = parser.parse_args(arguments)
    try:
        write_release(Checkout(root), options.version, options.out, dict(options.weights))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in sorted(options.out.iterdir()):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
