"""Did as many have the outcome as was forecast? Held-out rows in groups of like risk, none of them small."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.discrimination import Resamples, interval, resampled_shares

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
    risk: NDArray[np.float64],
    events: NDArray[np.bool_],
    people: NDArray[np.int64],
    fewest: int,
    resamples: Resamples,
) -> list[RiskGroup]:
    """Rows sorted by risk and cut into ten, neighbours joined until no group is small; empty when even all are.

    In a group that is shown at least `fewest` people (or none) had the outcome, and as many (or none) did not.
    risk, events and people (N,): forecast, outcome and patient of each row. The interval is that of the `resamples` of
    whole patients, so that a patient's many rows count as one patient; where the outcome follows none of a group's
    rows, or all, it is Wilson's (J Am Stat Assoc 1927;22:209-12) of the patients.
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
    return [_summary(risk, events, people, rows, resamples) for rows in groups]


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


def _summary(
    risk: NDArray[np.float64],
    events: NDArray[np.bool_],
    people: NDArray[np.int64],
    rows: NDArray[np.int64],
    resamples: Resamples,
) -> RiskGroup:
    observed, patients = float(events[rows].mean()), len(np.unique(people[rows]))
    if observed in (0.0, 1.0):
        low, high = wilson_interval(int(observed) * patients, patients)
    else:
        is_here = np.isin(np.arange(len(risk)), rows)
        low, high = interval(resampled_shares(events, is_here, resamples))
    return RiskGroup(float(risk[rows].mean()), observed, low, high, len(rows), patients)
