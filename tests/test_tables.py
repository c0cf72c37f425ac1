"""Tables from stored records: layout, intervals, verdicts, differences, ledger, formats."""

import cProfile
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import call, jpeg, write_lmdb

from analysis.tables.measurements import Row, load_evaluation
from analysis.tables.planned import tables_of
from analysis.tables.render import FORMATS
from analysis.tables.table import Table
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.planner import make_plan
from experiments.running.execute import describe
from results.reported import REPORTED, find_row, read_reported, reported, reported_values
from results.store import Store

SUBSETS = [
    "curve",
    "multi_oriented",
    "artistic",
    "contextless",
    "salient",
    "multi_words",
    "general",
]
SIZES = PROTOCOLS["waics"].sizes
LMIM, GUIDANCE, NEITHER = 2, 1, 0  # rows of Table 1
DECODER = Path("experiments/ablation_decoder.yaml")


def write_evaluation(
    store: Store,
    run_id: str,
    correct: dict[str, list[int]],
    protocol: str = "waics",
    data: str = "here",
    **more: Any,
) -> str:
    run = store.run(run_id)
    counts = {
        name: {"correct": sum(values), "images": len(values)} for name, values in correct.items()
    }
    dropped: dict[str, Any] = {name: {} for name in correct}
    metrics = {
        "protocol": protocol,
        "protocol_statement": "words",
        "counts": counts,
        "dropped": dropped,
    }
    metrics["labels"] = more.pop("labels", "strict")
    reads = {0: "x", 1: "AB"}
    few = {
        name: values for name, values in correct.items() if len(values) < 10_000
    }  # the rest would take a test's time
    run.write_predictions(
        (name, i, "ab", reads[right], 0.5, 1)
        for name, values in few.items()
        for i, right in enumerate(values)
    )
    run.write_correct({name: [bool(value) for value in values] for name, values in correct.items()})
    roots = {name: [{"fingerprint": f"{data}/{name}"}] for name in correct}
    record = {"metrics": metrics, "data": roots, "code": {"commit": None, "clean": None}}
    run.write_json("record.json", record | more)
    run.set_state("complete")
    return run_id


def write_training(
    store: Store,
    run_id: str,
    images: int,
    seconds: float,
    accelerator: str | None = None,
    **more: Any,
) -> str:
    metrics = {
        "images_seen": images,
        "parameters": 123,
        "train_seconds": seconds,
        "dropped": more.pop("dropped", {}),
    }
    record = {
        "stage": run_id.split("-")[0],
        "metrics": metrics,
        "hardware": {"accelerator": accelerator, "threads": 2},
    }
    store.run(run_id).write_json("record.json", record | more)
    store.run(run_id).set_state("complete")
    return run_id


def row(
    name: str,
    *evaluations: str,
    reported: int | None = None,
    against: tuple[str, ...] = (),
    **options: Any,
) -> Row:
    by_seed = dict(enumerate(evaluations))
    trainings = options.pop("trainings", dict.fromkeys(by_seed, ()))
    return Row(name, reported, against, by_seed, trainings, options.pop("teachers", {}), **options)


def whole(share: float) -> dict[str, list[int]]:
    """The paper's test sets, of which a share is read."""
    return {
        name: [1] * round(share * SIZES[name]) + [0] * (SIZES[name] - round(share * SIZES[name]))
        for name in SUBSETS
    }


def table(
    store: Store, rows: list[Row], scale: str = "mini", of: str | None = None, **options: Any
) -> Table:
    return Table("mine", "a title", scale, "about it", of, rows, store, **options)


# What the paper reports


def test_reported_averages_follow_from_their_rows_but_for_the_known_misprints() -> None:
    content, misprints = reported(), set()
    sizes = {"union14m_benchmark": SIZES, "common": SIZES, "chinese": PROTOCOLS["chinese"].sizes}
    for name, one in content.tables.items():
        columns = content.subsets[one.benchmark]
        for printed in one.rows:
            values = [value for value in printed.values if value is not None]
            if len(values) < len(columns):
                assert printed.avg is None
                continue
            mean = sum(values) / len(values)
            if printed.avg is None or abs(printed.avg - mean) > 0.0501:
                misprints.add((name, printed.method, printed.source, printed.avg, round(mean, 2)))
            if printed.w_avg is not None:
                images = [sizes[one.benchmark][column] for column in columns]
                pooled = sum(
                    value * count for value, count in zip(values, images, strict=True)
                ) / sum(images)
                assert printed.w_avg == pytest.approx(pooled, abs=0.0501), (name, printed.method)
    assert misprints == {
        (one.table, one.method, one.source, one.printed, one.mean) for one in content.misprints
    }
    assert len(misprints) == 7


