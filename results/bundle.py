"""Runs as one zip file, and the checks of such a file from someone else.

BUNDLE.zip
  manifest.json        format, experiment, scale, seeds; path -> size and SHA-256 of each file
  runs/STAGE-ID/FILE   records, logs, predictions, weights

Nothing in a bundle is executed: files are JSON, CSV and safetensors. Pickles have no place in it.
The hashes find damage. They do not prove who made the bundle.
"""

import hashlib
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.runtime.errors import UserError
from core.runtime.files import atomic_path, free_disk_bytes
from core.runtime.validation import first_problem
from results.store import Store

MANIFEST = "manifest.json"
MAX_MANIFEST = 64 << 20  # bytes
CHUNK = 1 << 20  # bytes
DATE = (1980, 1, 1, 0, 0, 0)  # of all files, so that equal runs give equal bundles
RUN_ID = "(?:pretrain|finetune|evaluate|probe)-[0-9a-f]{12}"
WEIGHTS = r"model(?:-[1-9][0-9]?)?\.safetensors"
FILE_NAMES = (
    r"(?:record|config|correct|validation|photos)\.json",
    r"metrics\.jsonl",
    r"predictions(?:-[1-9][0-9]?)?\.csv",
    r"words\.csv",
    WEIGHTS,
)
FILE_NAME = re.compile("|".join(FILE_NAMES), re.ASCII)
PATH = re.compile(rf"runs/({RUN_ID})/({'|'.join(FILE_NAMES)})", re.ASCII)
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = "it is damaged or was changed; get it again"


PlainName = Annotated[str, Field(pattern=r"^[\w.+ -]{1,200}$")]  # of a file; it is printed


class BundledFile(BaseModel):
    """What the manifest says of a file: its size in bytes, and its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(strict=True, ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The manifest of a bundle.

    experiment, scale, seeds: what the runs were planned from; for people.
    files: path in the bundle -> what it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    experiment: PlainName
    scale: PlainName
    seeds: tuple[int, ...] = ()
    files: Annotated[dict[str, BundledFile], Field(min_length=1)]

    @property
    def runs(self) -> list[str]:
        """The ids of the runs. All paths must be valid."""
        return sorted({path.split("/")[1] for path in self.files})


# Packing


def complete_runs(store: Store, ids: Iterable[str]) -> list[str]:
    """Those of some runs that are complete."""
    return [name for name in ids if store.run(name).state().name == "complete"]


def write_bundle(
    store: Store, ids: Sequence[str], path: Path, *, experiment: str, scale: str, seeds: list[int]
) -> tuple[Manifest, int]:
    """Write the files of complete runs as a bundle, atomically; its manifest and size in bytes.

    Other files of a run (checkpoints, states, locks) are left out, and so are links.
    """
    files: dict[str, BundledFile] = {}
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle,
    ):
        for run in sorted(ids):
            for file in sorted(store.run(run).folder.iterdir()):
                if FILE_NAME.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                    name = f"runs/{run}/{file.name}"
                    files[name] = _pack(bundle, name, file)
        name = re.sub(r"[^\w.+ -]", "_", experiment)[:200]
        manifest = Manifest(format=1, experiment=name, scale=scale, seeds=tuple(seeds), files=files)
        bundle.writestr(_entry(MANIFEST), manifest.model_dump_json(indent=1))
    return manifest, path.stat().st_size


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DATE)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    stored = name.endswith(".safetensors")  # weights hardly shrink
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    return entry


def _pack(bundle: zipfile.ZipFile, name: str, file: Path) -> BundledFile:
    digest = hashlib.sha256()
    size = 0
    entry = _entry(name)
    entry.file_size = file.stat().st_size  # says whether the entry needs 64-bit sizes
    with file.open("rb") as source, bundle.open(entry, "w") as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return BundledFile(size=size, sha256=digest.hexdigest())


# Unpacking


def read_bundle(store: Store, path: Path) -> tuple[Manifest, list[str]]:
    """Add the runs of a bundle to a results folder; returns its manifest, and the added runs.

    Paths, sizes and hashes of all files are checked before anything is written. Files are written
    to a temporary folder, and each run is moved from there as a whole. A run that is here with the
    same content stays; files that it lacks (weights of published runs) are added.

    Raises UserError if the bundle is not valid, or if a run is here with other content.
    """
    with _opened(path) as bundle:
        manifest = _checked_manifest(bundle, path)
        for name, file in manifest.files.items():
            _copy(bundle, path, name, file, lambda chunk: None)
        missing = [name for name in manifest.files if not _is_here(store, name, manifest)]
        _check_space(store, path, sum(manifest.files[name].size for name in missing))
        if missing:
            store.check_writable()
            _unpack(store, bundle, path, manifest, missing)
    return manifest, sorted({name.split("/")[1] for name in missing})


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file; errors of its format become UserErrors."""
    try:
        with zipfile.ZipFile(path) as bundle:
            yield bundle
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise UserError(f"{path}: no such file") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        struct.error,
        UnicodeDecodeError,
        ValueError,
    ) as error:
        raise UserError(f"{path}: not a readable bundle ({error}); {DAMAGED}") from error


