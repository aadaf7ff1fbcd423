"""Bands that cover what they say: conformalised quantile regression (CQR).

Source: Romano, Patterson, Candès, Conformalized quantile regression, NeurIPS 2019. The band of a forecast is widened,
or narrowed, by the amount that would have made it cover on tuning patients; of each measure and step by its own.
Patients with several forecasts count by each: so the promise holds for forecasts, on average, not for each patient.
"""

import numpy as np

from models.trajectories.measures import BAND, MEDIAN
from models.trajectories.windows import Floats, Windows

_FEWEST = 20  # measured cells; a step with fewer takes the amount of all steps of its measure


def fit_margins(windows: Windows, quantiles: Floats) -> list[list[float]]:
    """By how much the band of each measure and step must be wider, in the measure's unit: (M, H)."""
    setting = windows.setting
    beyond = np.maximum(quantiles[:, :, 0] - windows.future, windows.future - quantiles[:, :, -1])  # (N, H)
    margins = []
    for place in range(len(setting.measures)):
        of_measure = beyond[windows.measure == place]
        everything = of_measure[~np.isnan(of_measure)]
        of_steps = []
        for step in range(setting.ahead):
            seen = of_measure[:, step][~np.isnan(of_measure[:, step])]
            of_steps.append(_margin(seen if len(seen) >= _FEWEST else everything))
        margins.append(of_steps)
    return margins


def conformal_band(margins: list[list[float]], windows: Windows, quantiles: Floats) -> tuple[Floats, Floats]:
    """Lower and upper end of the corrected band (N, H); the median always lies in it."""
    wider = np.array(margins)[windows.measure]
    median = quantiles[:, :, MEDIAN]
    low, high = np.minimum(quantiles[:, :, 0] - wider, median), np.maximum(quantiles[:, :, -1] + wider, median)
    return windows.possible(low), windows.possible(high)


def _margin(beyond: Floats) -> float:
    """The (n + 1) * 80 %th smallest of n scores; 0 where there is none."""
    if not len(beyond):
        return 0.0
    place = min(int(np.ceil((len(beyond) + 1) * BAND)), len(beyond)) - 1
    return float(np.sort(beyond)[place])
