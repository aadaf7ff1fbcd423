"""Does the model rank patients with the outcome above those without, and what happens at one threshold?

Intervals come from a bootstrap of patients: whole patients are drawn with replacement, so that many prediction
times of one patient do not count as many patients. A resample is a row of weights, how often each row was drawn;
all models of a question share the weights, so differences between models are paired.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Numbers = NDArray[np.float64]
NUMBERS_AT_ONCE = 4_000_000


def patient_weights(subjects: NDArray[np.int64], resamples: int, seed: list[int]) -> Numbers:
    """How often each row is drawn in each resample of patients. Shapes: subjects (N,) -> (resamples, N)."""
    _, patient = np.unique(subjects, return_inverse=True)
    count = int(patient.max()) + 1 if len(patient) else 0
    random = np.random.default_rng(seed)
    drawn = random.integers(0, max(count, 1), size=(resamples, count))
    places = drawn + count * np.arange(resamples)[:, None]
    times = np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count)
    return times[:, patient].astype(np.float64)


def auroc(scores: Numbers, events: NDArray[np.bool_]) -> float:
    """Area under the ROC curve. Shapes: (N,), (N,). Both outcomes must occur."""
    return float(roc_auc_score(events, scores))


def auprc(scores: Numbers, events: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve (average precision). Compare with the share of events."""
    return float(average_precision_score(events, scores))


def resampled_auroc(scores: Numbers, events: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """AUROC of each resample; NaN where it drew only one kind of outcome. Shapes: (N,), (N,), (B, N) -> (B,).

    The weighted chance that a row with the outcome scores above one without, ties counting half.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    group_starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    areas = []
    for part in _parts(weights):
        drawn = part[:, order]
        had = np.add.reduceat(drawn * events[order], group_starts, axis=1)  # (B, distinct scores)
        had_not = np.add.reduceat(drawn * ~events[order], group_starts, axis=1)
        below = np.cumsum(had_not, axis=1) - had_not / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            areas.append((had * below).sum(axis=1) / (had.sum(axis=1) * had_not.sum(axis=1)))
    return np.concatenate(areas)


def interval(resampled: Numbers) -> tuple[float, float]:
    """95 % percentile interval over the resamples that have a value."""
    known = resampled[~np.isnan(resampled)]
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def youden_threshold(risk: Numbers, events: NDArray[np.bool_]) -> float:
    """The risk at which sensitivity + specificity is largest (the highest such risk). Shapes: (N,), (N,).

    Flagging nobody, or everybody, has a sum of 1. Where no risk does better the threshold is 1, which flags nobody.
    """
    false_alarms, found, thresholds = roc_curve(events, risk, drop_intermediate=False)
    best = int(np.argmax(found - false_alarms))  # the first flags nobody
    return float(thresholds[best]) if best > 0 else 1.0


def resampled_shares(of: NDArray[np.bool_], among: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """Share of `among` rows that are also `of`, in each resample. Shapes: (N,), (N,), (B, N) -> (B,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ (of & among)) / (weights @ among))


def auroc_difference(
    scores: Numbers, other_scores: Numbers, events: NDArray[np.bool_], weights: Numbers
) -> tuple[float, float, float]:
    """AUROC of `scores` less that of `other_scores` on the same rows and resamples, with its interval."""
    difference = resampled_auroc(scores, events, weights) - resampled_auroc(other_scores, events, weights)
    low, high = interval(difference)
    return auroc(scores, events) - auroc(other_scores, events), low, high


def _parts(weights: Numbers) -> Iterator[Numbers]:
    size = max(1, NUMBERS_AT_ONCE // max(1, weights.shape[1]))
    for start in range(0, len(weights), size):
        yield weights[start : start + size]
