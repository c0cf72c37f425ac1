"""Figures of a sweep: history, slices, contours, importances. Seaborn draws Optuna's trials."""

import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import optuna
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.tri import Triangulation
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection

from analysis.style import BLUE, COLUMN, GRAY, PAGE, VERMILION, figure_of, grid, styled
from core.runtime.files import atomic_path
from sweeps.engine.schema import OBJECTIVES
from sweeps.engine.trials import Trials

MIN_TRIALS = 4  # complete trials that contours and importances need
TRIAL_COLORS = "crest"  # light: early trials
VALUE_COLORS = "viridis"
PANEL = 1.75  # inches: width and height of one slice or contour
Figures = dict[str, Sequence[Axes] | str]


def save_figures(trials: Trials) -> dict[str, str]:
    """Write each figure into the sweep's folder; name -> file name, or why there is no figure."""
    seeds = trials.search.sweep.seeds
    seed_text = f"seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}"
    complete = len(_complete(trials.study()))
    title = f"{trials.folder.name}, {seed_text}, {complete} complete trials"
    files: dict[str, str] = {}
    for name, axes in draw_figures(trials).items():
        if isinstance(axes, str):
            files[name] = axes
            continue
        files[name] = f"{name}.png"
        figure = figure_of(axes)
        with styled(), atomic_path(trials.folder / files[name]) as temporary:
            figure.suptitle(title, fontsize=8)
            figure.savefig(temporary, format="png", bbox_inches="tight")
    return files


def draw_figures(trials: Trials) -> Figures:
    """Name of a figure -> its axes, or why there is no figure."""
    study = trials.study()
    keys = list(trials.search.space)
    label = f"{OBJECTIVES[trials.search.sweep.objective].partition(':')[0]} (%)"
    obstacle = _obstacle(study, keys)
    draw: dict[str, Callable[[], Sequence[Axes]]] = {
        "history": lambda: history(study, label),
        "slices": lambda: slices(study, keys, label),
        "contours": lambda: contours(study, keys, label),
        "importances": lambda: importances(study, keys),
    }
    figures: Figures = {}
    for name, function in draw.items():
        if obstacle and name in ("contours", "importances"):
            figures[name] = obstacle
            continue
        with styled():
            figures[name] = function()
    return figures


def _obstacle(study: optuna.Study, keys: Sequence[str]) -> str:
    """Why there are no contours and importances; "" if nothing prevents them."""
    values = [trial.value for trial in _complete(study)]
    if len(values) < MIN_TRIALS:
        return f"there are {len(values)} complete trials, fewer than {MIN_TRIALS}"
    if len(set(values)) == 1:
        return "all complete trials have the same value"
    return "one parameter is searched" if len(keys) < 2 else ""


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    states = (optuna.trial.TrialState.COMPLETE,)
    return study.get_trials(deepcopy=False, states=states)


def complete_frame(study: optuna.Study, keys: Sequence[str], label: str) -> pd.DataFrame:
    """Complete trials with the columns `number`, `label` (percent) and the keys.

    Choices are texts. A value that a trial does not have is missing (NaN or None).
    """
    frame = study.trials_dataframe(attrs=("number", "value", "state", "params"))
    frame = frame[frame["state"] == "COMPLETE"].reset_index(drop=True)
    frame[label] = 100 * frame["value"]
    distributions = _distributions(study)
    trials = _complete(study)
    for key in keys:
        if isinstance(distributions.get(key), CategoricalDistribution):
            choices = [str(trial.params[key]) if key in trial.params else None for trial in trials]
            frame[key] = choices
        else:
            frame[key] = frame.get(f"params_{key}", np.nan)
    return frame


def _distributions(study: optuna.Study) -> dict[str, BaseDistribution]:
    trials = study.get_trials(deepcopy=False)
    return {key: kind for trial in trials for key, kind in trial.distributions.items()}


def _is_log(distribution: BaseDistribution | None) -> bool:
    return bool(getattr(distribution, "log", False))


def short_key(key: str, keys: Sequence[str]) -> str:
    """The last two parts of a dotted key, or more if another key has the same end."""
    parts = key.split(".")
    for count in range(2, len(parts)):
        end = ".".join(parts[-count:])
        if [other for other in keys if f".{other}".endswith(f".{end}")] == [key]:
            return end
    return key


def history(study: optuna.Study, label: str) -> Sequence[Axes]:
    """Values by trial, the best value so far, and the last accuracy of pruned trials."""
    complete = complete_frame(study, [], label)
    attributes = ("number", "state", "intermediate_values")
    pruned = study.trials_dataframe(attrs=attributes)
    pruned = pruned[pruned["state"] == "PRUNED"]
    reached = pruned.filter(like="intermediate_values_")
    reached = reached[sorted(reached, key=lambda name: float(str(name).rpartition("_")[2]))]
    is_maximized = study.direction == StudyDirection.MAXIMIZE
    best = complete[label].cummax() if is_maximized else complete[label].cummin()
    axes: Axes = grid(1, 1, COLUMN, 2.4)[0, 0]
    sns.scatterplot(
        data=complete, x="number", y=label, color=BLUE, label="complete", legend=False, ax=axes
    )
    if len(pruned):
        last = 100 * reached.ffill(axis=1).iloc[:, -1]
        text = "pruned: last accuracy"
        axes.scatter(pruned["number"], last, marker="x", color=GRAY, label=text)
    axes.step(complete["number"], best, where="post", color=VERMILION, label="best so far")
    axes.set(xlabel="trial", ylabel=label)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    figure_of(axes).legend(handles, labels, loc="outside lower center", ncols=3)
    return [axes]


