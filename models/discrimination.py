"""Does the model rank patients with the outcome above those without, and what happens at one threshold?

Intervals come from a bootstrap of patients: whole patients are drawn with replacement, so that many prediction
times of one patient do not count as many patients. All models of a question share the draws, so differences between
models are paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Numbers = NDArray[np.float64]
NUMBERS_AT_ONCE = 500_000  # so few stay in a processor's cache


@dataclass(frozen=True)
class Resamples:
    """How often each of P patients is drawn in each of B resamples, times (B, P); patient (N,), whose each row is."""

    times: Numbers
    patient: NDArray[np.int64]

    def sums(self, values: NDArray[np.generic]) -> Numbers:
        """Sum of the rows' values in each resample. Shapes: (N,) -> (B,)."""
        return np.asarray(self.times @ np.bincount(self.patient, values, minlength=self.times.shape[1]))


def draw_resamples(subjects: NDArray[np.int64], resamples: int, seed: list[int]) -> Resamples:
    """Draw as many patients as there are, with replacement. Shapes: subjects (N,), the patient of each row."""
    _, patient = np.unique(subjects, return_inverse=True)
    count = int(patient.max()) + 1 if len(patient) else 0
    random = np.random.default_rng(seed)
    drawn = random.integers(0, max(count, 1), size=(resamples, count))
    places = drawn + count * np.arange(resamples)[:, None]
    times = np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count)
    return Resamples(times.astype(np.float64), patient)


def auroc(scores: Numbers, events: NDArray[np.bool_]) -> float:
    """Area under the ROC curve. Shapes: (N,), (N,). Both outcomes must occur."""
    return float(roc_auc_score(events, scores))


def auprc(scores: Numbers, events: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve (average precision). Compare with the share of events."""
    return float(average_precision_score(events, scores))


def resampled_auroc(scores: Numbers, events: NDArray[np.bool_], resamples: Resamples) -> Numbers:
    """AUROC of each resample; NaN where it drew only one kind of outcome. Shapes: (N,), (N,) -> (B,).

    The chance that a row with the outcome scores above one without, ties counting half.
    """
    ascending = np.argsort(scores[~events], kind="stable")
    without, of_without, of_with = (
        scores[~events][ascending],
        resamples.patient[~events][ascending],
        resamples.patient[events],
    )
    lower, not_higher = (np.searchsorted(without, scores[events], side=side) for side in ("left", "right"))
    in_order = []
    size = max(1, NUMBERS_AT_ONCE // (len(scores) + 1))
    for first in range(0, len(resamples.times), size):
        times = resamples.times[first : first + size]
        below = np.zeros((len(times), len(without) + 1))  # how many rows without the outcome are among the k lowest
        np.cumsum(times[:, of_without], axis=1, out=below[:, 1:])
        in_order.append(((below[:, lower] + below[:, not_higher]) * times[:, of_with]).sum(axis=1) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.concatenate(in_order) / (resamples.sums(events) * resamples.sums(~events)))


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


def resampled_shares(of: NDArray[np.bool_], among: NDArray[np.bool_], resamples: Resamples) -> Numbers:
    """Share of `among` rows that are also `of`, in each resample. Shapes: (N,), (N,) -> (B,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(resamples.sums(of & among) / resamples.sums(among))


def auroc_difference(
    scores: Numbers, other_scores: Numbers, events: NDArray[np.bool_], resamples: Resamples
) -> tuple[float, float, float]:
    """AUROC of `scores` less that of `other_scores` on the same rows and resamples, with its interval."""
    difference = resampled_auroc(scores, events, resamples) - resampled_auroc(other_scores, events, resamples)
    low, high = interval(difference)
    return auroc(scores, events) - auroc(other_scores, events), low, high
