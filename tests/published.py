"""The results that are published with the suite, and words to examine their models with."""

from functools import cache

from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords, choose_words, draw_words
from analysis.report.open_results import OpenedResults, open_results
from core.config import Encoder
from results.provenance import REPOSITORY

SCALE = "former_mini"  # of the published results
PUBLISHED = REPOSITORY / "results/published" / SCALE
TABLE1 = "experiments/ablation_alignment.yaml"
TABLE4 = "experiments/ablation_target.yaml"
SIZE = (32, 128)
SMALL_ENCODER = Encoder(image=SIZE, patch=(16, 8), width=24, depth=2, heads=2, positions="grid")


@cache
def opened_results() -> OpenedResults:
    """Tables 1 and 4 with their weights. Tests write no figures through it."""
    return open_results(PUBLISHED, [TABLE1, TABLE4], SCALE, "results/analysis")


@cache
def published_models() -> list[PretrainedModel]:
    """All models of Tables 1 and 4 at seed 0."""
    return opened_results().models(0)


@cache
def probe_words() -> ProbeWords:
    """24 drawn words."""
    return draw_words(choose_words(24), SIZE)