def slices(study: optuna.Study, keys: Sequence[str], label: str) -> Sequence[Axes]:
    """Values by each parameter. Later trials are darker."""
    frame = complete_frame(study, keys, label)
    distributions = _distributions(study)
    norm = Normalize(0, max(frame["number"], default=1) or 1)
    panels = grid(1, len(keys), min(PAGE, 1.2 + PANEL * len(keys)), 2.2, sharey=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        sns.scatterplot(
            data=frame.dropna(subset=[key]),
            x=key,
            y=label,
            hue="number",
            hue_norm=norm,
            palette=TRIAL_COLORS,
            legend=False,
            ax=axes,
        )
        _format_axis(axes, "x", key, keys, distributions)
    colors = ScalarMappable(norm, sns.color_palette(TRIAL_COLORS, as_cmap=True))
    whole = ticker.MaxNLocator(integer=True)
    figure_of(panels).colorbar(colors, ax=list(panels), label="trial", ticks=whole)
    return list(panels)


def contours(study: optuna.Study, keys: Sequence[str], label: str) -> Sequence[Axes]:
    """Values by each pair of parameters. Between numbers they are interpolated linearly."""
    frame = complete_frame(study, keys, label)
    distributions = _distributions(study)
    norm = Normalize(frame[label].min(), frame[label].max())
    pairs = list(combinations(keys, 2))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    panels = grid(rows, columns, min(PAGE, 1.4 + 2 * columns), 0.4 + 2 * rows)
    used = list(panels.flat)[: len(pairs)]
    for axes in list(panels.flat)[len(pairs) :]:
        axes.remove()
    for axes, (first, second) in zip(used, pairs, strict=True):
        points = frame.dropna(subset=[first, second])
        numbers = [points[key] for key in (first, second) if points[key].dtype != object]
        if len(numbers) == 2:
            are_log = [_is_log(distributions.get(key)) for key in (first, second)]
            _interpolate(axes, numbers[0], numbers[1], points[label], are_log, norm)
        sns.scatterplot(
            data=points,
            x=first,
            y=second,
            hue=label,
            hue_norm=norm,
            palette=VALUE_COLORS,
            legend=False,
            edgecolor="white",
            ax=axes,
        )
        _format_axis(axes, "x", first, keys, distributions)
        _format_axis(axes, "y", second, keys, distributions)
    colors = ScalarMappable(norm, VALUE_COLORS)
    figure_of(used).colorbar(colors, ax=used, label=label)
    return used


def _interpolate(
    axes: Axes,
    x: "pd.Series[float]",
    y: "pd.Series[float]",
    values: "pd.Series[float]",
    are_log: Sequence[bool],
    norm: Normalize,
) -> None:
    """Fill the area between points by linear interpolation on a Delaunay triangulation.

    x, y, values: of each point.
    are_log: whether x and y have a logarithmic scale, which the triangulation then uses.
    norm: value -> [0, 1], for colors.

    Draws nothing if the points span no area.
    """
    scaled = [np.log10(axis) if log else axis for axis, log in zip((x, y), are_log, strict=True)]
    try:
        triangles = Triangulation(scaled[0], scaled[1]).triangles
    except (RuntimeError, ValueError):  # fewer than three points, or all on one line
        return
    mesh = Triangulation(x, y, triangles)
    axes.tricontourf(
        mesh, values, levels=10, cmap=VALUE_COLORS, norm=norm, alpha=0.5, antialiased=False
    )
    axes.use_sticky_edges = False  # so that points at the border are not cut


def _format_axis(
    axes: Axes,
    side: Literal["x", "y"],
    key: str,
    keys: Sequence[str],
    distributions: dict[str, BaseDistribution],
) -> None:
    """Name an axis after a parameter, and make it logarithmic if the parameter is.

    key: the parameter of the axis.
    keys: all parameters, to shorten the name.
    distributions: key -> Optuna's distribution.
    """
    axes.set(**{f"{side}label": short_key(key, keys)})
    if _is_log(distributions.get(key)):
        axes.set(**{f"{side}scale": "log"})
        axis = axes.xaxis if side == "x" else axes.yaxis
        axis.set_minor_formatter(ticker.NullFormatter())


def importances(study: optuna.Study, keys: Sequence[str]) -> Sequence[Axes]:
    """The share of each parameter in being among the better trials.

    PED-ANOVA (Watanabe et al., 2023); the shares sum to 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator()
        shares = get_param_importances(study, evaluator=evaluator, params=list(keys))
    axes: Axes = grid(1, 1, COLUMN, 0.6 + 0.4 * len(keys))[0, 0]
    names = [short_key(key, keys) for key in shares]
    sns.barplot(x=list(shares.values()), y=names, color=BLUE, orient="h", ax=axes)
    for row, share in enumerate(shares.values()):
        axes.text(share, row, f" {share:.2f}", fontsize=7, verticalalignment="center")
    axes.set(xlabel="importance (PED-ANOVA)", ylabel="")
    return [axes]
