"""The two pictures of the README: a strip of one pre-training step, and a sketch of the branches.

    python -m analysis.report.readme_pictures --results results/published/former_mini

The strip shows the LMIM row of Table 1 at seed 0, and needs its weights (environment/README.md
says where they are). The command takes a few seconds and writes `strip.png` and `branches.svg`.
"""

import argparse
import io
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from analysis.figures.branches import branches_figure
from analysis.figures.feature_visualizer import fit_visualizer
from analysis.figures.models import PretrainedModel
from analysis.figures.overview_strip import overview_strip
from analysis.figures.probe_words import draw_words
from analysis.report.open_results import OpenedResults, open_results
from analysis.style import figure_of, styled
from core.runtime.errors import UserError
from core.runtime.files import atomic_path
from experiments.cli import argument_types

EXPERIMENT = "experiments/ablation_alignment.yaml"
ROW = "guidance + alignment (LMIM)"
WORDS = ("market", "summer", "shadow")  # not in the training data
FITTED_WORDS = 140
FOLDER = Path(__file__).resolve().parent.parent / "figures/readme"
DPI = 160  # the strip is 10 inches wide


def strip_figure(opened: OpenedResults) -> Figure:
    """The strip, from the stored weights of the LMIM row of Table 1.

    Raises UserError if these weights are not available."""
    model = _model_of_row(opened, ROW)
    size = model.config.encoder.image
    fitted = draw_words(opened.words(FITTED_WORDS, excluding=WORDS), size, variant=1)
    return overview_strip(model, fit_visualizer(model, fitted), draw_words(WORDS, size, variant=2))


def _model_of_row(opened: OpenedResults, row: str) -> PretrainedModel:
    models = {model.name: model for model in opened.models(seed=0)}
    if row not in models:
        reasons = "".join(f"; {why}" for why in opened.unavailable if why.startswith(f"{row}: "))
        raise UserError(f"{opened.store.root}: no model of row {row!r}{reasons}")
    return models[row]


def write_pictures(results: Path, out: Path, dpi: int = DPI) -> list[Path]:
    """Write `strip.png` and `branches.svg`.

    results: a results folder with Table 1 and its weights. out: folder of the pictures. dpi:
    resolution of the strip. Returns the paths."""
    opened = open_results(results, [EXPERIMENT], None, out)
    strip = out / "strip.png"
    branches = out / "branches.svg"
    _save(strip_figure(opened), strip, dpi)
    _save(figure_of(branches_figure()), branches, dpi)
    return [strip, branches]


def _save(figure: Figure, path: Path, dpi: int) -> None:
    """Save without a date, so that the same figure gives the same file."""
    buffer = io.BytesIO()
    with styled(), matplotlib.rc_context({"svg.hashsalt": path.name}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(buffer, format=path.suffix[1:], dpi=dpi, metadata=metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def main(arguments: list[str]) -> int:
    """Write the pictures and print their paths."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report.readme_pictures")
    parser.add_argument(
        "--results", type=argument_types.folder, default=Path("results/published/former_mini")
    )
    parser.add_argument(
        "--out",
        type=argument_types.folder,
        default=FOLDER,
        help="default: analysis/figures/readme",
    )
    parser.add_argument(
        "--dpi",
        type=argument_types.whole_number(10, 1200),
        default=DPI,
        help="resolution of the strip",
    )
    parsed = parser.parse_args(arguments)
    try:
        paths = write_pictures(parsed.results.resolve(), parsed.out.resolve(), parsed.dpi)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
