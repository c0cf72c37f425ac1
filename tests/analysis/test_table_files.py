"""Tables of experiment files that have the same name."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from plans import plan_of
from table_records import make_row, make_table, write_evaluation

from analysis.tables.planned import refuse_tables_of_other_files, tables_of
from core.runtime.errors import UserError
from results.store import Store

TEXT = "title: t\nvariants: [{name: a}]\n"


def write_file(folder: Path, name: str = "mine.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(TEXT)
    return file


def write_table(store: Store, file: Path | None, **options: Any) -> Path:
    """Write the table of an experiment file; returns the table's JSON."""
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    make_table(store, [make_row("a", "evaluate-a")], "smoke", file=file, **options).write()
    return store.table("mine.smoke.json")


def test_a_table_names_its_file_and_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    file = write_file(tmp_path / "one")
    table = write_table(store, file)
    assert json.loads(table.read_text())[0]["file"] == "../one/mine.yaml"
    file.write_text(TEXT.replace("title: t", "title: changed"))
    write_table(store, file)


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_a_table_of_another_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "results")
    first = write_file(tmp_path / "one")
    second = write_file(tmp_path / "two", name)
    before = write_table(store, first).read_text()
    with pytest.raises(UserError) as raised:
        write_table(store, second)
    assert all(str(file) in str(raised.value) for file in (first, second))
    assert store.table("mine.smoke.json").read_text() == before


def test_a_run_is_refused_before_it_computes_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    write_table(store, write_file(tmp_path / "one"))
    second = write_file(tmp_path / "two")
    code, out, err = call(capsys, second, "--scale", "smoke", "--results", store.root)
    assert (code, out) == (2, "")
    assert str(tmp_path / "one" / "mine.yaml") in err.splitlines()[-1]
    assert not list((store.root / "runs").glob("pretrain-*"))


def test_a_moved_file_and_a_table_of_an_earlier_version_are_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    first = write_file(tmp_path / "one")
    write_table(store, first)
    moved = first.rename(tmp_path / "mine.yaml")
    table = write_table(store, moved)
    content = json.loads(table.read_text())
    del content[0]["file"]
    table.write_text(json.dumps(content))
    write_table(store, write_file(tmp_path / "two"))


def test_a_link_to_the_file_is_the_same_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    file = write_file(tmp_path / "one")
    write_table(store, file)
    (tmp_path / "link").symlink_to(tmp_path / "one", target_is_directory=True)
    write_table(store, tmp_path / "link" / "mine.yaml")


def test_settings_of_the_command_line_have_tables_of_their_own_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    first = write_file(tmp_path / "one")
    write_table(store, first)
    second = write_file(tmp_path / "two")
    overrides = {"pretrain.mask.ratio": 0.7}
    refuse_tables_of_other_files(plan_of(store.root, second, overrides=overrides), store)
    with pytest.raises(UserError, match="two"):
        refuse_tables_of_other_files(plan_of(store.root, second), store)


def test_runs_of_another_files_table_are_not_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    write_table(store, write_file(tmp_path / "one"))
    plan = plan_of(store.root, write_file(tmp_path / "two"))
    (table,) = tables_of(plan, store, recorded=True)
    assert not any(table.measured)
    assert table.file == tmp_path / "two" / "mine.yaml"
