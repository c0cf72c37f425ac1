"""Locks hold what the requirements say, with hashes; both container recipes install from a lock."""

import re
from pathlib import Path

import pytest
from commands import REPOSITORY

from core.synthetic import fonts

ENVIRONMENT = REPOSITORY / "environment"
BUILDS = ("cpu", "cuda")
RECIPES = ("Dockerfile", "lmim.def")
CHINESE_FONT = "fonts-wqy-microhei"
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s\\;]+)", re.MULTILINE)
CUDA_PACKAGES = re.compile(r"nvidia-|cuda-|triton$")


def lock(build: str) -> str:
    return (ENVIRONMENT / f"lock-{build}.txt").read_text()


def pins(text: str) -> dict[str, str]:
    """Package, as PyPI spells it -> version."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def required() -> dict[str, str]:
    """The requirements of the suite and its tests, and of the files that these name."""
    names = ["requirements-dev.txt"]
    found: dict[str, str] = {}
    for name in names:
        text = (REPOSITORY / name).read_text()
        names += re.findall(r"^-r (\S+)", text, re.MULTILINE)
        found |= pins(text)
    return found


def python_of(recipe: str) -> str:
    """The version of Python of a recipe's base image."""
    match = re.search(r"python:(\d+\.\d+\.\d+)-slim-bookworm", recipe)
    assert match
    return match[1]


@pytest.mark.parametrize("build", BUILDS)
def test_a_lock_has_each_requirement_in_its_version(build: str) -> None:
    locked = pins(lock(build))
    different = {
        name: (version, locked.get(name))
        for name, version in required().items()
        if locked.get(name, "").partition("+")[0] != version
    }
    assert not different, f"run: bash environment/lock.sh {build}"


@pytest.mark.parametrize("build", BUILDS)
def test_every_package_of_a_lock_has_a_hash(build: str) -> None:
    entries = re.split(r"(?m)^(?=[\w.-]+(?:\[[\w,-]+\])?==)", lock(build))[1:]
    assert len(entries) == len(pins(lock(build)))
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_locks_differ_only_in_the_build_of_pytorch() -> None:
    cpu, cuda = (pins(lock(build)) for build in BUILDS)
    different = {name for name in cpu | cuda if cpu.get(name) != cuda.get(name)} - {"torch"}
    assert [name for name in sorted(different) if not CUDA_PACKAGES.match(name)] == []
    assert cpu["torch"] == f"{cuda['torch']}+cpu"


def test_pip_finds_the_cpu_build_of_pytorch() -> None:
    """PyPI does not have it; the lock names the file."""
    (place,) = re.findall(r"^--find-links (\S+)$", lock("cpu"), re.MULTILINE)
    version = pins(lock("cpu"))["torch"].replace("+", "%2B")
    assert Path(place).name == f"torch-{version}-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert pins((ENVIRONMENT / "cpu.in").read_text())["torch"] == pins(lock("cpu"))["torch"]


def test_locks_and_recipes_are_for_the_python_of_the_tests() -> None:
    versions = {python_of((ENVIRONMENT / name).read_text()) for name in RECIPES}
    assert len(versions) == 1
    (version,) = versions
    minor = version.rpartition(".")[0]
    assert f"--python-version {minor} " in (ENVIRONMENT / "lock.sh").read_text()
    assert f'python_version = "{minor}"' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_installs_a_lock_with_hashes(name: str) -> None:
    recipe = (ENVIRONMENT / name).read_text()
    assert "--require-hashes" in recipe
    (used,) = set(re.findall(r"environment/lock-(\$\{BUILD\}|\{\{ BUILD \}\})\.txt", recipe))
    assert "BUILD" in used
    (default,) = re.findall(r"^\s*(?:ARG )?BUILD=(\w+)$", recipe, re.MULTILINE)
    assert default in BUILDS


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_fonts(name: str) -> None:
    """The Chinese one from Debian; the Latin ones are packages of the lock."""
    assert CHINESE_FONT in (ENVIRONMENT / name).read_text()
    latin = set(fonts.packages(*fonts.TABLES))
    assert latin <= pins(lock("cpu")).keys() & pins(lock("cuda")).keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_shows_the_help_by_default(name: str) -> None:
    recipe = (ENVIRONMENT / name).read_text()
    assert 'CMD ["--help"]' in recipe or "set -- --help" in recipe


def test_the_docker_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", (ENVIRONMENT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


def test_what_git_ignores_is_not_copied_into_the_image() -> None:
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    left_out = (ENVIRONMENT / "Dockerfile.dockerignore").read_text().split()
    expected = {name.strip("/") for name in ignored}
    assert expected <= {name.removeprefix("**/") for name in left_out}
