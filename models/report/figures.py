"""The small pictures of the report, as SVG inside an HTML image."""

import base64
from io import BytesIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

Numbers = NDArray[np.float64]
COLOURS = {
    "age_sex": "#8c8c8c",
    "logistic_regression": "#3b75af",
    "lightgbm": "#519e3e",
    "timeline_transformer": "#b8442f",
}
MOST_BINS = 10


def roc_picture(models: dict[str, tuple[Numbers, NDArray[np.bool_]]], words: dict[str, str]) -> str:
    """ROC curves. `models`: score and outcome of each held-out row by model; `words`: names to show."""
    figure, axes = _square("False alarms (1 - specificity)", "Outcomes found (sensitivity)")
    for model, (scores, events) in models.items():
        false_alarms, found, _ = roc_curve(events, scores)
        axes.plot(false_alarms, found, color=COLOURS[model], linewidth=1.3, label=words[model])
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    return _as_image(figure)


def calibration_picture(risk: Numbers, events: NDArray[np.bool_], people: NDArray[np.int64], fewest: int) -> str:
    """Observed share against forecast risk, in groups of like risk with at least `fewest` people each.

    risk, events and people (N,): forecast, outcome and patient of each held-out row.
    """
    figure, axes = _square("Forecast risk", "Observed share")
    groups = risk_groups(risk, people, fewest)
    forecast = [float(risk[group].mean()) for group in groups]
    observed = [float(events[group].mean()) for group in groups]
    axes.plot(forecast, observed, color="#222222", marker="o", markersize=3.5, linewidth=1)
    highest = min(1.0, max([0.05, *forecast, *observed]) * 1.1)
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    return _as_image(figure)


def risk_groups(risk: Numbers, people: NDArray[np.int64], fewest: int) -> list[NDArray[np.int64]]:
    """Rows sorted by risk, cut into the most groups, ten or fewer, that all hold at least `fewest` people."""
    order = np.argsort(risk, kind="stable")
    for bins in range(MOST_BINS, 1, -1):
        groups = np.array_split(order, bins)
        if all(len(np.unique(people[group])) >= fewest for group in groups):
            return groups
    return [order]


def _square(across: str, upwards: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.1, 3.1), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle="--")
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
