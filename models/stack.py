"""Do the models together know more than the best of them? A weighted sum of their log-odds, fitted on tuning patients.

score = intercept + sum of weight x log-odds of each member, weights never below 0 (Breiman 1996; van der Laan's super
learner, 2007). The weights maximise the logistic likelihood less a penalty that pulls them to a cautious answer: the
mean of the members, each recalibrated on its own, so that a model that knows little counts little. Where tuning
patients with the outcome are few, that mean is nearly what comes out; where there are many, the data decide. Where
weights fitted without a patient rank the wrong way round, they are worth nothing, and the mean itself is taken.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.optimize import minimize

from models.calibration import fit_recalibration, sigmoid

Numbers = NDArray[np.float64]

PULL = 300.0  # precision on standardised log-odds, to which a row of risk p adds p (1 - p)
FOLDS = 5


class Stack(BaseModel, frozen=True, extra="forbid"):
    """The weight of each member's log-odds in those of the stack; a weight may be 0."""

    intercept: float
    weights: dict[str, float]


def fit_stack(
    scores: Mapping[str, Numbers], events: NDArray[np.bool_], subjects: NDArray[np.int64], seed: list[int]
) -> tuple[Stack, Numbers]:
    """Fit on all tuning rows; returns the stack, and each row's score by a stack that never saw that row's patient.

    The second is for recalibration, threshold and release: on the rows that it was fitted on a stack flatters itself.
    The mean, of which only each member's own recalibration is fitted, answers for the rows that it was fitted on.
    Shapes: scores (N,) log-odds by model, events (N,), subjects (N,), the patient of each row -> (N,). The order of
    the models does not matter, that of the rows decides the folds.
    """
    stack, fold = _fitted(scores, events), patient_folds(subjects, events, seed)
    typical = {model: found.mean(keepdims=True) for model, found in scores.items()}
    level = stacked(stack, typical)
    unseen = np.empty(len(events))
    for place in np.unique(fold):
        is_out = fold == place
        without = _fitted({model: found[~is_out] for model, found in scores.items()}, events[~is_out])
        found = stacked(without, {model: found[is_out] for model, found in scores.items()})
        # Folds without many outcomes leave more of them to the others: the levels would rank the folds the wrong way.
        unseen[is_out] = found - stacked(without, typical) + level
    if fit_recalibration(unseen, events).slope > 0:
        return stack, unseen
    cautious = _fitted(scores, events, may_move=False)
    return cautious, stacked(cautious, scores)


def stacked(stack: Stack, scores: Mapping[str, Numbers]) -> Numbers:
    """Log-odds of the stack. Shapes: scores (N,) of at least each model with a weight above 0 -> (N,)."""
    parts = [weight * scores[model] for model, weight in stack.weights.items() if weight > 0]
    return np.asarray(stack.intercept + sum(parts, np.zeros(len(next(iter(scores.values()))))))


def _fitted(scores: Mapping[str, Numbers], events: NDArray[np.bool_], *, may_move: bool = True) -> Stack:
    """The penalised fit; or the mean to which it is pulled, when it `may_move` nothing but the level.

    Its log-odds are standardised first, so that the penalty treats all members alike.
    """
    names = sorted(scores)
    raw = np.stack([scores[name] for name in names], axis=1)  # (N, M)
    centres, spreads = raw.mean(axis=0), raw.std(axis=0)
    told = spreads > 1e-9
    standard = (raw - centres) / np.where(told, spreads, 1)
    # Each in its own log-odds, for the prior pulls to those: standardised, one that knows nearly nothing would grow.
    alone = spreads * [max(fit_recalibration(column, events).slope, 0.0) for column in raw.T]
    mean = np.where(told, alone, 0) / len(names)
    # A mean of models is less sure than it may be; its own recalibration says by how much.
    mean = mean * max(fit_recalibration(standard @ mean, events).slope, 0.0)

    def loss(line: Numbers) -> tuple[float, Numbers]:
        log_odds = line[0] + standard @ line[1:]
        excess, pull = sigmoid(log_odds) - events, line[1:] - mean
        value = float((np.logaddexp(0, log_odds) - events * log_odds).sum() + PULL / 2 * pull @ pull)
        return value, np.concatenate([[excess.sum()], standard.T @ excess + PULL * pull])

    level = np.log((events.sum() + 0.5) / ((~events).sum() + 0.5))
    found = minimize(
        loss,
        np.concatenate([[level], mean]),
        jac=True,
        method="L-BFGS-B",
        # So far and no farther: without any outcome among the rows the level would run away.
        bounds=[(-20, 20), *((0, None) if may_move else (weight, weight) for weight in mean)],
        options={"ftol": 1e-12, "gtol": 1e-7},
    ).x
    weights = np.where(told, found[1:] / np.where(told, spreads, 1), 0)
    return Stack(
        intercept=float(found[0] - weights @ centres),
        weights={name: float(weight) for name, weight in zip(names, weights, strict=True)},
    )


def patient_folds(subjects: NDArray[np.int64], events: NDArray[np.bool_], seed: list[int]) -> NDArray[np.int64]:
    """A fold for each row; a patient's rows share one, and patients who ever had the outcome are spread evenly."""
    patients, patient = np.unique(subjects, return_inverse=True)
    had_event = np.bincount(patient, events, minlength=len(patients)) > 0
    shuffled = np.random.default_rng(seed).permutation(len(patients))
    in_turn = shuffled[np.argsort(had_event[shuffled], kind="stable")]
    fold = np.empty(len(patients), dtype=np.int64)
    fold[in_turn] = np.arange(len(patients)) % FOLDS
    return np.asarray(fold[patient])
