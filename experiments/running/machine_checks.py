"""Checks of `run.py doctor` that need no PyTorch. Each imports what it needs itself, because any
package may be absent."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.runtime.files import free_disk_bytes, nearest_existing
from experiments.running.findings import Check, Finding
from experiments.running.torch_checks import INSTALL
from results.provenance import REPOSITORY, commit

TESTED_PYTHON = (3, 11)
MIN_FREE_DISK = 5e9  # bytes; decoded images and stored targets take up to 2 GB each
MIN_MEMORY = 2e9  # bytes; a run of scale mini needs 0.5 GB, beside the system and PyTorch
SLURM_SECONDS = 3  # of one command
CPUINFO = Path("/proc/cpuinfo")
# The instructions that decide the speed of matrix products, the widest first
INSTRUCTIONS = ("amx_tile", "avx512f", "avx2", "asimd", "neon", "sse4_2")
# Without one of these no run starts; other requirements are those of single commands.
NEEDED_PACKAGES = {
    *("torch", "torchvision", "timm", "safetensors", "lmdb", "pillow", "numpy", "pydantic"),
    *("ruamel.yaml", "rich", "rapidfuzz", "psutil"),
}
INSTALL_PEER = "install with `pip install --no-deps -r requirements-peer.txt`"
OPTIONAL_PACKAGES = {  # package -> what needs it, and how to install it
    "pyarrow": (
        "Only `data build` reads Parquet files with it",
        "install with `pip install -r requirements-parquet.txt`",
    ),
    "onnxruntime": ("Only `peer` computes with it", INSTALL_PEER),
    "rapidocr": ("Only `peer` reads its model", INSTALL_PEER),
}
CHINESE_SAMPLE = "的一是不了人我在有他这中大来上国"  # the most frequent characters


def machine_checks(results: Path) -> dict[str, Check]:
    """Subject -> check.

    results: the results folder.
    """
    return {
        "Python": check_python,
        "packages": check_packages,
        "optional": check_optional_packages,
        "processor": check_processor,
        "memory": check_memory,
        "disk": partial(check_disk, results),
        "Latin fonts": check_latin_fonts,
        "Chinese fonts": check_chinese_fonts,
        "data": check_data,
        "SLURM": check_slurm,
        "code": check_code,
    }


# Python and packages


def check_python(found: tuple[int, int] | None = None) -> Iterator[Finding]:
    """The version of Python. found: major and minor, of this process by default."""
    found = found or (sys.version_info.major, sys.version_info.minor)
    tested = ".".join(map(str, TESTED_PYTHON))
    text = f"{platform.python_version()} ({sys.executable})"
    if found < TESTED_PYTHON:
        meaning = f"The suite needs Python {tested}; make a virtual environment with it."
        yield Finding("Python", "problem", text, meaning, needed=True)
    elif found > TESTED_PYTHON:
        meaning = f"The suite is tested with Python {tested}, and its locks are for {tested}."
        yield Finding("Python", "problem", text, meaning)
    else:
        yield Finding("Python", "ok", text, "The suite is tested with this version.")


def required_versions(requirements: Path) -> dict[str, str]:
    """Package -> version of each `name==version` in a requirements file."""
    pins = re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", requirements.read_text(), re.MULTILINE)
    return dict(pins)


def installed_version(package: str) -> str:
    """The version of an installed package without its build (`+cpu`); empty if it is absent."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""


def check_packages(requirements: Path = REPOSITORY / "requirements.txt") -> Iterator[Finding]:
    """The packages of requirements.txt and their versions."""
    wanted = required_versions(requirements)
    installed = {name: installed_version(name) for name in wanted}
    absent = [name for name in wanted if not installed[name]]
    others = [
        f"{name} {installed[name]}, not {pinned}"
        for name, pinned in wanted.items()
        if installed[name] and installed[name] != pinned
    ]
    if absent:
        needed = not NEEDED_PACKAGES.isdisjoint(absent)
        meaning = f"{'No run starts' if needed else 'Some commands fail'} without them; {INSTALL}."
        yield Finding("packages", "missing", f"without {_some(absent)}", meaning, needed)
    if others:
        meaning = f"Results may differ in the last digits; {INSTALL}."
        yield Finding("packages", "problem", f"other versions: {_some(others)}", meaning)
    if not absent and not others:
        meaning = "These are the versions that the suite is tested with."
        yield Finding("packages", "ok", f"all {len(wanted)} of requirements.txt", meaning)


