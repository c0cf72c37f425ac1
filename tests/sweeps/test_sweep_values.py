"""Values of a sweep file that are no numbers, and files that are no valid YAML."""

from pathlib import Path
from typing import Any

import pytest
from conftest import call
from sweep_helpers import write_sweep

from core.runtime.errors import UserError
from sweeps.engine.schema import read_sweep


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trials": True}, "trials"),
        ({"trials": "4"}, "trials"),
        ({"trials": 4.5}, "trials"),
        ({"seeds": ["yes"]}, "seeds.0"),
        ({"seeds": [True]}, "seeds.0"),
        ({"space": {"a": {"float": [True, 2]}}}, "space.a.float"),
        ({"space": {"a": {"int": [1.5, 4]}}}, "space.a.int.0"),
        ({"space": {"a": {"float": [0, 1], "step": True}}}, "space.a.step"),
        ({"space": {"a": {"float": [1, 2, 3]}}}, "space.a.float"),
        ({"sampler": {"kind": "tpe", "n_startup_trials": True}}, "sampler.n_startup_trials"),
        ({"sampler": {"kind": "tep"}}, "sampler.kind"),
        ({"sampler": {"seed": 1}}, "sampler.kind"),
        ({"pruner": {"kind": "median", "at": ["0.5"]}}, "pruner.at.0"),
        ({"budget": {"hours": True}}, "budget.hours"),
    ],
)
def test_a_wrong_value_in_a_sweep_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    file = write_sweep(tmp_path, **changes)
    with pytest.raises(UserError) as raised:
        read_sweep(file)
    assert str(raised.value).startswith(f"{file}: {key}: ")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("title: t\nspace: &v {a: *v}\n", ("line 2", "space.a", "alias")),
        ("space:\n\ta: 1\n", ("line 2", "tab")),
        ("space: {}\n---\nspace: {}\n", ("line 2", "document")),
        ("space: {}\nspace: {}\n", ("line 2", "duplicate key space")),
        ("- space\n", ("a list",)),
    ],
)
@pytest.mark.parametrize("command", ["plan", "status", "sweep-report"])
def test_a_damaged_sweep_file_is_one_sentence_in_every_command(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    text: str,
    parts: tuple[str, ...],
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    code, _, err = call(capsys, command, file, "--results", tmp_path)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert all(part in line for part in (str(file), *parts))
