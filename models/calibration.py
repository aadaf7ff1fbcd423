"""Does a risk of 10 % mean one in ten? Log-odds are recalibrated on tuning patients, and the doubt is told.

Logistic recalibration (Cox 1958): risk = 1 / (1 + exp(-(intercept + slope x score))), the score being the model's
own log-odds. A prior pulls towards the model's own answer (intercept 0, slope 1). On the level it is so weak that it
only gives a resample without any outcome a finite answer. On the slope, in standardised scores, it weighs as much as
120 rows of even chances: where tuning patients with the outcome are few, the slope that they show is mostly chance
(docs/calibration.md tells what this, isotonic regression, beta calibration and Venn-Abers do to forecasts).

**What the interval of one risk covers.** The recalibration is fitted again on tuning patients drawn anew with
replacement, whole patients at a time; the interval is the 2.5th to 97.5th percentile of the risk over the refits.
So it says how far the risk could move because there were only so many tuning patients to set its level. The interval of
a stack is wider where its members disagree: their distance from the stack (root mean square, in recalibrated log-odds)
counts as one standard deviation. That stands for the choice of model, which is a large part of what is not known, but
not for all of it: other train patients would give other members. The interval does *not* cover an outdated or foreign
population, errors in the record, or what the record does not tell about a patient; and it is no range for the outcome
of one patient, which is yes or no. docs/calibration.md tells how often it holds the truth of simulated patients.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from models.discrimination import Resamples

Numbers = NDArray[np.float64]

PRIOR_PRECISION = (0.1, 30.0)  # of level and slope, on standardised scores; a row of risk p adds p (1 - p)
MOST_STEPS = 100
Z_95 = 1.959964
ROWS_AT_ONCE = 2_000
NUMBERS_AT_ONCE = 2_000_000


class Recalibration(BaseModel, frozen=True, extra="forbid"):
    """How the log-odds of one model for one question become a risk, and refits of it on resampled patients."""

    intercept: float
    slope: float
    refits: list[tuple[float, float]] = []


def fit_recalibration(scores: Numbers, events: NDArray[np.bool_], resamples: Resamples | None = None) -> Recalibration:
    """Fit on tuning rows, and again on each of the `resamples`. Shapes: scores (N,) log-odds, events (N,)."""
    intercept, slope = fit_lines(scores, events, np.ones((1, len(scores))))[0]
    refits = []
    if resamples is not None:
        size = max(1, NUMBERS_AT_ONCE // max(1, len(scores)))
        for first in range(0, len(resamples.times), size):
            weights = resamples.times[first : first + size, resamples.patient]
            refits += [(line[0], line[1]) for line in fit_lines(scores, events, weights).tolist()]
    return Recalibration(intercept=float(intercept), slope=float(slope), refits=refits)


def fit_lines(scores: Numbers, events: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """Intercept and slope for each set of weights. Shapes: (N,), (N,), (B, N) -> (B, 2).

    A negative slope would turn the order of patients round; then the slope is 0 and everybody gets the same risk.
    """
    # In standardised scores the prior weighs the same for a model with narrow scores as for one with wide ones.
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    standard, own_answer = (scores - centre) / spread, (centre, spread)
    all_rows_once = np.ones((1, len(scores)))
    near, _ = newton_lines(standard, events, all_rows_once, own_answer, PRIOR_PRECISION)
    fitted, _ = newton_lines(standard, events, weights, own_answer, PRIOR_PRECISION, start=near)
    level_at_centre, per_spread = fitted.T
    lines = np.stack([level_at_centre - per_spread * centre / spread, per_spread / spread], axis=1)
    turned = lines[:, 1] < 0
    had, all_rows = weights @ events, weights.sum(axis=1)
    level = np.log((had + 0.5) / (all_rows - had + 0.5))
    return np.where(turned[:, None], np.stack([level, np.zeros_like(level)], axis=1), lines)


def newton_lines(
    scores: Numbers,
    events: NDArray[np.bool_],
    weights: Numbers,
    prior: tuple[float, float],
    prior_precision: tuple[float, float],
    start: Numbers | None = None,
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Weighted logistic regression on one number, for many sets of weights at once, by Newton's method.

    `prior` is what the lines are pulled to with `prior_precision`, and where they start unless `start` is given.
    Shapes: (N,), (N,), (B, N), start (1, 2) -> lines (B, 2), has_converged (B,).
    """
    lines = np.tile(prior if start is None else start[0], (len(weights), 1))
    still = np.ones(len(weights), dtype=bool)
    for _ in range(MOST_STEPS):
        active = weights[still]
        intercept, slope = lines[still, :1], lines[still, 1:]
        chance = sigmoid(intercept + slope * scores)  # (B, N)
        miss = active * (events - chance)
        curve = active * chance * (1 - chance)
        pull_a = miss.sum(axis=1) - prior_precision[0] * (intercept[:, 0] - prior[0])
        pull_b = miss @ scores - prior_precision[1] * (slope[:, 0] - prior[1])
        aa = curve.sum(axis=1) + prior_precision[0] + 1e-12
        ab = curve @ scores
        bb = curve @ scores**2 + prior_precision[1] + 1e-12
        determinant = aa * bb - ab**2 + 1e-12
        step = np.stack([bb * pull_a - ab * pull_b, aa * pull_b - ab * pull_a], axis=1) / determinant[:, None]
        # A short step cannot overshoot far; the likelihood has one top, so short steps still reach it.
        longest = np.abs(step).max(axis=1, keepdims=True)
        lines[still] += step / longest.clip(min=1)
        still[still] = longest[:, 0] > 1e-8
        if not still.any():
            break
    return lines, ~still


