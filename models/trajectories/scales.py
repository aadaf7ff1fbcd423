"""Courses as numbers of one size: differences from the last value known, in the usual size of such a difference.

So one model can learn all measures of a setting, and "nothing changes" is 0 for each of them.
"""

import numpy as np
from pydantic import BaseModel

from models.trajectories.windows import Floats, Windows

_SMALLEST = 1e-3  # of a measure that never changes


class Scales(BaseModel, frozen=True, extra="forbid"):
    """Of each measure of a setting, in its own unit: mean and spread of its values, and the usual size of a change."""

    mean: list[float]
    spread: list[float]
    change: list[float]

    def levels(self, values: Floats) -> Floats:
        """Values of all measures as numbers of spreads from the mean. Shapes: (N, M) -> (N, M)."""
        return np.asarray((values - np.array(self.mean)) / np.array(self.spread))

    def changes(self, windows: Windows, values: Floats) -> Floats:
        """Values of each course as differences from its last value known. Shapes: (N, ...) -> (N, ...)."""
        last, size = self._of_each(windows, values.ndim)
        return np.asarray((values - last) / size)

    def values(self, windows: Windows, changes: Floats) -> Floats:
        """The way back. Shapes: (N, ...) -> (N, ...)."""
        last, size = self._of_each(windows, changes.ndim)
        return np.asarray(last + changes * size)

    def _of_each(self, windows: Windows, dimensions: int) -> tuple[Floats, Floats]:
        shape = (-1, *(1,) * (dimensions - 1))
        return windows.last.reshape(shape), np.array(self.change)[windows.measure].reshape(shape)


def fit_scales(windows: Windows) -> Scales:
    """The scales of train courses; 0 and 1 for a measure without any."""
    mean, spread, change = [], [], []
    for place in range(len(windows.setting.measures)):
        of_measure = windows.take(windows.measure == place)
        last = of_measure.last
        differences = (of_measure.future - last[:, None])[of_measure.is_measured_ahead]
        mean.append(float(last.mean()) if len(last) else 0.0)
        spread.append(max(float(last.std()), _SMALLEST) if len(last) else 1.0)
        change.append(max(float(np.sqrt((differences**2).mean())), _SMALLEST) if len(differences) else 1.0)
    return Scales(mean=mean, spread=spread, change=change)
