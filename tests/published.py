"""The results that are published with the suite, and words to examine models with.

The repository has no weights. A copy of the published records has those of untrained models."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from untrained_weights import write_untrained_weights

from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords, choose_words, draw_words
from analysis.report.open_results import OpenedResults, open_results
from core.config import Encoder
from results.provenance import REPOSITORY

SCALE = "former_mini"  # of the published results
PUBLISHED = REPOSITORY / "results/published" / SCALE
TABLE1 = "experiments/ablation_alignment.yaml"
TABLE4 = "experiments/ablation_target.yaml"
TABLE7 = "experiments/union14m_benchmark.yaml"
SIZE = (32, 128)
SMALL_ENCODER = Encoder(image=SIZE, patch=(16, 8), width=24, depth=2, heads=2, positions="grid")
_FOLDER = tempfile.TemporaryDirectory(prefix="lmim_published_")  # removed when the tests end


@cache
def published_with_weights() -> Path:
    """A copy of the published results, with untrained weights of Tables 1, 4 and 7 at seed 0."""
    results = Path(_FOLDER.name) / SCALE
    own_weights = shutil.ignore_patterns("*.safetensors")  # of somebody who added them
    for part in ("runs", "sweeps", "tables"):
        shutil.copytree(PUBLISHED / part, results / part, ignore=own_weights)
    write_untrained_weights(results, [TABLE1, TABLE4, TABLE7], SCALE)
    return results


@cache
def opened_results() -> OpenedResults:
    """Tables 1 and 4 with untrained weights. Tests write no figures through it."""
    return open_results(published_with_weights(), [TABLE1, TABLE4], SCALE, "results/analysis")


@cache
def published_models() -> list[PretrainedModel]:
    """All models of Tables 1 and 4 at seed 0, untrained."""
    return opened_results().models(0)


@cache
def probe_words() -> ProbeWords:
    """24 drawn words."""
    return draw_words(choose_words(24), SIZE)