def recalibrated(recalibration: Recalibration, scores: Numbers) -> Numbers:
    """Calibrated risk of each score. Shapes: (N,) -> (N,)."""
    return sigmoid(recalibration.intercept + recalibration.slope * scores)


def risk_interval(
    recalibration: Recalibration, scores: Numbers, distance: Numbers | None = None
) -> tuple[Numbers, Numbers]:
    """Ends of each risk's 95 % interval, which always holds the risk; `distance` is that of the members of a stack.

    Shapes: scores (N,), distance (N,) -> (N,), (N,).
    """
    log_odds = recalibration.intercept + recalibration.slope * scores
    low, high = _refitted_range(np.asarray(recalibration.refits).reshape(-1, 2), scores, log_odds)
    # Two independent doubts add up by their squares.
    apart = Z_95 * (np.zeros(len(scores)) if distance is None else distance)
    below, above = np.hypot((log_odds - low).clip(0), apart), np.hypot((high - log_odds).clip(0), apart)
    return sigmoid(log_odds - below), sigmoid(log_odds + above)


def members_distance(
    recalibrations: Mapping[str, Recalibration], members: Mapping[str, Numbers], stack: Numbers, name: str
) -> Numbers:
    """Root mean square distance of the members' recalibrated log-odds from those of the stack called `name`.

    Shapes: members (N,) log-odds by model, stack (N,) log-odds -> (N,).
    """
    centre = recalibrations[name].intercept + recalibrations[name].slope * stack
    each = [recalibrations[of].intercept + recalibrations[of].slope * found for of, found in members.items()]
    return np.asarray(np.sqrt(np.mean([(found - centre) ** 2 for found in each], axis=0)))


def _refitted_range(lines: Numbers, scores: Numbers, log_odds: Numbers) -> tuple[Numbers, Numbers]:
    """2.5th and 97.5th percentile of the log-odds over the refits. Shapes: (B, 2), (N,), (N,) -> (N,), (N,)."""
    if len(lines) == 0:
        return log_odds, log_odds
    ends = [
        np.percentile(lines[:, :1] + lines[:, 1:] * scores[start : start + ROWS_AT_ONCE], [2.5, 97.5], axis=0)
        for start in range(0, max(len(scores), 1), ROWS_AT_ONCE)
    ]
    low, high = np.concatenate(ends, axis=1)
    return low, high


def calibration_slope(risk: Numbers, events: NDArray[np.bool_]) -> float | None:
    """Slope of the outcome on the log-odds of the risk; 1 is right, below 1 too extreme. None if it has none."""
    line = _calibration_line(logit(risk), events)
    return None if line is None else float(line[1])


def slope_interval(
    risk: Numbers, events: NDArray[np.bool_], patient: NDArray[np.integer]
) -> tuple[float, float] | tuple[None, None]:
    """Ends of the slope's 95 % interval; rows of one `patient` (N,) are one draw. None where there is no slope.

    The sandwich variance of clustered rows (Liang and Zeger 1986), times G / (G - 1) for G patients. It is one for many
    patients: with six to ten outcomes it holds the slope in some 90 of 100 draws.
    """
    log_odds = logit(risk)
    line = _calibration_line(log_odds, events)
    if line is None:
        return None, None
    chance = sigmoid(line[0] + line[1] * log_odds)
    terms = np.column_stack([np.ones(len(risk)), log_odds])
    _, group = np.unique(patient, return_inverse=True)
    scores = np.column_stack([np.bincount(group, (events - chance) * term) for term in terms.T])  # (G, 2)
    if len(scores) < 2:
        return None, None
    bread = np.linalg.pinv(terms.T @ (terms * (chance * (1 - chance))[:, None]))
    variance = (bread @ (scores.T @ scores) @ bread)[1, 1] * len(scores) / (len(scores) - 1)
    return float(line[1] - Z_95 * variance**0.5), float(line[1] + Z_95 * variance**0.5)


def _calibration_line(log_odds: Numbers, events: NDArray[np.bool_]) -> Numbers | None:
    """Intercept and slope of the outcome on the log-odds; None where they cannot be fitted."""
    if events.all() or not events.any() or np.ptp(log_odds) < 1e-9:
        return None
    lines, has_converged = newton_lines(log_odds, events, np.ones((1, len(log_odds))), (0.0, 1.0), (0.0, 0.0))
    return np.asarray(lines[0]) if has_converged[0] else None


def calibration_in_the_large(risk: Numbers, events: NDArray[np.bool_]) -> float | None:
    """Log-odds that all risks should be moved by to be right on average; 0 is right. None if it has none."""
    if events.all() or not events.any():
        return None
    log_odds, shift = logit(risk), 0.0
    for _ in range(MOST_STEPS):
        chance = sigmoid(log_odds + shift)
        step = float((events - chance).sum() / ((chance * (1 - chance)).sum() + 1e-12))
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-10:
            break
    return shift


def sigmoid(log_odds: Numbers) -> Numbers:
    """Log-odds to chances, without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.maximum(log_odds, -700))))


def logit(risk: Numbers) -> Numbers:
    """Chances to log-odds; chances are kept a billionth away from 0 and 1."""
    safe = risk.clip(1e-9, 1 - 1e-9)
    return np.asarray(np.log(safe) - np.log1p(-safe))