def _checked_manifest(bundle: zipfile.ZipFile, path: Path) -> Manifest:
    """The manifest, if every entry of the zip file is as it says. Raises UserError."""
    entries = bundle.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        if reason := _refusal(entry):
            raise UserError(f"{path}: {entry.filename!r}: {reason}; nothing was written")
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: {repeated!r} is there twice; nothing was written")
    if MANIFEST not in names:
        raise UserError(f"{path}: no {MANIFEST}; `run.py bundle` makes bundles")
    with bundle.open(MANIFEST) as file:
        text = file.read(MAX_MANIFEST + 1)
    try:
        manifest = Manifest.model_validate_json(text[:MAX_MANIFEST])
    except ValidationError as error:
        raise UserError(f"{path}: {MANIFEST}: {first_problem(error)}; {DAMAGED}") from error
    if differing := set(manifest.files) ^ (set(names) - {MANIFEST}):
        where = "files" if min(differing) in names else MANIFEST
        raise UserError(f"{path}: {min(differing)!r} is only in its {where}; {DAMAGED}")
    for run in manifest.runs:
        if f"runs/{run}/record.json" not in manifest.files:
            raise UserError(f"{path}: run {run} has no record.json; {DAMAGED}")
    for entry in entries:
        if entry.filename != MANIFEST and entry.file_size != manifest.files[entry.filename].size:
            raise UserError(
                f"{path}: {entry.filename!r} has not the size of the {MANIFEST}; {DAMAGED}"
            )
    return manifest


def _refusal(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not part of a bundle; empty if it can be."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        return "not an ordinary file"
    if entry.filename != MANIFEST and not PATH.fullmatch(entry.orig_filename):
        return "not the path of a run's record, log, predictions or weights"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type not in COMPRESSIONS:
        return "compressed in a way that bundles are not"
    return ""


def _copy(
    bundle: zipfile.ZipFile,
    path: Path,
    name: str,
    file: BundledFile,
    write: Callable[[bytes], object],
) -> None:
    """Pass a file of the bundle to `write`. Raises UserError unless size and hash are right.

    At most one chunk more than the file's size is read, whatever the zip file says."""
    digest = hashlib.sha256()
    size = 0
    with bundle.open(name) as source:
        if re.fullmatch(WEIGHTS, name.rpartition("/")[2]):
            head = source.read(9)
            _check_weights(path, name, head, file.size)
            digest.update(head)
            size = len(head)
            write(head)
        while size <= file.size and (chunk := source.read(CHUNK)):
            digest.update(chunk)
            size += len(chunk)
            write(chunk)
    if size != file.size or digest.hexdigest() != file.sha256:
        raise UserError(f"{path}: {name!r} has not the hash of the {MANIFEST}; {DAMAGED}")


def _check_weights(path: Path, name: str, head: bytes, size: int) -> None:
    """Raise UserError unless a file starts as safetensors do: length of a JSON header, header."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:] != b"{" or length > size - 8:
        raise UserError(f"{path}: {name!r} is not a safetensors file; nothing was written")


def _is_here(store: Store, name: str, manifest: Manifest) -> bool:
    """Whether a file of a bundle is in the results folder.

    Raises UserError if it is there with other content, or if its run is there and incomplete."""
    _, run, file = name.split("/")
    folder = store.run(run).folder
    if not os.path.lexists(folder):
        return False
    if not (folder / "record.json").is_file():
        raise UserError(
            f"{folder}: this run is here and not complete; finish it, or move it aside, or choose "
            "another folder with --results"
        )
    if not os.path.lexists(folder / file):
        return False
    with (folder / file).open("rb") as existing:
        if hashlib.file_digest(existing, "sha256").hexdigest() == manifest.files[name].sha256:
            return True
    raise UserError(
        f"{folder / file}: this run is here with other content; nothing was written; "
        "choose another folder with --results"
    )


def _check_space(store: Store, path: Path, size: int) -> None:
    """Raise UserError unless the disk of the results folder has enough free space."""
    free = free_disk_bytes(store.root)
    if size > free:
        raise UserError(
            f"{path}: needs {size:,} bytes, and {store.root} has {free:,} free; free space there"
        )


def _unpack(
    store: Store, bundle: zipfile.ZipFile, path: Path, manifest: Manifest, names: Sequence[str]
) -> None:
    """Write some files of a bundle to a temporary folder, then move each run to its place."""
    with tempfile.TemporaryDirectory(prefix=".unbundle-", dir=store.root) as temporary:
        for name in names:
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                _copy(bundle, path, name, manifest.files[name], file.write)
                _sync(file)
        (store.root / "runs").mkdir(exist_ok=True)
        for folder in sorted((Path(temporary) / "runs").iterdir()):
            _move(folder, store.run(folder.name).folder)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _move(source: Path, target: Path) -> None:
    """Move a run to its place: as a whole, or the files that a run lacks which is there."""
    if not target.exists():
        source.rename(target)
        return
    for file in sorted(source.iterdir()):
        file.rename(target / file.name)
