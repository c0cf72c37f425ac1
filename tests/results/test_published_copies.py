"""What the repository holds of a run: no weights, and predictions in their smaller form."""

from pathlib import Path

import pytest

from results.prediction_files import is_split
from results.provenance import REPOSITORY
from results.release import WEIGHT_SUFFIXES, Checkout

PUBLISHED = REPOSITORY / "results/published"
COMPACT = sorted(folder.parent for folder in PUBLISHED.glob("*/runs"))


@pytest.mark.parametrize("folder", COMPACT, ids=lambda folder: folder.name)
def test_labels_of_published_predictions_are_in_a_file_of_their_own(folder: Path) -> None:
    whole = [path for path in folder.glob("runs/*/predictions*.csv") if not is_split(path)]
    assert whole == [], f"run: python -m results.compact results/published/{folder.name}"


def test_the_repository_holds_no_weights() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    files = Checkout(REPOSITORY).files("HEAD")
    assert [name for name in files if name.endswith(WEIGHT_SUFFIXES)] == []
