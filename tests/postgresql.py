"""A PostgreSQL server for tests, from Debian's package."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Start a server and yield its URL. Skips the test unless LMIM_POSTGRESQL is set (as root)."""
    if not os.environ.get("LMIM_POSTGRESQL") or os.getuid() != 0:
        pytest.skip("LMIM_POSTGRESQL is not set: as root on Debian, it allows to start PostgreSQL")
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="lmim-pg.", dir="/tmp"))
    shutil.chown(folder, "postgres")
    _run_as_postgres(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres")
    control = (programs / "pg_ctl", "-D", folder / "data")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    _run_as_postgres(*control, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        _run_as_postgres(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The folder of the newest server's programs; installs the package if there is none."""
    pattern = "*/bin"
    root = Path("/usr/lib/postgresql")
    message = ""
    if not list(root.glob(pattern)):
        command = ["apt-get", "install", "-y", "-qq", "postgresql"]
        message = subprocess.run(command, capture_output=True, text=True).stderr.strip()
    folders = sorted(root.glob(pattern))
    if not folders:
        pytest.skip(f"PostgreSQL cannot be installed here: {message.splitlines()[-1:]}")
    return folders[-1]


def _run_as_postgres(*words: object) -> None:
    command = " ".join(f"'{word}'" for word in words)
    subprocess.run(
        ["su", "postgres", "-s", "/bin/sh", "-c", command],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