def test_the_reported_file_follows_a_closed_schema(tmp_path: Path) -> None:
    content = yaml.safe_load(REPORTED.read_text())
    for change, message in (
        (
            lambda rows: rows[0].update(acuracy=3),
            r"tables\.table1\.rows\.0\.acuracy: Extra inputs are not permitted",
        ),
        (
            lambda rows: rows[0].update(avg=177.7),
            r"tables\.table1\.rows\.0\.avg: Input should be less than or equal to 100",
        ),
        (
            lambda rows: rows[0]["values"].pop(),
            r"table1: guidance False, alignment False: 6 values for 7 columns",
        ),
        (
            lambda rows: rows[0].update(avg="79.5"),
            r"tables\.table1\.rows\.0\.avg: Input should be a valid number",
        ),
        (
            lambda rows: rows[0].update(default=True),
            r"tables\.table1: more than one row is the default",
        ),
    ):
        wrong = json.loads(json.dumps(content))
        change(wrong["tables"]["table1"]["rows"])
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
        with pytest.raises(UserError, match=message):
            read_reported(tmp_path / "wrong.yaml")
    for section, change, message in (
        (
            "tables",
            lambda tables: tables["table1"].update(recipe="ablaton"),
            r"tables\.table1\.recipe: Input should be 'ablation'",
        ),
        (
            "tables",
            lambda tables: tables["table1"].update(benchmark="foo"),
            "table1: benchmark 'foo' has no subsets here",
        ),
        (
            "misprints",
            lambda misprints: misprints[0].update(table="table77"),
            "table77: no table of that name",
        ),
    ):
        wrong = json.loads(json.dumps(content))
        change(wrong[section])
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
        with pytest.raises(UserError, match=message):
            read_reported(tmp_path / "wrong.yaml")


def test_a_reported_row_is_found_by_its_keys_and_by_no_fewer() -> None:
    found = find_row("table7", {"method": "LMIM", "finetune": "ard", "epochs": None})
    assert found is not None
    assert reported_values("table7", found)["Avg"] == 84.3
    assert find_row("table7", {}) is None
    with pytest.raises(UserError, match=r"2 rows of table7 .* say more"):
        find_row("table7", {"method": "LMIM", "finetune": "ard"})
    with pytest.raises(UserError, match="guidence: no row of results/reported"):
        find_row("table1", {"guidence": True})


# Rows


def test_missing_runs_show_as_missing_and_measured_ones_with_their_interval(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 1, 0, 0], "general": [1, 1, 1, 0]})
    made = table(store, [row("one", "evaluate-a"), row("two", "evaluate-b", against=("one",))])
    made.write()
    text, content = FORMATS["md"]([made.content]), made.content
    assert "| one | measured | 50.0    | 75.0    | 62.5    | 62.5    |" in text
    assert "| two | measured | missing | missing | missing | missing |" in text
    assert "missing (its evaluation is planned)" in text
    assert content["comparisons"][0]["verdict"] == "missing"
    assert content["comparisons"][0]["why"] == ["no complete run of two"]
    lines = list(csv.DictReader((tmp_path / "tables" / "mine.mini.csv").read_text().splitlines()))
    assert [line["row"] for line in lines if line["column"] == "missing"] == ["two", "two"]
    (written,) = json.loads((tmp_path / "tables" / "mine.mini.json").read_text())
    assert written.pop("known_runs") == {"one": {"0": content["rows"][0]["runs"]["0"]}, "two": {}}
    assert written == json.loads(json.dumps(content))


def test_a_record_without_a_state_is_a_published_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    (store.run("evaluate-a").folder / "state.json").unlink()
    assert store.run("evaluate-a").state().name == "complete"
    assert (
        table(store, [row("one", "evaluate-a")]).content["rows"][0]["measured"]["Avg"]["accuracy"]
        == 50
    )


