"""Figures of endpoints, from simulated values: marks, labels, widths, correlations."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from PIL import Image
from simulated_endpoints import endpoint_row, many_endpoints, simulated_endpoint

from analysis.figures.endpoint_agreement import agreement_table, endpoint_agreements
from analysis.figures.endpoint_figures import (
    agreement_figure,
    endpoints_figure,
    rescue_figure,
    scaling_figure,
    value_limits,
)
from analysis.figures.endpoint_panels import looks_of, short_count
from analysis.figures.scaling import ScalingCurve, ScalingPoint, common_name
from analysis.style import BLUE, COLUMN, figure_of, styled
from core.runtime.errors import UserError

ROWS = {"scratch": [10.0, 12.0], "MIM": [30.0, 34.0], "LMIM": [40.0, 41.0]}


def x_values(axes: Axes, gid: str) -> list[list[float]]:
    """The x values of the lines with a group id."""
    return [list(np.ravel(line.get_xdata())) for line in axes.lines if line.get_gid() == gid]


def y_values(axes: Axes, gid: str) -> list[list[float]]:
    return [list(np.ravel(line.get_ydata())) for line in axes.lines if line.get_gid() == gid]


def width_in_inches(panels: np.ndarray) -> float:
    """The width of the saved figure without its border."""
    png = io.BytesIO()
    with styled():
        figure_of(panels).savefig(png, format="png", dpi=100, bbox_inches="tight", pad_inches=0)
    return Image.open(png).width / 100


def test_dots_are_the_seeds_and_lines_the_intervals_of_rows() -> None:
    (axes,) = endpoints_figure([simulated_endpoint("fine-tuned words", ROWS)], "scratch")
    assert x_values(axes, "seeds") == list(ROWS.values())
    assert x_values(axes, "mean") == [[11], [32], [40.5]]
    assert x_values(axes, "interval") == [[10, 12], [31, 33], [39.5, 41.5]]
    assert x_values(axes, "control") == [[11, 11]]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ROWS)


def test_the_primary_endpoint_is_first_and_marked() -> None:
    panels = endpoints_figure(many_endpoints(5, 3))
    titles = [axes.get_title() for axes in panels]
    assert "primary" in titles[0]
    assert not any("primary" in title for title in titles[1:])
    colors = [axes.title.get_color() for axes in panels]
    assert [same_color(color, BLUE) for color in colors] == [True] + 4 * [False]


def test_titles_name_the_unit_and_the_better_direction() -> None:
    panels = endpoints_figure(many_endpoints(3, 2))
    titles = [axes.get_title().replace("\n", " ") for axes in panels]
    assert titles[1:] == ["fine-tuned cer (% ↓)", "fine-tuned nll (nats ↓)"]
    assert "(% ↑" in titles[0]


@pytest.mark.parametrize(("count", "rows"), [(1, 2), (2, 12), (4, 3), (5, 7), (12, 2), (12, 12)])
def test_figures_of_all_sizes_fit_a_column_and_a_page(count: int, rows: int) -> None:
    panels = endpoints_figure(many_endpoints(count, rows))
    assert len(panels) == count
    assert width_in_inches(panels) <= COLUMN
    assert figure_of(panels).get_figheight() < 11
    for axes in panels:
        assert len(x_values(axes, "mean")) == rows


def test_a_long_name_of_a_row_is_shortened_and_escaped() -> None:
    names = ["costs $5", "a name that is much longer than the axis of any panel can show, really"]
    table = simulated_endpoint("fine-tuned words", {name: [1.0, 2.0] for name in names})
    (axes,) = endpoints_figure([table])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == r"costs \$5"
    assert labels[1].endswith("…")
    assert max(map(len, labels[1].splitlines())) <= 18


def test_a_row_without_an_endpoint_has_no_marks_in_its_panel() -> None:
    tables = [
        simulated_endpoint("fine-tuned words", ROWS),
        simulated_endpoint("characters nll", {"MIM": [1.0, 2.0]}),
    ]
    first, second = endpoints_figure(tables, "scratch")
    assert len(x_values(first, "mean")) == 3
    assert y_values(second, "mean") == [[list(ROWS).index("MIM")]]
    assert x_values(second, "control") == []


def test_a_wide_interval_is_cut_and_marked() -> None:
    table = simulated_endpoint("linear cer", ROWS, half=500)
    (axes,) = endpoints_figure([table])
    low, high = axes.get_xlim()
    assert low > -60
    assert high < 120
    assert len(x_values(axes, "cut")) == 2 * len(ROWS)


def test_limits_show_all_seeds_and_a_narrow_interval() -> None:
    low, high = value_limits([endpoint_row([10, 20], half=6)])
    assert (low, high) == pytest.approx((9 - 0.6, 21 + 0.6))
    low, high = value_limits([endpoint_row([5, 5], half=2)])
    assert low < 3 < 7 < high
    low, high = value_limits([endpoint_row([0, 0], half=0)])
    assert low < 0 < high


def test_the_rescue_gap_has_a_line_at_zero() -> None:
    (axes,) = rescue_figure([simulated_endpoint("linear − bilstm", ROWS)], "scratch")
    assert x_values(axes, "zero") == [[0, 0]]
    assert "points" in axes.get_xlabel()


def test_a_scaling_curve_connects_means_at_its_images() -> None:
    curve = ScalingCurve("MIM", (ScalingPoint("MIM", 1000), ScalingPoint("LMIM", 4000)))
    tables = [
        simulated_endpoint("fine-tuned words", ROWS, primary=True),
        simulated_endpoint("characters nll", {"MIM": [1.0, 2.0]}),
    ]
    first, second = scaling_figure(tables, [curve], "scratch")
    assert x_values(first, "means") == [[1000, 4000]]
    assert y_values(first, "means") == [[32, 40.5]]
    assert y_values(first, "seeds") == [ROWS["MIM"], ROWS["LMIM"]]
    assert y_values(first, "control") == [[11, 11]]
    assert y_values(second, "means") == [[1.5]]
    assert first.get_xscale() == "log"
    (legend,) = figure_of(first).legends
    assert [text.get_text() for text in legend.get_texts()] == ["MIM", "untrained encoder"]


def test_scaling_figures_fit_a_column() -> None:
    tables = many_endpoints(11, 4)
    points = [ScalingPoint(name, 7_500 * 2**n) for n, name in enumerate(tables[0].rows)]
    curve = ScalingCurve("guidance + alignment (LMIM)", tuple(points))
    assert width_in_inches(scaling_figure(tables, [curve])) <= COLUMN


@pytest.mark.parametrize(
    ("number", "text"), [(512, "512"), (7500, "7.5k"), (768_000, "768k"), (1_536_000, "1.54M")]
)
def test_numbers_of_images_are_short(number: float, text: str) -> None:
    assert short_count(number) == text


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["MIM, 1/8", "MIM, 1/4", "MIM, 1"], "MIM"),
        (["guidance + alignment (LMIM), 2", "guidance + alignment (LMIM)"], "guidance + alignment"),
        (["short", "long"], "short"),
        (["MIM", "MIM twice"], "MIM"),
    ],
)
def test_a_curve_is_named_after_what_its_rows_share(names: list[str], name: str) -> None:
    assert common_name(names).startswith(name)


def test_agreement_has_a_dot_for_each_row_and_seed() -> None:
    words = simulated_endpoint("fine-tuned words", ROWS, primary=True)
    nll = simulated_endpoint("characters nll", {"MIM": [2.0, 1.0], "LMIM": [0.5, 0.4]})
    (agreements,) = endpoint_agreements([words, nll]).values()
    (axes,) = agreement_figure(agreements)
    dots = zip(x_values(axes, "point"), y_values(axes, "point"), strict=True)
    assert [(x, y) for (x,), (y,) in dots] == [(2, 30), (1, 34), (0.5, 40), (0.4, 41)]
    assert axes.xaxis_inverted()
    assert not axes.yaxis_inverted()
    assert "ρ = +1.00, n = 4" in axes.get_title()
    assert width_in_inches(np.array([axes])) <= COLUMN


def test_rank_correlation_has_the_sign_of_the_better_direction() -> None:
    words = simulated_endpoint("fine-tuned words", ROWS, primary=True)
    same = simulated_endpoint("a cer", {name: [-v for v in row] for name, row in ROWS.items()})
    opposite = simulated_endpoint("b cer", ROWS)
    flat = simulated_endpoint("c words", {name: [0.0, 0.0] for name in ROWS})
    (agreements,) = endpoint_agreements([words, same, opposite, flat]).values()
    correlations = [agreement.correlation for agreement in agreements]
    assert correlations == [pytest.approx(1), pytest.approx(-1), None]
    table = agreement_table(agreements)
    assert list(table["Spearman's rank correlation"]) == ["+1.00", "−1.00", "–"]
    assert list(table["points"]) == [6, 6, 6]


def test_the_references_are_the_primary_endpoint_and_fine_tuned_words() -> None:
    primary = simulated_endpoint("characters nll", ROWS, primary=True)
    words = simulated_endpoint("fine-tuned words", ROWS)
    other = simulated_endpoint("linear cer", ROWS)
    agreements = endpoint_agreements([primary, words, other])
    assert list(agreements) == ["characters nll", "fine-tuned words"]
    compared = [one.endpoint.name for one in agreements["fine-tuned words"]]
    assert compared == ["characters nll", "linear cer"]
    with pytest.raises(UserError):
        endpoint_agreements([primary])


def test_twelve_rows_have_different_marks() -> None:
    names = [f"row {number}" for number in range(12)]
    assert len(set(looks_of(names).values())) == 12
