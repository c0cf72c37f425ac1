"""Pictures of a sweep: history, slices, contours, importance of the parameters. Optuna draws them; names, sizes and units are
ours, and trials that were pruned are shown where they stopped."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot, ticker
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import PathCollection
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawing

from analysis.style import BLUE, COLUMN, GRAY, PAGE, VERMILION, figure_of, styled
from core.runtime.files import atomic_path
from sweeps.engine.schema import OBJECTIVES
from sweeps.engine.trials import Trials

LEAST = 4  # complete trials that importances and contours are drawn of
Drawn = Sequence[Axes]


def draw(trials: Trials) -> dict[str, str]:
    """Picture -> its file in the sweep's folder, or why there is none."""
    seeds, complete = trials.search.sweep.seeds, len(_complete(trials.study()))
    told = f"seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}"
    found = {}
    for name, drawn in pictures(trials).items():
        found[name] = drawn if isinstance(drawn, str) else f"{name}.png"
        if not isinstance(drawn, str):
            figure = figure_of(drawn)
            top = max(one.get_position().y1 for one in figure.axes)
            title = f"{trials.folder.name}, {told}, {complete} complete trials"
            figure.suptitle(
                title, fontsize=8, y=top + 0.1 / figure.get_figheight(), verticalalignment="bottom"
            )
            with styled(), atomic_path(trials.folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", bbox_inches="tight")
    return found


def pictures(trials: Trials) -> dict[str, Drawn | str]:
    """Picture -> its axes, or why there is none."""
    study, keys, sweep = trials.study(), list(trials.search.space), trials.search.sweep
    complete = _complete(study)
    label = f"{OBJECTIVES[sweep.objective].partition(':')[0]} (%)"
    lacks = "one parameter is searched" if len(keys) < 2 else ""
    if len(complete) < LEAST:
        lacks = f"there are {len(complete)} complete trials, fewer than {LEAST}"
    elif len({trial.value for trial in complete}) == 1:
        lacks = "all complete trials have the same value"
    makers: dict[str, tuple[str, Callable[[], Drawn]]] = {
        "history": ("", lambda: history(study, label)),
        "slices": ("", lambda: slices(study, keys, label)),
        "contours": (lacks, lambda: contours(study, keys, label)),
        "importances": (lacks, lambda: importances(study, keys)),
    }
    found: dict[str, Drawn | str] = {}
    for name, (reason, make) in makers.items():
        found[name] = reason or _drawn(make)
    return found


def _drawn(make: Callable[[], Drawn]) -> Drawn:
    """Axes in the suite's style, of a figure that no notebook shows by itself."""
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        axes = make()
    pyplot.close(figure_of(axes))
    return axes


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [
        trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE
    ]


def short(key: str, keys: Sequence[str]) -> str:
    """A dotted key's last two parts, or as many as tell it from the others."""
    parts = key.split(".")
    for count in range(2, len(parts)):
        tail = ".".join(parts[-count:])
        if [other for other in keys if f".{other}".endswith(f".{tail}")] == [key]:
            return tail
    return key


def in_percent(trial: optuna.trial.FrozenTrial) -> float:
    return 100 * (trial.value or 0.0)


def history(study: optuna.Study, label: str) -> Drawn:
    """Values by trial, the best so far, and where pruned trials stopped."""
    axes = drawing.plot_optimization_history(study, target=in_percent, target_name=label)
    pruned = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.PRUNED
    ]
    values = [100 * trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
    axes.scatter(
        [trial.number for trial in pruned],
        values,
        marker="x",
        color=GRAY,
        label="pruned, as it stood",
    )
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = _complete(study)
    axes.collections[0].set_color(BLUE)
    best = sign * np.maximum.accumulate([sign * in_percent(trial) for trial in complete])
    axes.step(
        [trial.number for trial in complete],
        best,
        where="post",
        color=VERMILION,
        label="best so far",
    )
    axes.set(title="", xlabel="trial")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=2)
    return _sized([axes], COLUMN, 2.5)


def slices(study: optuna.Study, keys: Sequence[str], label: str) -> Drawn:
    """Values by each parameter; later trials are darker."""
    axes = _flat(drawing.plot_slice(study, params=list(keys), target=in_percent, target_name=label))
    for one in axes:
        one.set(xlabel=short(one.get_xlabel(), keys), title="")
        if isinstance(
            one.xaxis.get_major_formatter(), StrCategoryFormatter
        ):  # choices, which Optuna quotes
            one.set_xticks(
                one.get_xticks(), [text.get_text().strip("'") for text in one.get_xticklabels()]
            )
    figure_of(axes).axes[-1].set_ylabel("trial")
    return _sized(axes, min(PAGE, 0.8 + 1.8 * len(keys)), 2.3)


def contours(study: optuna.Study, keys: Sequence[str], label: str) -> Drawn:
    """Values between the trials, interpolated, by each pair of parameters."""
    grid = np.atleast_2d(
        np.asarray(drawing.plot_contour(study, params=list(keys), target_name=label))
    )
    axes, names = _flat(grid), {key: short(key, keys) for key in keys}
    for one in axes:
        one.set(
            xlabel=names.get(one.get_xlabel(), one.get_xlabel()),
            ylabel=names.get(one.get_ylabel(), one.get_ylabel()),
        )
        one.set_title("")
        for points in (found for found in one.collections if isinstance(found, PathCollection)):
            points.set(sizes=[9], linewidths=0.5, edgecolors="white")
        if len(axes) > 1:
            one.label_outer()
    scale = axes[0].figure.axes[
        -1
    ]  # of the colors; given in shares, or Optuna would make the best ones pale
    scale.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=""))
    return _sized(axes, min(PAGE, 1.4 + 2.0 * grid.shape[1]), 0.5 + 1.9 * grid.shape[0])


def importances(study: optuna.Study, keys: Sequence[str]) -> Drawn:
    """How much each parameter has to do with being among the better trials (PED-ANOVA; Watanabe et al., 2023)."""
    axes = drawing.plot_param_importances(
        study, evaluator=PedAnovaImportanceEvaluator(), params=list(keys)
    )
    axes.set_yticks(
        axes.get_yticks(), [short(text.get_text(), keys) for text in axes.get_yticklabels()]
    )
    axes.set_title("", loc="left")
    axes.set(ylabel="", xlabel="importance (PED-ANOVA)")
    for bar in axes.patches:
        bar.set_facecolor(BLUE)
    for text in axes.texts:
        text.set(fontsize=7, text=f" {text.get_text()}")
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    return _sized([axes], COLUMN, 0.6 + 0.4 * len(keys))


def _flat(axes: Any) -> list[Axes]:
    return [
        one
        for one in np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if isinstance(one, Axes)
    ]


def _sized(axes: Sequence[Axes], width: float, height: float) -> Sequence[Axes]:
    """The figure at so many inches, and the suite's look in place of the style sheet that Optuna sets before it draws."""
    figure = figure_of(axes)
    figure.set_size_inches(width, height)
    figure.suptitle("")
    for one in figure.axes:
        one.set_facecolor("white")
        one.tick_params(labelsize=7, colors="black")
        one.spines[:].set_color("black")
        one.grid(False)
        for side in (one.xaxis, one.yaxis):
            side.label.set(fontsize=8, color="black")
    for one in axes:
        one.spines[["left", "bottom"]].set_visible(True)
        for side in (one.xaxis, one.yaxis):
            if side.get_scale() == "log":
                side.set_minor_formatter(ticker.NullFormatter())
    return axes