def test_stored_verdicts_on_images_are_those_of_the_predictions_and_good_for_these_alone(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    values = {"curve": [1, 0, 1, 1, 0, 0, 0, 1, 1], "general": [0, 1]}
    run = store.run(write_evaluation(store, "evaluate-a", values))
    bits = run.folder / "correct.json"
    original, damaged = bits.read_text(), '{"predictions": 3}'

    def seen() -> dict[str, list[int]]:
        evaluation = load_evaluation(store, "evaluate-a")
        assert evaluation is not None
        return {name: array.tolist() for name, array in evaluation.correct.items()}

    assert seen() == values
    for text in (
        damaged,
        original.replace('"predictions": "', '"predictions": "other'),
        original[:40],
    ):
        bits.write_text(text)
        assert seen() == values, "scored from the predictions"
    bits.unlink()
    assert seen() == values
    predictions = run.folder / "predictions.csv"
    predictions.write_text(predictions.read_text().replace("curve,1,ab,x", "curve,1,ab,AB"))
    with pytest.raises(UserError, match=r"predictions\.csv and record\.json disagree"):
        seen()


def test_only_the_papers_recipe_on_its_data_under_its_protocol_gets_a_verdict(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-like", whole(0.812))
    write_evaluation(store, "evaluate-less", whole(0.7))
    write_evaluation(store, "evaluate-case", whole(0.812), "case_sensitive")
    write_evaluation(store, "evaluate-few", {name: [1] * 8 + [0] * 2 for name in SUBSETS})
    write_evaluation(store, "evaluate-part", {"curve": [1] * 8})

    def verdict(run: str, scale: str = "paper", **options: Any) -> tuple[str, list[str]]:
        entry = table(store, [row("x", run, reported=LMIM)], scale, "table1", **options).content[
            "rows"
        ][LMIM]
        return entry["verdict"], entry["why"]

    assert verdict("evaluate-like") == ("reproduced", [])
    assert verdict("evaluate-less") == ("differs", [])
    assert verdict("evaluate-like", "mini") == ("not comparable", ["scale: mini"])
    assert verdict("evaluate-like", overrides={"a": 1}) == (
        "not comparable",
        ["recipe: settings of the command line"],
    )
    assert verdict("evaluate-like", stand_ins=True)[1] == [
        "data: rendered words in place of the paper's"
    ]
    assert verdict("evaluate-case")[1] == ["protocol: case_sensitive, not waics"]
    assert "data: curve has 10 images, not 2,426" in verdict("evaluate-few")[1]
    assert "data: general was not evaluated" in verdict("evaluate-part")[1]
    assert verdict("evaluate-none") == ("missing", ["its evaluation is planned"])


def test_the_papers_other_rows_stand_in_their_places(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = find_row("table7", {"method": "MIM"})
    made = table(
        store,
        [row("our MIM", write_evaluation(store, "evaluate-a", {"curve": [1]}), reported=place)],
        of="table7",
    )
    names = [entry["name"] for entry in made.content["rows"]]
    assert len(names) == 13
    assert names[0] == "ABINet on union14m_l (MAERec paper)"
    assert names[place or 0] == "our MIM"
    assert made.content["rows"][0]["verdict"] == ""
    seqclr = next(entry for entry in made.content["rows"] if entry["name"].startswith("SeqCLR"))
    assert (seqclr["verdict"], seqclr["why"]) == (
        "missing",
        ["no row of this experiment stands for it"],
    )


def test_an_average_over_other_subsets_is_not_set_against_the_reported_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1] * 81 + [0] * 19, "mine": [1, 0]})
    entry = table(store, [row("a", "evaluate-a", reported=LMIM)], of="table1").content["rows"][LMIM]
    assert entry["difference"] == {"curve": -4.0}
    assert table(store, [row("a", "evaluate-a", reported=LMIM)], of="table1").columns == [
        *SUBSETS,
        "mine",
    ]


def test_a_further_subset_has_its_column_and_no_part_in_the_average(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, share in (("a", 0.8), ("b", 0.7)):
        write_evaluation(store, f"evaluate-{name}", whole(share) | {"mine": [0] * 500})
    rows = [
        row("b", "evaluate-b", reported=NEITHER),
        row("a", "evaluate-a", reported=GUIDANCE, against=("b",)),
    ]
    content = table(store, rows, "paper", "table1").content
    assert content["rows"][GUIDANCE]["measured"]["Avg"]["accuracy"] == pytest.approx(80, abs=0.1)
    assert content["rows"][GUIDANCE]["measured"]["mine"]["accuracy"] == 0
    assert content["rows"][GUIDANCE]["verdict"] == "reproduced"
    assert content["comparisons"][0]["Avg"]["accuracy"] == pytest.approx(10, abs=0.2)


def test_overrides_give_a_table_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    for overrides in ({}, {"pretrain.mask.ratio": 0.7}):
        table(store, [row("a", "evaluate-a")], overrides=overrides).write()
    names = sorted(path.name for path in (tmp_path / "tables").glob("*.md"))
    assert len(names) == 2
    assert "pretrain.mask.ratio=0.7" in (tmp_path / "tables" / names[1]).read_text()


# Differences


def two_rows(store: Store, first: list[int], second: list[int], **options: Any) -> dict[str, Any]:
    """A comparison of `guidance` with `no guidance` (reported: +2.9) on seven subsets, each read like that."""
    for name, values in (("evaluate-a", first), ("evaluate-b", second)):
        write_evaluation(store, name, dict.fromkeys(SUBSETS, values))
    rows = [
        row("b", "evaluate-b", reported=NEITHER),
        row("a", "evaluate-a", reported=GUIDANCE, against=("b",)),
    ]
    return table(store, rows, of="table1", **options).content["comparisons"][0]


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ([1] * 90 + [0] * 10, [1] * 70 + [0] * 30, "holds"),
        ([1] * 70 + [0] * 30, [1] * 90 + [0] * 10, "reversed"),
        ([1, 0] * 50, [0, 1] * 50, "undecided"),
        ([0] * 16, [0] * 16, "undecided"),
    ],
)
def test_a_difference_is_judged_by_its_paired_interval_at_any_scale(
    tmp_path: Path, first: list[int], second: list[int], verdict: str
) -> None:
    one = two_rows(Store(tmp_path), first, second)
    assert (one["row"], one["other"], one["reported"], one["verdict"]) == ("a", "b", 2.9, verdict)
    assert one["Avg"]["low"] <= one["Avg"]["accuracy"] <= one["Avg"]["high"]
    assert one["Avg"]["covers"] == "test images"
    assert one["detectable"] > 0
    assert set(one["mcnemar"]["0"]) == set(SUBSETS)
    assert "size" not in one