def check_optional_packages() -> Iterator[Finding]:
    """Packages that one command needs."""
    for name, (use, install) in OPTIONAL_PACKAGES.items():
        found = installed_version(name)
        if found:
            yield Finding("optional", "ok", f"{name} {found}", f"{use}.")
        else:
            yield Finding("optional", "missing", name, f"{use}; {install}.")


# Machine


def check_processor(cpuinfo: Path = CPUINFO) -> Iterator[Finding]:
    """Model and vector instructions."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)).split())
    known = [name for name in INSTRUCTIONS if name in flags]
    model = names[0] if names else platform.processor() or platform.machine()
    found = f"{model} ({platform.machine()}), {', '.join(known) or 'instructions unknown'}"
    if known and known[0] == "sse4_2":
        meaning = "Without AVX2, matrix products are several times slower."
        yield Finding("processor", "problem", found, meaning)
    else:
        meaning = "The last digits of losses differ between kinds of processors."
        yield Finding("processor", "ok", found, meaning)


def check_memory() -> Iterator[Finding]:
    """Memory of this machine, or of its container or job."""
    from experiments.running.capacity import bytes_text, device_memory_bytes

    memory = device_memory_bytes("cpu")
    if memory is None:
        raise OSError("the system does not say how much it has")
    if memory < MIN_MEMORY:
        meaning = "A run of scale mini needs about 0.5 GB; use --jobs 1."
        yield Finding("memory", "problem", bytes_text(memory), meaning)
    else:
        meaning = "`run.py plan` says what each run needs, and refuses those that do not fit."
        yield Finding("memory", "ok", bytes_text(memory), meaning)


def check_disk(results: Path) -> Iterator[Finding]:
    """Free space of the results folder, and whether it can be written."""
    existing = nearest_existing(results)
    free = free_disk_bytes(results)
    found = f"{free / 1e9:.0f} GB free for {results}"
    if not os.access(existing, os.W_OK):
        meaning = "No results can be written there; choose a folder with --results."
        yield Finding("disk", "problem", f"{existing} is read-only", meaning, needed=True)
    elif free < MIN_FREE_DISK:
        meaning = "Caches alone take up to 4 GB; choose another disk with --results."
        yield Finding("disk", "problem", found, meaning)
    else:
        meaning = "`run.py plan` says what an experiment writes."
        yield Finding("disk", "ok", found, meaning)


# Fonts and data


def check_latin_fonts() -> Iterator[Finding]:
    """The fonts of rendered English words, which are packages."""
    from core.runtime.errors import UserError
    from core.synthetic.fonts import TABLES, faces, font

    wanted = sorted({face for kind in TABLES for face in faces(kind)})
    problems = []
    for package, name in wanted:
        try:
            font(package, name, 24)
        except UserError as error:
            problems.append(str(error))
    if problems:
        found = f"{len(wanted) - len(problems)} of {len(wanted)}; {problems[0]}"
        meaning = "Scales without real images render words with them and do not run."
        yield Finding("Latin fonts", "missing", found, meaning, needed=True)
    else:
        meaning = "English words can be rendered, for all scales without real images."
        yield Finding("Latin fonts", "ok", f"all {len(wanted)}", meaning)


def check_chinese_fonts() -> Iterator[Finding]:
    """The fonts of rendered Chinese words, which are the system's."""
    from core.runtime.errors import UserError
    from core.synthetic.cjk_fonts import cjk_faces

    try:
        paths = cjk_faces(CHINESE_SAMPLE)
    except UserError as error:
        meaning = "Only experiments/chinese_benchmark.yaml on rendered words needs one."
        yield Finding("Chinese fonts", "missing", f"none: {error}", meaning)
        return
    meaning = "Chinese words are rendered with it; another font is another data set."
    found = _some([path.name for path in paths])
    yield Finding("Chinese fonts", "ok", found, meaning)


