"""All experiment files in one command, at scale smoke."""

import json
import sys
from pathlib import Path

import pytest
from commands import run_command
from plans import CATALOGUE

from core.runtime.errors import UserError
from core.synthetic.cjk_fonts import cjk_faces

pytestmark = pytest.mark.slow


def test_all_files_run_in_one_command_and_print_all_tables(tmp_path: Path) -> None:
    try:
        cjk_faces("的")
    except UserError as error:
        pytest.skip(str(error))
    # The smaller batches leave steps to the shortest pre-training of scaling.yaml and to a fifth of
    # the epochs in label_fractions.yaml.
    batches = [f"{stage}.optimizer.batch=16" for stage in ("pretrain", "finetune")]
    changes = ("synthetic.train=128", "synthetic_chinese.train=64", *batches)
    small = [part for change in changes for part in ("--set", change)]
    options = ("--scale", "smoke", "--results", str(tmp_path), "--device", "cpu", *small)
    files = list(map(str, CATALOGUE))
    done = run_command([sys.executable, "run.py", *files, *options])
    assert done.returncode == 0, done.stderr[-3000:]

    compare = [sys.executable, "run.py", "compare", *files, *options, "--format", "json"]
    content = json.loads(run_command(compare, check=True).stdout)
    tables = {table["table"]: table for table in content if table["table"]}
    assert list(tables) == [f"table{number}" for number in range(1, 9)] + ["extended_benchmarks"]
    for table in content:
        number = (table["table"] or "").removeprefix("table")
        name = f"Table {number}" if number.isdigit() else table["experiment"]
        assert f"# {name}: " in done.stdout
        assert all(pair["verdict"] != "missing" for pair in table["comparisons"])
        for row in table["rows"]:
            assert row["verdict"] in ("not comparable", "")
            if row["ours"] or not table["table"]:
                average = row["measured"]["Avg"]
                assert average["low"] <= average["accuracy"] <= average["high"]
                assert row["training_cost"]["images"] > 0

    costs = {
        row["name"]: row["training_cost"]
        for row in tables["table7"]["rows"]
        if "training_cost" in row
    }
    teacher_images = costs["LMIM (Union14M-L)"]["teacher_images"]
    assert teacher_images == costs["MIM"]["pretrain_images"] > 0