def test_at_the_papers_scale_the_size_of_a_difference_is_judged_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", whole(0.806))
    write_evaluation(store, "evaluate-b", whole(0.777))
    rows = [
        row("b", "evaluate-b", reported=NEITHER),
        row("a", "evaluate-a", reported=GUIDANCE, against=("b",)),
    ]
    one = table(store, rows, "paper", "table1").content["comparisons"][0]
    assert (one["verdict"], one["size"]) == ("holds", "reproduced")


def test_several_seeds_are_said_to_be_covered_and_tested_one_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        for name, share in (("a", 80 + seed), ("b", 60)):
            write_evaluation(
                store,
                f"evaluate-{name}{seed}",
                {subset: [1] * share + [0] * (100 - share) for subset in SUBSETS},
            )
    rows = [
        row("b", *(f"evaluate-b{seed}" for seed in range(3))),
        row("a", *(f"evaluate-a{seed}" for seed in range(3)), against=("b",)),
    ]
    content = table(store, rows).content
    one = content["comparisons"][0]
    assert one["Avg"]["accuracy"] == pytest.approx(21)
    assert one["Avg"]["covers"] == "test images and seeds"
    assert one["verdict"] == "higher"
    assert list(one["mcnemar"]) == ["0", "1", "2"]
    assert content["rows"][1]["measured"]["curve"] | {"low": 0, "high": 0, "error": 0} == {
        "accuracy": 81,
        "low": 0,
        "high": 0,
        "error": 0,
        "covers": "test images and seeds",
        "correct": 243,
        "images": 300,
    }
    assert "curve +3 of 3" in FORMATS["md"]([content])
    assert any("variance between seeds (hierarchical" in note for note in content["notes"])