def check_data() -> Iterator[Finding]:
    """The folders of real images that experiments/settings/data.yaml names."""
    from experiments.planning.registry import locate, registry, unset_variable

    own = [name for name, data_set in registry().items() if data_set.built_from is None]
    folders = {name: locate(name) for name in own}
    present = [
        name
        for name, folder in folders.items()
        if not unset_variable(folder) and Path(folder).is_dir()
    ]
    root = os.environ.get("LMIM_DATA", "")
    variable = "LMIM_DATA is not set"
    if root:
        variable = f"LMIM_DATA is {root}" if Path(root).is_dir() else f"LMIM_DATA: no folder {root}"
    found = f"{len(present)} of {len(folders)} named data sets; {variable}"
    if root and not Path(root).is_dir():
        yield Finding("data", "problem", found, "Set LMIM_DATA to a folder that exists.")
    elif present:
        meaning = f"Real images are here of {_some(present)}."
        yield Finding("data", "ok", found, meaning)
    else:
        meaning = "Scales paper and real need real images; others render words."
        yield Finding("data", "missing", found, meaning)


# Cluster and code


def check_slurm() -> Iterator[Finding]:
    """SLURM's commands, its partitions, and submitit."""
    absent = [name for name in ("sbatch", "sinfo", "squeue", "sacct") if not shutil.which(name)]
    if "sbatch" in absent:
        meaning = "Runs use this machine; --launcher slurm works on a cluster's login node."
        yield Finding("SLURM", "missing", "no sbatch", meaning)
        return
    if absent:
        meaning = "The states of jobs cannot be asked for; install SLURM's client commands."
        yield Finding("SLURM", "problem", f"without {_some(absent)}", meaning)
        return
    if not installed_version("submitit"):
        yield Finding("SLURM", "problem", "without submitit", f"No job can be sent; {INSTALL}.")
        return
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"],
            capture_output=True,
            text=True,
            timeout=SLURM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        meaning = "Its controller may be down; ask the cluster's administrators."
        yield Finding("SLURM", "problem", f"sinfo gave no answer in {SLURM_SECONDS} s", meaning)
        return
    partitions = sorted(set(done.stdout.split()))
    if done.returncode or not partitions:
        reason = (done.stderr.strip().splitlines() or ["it names no partition"])[0]
        meaning = "No job can be sent; ask the cluster's administrators."
        yield Finding("SLURM", "problem", f"sinfo: {reason}", meaning)
    else:
        meaning = (
            "--launcher slurm works; experiments/settings/cluster.yaml says what jobs ask for."
        )
        yield Finding("SLURM", "ok", f"partitions {_some(partitions)}", meaning)


def check_code() -> Iterator[Finding]:
    """The git commit that records of runs will name."""
    state = commit()
    if not state["commit"]:
        meaning = "Records of runs will name no commit; clone the repository with git."
        yield Finding("code", "missing", "no git checkout, or git is absent", meaning)
    elif state["clean"]:
        meaning = "Records of runs will name this commit."
        yield Finding("code", "ok", f"commit {str(state['commit'])[:12]}, unmodified", meaning)
    else:
        meaning = "Records of runs will say that the code is not that of the commit."
        found = f"commit {str(state['commit'])[:12]}, with changes"
        yield Finding("code", "problem", found, meaning)


def _some(names: list[str], count: int = 3) -> str:
    """The first names, and how many others there are."""
    others = len(names) - count
    return ", ".join(names[:count]) + (f" and {others} more" if others > 0 else "")
