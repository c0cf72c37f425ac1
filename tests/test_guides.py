"""README and guides: the parser accepts their commands, their links exist, the README is short."""

import re
import shlex
from pathlib import Path

import pytest
from commands import REPOSITORY

import run
from core.runtime.errors import UserError

GUIDES = sorted(
    path
    for path in [
        *REPOSITORY.glob("*.md"),
        *(
            path
            for folder in ("core", "experiments", "sweeps", "analysis", "results", "environment")
            for path in (REPOSITORY / folder).rglob("*.md")
        ),
    ]
    if "tables" not in path.parts and path.name != "report.md"  # the suite writes these
)
NAMES = [str(path.relative_to(REPOSITORY)) for path in GUIDES]
COMMAND = re.compile(r"(?:python|bin/python) run\.py ((?:\\\n|[^`#|\n])*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def commands_of(path: Path) -> list[list[str]]:
    """The arguments of each `python run.py ...` in a guide, up to `&&`, a pipe or a redirection."""
    commands = []
    for text in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = shlex.split(re.split(r"&&|\|| > ", text.replace("\\\n", " "))[0], comments=True)
        if words and words != ["..."]:
            commands.append(words)
    return commands


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_guide_are_accepted(name: str) -> None:
    """The parser accepts every option, and the experiments and sweeps exist."""
    for words in commands_of(REPOSITORY / name):
        if words[0] not in (*run.COMMANDS, "-h", "--help"):
            words = ["run", *words]
        if "--help" in words or words[0] == "COMMAND":
            continue
        try:
            run.make_parser().parse_args(words)
        except UserError:
            pytest.fail(f"{name}: the parser refuses: python run.py {shlex.join(words)}")
        for word in words:
            if re.match(r"(experiments|sweeps)/\S*\.yaml$", word):
                assert list(REPOSITORY.glob(word)), f"{name}: {word} does not exist"


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_of_a_guide_exist(name: str) -> None:
    path = REPOSITORY / name
    for inline, reference in LINK.findall(path.read_text(encoding="utf-8")):
        target, _, anchor = (inline or reference).partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file = path if not target else path.parent / target
        assert file.exists(), f"{name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in {
                anchor_of(heading) for heading in HEADING.findall(file.read_text())
            }, anchor


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_readme_is_short() -> None:
    text = (REPOSITORY / "README.md").read_text()
    lines = text.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100
    assert len(re.sub(r"\(\S+\)", "", text).split()) <= 950


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_guides_have_at_most_100_characters(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert not long, long[:3]


def test_the_checks_of_ci_are_those_of_the_workflow() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    assert "bash .ci/run" in workflow
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert all(tool in script for tool in ("ruff", "mypy", "lint-imports"))
