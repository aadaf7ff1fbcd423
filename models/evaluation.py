"""How well did each model do on held-out patients, and which one is released for each question?"""

from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.result_tables import Evaluations
from features.settings import StudySettings
from features.tables import checked, empty
from models.baselines import row_log_loss
from models.calibration import calibration_in_the_large, calibration_slope, logit, slope_interval
from models.discrimination import (
    Resamples,
    auprc,
    auroc,
    draw_resamples,
    interval,
    resampled_auroc,
    resampled_shares,
    youden_threshold,
)
from models.ladder import STACK, ladder_of
from models.questions import KEYS, Question


def bootstrap_seed(settings: StudySettings, question: Question, purpose: str) -> list[int]:
    """A start for the random draws of one question, so that adding a task does not change the others."""
    return [settings.seed, crc32(question.task.encode()), question.horizon_days, crc32(purpose.encode())]


def choose_released(tuning: pl.DataFrame, settings: StudySettings) -> str | None:
    """The model with the best log-likelihood of its recalibrated risk on tuning patients, if it beats the base rate.

    Reads Predictions of one question, tuning rows. On a tie the simpler model wins; but the stack goes before every
    model that is not better by more than one standard error (of a bootstrap of patients), because its tuning scores
    come from patients it was not fitted on, while the others' number of trees and penalty were chosen on theirs, and
    because a mean of models is wrong less often than the choice of one (docs/calibration.md has the figures).
    A model is released only if its gain in log-likelihood over the base rate, one risk for everybody, has a 95 %
    interval (bootstrap of patients) above 0; else None. The models' level is set on tuning patients, so that of the
    base rate is too: against the train patients' base rate a model that knows nothing could win by its level alone.
    The same patients also set each model's slope and choose the best of them, which still favours the models a
    little. Held-out patients have no say.
    """
    ordered = tuning.sort(*KEYS)
    ladder = ladder_of(tuning["model"].unique())
    by_model = [ordered.filter(pl.col("model") == model) for model in ladder]
    events = by_model[0]["is_event"].to_numpy()
    losses = [row_log_loss(logit(of_model["risk"].to_numpy()), events) for of_model in by_model]
    base_rate = row_log_loss(logit(np.full(len(events), events.mean())), events)
    best = int(np.argmin([loss.mean() for loss in losses]))
    question = Question(*ordered.select("task", "horizon_days").row(0))
    seed = bootstrap_seed(settings, question, "release resamples")
    resamples = draw_resamples(by_model[0]["subject_id"].to_numpy(), settings.bootstrap_resamples, seed)
    candidates = [best]
    if STACK in ladder:
        loss_of_stack = losses[ladder.index(STACK)] - losses[best]
        if loss_of_stack.sum() <= resamples.sums(loss_of_stack).std():
            candidates = [ladder.index(STACK), best]
    drawn = resamples.sums(np.ones(len(events)))
    for candidate in candidates:
        lowest, _ = interval(resamples.sums(base_rate - losses[candidate]) / drawn)
        if lowest > 0:
            return ladder[candidate]
    return None


def evaluate(
    predictions: pl.DataFrame,
    released: dict[Question, str],
    thresholds: dict[tuple[Question, str], float],
    settings: StudySettings,
) -> pl.DataFrame:
    """Judge every model on held-out patients. Reads Predictions; returns Evaluations, in the ladder's order.

    A question without a released model is judged all the same. `thresholds` has every question and model.
    """
    held_out = predictions.filter(pl.col("split") == "held_out").sort("subject_id", "prediction_time")
    table = []
    for question in sorted({question for question, _ in thresholds}):
        rows = held_out.filter(pl.col("task") == question.task, pl.col("horizon_days") == question.horizon_days)
        ladder = ladder_of(rows["model"].unique())
        subjects = rows.filter(pl.col("model") == ladder[0])["subject_id"].to_numpy()
        seed = bootstrap_seed(settings, question, "held-out resamples")
        resamples = draw_resamples(subjects, settings.bootstrap_resamples, seed)
        for model in ladder:
            of_model = rows.filter(pl.col("model") == model)
            table.append(
                {
                    "task": question.task,
                    "horizon_days": question.horizon_days,
                    "model": model,
                    "is_released": released.get(question) == model,
                    "rows": of_model.height,
                    "subjects": of_model["subject_id"].n_unique(),
                    "events": int(of_model["is_event"].sum()),
                    **_measures(
                        of_model["score"].to_numpy(),
                        of_model["risk"].to_numpy(),
                        of_model["is_event"].to_numpy(),
                        thresholds[question, model],
                        resamples,
                    ),
                }
            )
    return checked(pl.DataFrame(table, schema=empty(Evaluations).schema), Evaluations)


def tuning_threshold(tuning: pl.DataFrame) -> float:
    """Youden's threshold on the recalibrated risk; 1, which flags nobody, when none finds more than it alarms.

    Reads Predictions of one question and model, tuning rows.
    """
    return youden_threshold(tuning["risk"].to_numpy(), tuning["is_event"].to_numpy())


def ranking(scores: NDArray[np.float64], risk: NDArray[np.float64]) -> NDArray[np.float64]:
    """What patients are ranked by: the score, but the risk where that is one for everybody (a slope of 0).

    The score keeps very small risks apart. Shapes: (N,), (N,) -> (N,).
    """
    return scores if np.ptp(risk) > 0 else risk


def _measures(
    scores: NDArray[np.float64],
    risk: NDArray[np.float64],
    events: NDArray[np.bool_],
    threshold: float,
    resamples: Resamples,
) -> dict[str, float | int | None]:
    ranks = ranking(scores, risk)
    auroc_low, auroc_high = interval(resampled_auroc(ranks, events, resamples))
    flagged = risk >= threshold
    sensitivity_low, sensitivity_high = interval(resampled_shares(flagged, events, resamples))
    specificity_low, specificity_high = interval(resampled_shares(~flagged, ~events, resamples))
    slope_low, slope_high = slope_interval(risk, events, resamples.patient)
    prevalence = float(events.mean())
    return {
        "auroc": auroc(ranks, events),
        "auroc_low": auroc_low,
        "auroc_high": auroc_high,
        "auprc": auprc(ranks, events),
        "brier": float(np.mean((risk - events) ** 2)),
        "calibration_slope": calibration_slope(risk, events),
        "calibration_slope_low": slope_low,
        "calibration_slope_high": slope_high,
        "calibration_intercept": calibration_in_the_large(risk, events),
        "observed_expected": float(events.sum() / risk.sum()) if risk.sum() > 0 else None,
        "threshold": threshold,
        "true_positives": int((flagged & events).sum()),
        "false_positives": int((flagged & ~events).sum()),
        "true_negatives": int((~flagged & ~events).sum()),
        "false_negatives": int((~flagged & events).sum()),
        "accuracy": float((flagged == events).mean()),
        "majority_accuracy": max(prevalence, 1 - prevalence),
        "sensitivity": float(flagged[events].mean()),
        "sensitivity_low": sensitivity_low,
        "sensitivity_high": sensitivity_high,
        "specificity": float((~flagged)[~events].mean()),
        "specificity_low": specificity_low,
        "specificity_high": specificity_high,
        "positive_predictive_value": float(events[flagged].mean()) if flagged.any() else None,
    }
