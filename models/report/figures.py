"""The small pictures of the report, as SVG inside an HTML image."""

import base64
from io import BytesIO
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from models.report.calibration_groups import RiskGroup

COLOURS = {
    "age_sex": "#8c8c8c",
    "logistic_regression": "#3b75af",
    "lightgbm": "#519e3e",
    "gru_d": "#8a6d3b",
    "retain": "#8a6d3b",
    "timeline_transformer": "#b8442f",
    "stack": "#1f1f1f",
}
COMPARATOR_COLOURS = ("#8a5a9e", "#c98a1b", "#2f9e98", "#b3648c", "#7d7d2e", "#5b5bb5")


def roc_picture(models: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]], words: dict[str, str]) -> str:
    """ROC curves. `models`: ranking and outcome of each held-out row by model; `words`: names to show."""
    figure, axes = _square("False alarms (1 - specificity)", "Outcomes found (sensitivity)")
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle="--")
    of_comparators = cycle(COMPARATOR_COLOURS)
    for model, (ranks, events) in models.items():
        false_alarms, found, _ = roc_curve(events, ranks)
        axes.plot(
            false_alarms, found, color=COLOURS.get(model) or next(of_comparators), linewidth=1.3, label=words[model]
        )
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    return _as_image(figure)


def calibration_picture(groups: list[RiskGroup]) -> str:
    """Observed share against forecast risk of each group, with the intervals."""
    figure, axes = _square("Forecast risk, %", "Observed share, % (95 % interval)")
    forecast, observed, low, high = (
        np.array([getattr(group, name) for group in groups]) * 100 for name in ("forecast", "observed", "low", "high")
    )
    axes.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=0.8, linestyle="--")
    axes.errorbar(
        forecast,
        observed,
        yerr=[observed - low, high - observed],
        color="#222222",
        marker="o",
        markersize=3.5,
        linewidth=1,
        elinewidth=0.8,
        capsize=2,
    )
    highest = min(100.0, max([5.0, *forecast, *high]) * 1.1)
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    return _as_image(figure)


def _square(across: str, upwards: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.1, 3.1), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(upwards, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _as_image(figure: Figure) -> str:
    drawing = BytesIO()
    # Neither a date nor random names inside, so that the same numbers give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "sequela", "svg.fonttype": "none", "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(drawing, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.getvalue()).decode()
