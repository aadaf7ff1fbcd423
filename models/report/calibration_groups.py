"""Did as many have the outcome as was forecast? Held-out rows in groups of like risk, none of them small."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 10
Z_95 = 1.959964


@dataclass(frozen=True)
class RiskGroup:
    """Prediction times of like risk: mean forecast, observed share with its 95 % interval, and how many they are."""

    forecast: float
    observed: float
    low: float
    high: float
    times: int
    patients: int


def risk_groups(
    risk: NDArray[np.float64], events: NDArray[np.bool_], people: NDArray[np.int64], fewest: int
) -> list[RiskGroup]:
    """Rows sorted by risk and cut into ten, neighbours joined until no group is small; empty when even all are.

    In a group that is shown at least `fewest` people (or none) had the outcome, and as many (or none) did not.
    risk, events and people (N,): forecast, outcome and patient of each row. The interval is Wilson's (J Am Stat Assoc
    1927;22:209-12) and takes each row for itself: several rows of one patient make it a little too narrow.
    """
    order = np.argsort(risk, kind="stable")
    groups: list[NDArray[np.int64]] = []
    open_rows = order[:0]
    for part in np.array_split(order, MOST_GROUPS):
        open_rows = np.concatenate([open_rows, part])
        if _may_be_shown(events[open_rows], people[open_rows], fewest):
            groups.append(open_rows)
            open_rows = order[:0]
    while len(open_rows) and groups:  # what is left is joined with the last group, which may then be too small itself
        open_rows = np.concatenate([groups.pop(), open_rows])
        if _may_be_shown(events[open_rows], people[open_rows], fewest):
            groups.append(open_rows)
            open_rows = order[:0]
    return [_summary(risk[rows], events[rows], people[rows]) for rows in groups]


def wilson_interval(events: int, rows: int) -> tuple[float, float]:
    """95 % interval of a share."""
    observed, spread = events / rows, Z_95**2 / rows
    centre = (observed + spread / 2) / (1 + spread)
    half = Z_95 * np.sqrt(observed * (1 - observed) / rows + spread / (4 * rows)) / (1 + spread)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def _may_be_shown(events: NDArray[np.bool_], people: NDArray[np.int64], fewest: int) -> bool:
    if len(np.unique(people)) < fewest:
        return False
    counts = [len(np.unique(people[events])), len(np.unique(people[~events]))]
    return all(count == 0 or count >= fewest for count in counts)


def _summary(risk: NDArray[np.float64], events: NDArray[np.bool_], people: NDArray[np.int64]) -> RiskGroup:
    low, high = wilson_interval(int(events.sum()), len(events))
    return RiskGroup(float(risk.mean()), float(events.mean()), low, high, len(risk), len(np.unique(people)))
