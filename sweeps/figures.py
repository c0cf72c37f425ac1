"""Pictures of a sweep: history, slices, contours, importance of the parameters. Optuna draws them; names, sizes and units are
ours, and trials that were pruned are shown where they stopped."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import optuna
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawing

from core.files import atomic_path
from sweeps.schema import OBJECTIVES
from sweeps.trials import Trials

matplotlib.use("Agg")  # files, never windows
LEAST = 4  # complete trials that importances and contours are drawn of
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#666666"  # told apart by everyone (Okabe and Ito)
STYLE: Any = {"font.size": 8, "savefig.dpi": 160}
Drawn = Sequence[Axes]


def draw(trials: Trials) -> dict[str, str]:
    """Picture -> its file in the sweep's folder, or why there is none."""
    study, keys, sweep = trials.study(), list(trials.search.space), trials.search.sweep
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    label = f"{OBJECTIVES[sweep.objective].partition(':')[0]} (%)"
    lacks = "one parameter is searched" if len(keys) < 2 else ""
    if len(complete) < LEAST:
        lacks = f"there are {len(complete)} complete trials, fewer than {LEAST}"
    elif len({trial.value for trial in complete}) == 1:
        lacks = "all complete trials have the same value"
    seeds = f"seed{'s' if len(sweep.seeds) > 1 else ''} {' '.join(map(str, sweep.seeds))}"
    title = f"{trials.folder.name}, {seeds}, {len(complete)} complete trials"
    makers: dict[str, tuple[str, Callable[[], Drawn]]] = {
        "history": ("", lambda: history(study, label)),
        "slices": ("", lambda: slices(study, keys, label)),
        "contours": (lacks, lambda: contours(study, keys, label)),
        "importances": (lacks, lambda: importances(study, keys)),
    }
    found = {}
    for name, (reason, make) in makers.items():
        found[name] = reason or f"{name}.png"
        if not reason:
            with matplotlib.rc_context(STYLE):
                figure = make()[0].figure
                assert isinstance(figure, Figure)
                top = max(one.get_position().y1 for one in figure.axes)
                figure.suptitle(title, fontsize=8, y=top + 0.1 / figure.get_figheight(), verticalalignment="bottom")
                with atomic_path(trials.folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, format="png", bbox_inches="tight")
                matplotlib.pyplot.close(figure)
    return found


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
    pruned = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.PRUNED]
    values = [100 * trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
    axes.scatter([trial.number for trial in pruned], values, marker="x", color=GREY, label="pruned, as it stood")
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    best = sign * np.maximum.accumulate([sign * in_percent(trial) for trial in complete])
    axes.step([trial.number for trial in complete], best, where="post", color=VERMILION, label="best so far")
    axes.set(title="", xlabel="trial")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncol=3, fontsize=7)
    return _sized([axes], 4.5, 3)


def slices(study: optuna.Study, keys: Sequence[str], label: str) -> Drawn:
    """Values by each parameter; later trials are darker."""
    axes = _flat(drawing.plot_slice(study, params=list(keys), target=in_percent, target_name=label))
    for one in axes:
        one.set(xlabel=short(one.get_xlabel(), keys), title="")
    return _sized(axes, 1 + 2.2 * len(keys), 2.8)


def contours(study: optuna.Study, keys: Sequence[str], label: str) -> Drawn:
    """Values between the trials, interpolated, by each pair of parameters."""
    grid = np.atleast_2d(np.asarray(drawing.plot_contour(study, params=list(keys), target_name=label)))
    axes, names = _flat(grid), {key: short(key, keys) for key in keys}
    for one in axes:
        one.set(xlabel=names.get(one.get_xlabel(), one.get_xlabel()), ylabel=names.get(one.get_ylabel(), one.get_ylabel()))
        one.set_title("")
        if len(axes) > 1:
            one.label_outer()
    scale = axes[0].figure.axes[-1]  # of the colours; given in shares, or Optuna would make the best ones pale
    scale.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=""))
    return _sized(axes, 1.5 + 2.2 * grid.shape[1], 0.6 + 2.0 * grid.shape[0])


def importances(study: optuna.Study, keys: Sequence[str]) -> Drawn:
    """How much each parameter has to do with being among the better trials (PED-ANOVA; Watanabe et al., 2023)."""
    axes = drawing.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=list(keys))
    axes.set_yticks(axes.get_yticks(), [short(text.get_text(), keys) for text in axes.get_yticklabels()])
    axes.set_title("", loc="left")
    axes.set(ylabel="", xlabel="importance (PED-ANOVA)")
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    return _sized([axes], 4.5, 0.8 + 0.45 * len(keys))


def _flat(axes: Any) -> list[Axes]:
    return [one for one in np.atleast_1d(np.asarray(axes, dtype=object)).ravel() if isinstance(one, Axes)]


def _sized(axes: Sequence[Axes], width: float, height: float) -> Sequence[Axes]:
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    figure.set_size_inches(width, height)
    for one in axes:
        for side in (one.xaxis, one.yaxis):
            side.label.set_fontsize(8)
            if side.get_scale() == "log":
                side.set_minor_formatter(ticker.NullFormatter())
    return axes