def test_rows_that_are_the_same_runs_are_said_to_be(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    content = table(
        store, [row("one", "evaluate-a"), row("two", "evaluate-a", against=("one",))]
    ).content
    assert content["comparisons"][0]["verdict"] == "same runs"
    assert any("One and the same runs at this scale: one, two" in note for note in content["notes"])


def test_rows_on_other_images_or_under_another_protocol_are_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    write_evaluation(store, "evaluate-more", {"curve": [1, 0, 1]})
    write_evaluation(store, "evaluate-other", {"curve": [1, 0]}, data="elsewhere")
    write_evaluation(store, "evaluate-case", {"curve": [1, 0]}, "case_sensitive")
    write_evaluation(store, "evaluate-salient", {"salient": [1, 0]})
    write_evaluation(store, "evaluate-trimmed", {"curve": [1, 0]}, labels="released")
    images = "data: curve has other images in one row than in the other"
    for other, why in (
        ("more", images),
        ("other", images),
        ("case", "protocol: case_sensitive (strict labels) and waics (strict labels)"),
        ("trimmed", "protocol: waics (released labels) and waics (strict labels)"),
        ("salient", "data: no subset was evaluated for both"),
    ):
        rows = [row("one", "evaluate-a"), row("two", f"evaluate-{other}", against=("one",))]
        one = table(store, rows).content["comparisons"][0]
        assert (one["verdict"], one["why"]) == ("not comparable", [why])
        assert "not comparable" in FORMATS["md"]([table(store, rows).content])


# Ledger


def test_the_ledger_counts_the_teacher_and_the_hours_of_cores_or_gpus(tmp_path: Path) -> None:
    store = Store(tmp_path)
    teacher = write_training(store, "pretrain-t", 1000, 3600)
    trainings = (
        write_training(store, "pretrain-p", 500, 1800),
        write_training(store, "finetune-f", 250, 900, "H200"),
    )
    options: dict[str, Any] = {"trainings": {0: trainings}, "teachers": {0: teacher}}
    made = row("a", write_evaluation(store, "evaluate-a", {"curve": [1]}), **options)
    ledger = table(store, [made]).content["rows"][0]["ledger"]
    images = {
        "teacher_images": 1000,
        "pretrain_images": 500,
        "finetune_images": 250,
        "images": 1750,
    }
    assert ledger.items() >= images.items()
    assert ledger["hours"] == pytest.approx(2 * 1.5 + 0.25)
    assert ledger["unit"] == "CPU-hours and GPU-hours"
    assert ledger["parameters"] == 123
    for images, told in ((None, "| over 750    | unknown |"), (4000, "| 4,750       | 4,000   |")):
        given = row(
            "a",
            "evaluate-a",
            trainings={0: trainings},
            teachers={0: "file:x"},
            teacher_images=images,
        )
        assert told in FORMATS["md"]([table(store, [given]).content])
    begun = row("a", "evaluate-a", trainings={0: trainings[1:]}, encoder_file="mine.pth")
    assert "| over 250    | 0       | unknown      | 250" in FORMATS["md"](
        [table(store, [begun]).content]
    )


# Formats


@pytest.fixture
def contents(tmp_path: Path) -> list[dict[str, Any]]:
    store = Store(tmp_path)
    two_rows(store, [1] * 90 + [0] * 10, [1] * 70 + [0] * 30)
    odd = "50 % & more_"
    rows = [
        row(odd, "evaluate-b", reported=NEITHER),
        row("<a>", "evaluate-a", reported=GUIDANCE, against=(odd,)),
    ]
    return [
        table(store, rows, of="table1").content,
        table(store, [row("alone", "evaluate-a")]).content,
    ]


def test_csv_has_a_line_for_every_number(contents: list[dict[str, Any]]) -> None:
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](contents))))
    sources = ("reported", "measured", "paired difference")
    kinds = {source: [line for line in lines if line["source"] == source] for source in sources}
    assert len(kinds["reported"]) == 3 * 8
    assert (
        len(kinds["measured"]) == 3 * 9 + 1
    )  # two rows and one alone, with two averages each; one row of the paper's missing
    assert [line["column"] for line in kinds["paired difference"]] == ["Avg", "W-Avg"]
    average = next(
        line for line in kinds["measured"] if line["row"] == "<a>" and line["column"] == "Avg"
    )
    assert (float(average["accuracy"]), float(average["difference"])) == pytest.approx((90.0, 9.4))
    assert average["verdict"] == "not comparable"


def test_html_is_one_page_with_every_table_and_nothing_unescaped(
    contents: list[dict[str, Any]],
) -> None:
    page = FORMATS["html"](contents)
    assert page.count("<table") == 3
    assert "&lt;a&gt;" in page
    assert "<a>" not in page
    assert page.startswith("<!doctype html>")


def test_latex_escapes_what_latex_would_read(contents: list[dict[str, Any]]) -> None:
    text = FORMATS["latex"](contents)
    assert r"50 \% \& more\_" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert text.count(r"\toprule") == 3
    assert "−" not in text


def test_markdown_shows_reported_measured_difference_interval_and_verdict(
    contents: list[dict[str, Any]],
) -> None:
    text = FORMATS["md"](contents)
    assert "| <a>                           | reported   | 84.5" in text
    assert "| difference | +5.5" in text
    assert "not comparable (scale, data)" in text
    assert (
        "Not comparable with the paper, all rows: scale: mini; data: curve has 100 images, not 2,426; "
        in text
    )
    assert "## Differences between rows" in text
    assert "Verdict on a row, by its Avg" in text


# The command


def test_compare_prints_tables_of_what_is_there_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["experiments/ablation_alignment.yaml", "experiments/ablation_decoder.yaml"]
    common = ["--scale", "smoke", "--results", tmp_path]
    code, out, _ = call(capsys, "compare", *files, *common, "--format", "json")
    assert code == 0
    content = json.loads(out)
    assert [one["table"] for one in content] == ["table1", "table3"]
    assert {entry["verdict"] for one in content for entry in one["rows"]} == {"missing"}
    assert {one["verdict"] for table in content for one in table["comparisons"]} == {"missing"}
    for form in ("md", "csv", "latex", "html"):
        code, out, _ = call(capsys, "compare", *files, *common, "--format", form)
        assert code == 0
        assert "missing" in out
    assert not list(tmp_path.iterdir())


