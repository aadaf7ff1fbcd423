"""Which calibrator serves best: logistic recalibration, isotonic regression, beta calibration, or Venn-Abers?

python -m benchmarks.calibration --home HOME [--models a,b] [--resamples 200] [--json]

HOME is a study that has run. On its predictions each calibrator is fitted on tuning rows and judged on held-out rows,
for each question and model (default: all that read the whole record). Told are, over the questions, the mean log loss,
Brier score and integrated calibration index (ICI: mean distance of the forecast from the share observed at it, by a
logistic spline) against logistic recalibration, how many calibration slopes lie in 0.9 to 1.1, and in how many an
interval (bootstrap of patients) at least touches that range; `chosen` is, for each question, the calibrator with the
best log-likelihood in cross-validation among tuning patients. Then each question's released model with its slope,
intercept and observed / expected, with intervals. Where the home has true risks, intervals of single risks are judged
too: how often they hold the true risk. The last line with --json is one JSON object with the same figures.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import SplineTransformer
from venn_abers import VennAbers

from benchmarks.site import home_that_ran
from features.home import Home
from features.settings import StudySettings
from models.baselines import row_log_loss
from models.calibration import (
    Numbers,
    calibration_in_the_large,
    calibration_slope,
    fit_recalibration,
    logit,
    members_distance,
    newton_lines,
    recalibrated,
    risk_interval,
    sigmoid,
)
from models.discrimination import Resamples, draw_resamples, interval
from models.evaluation import bootstrap_seed
from models.ladder import SEQUENCE_MODELS, STACK
from models.questions import KEYS, Question
from models.stack import patient_folds

Outcomes = NDArray[np.bool_]
Calibrated = Callable[[Numbers], Numbers]

GENERAL = ("logistic_regression", "lightgbm", *SEQUENCE_MODELS, STACK)
SAFE = 1e-4  # a forecast of 0 or 1, as isotonic regression gives, would have an infinite loss
RIGHT = (0.9, 1.1)
MOST_KNOTS = 5


def logistic(scores: Numbers, events: Outcomes) -> Calibrated:
    """Two numbers: level and slope of the log-odds (models/calibration.py)."""
    fitted = fit_recalibration(scores, events)
    return lambda found: recalibrated(fitted, found)


def isotonic(scores: Numbers, events: Outcomes) -> Calibrated:
    """A staircase that never falls."""
    fitted = IsotonicRegression(y_min=SAFE, y_max=1 - SAFE, out_of_bounds="clip").fit(scores, events)
    return lambda found: np.asarray(fitted.predict(found))


def beta(scores: Numbers, events: Outcomes) -> Calibrated:
    """Three numbers: slopes of ln p and of -ln(1 - p), neither below 0, and a level (Kull 2017)."""

    def both_logs(found: Numbers) -> Numbers:
        return np.stack([-np.logaddexp(0, -found), np.logaddexp(0, found)], axis=1)

    for used in ([0, 1], [0], [1]):  # as the authors do: a slope below 0 is left out and the rest fitted again
        design = both_logs(scores)[:, used]
        fitted = LogisticRegression(C=1e4, max_iter=2_000).fit(design, events)
        if (fitted.coef_ >= 0).all():
            return lambda found, fitted=fitted, used=used: fitted.predict_proba(both_logs(found)[:, used])[:, 1]
    level = (events.sum() + 0.5) / (len(events) + 1)
    return lambda found: np.full(len(found), level)


def venn_abers(scores: Numbers, events: Outcomes) -> Calibrated:
    """Two isotonic fits, with the patient as a case and as none (Vovk 2015), put together into one risk."""
    both = venn_abers_pair(scores, events)

    def one_risk(found: Numbers) -> Numbers:
        low, high = both(found)
        return high / (1 - low + high)

    return one_risk


def venn_abers_pair(scores: Numbers, events: Outcomes) -> Callable[[Numbers], tuple[Numbers, Numbers]]:
    """The two risks of Venn-Abers."""
    fitted = VennAbers()
    fitted.fit(_two_columns(scores), events.astype(int))

    def pair(found: Numbers) -> tuple[Numbers, Numbers]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it looks for a slope among none, and goes on
            low, high = fitted.predict_proba(_two_columns(found))[1].T
        return low, high

    return pair


CALIBRATORS = {"logistic": logistic, "isotonic": isotonic, "beta": beta, "venn_abers": venn_abers}


def main() -> int:
    """Judge every calibrator and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=home_that_ran, required=True, help="home of a study that has run")
    parser.add_argument("--models", default=",".join(GENERAL), help="apart by commas (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=200, help="of patients (default: 200)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    tables = Home(options.home).tables
    predictions = pl.read_parquet(tables / "predictions.parquet").sort("task", "horizon_days", "model", *KEYS)
    judged = pl.DataFrame(
        [
            row
            for question, model, rows in _parts(predictions, options.models.split(","))
            for row in _judged(question, model, rows, options.resamples)
        ]
    )
    summary = _summary(judged)
    print(_told(summary))
    released = pl.read_parquet(tables / "evaluations.parquet").filter("is_released")
    of_released = judged.filter(pl.col("calibrator") == "logistic").join(
        released.select("task", "horizon_days", "model"), on=["task", "horizon_days", "model"]
    )
    print(_told(of_released.drop("calibrator", "ici", "log_loss", "brier")))
    held = pl.DataFrame()
    if (tables / "true_risks.parquet").exists():
        truth = pl.read_parquet(tables / "true_risks.parquet").filter(pl.col("treatment") == "as usual")
        held = pl.DataFrame(
            [
                row
                for question, model, rows in _parts(predictions, options.models.split(","))
                for row in _held(question, model, rows, _members(predictions, question), truth, options.resamples)
            ]
        )
        print(_told(_interval_summary(held)))
    if options.json:
        told = {"calibrators": summary.to_dicts(), "released": of_released.to_dicts(), "rows": judged.to_dicts()}
        print(json.dumps(told | {"intervals": _interval_summary(held).to_dicts() if held.height else []}))
    return 0


def _parts(predictions: pl.DataFrame, models: list[str]) -> Iterator[tuple[Question, str, pl.DataFrame]]:
    chosen = predictions.filter(pl.col("model").is_in(models))
    for (task, days, model), rows in chosen.group_by("task", "horizon_days", "model", maintain_order=True):
        yield Question(str(task), int(str(days))), str(model), rows


def _members(predictions: pl.DataFrame, question: Question) -> dict[str, pl.DataFrame]:
    of_question = predictions.filter(
        pl.col("task") == question.task, pl.col("horizon_days") == question.horizon_days, pl.col("model") != STACK
    )
    return {str(model): rows for (model,), rows in of_question.group_by("model", maintain_order=True)}


def _judged(question: Question, model: str, rows: pl.DataFrame, resamples: int) -> list[dict[str, object]]:
    """One row for each calibrator, and one for the choice by cross-validation among tuning patients."""
    tuning, held_out = (rows.filter(pl.col("split") == split) for split in ("tuning", "held_out"))
    scores, events = tuning["score"].to_numpy(), tuning["is_event"].to_numpy()
    seed = bootstrap_seed(StudySettings(), question, "calibrators")
    fold = patient_folds(tuning["subject_id"].to_numpy(), events, seed)
    drawn = draw_resamples(held_out["subject_id"].to_numpy(), resamples, seed)
    losses, table = {}, []
    for name, fit in CALIBRATORS.items():
        unseen = np.empty(len(scores))
        for place in np.unique(fold):
            unseen[fold == place] = fit(scores[fold != place], events[fold != place])(scores[fold == place])
        losses[name] = _log_loss(unseen, events)
        risk = fit(scores, events)(held_out["score"].to_numpy())
        measures = _measures(risk, held_out["is_event"].to_numpy(), drawn)
        table.append({**question._asdict(), "model": model, "calibrator": name, **measures})
    best = min(losses, key=lambda name: losses[name])
    return [*table, {**next(row for row in table if row["calibrator"] == best), "calibrator": "chosen"}]


def _measures(risk: Numbers, events: Outcomes, drawn: Resamples) -> dict[str, float | int | None]:
    slope_low, slope_high = interval(_resampled_slopes(risk, events, drawn))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_low, ratio_high = interval(drawn.sums(events) / drawn.sums(risk))
    return {
        "events": int(events.sum()),
        "log_loss": _log_loss(risk, events),
        "brier": float(np.mean((risk - events) ** 2)),
        "ici": _ici(risk, events),
        "slope": calibration_slope(risk.clip(SAFE, 1 - SAFE), events),
        "slope_low": slope_low,
        "slope_high": slope_high,
        "intercept": calibration_in_the_large(risk.clip(SAFE, 1 - SAFE), events),
        "observed_expected": float(events.sum() / risk.sum()),
        "observed_expected_low": ratio_low,
        "observed_expected_high": ratio_high,
    }


def _resampled_slopes(risk: Numbers, events: Outcomes, drawn: Resamples) -> Numbers:
    """Calibration slope of each resample; NaN where there is none."""
    log_odds = logit(risk.clip(SAFE, 1 - SAFE))
    if np.ptp(log_odds) < 1e-9:
        return np.full(len(drawn.times), np.nan)
    lines, has_converged = newton_lines(log_odds, events, drawn.times[:, drawn.patient], (0.0, 1.0), (0.0, 0.0))
    return np.where(has_converged, lines[:, 1], np.nan)


def _ici(risk: Numbers, events: Outcomes) -> float:
    """Mean distance between forecast and the share observed at that forecast, by a cubic logistic spline of it."""
    log_odds = logit(risk.clip(SAFE, 1 - SAFE))[:, None]
    knots = np.unique(np.quantile(log_odds, np.linspace(0.02, 0.98, MOST_KNOTS)))
    if len(knots) < 2:
        return float(abs(events.mean() - risk.mean()))
    spline = SplineTransformer(degree=3, knots=knots[:, None], extrapolation="linear").fit_transform(log_odds)
    observed = LogisticRegression(C=100.0, max_iter=2_000).fit(spline, events).predict_proba(spline)[:, 1]
    return float(np.abs(observed - risk).mean())


def _log_loss(risk: Numbers, events: Outcomes) -> float:
    return float(row_log_loss(logit(risk.clip(SAFE, 1 - SAFE)), events).mean())


def _summary(judged: pl.DataFrame) -> pl.DataFrame:
    """Means over questions and models, as differences to logistic recalibration in thousandths."""
    keys = ["task", "horizon_days", "model"]
    plain = judged.filter(pl.col("calibrator") == "logistic").select(
        *keys, of_log_loss="log_loss", of_brier="brier", of_ici="ici"
    )
    return (
        judged.join(plain, on=keys)
        .group_by("calibrator", maintain_order=True)
        .agg(
            forecasts=pl.len(),
            log_loss=((pl.col("log_loss") - pl.col("of_log_loss")) * 1_000).mean(),
            worst_log_loss=((pl.col("log_loss") - pl.col("of_log_loss")) * 1_000).max(),
            brier=((pl.col("brier") - pl.col("of_brier")) * 1_000).mean(),
            ici=((pl.col("ici") - pl.col("of_ici")) * 1_000).mean(),
            better=(pl.col("log_loss") < pl.col("of_log_loss")).sum(),
            median_slope=pl.col("slope").median(),
            slope_right=pl.col("slope").is_between(*RIGHT).sum(),
            slope_may_be_right=((pl.col("slope_low") <= RIGHT[1]) & (pl.col("slope_high") >= RIGHT[0])).sum(),
        )
    )


def _held(
    question: Question,
    model: str,
    rows: pl.DataFrame,
    others: dict[str, pl.DataFrame],
    truth: pl.DataFrame,
    resamples: int,
) -> list[dict[str, object]]:
    """For each kind of interval: how often it holds the true risk of a held-out prediction time, and its width.

    `held_mean`: how often the mean interval of a tenth of like score holds the mean true risk there. The true risk
    knows what no record tells, such as a fate drawn at birth; what patients of one forecast have in common, it could.
    `others` are the predictions of all models of the question but the stack.
    """
    is_asked = (pl.col("task") == question.task) & (pl.col("horizon_days") == question.horizon_days)
    known = rows.filter(pl.col("split") == "held_out").join(
        truth.filter(is_asked).select(*KEYS, "standard_error", truth="risk"), on=KEYS
    )
    if known.is_empty():
        return []
    tuning = rows.filter(pl.col("split") == "tuning")
    scores, events = tuning["score"].to_numpy(), tuning["is_event"].to_numpy()
    drawn = draw_resamples(
        tuning["subject_id"].to_numpy(), resamples, bootstrap_seed(StudySettings(), question, "intervals")
    )
    found = known["score"].to_numpy()
    low, high = venn_abers_pair(scores, events)(found)
    kinds = {
        "recalibration": risk_interval(fit_recalibration(scores, events, drawn), found),
        "venn_abers": (np.minimum(low, high), np.maximum(low, high)),
    }
    if model == STACK:
        fits, members = {STACK: fit_recalibration(scores, events, drawn)}, {}
        for name, of_member in others.items():
            tuned, asked = of_member.filter(pl.col("split") == "tuning"), known.select(KEYS)
            fits[name] = fit_recalibration(tuned["score"].to_numpy(), tuned["is_event"].to_numpy())
            members[name] = asked.join(of_member, on=KEYS, how="left", maintain_order="left")["score"].to_numpy()
        distance = members_distance(fits, members, found, STACK)
        kinds["with_members"] = risk_interval(fits[STACK], found, distance)
    right = known["truth"].to_numpy()
    tenths = np.array_split(np.argsort(found, kind="stable"), min(10, len(found)))
    return [
        {
            **question._asdict(),
            "model": model,
            "interval": kind,
            "rows": len(right),
            "held": float(((low <= right) & (right <= high)).mean()),
            "held_mean": float(np.mean([low[of].mean() <= right[of].mean() <= high[of].mean() for of in tenths])),
            "width": float((high - low).mean()),
            "error": float(np.abs(known["risk"].to_numpy() - right).mean()),
            "truth_spread": float(right.std()),
        }
        for kind, (low, high) in kinds.items()
    ]


def _interval_summary(held: pl.DataFrame) -> pl.DataFrame:
    return held.group_by("model", "interval", maintain_order=True).agg(
        pl.len().alias("questions"), pl.col("held", "held_mean", "width", "error", "truth_spread").mean()
    )


def _two_columns(scores: Numbers) -> Numbers:
    risk = sigmoid(scores)
    return np.stack([1 - risk, risk], axis=1)


def _told(table: pl.DataFrame) -> str:
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=200, float_precision=3):
        return str(table)


if __name__ == "__main__":
    raise SystemExit(main())
