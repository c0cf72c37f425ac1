"""Images that only one of two rows recognizes."""

import pandas as pd

from analysis.figures.recognition_errors import RecognitionErrors
from analysis.tables.comparisons import compare_rows
from analysis.tables.content import PairedComparison
from core.runtime.errors import UserError


def disagreements(errors: RecognitionErrors, first: str, second: str) -> pd.DataFrame:
    """Images of each subset that only `first`, or only `second`, recognizes; McNemar's exact p.

    p-values are corrected for the number of subsets (Holm). The test covers test images at this
    seed.
    Raises UserError if the two rows cannot be compared."""
    records = errors.table.records
    names = [row.name for row in errors.table.rows]
    number = names.index(first)
    other = names.index(second)
    subsets = records.subsets_of(number, other)
    result = compare_rows(records, number, other, subsets, None, judge_size=False)
    if not isinstance(result, PairedComparison):
        reasons = "; ".join(result.why)
        raise UserError(f"{first} and {second}: {result.verdict}; {reasons}")
    tests = result.mcnemar[errors.seed]
    counts = records.measured[number][errors.seed].counts
    lines = [
        {
            "images": counts[name][1],
            f"only {first}": test.won,
            f"only {second}": test.lost,
            "p (Holm)": test.p,
        }
        for name, test in tests.items()
    ]
    return pd.DataFrame(lines, index=pd.Index(list(tests), name="test subset"))


def recognized_only_by(errors: RecognitionErrors, first: str, second: str) -> pd.DataFrame:
    """Images that row `first` recognizes and row `second` does not.

    Columns: subset, index, label, first_prediction, second_prediction."""
    predictions = errors.predictions
    of_first = predictions[predictions["row"] == first]
    of_second = predictions[predictions["row"] == second]
    both = of_first.merge(
        of_second[["subset", "index", "prediction", "correct"]],
        on=["subset", "index"],
        suffixes=("_first", "_second"),
    )
    chosen = both[both["correct_first"] & ~both["correct_second"]]
    names = {"prediction_first": "first_prediction", "prediction_second": "second_prediction"}
    columns = ["subset", "index", "label", "first_prediction", "second_prediction"]
    return chosen.rename(columns=names)[columns].reset_index(drop=True)