def recorded_elsewhere(store: Store, seeds: tuple[int, ...] = (0,), **changes: Any) -> None:
    """Records of Table 3's default row under ids that are not planned here, and the table that notes them."""
    plan = make_plan(
        [DECODER], "smoke", store, precision=lambda: "fp32", overrides=changes, seeds=seeds
    )
    evaluations, trainings, teachers = {}, {}, {}
    for cell in plan.cells_of("ablation_decoder", 1):
        runs = {
            "teacher": cell.teacher,
            "pretrain": cell.trainings[0],
            "finetune": cell.trainings[1],
            "evaluate": cell.evaluate,
        }
        told = {name: describe(plan.runs[run]) for name, run in runs.items()}
        teachers[cell.seed], *trained = (
            write_training(
                store,
                f"{plan.runs[runs[name]].stage}-{name}{cell.seed}",
                5,
                1,
                **{key: told[name][key] for key in TOLD},
            )
            for name in ("teacher", "pretrain", "finetune")
        )
        values, last = (
            {name: [1, 0, 1] for name in SUBSETS},
            {key: told["evaluate"][key] for key in ("config", "inputs")},
        )
        trainings[cell.seed] = tuple(trained)
        evaluations[cell.seed] = write_evaluation(
            store, f"evaluate-elsewhere{cell.seed}", values, **last
        )
    noted = Row("SA-CA-FFN (LMIM)", 1, (), evaluations, trainings, teachers)
    Table("ablation_decoder", "t", "smoke", "", "table3", [noted], store).write()


TOLD = ("config", "inputs", "data")


def compared(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> dict[str, Any]:
    """Table 3 at scale smoke, as `compare` has it."""
    arguments = [
        "experiments/ablation_decoder.yaml",
        "--scale",
        "smoke",
        "--results",
        folder,
        "--format",
        "json",
        *options,
    ]
    code, out, err = call(capsys, "compare", *arguments)
    assert code == 0, err
    (content,) = json.loads(out)
    return content


def test_a_results_folder_is_read_where_ids_would_be_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its data are not here, or fonts, versions or precision are others: runs of the same recipe stand, and are said to."""
    recorded_elsewhere(Store(tmp_path))
    content = compared(capsys, tmp_path)
    assert [entry["verdict"] for entry in content["rows"]] == ["missing", "not comparable"]
    assert content["rows"][1]["measured"]["Avg"]["accuracy"] == pytest.approx(66.6667)
    assert any(
        "are not those of this machine: SA-CA-FFN (LMIM)" in note for note in content["notes"]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"finetune.optimizer.epochs": 3},
        {"finetune.data.roots": ["rendered:validation"]},
        {"evaluate.subsets.curve.roots": ["rendered:general"]},
        {"finetune.charset": "abc"},
        {"methods.MIM.pretrain.mask.ratio": 0.6},
    ],
)
def test_runs_of_another_recipe_do_not_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    """Nor do those on other data, with other characters, of another teacher."""
    recorded_elsewhere(Store(tmp_path), **change)
    assert [entry["verdict"] for entry in compared(capsys, tmp_path)["rows"]] == [
        "missing",
        "missing",
    ]


def test_compare_takes_the_seeds_that_were_run_where_none_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    recorded_elsewhere(store, (0, 5))
    recorded_elsewhere(store, (1,))  # one seed at a time: the others stay noted
    assert compared(capsys, tmp_path)["rows"][1]["seeds"] == [0, 1, 5]
    assert compared(capsys, tmp_path, "--seeds", "1")["rows"][1]["seeds"] == [1]


def test_a_damaged_table_notes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in (
        "",
        "[]",
        "[[1]]",
        '[{"known_runs": {"SA-CA-FFN (LMIM)": {"0": {}}}}]',
        '[{"known_runs": [3]}]',
    ):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / "ablation_decoder.smoke.json").write_text(text)
        assert [entry["verdict"] for entry in compared(capsys, tmp_path)["rows"]] == [
            "missing",
            "missing",
        ]


def test_runs_of_another_machine_are_judged_by_what_they_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's data are not here, so the records say whether they were the paper's."""
    monkeypatch.delenv("LMIM_DATA", raising=False)
    store = Store(tmp_path)
    plan = make_plan([DECODER], "paper", store, precision=lambda: "bf16", overrides={}, seeds=None)
    (cell,) = plan.cells_of("ablation_decoder", 1)
    last = {key: describe(plan.runs[cell.evaluate])[key] for key in ("config", "inputs")}
    write_evaluation(store, "evaluate-there", whole(0.812), **last)

    def recorded(images: dict[str, int]) -> dict[str, Any]:
        for run in cell.trainings:
            roots = [
                {"root": root.name, "fingerprint": "f", "images": images[root.name]}
                for root in plan.runs[run].data["train"]
            ]
            told = {key: describe(plan.runs[run])[key] for key in TOLD} | {"data": {"train": roots}}
            write_training(store, f"{run}-there", 5, 1, **told)
        trainings = {0: tuple(f"{run}-there" for run in cell.trainings)}
        noted = Row("SA-CA-FFN (LMIM)", 1, (), {0: "evaluate-there"}, trainings, {0: cell.teacher})
        Table("ablation_decoder", "t", "paper", "", "table3", [noted], store).write()
        return tables_of(plan, store, recorded=True)[0].content["rows"][1]

    sizes = {
        "union14m_l": 3_230_742,
        "union14m_u_book32": 2_400_000,
        "union14m_u_openvino": 2_600_000,
    }
    assert recorded(sizes)["verdict"] == "reproduced"
    entry = recorded(sizes | {"union14m_l": 3})
    assert (entry["verdict"], entry["why"]) == (
        "not comparable",
        ["data: union14m_l has 3 images, not 3,230,742"],
    )


DAMAGES = {
    "record.json": (
        "",
        "{}",
        "[]",
        "null",
        b"\xff\xfe",
        '{"metrics": 3}',
        "correct 99",
        "correct -1",
        "images 0",
        "no counts",
    ),
    "predictions.csv": ("", "subset,index\n", "shuffled"),
    "state.json": ("{", "[]"),
}


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, many in DAMAGES.items() for damage in many]
)
def test_a_damaged_record_is_told_and_the_other_rows_are_shown(
    tmp_path: Path, name: str, damage: str | bytes
) -> None:
    store = Store(tmp_path)
    for run in ("evaluate-a", "evaluate-b"):
        write_evaluation(store, run, {"curve": [1, 1, 0, 0, 1, 0, 1, 1]})
    path = store.run("evaluate-b").folder / name
    record = json.loads((store.run("evaluate-b").folder / "record.json").read_text())
    if damage == "shuffled":
        head, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, *reversed(lines)]) + "\n")
    elif damage == "no counts":
        record["metrics"]["counts"] = {}
        path.write_text(json.dumps(record))
    elif isinstance(damage, str) and damage.partition(" ")[0] in ("correct", "images"):
        key, _, value = damage.partition(" ")
        record["metrics"]["counts"]["curve"][key] = int(value)
        path.write_text(json.dumps(record))
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    content = table(store, [row("a", "evaluate-a"), row("b", "evaluate-b", against=("a",))]).content
    assert [entry["verdict"] for entry in content["rows"]] == ["", "missing"]
    assert content["rows"][0]["measured"]["Avg"]["accuracy"] == 62.5
    (why,) = content["rows"][1]["why"]
    assert why.startswith("damaged: ")
    assert str(store.run("evaluate-b").folder) in why
    assert content["comparisons"][0]["verdict"] == "missing"
    assert sum(note.startswith("Damaged, and taken for missing") for note in content["notes"]) == 1
    assert "missing (damaged)" in FORMATS["md"]([content])


def test_commands_go_on_beside_a_damaged_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    plan = make_plan([DECODER], "smoke", store, precision=lambda: "fp32", overrides={}, seeds=None)
    for cell in plan.cells:
        for run in (cell.teacher, *cell.trainings):
            store.run(run).write_json("record.json", {})
        write_evaluation(store, cell.evaluate, {name: [1, 0, 1] for name in SUBSETS})
    store.run(plan.cells[0].evaluate).write_json("record.json", {})
    common = [DECODER, "--scale", "smoke", "--results", tmp_path]
    for command, expected in (("plan", 0), ("status", 0), ("compare", 2), ("run", 2)):
        code, out, err = call(capsys, command, *common)
        assert code == expected, err
        assert ("delete the folder and run again" in err) == (expected == 2)
        assert ("66.7" in out) == (expected == 2)


def test_a_run_of_another_seed_adds_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained here: all is complete, one seed at a time."""
    store = Store(tmp_path)
    for seed in (0, 1):
        plan = make_plan(
            [DECODER], "smoke", store, precision=lambda: "fp32", overrides={}, seeds=[seed]
        )
        for cell in plan.cells:
            for run in (cell.teacher, *cell.trainings):
                write_training(store, run, 5, 1)
            write_evaluation(store, cell.evaluate, {name: [1, 0, 1] for name in SUBSETS})
        code, out, err = call(
            capsys, DECODER, "--scale", "smoke", "--results", tmp_path, "--seeds", seed
        )
        assert code == 0, err
    assert "images, seeds 0 1" in out
    assert "Seeds: 0, 1." in (tmp_path / "tables" / "ablation_decoder.smoke.md").read_text()
    assert "Seeds without" not in out


def test_seeds_without_a_run_and_trainings_without_a_record_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 1, 0, 0]})
    content = table(
        store, [row("a", "evaluate-a", "evaluate-never", trainings={0: ("finetune-lost",), 1: ()})]
    ).content
    assert content["rows"][0]["missing_seeds"] == [1]
    assert "Seeds without a complete evaluation: a: 1." in content["notes"]
    text = FORMATS["md"]([content])
    assert "without seed 1 |" in text
    assert "| a   | missing     | missing |" in text
    (line, *_) = [
        line
        for line in csv.DictReader(io.StringIO(FORMATS["csv"]([content])))
        if line["source"] == "measured"
    ]
    assert (line["seeds"], line["missing_seeds"]) == ("0", "1")


def test_a_comparison_over_fewer_subsets_says_over_which(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [0, 0, 0, 0], "general": [1, 1, 1, 1]})
    write_evaluation(store, "evaluate-b", {"curve": [1, 1, 1, 1]})
    content = table(store, [row("a", "evaluate-a"), row("b", "evaluate-b", against=("a",))]).content
    assert content["comparisons"][0]["why"] == ["over curve, which both have"]
    assert "images (of seed 0)" in FORMATS["md"]([content])


def test_predictions_cut_short_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = store.run(write_evaluation(store, "evaluate-a", {"curve": [1, 0, 1]}))
    (run.folder / "predictions.csv").write_text((run.folder / "predictions.csv").read_text()[:-7])
    with pytest.raises(
        UserError,
        match=r"no readable predictions\.csv \(it is cut short\); delete the folder and run again",
    ):
        load_evaluation(store, "evaluate-a").correct  # type: ignore[union-attr]  # noqa: B018


def test_what_was_dropped_is_told_of_every_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1]})
    teacher = write_training(store, "pretrain-t", 5, 1, dropped={"unreadable": 3})
    runs = {
        name: write_training(store, f"finetune-{name}", 5, 1, dropped={"over_long": n})
        for name, n in (("a", 0), ("b", 77))
    }
    rows = [
        row(name, "evaluate-a", trainings={0: (run,)}, teachers={0: teacher})
        for name, run in runs.items()
    ]
    notes = table(store, rows).content["notes"]
    assert "Data of finetune (b): 77 labels too long for the decoder." in notes
    assert "Data of the teacher's pretrain: 3 images missing or undecodable." in notes


def test_the_work_of_a_comparison_grows_with_its_records(tmp_path: Path) -> None:
    """Eight times the records make at most nine times the calls of functions: a count, which is the same on a busy machine."""
    store = Store(tmp_path)
    values = {name: [1, 0, 1, 1] * 100 for name in SUBSETS}

    def calls(rows: int) -> int:
        names = [f"evaluate-{rows}-{number}" for number in range(rows)]
        for name in names:
            write_evaluation(store, name, values)
        made = table(
            store,
            [
                row(f"{number}", name, against=("0",) if number else ())
                for number, name in enumerate(names)
            ],
        )
        profile = cProfile.Profile()
        profile.runcall(lambda: made.content)
        return sum(entry.callcount for entry in profile.getstats())

    calls(5)  # what is imported or made once is not counted below
    assert calls(160) < 9 * calls(20)


def test_a_named_set_of_another_size_is_not_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, images in (("union14m_l", 3), ("union14m_u_book32", 2)):
        monkeypatch.setenv(
            f"LMIM_ROOT_{name.upper()}",
            write_lmdb(tmp_path / name, [(jpeg(n), "ab") for n in range(images)]),
        )
    store = Store(tmp_path / "results")
    plan = make_plan([DECODER], "paper", store, precision=lambda: "fp32", overrides={}, seeds=None)
    (made,) = tables_of(plan, store, recorded=False)
    assert set(made.rows[0].deviations) == {
        "union14m_l has 3 images, not 3,230,742",
        "union14m_u_book32 has 2 images, not about 2,500,000",
    }
    write_evaluation(store, made.rows[0].evaluations[0], whole(0.8))
    entry = tables_of(plan, store, recorded=False)[0].content["rows"][0]
    assert entry["verdict"] == "not comparable"
    assert entry["why"][0].startswith("data: union14m_")


def test_rows_of_one_and_of_several_seeds_are_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = [write_evaluation(store, f"evaluate-{seed}", {"curve": [1, 0, 1]}) for seed in range(3)]
    content = table(store, [row("one", names[0]), row("two", *names[1:])]).content
    assert [entry["measured"]["Avg"]["covers"] for entry in content["rows"]] == [
        "test images",
        "test images and seeds",
    ]
    assert any(note.startswith("Of rows with several seeds: ") for note in content["notes"])
