"""Is a model better than every simpler one? Each beside the best simpler model, on the same held-out rows.

The simpler models are age and sex, the comparators, logistic regression and LightGBM. The best of them is the one with
the highest AUROC on the *held-out* rows themselves: the hardest choice for the others, because a lucky simple model is
taken at its luck. Differences are paired: in each resample of patients both models are judged on the same rows.
`p_value` is the two-sided p-value of the difference over its bootstrap standard error, by the normal distribution: by
counting, a thousand resamples cannot tell a chance below one in a thousand, which many questions at once ask for. Over
all questions of a model it is adjusted by Holm's method, whatever the tasks have in common (Holm, Scand J Stat
1979;6:65-70).
"""

from math import erfc

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.result_tables import League
from features.settings import StudySettings
from features.tables import checked, empty
from models.discrimination import auroc, draw_resamples, interval, resampled_auroc
from models.evaluation import bootstrap_seed, ranking
from models.ladder import NOT_SIMPLE
from models.questions import KEYS, Question

QUESTION = ["task", "horizon_days"]
LIKELY = 0.05
_MEASURES = [
    *("rows", "subjects", "events", "auroc", "auroc_low", "auroc_high"),
    *("calibration_slope", "calibration_slope_low", "calibration_slope_high"),
    *("brier", "accuracy", "sensitivity", "specificity"),
]


def league_table(predictions: pl.DataFrame, evaluations: pl.DataFrame, settings: StudySettings) -> pl.DataFrame:
    """Every model of every question, and what it gains over the best simpler model.

    Reads:    Predictions, of which held-out rows count, and their Evaluations.
    Returns:  League, in the order of `evaluations`. A question without any simple model has no difference.
    """
    best = best_simple(evaluations)
    gains = [
        row
        for question, name in best.items()
        for row in _gains(_held_out(predictions, question), question, name, settings)
    ]
    told = pl.DataFrame(
        gains,
        schema={**empty(League).select(*QUESTION, "model", "difference").schema}
        | dict.fromkeys(("difference_low", "difference_high", "p_value"), pl.Float64),
        orient="row",
    ).with_columns(holm_p_value=pl.col("p_value").map_batches(_holm_series).over("model"))
    simple = pl.DataFrame(
        [(*question, name) for question, name in best.items()],
        schema=empty(League).select(*QUESTION, "best_simple").schema,
        orient="row",
    )
    table = (
        evaluations.select(*QUESTION, "model", *_MEASURES)
        .join(simple, on=QUESTION, how="left", maintain_order="left")
        .join(told, on=[*QUESTION, "model"], how="left", maintain_order="left")
        .with_columns(
            is_simple=~pl.col("model").is_in(NOT_SIMPLE),
            verdict=pl.when(pl.col("difference").is_null())
            .then(None)
            .when(pl.col("holm_p_value") > LIKELY)
            .then(pl.lit("no difference shown"))
            .when(pl.col("difference") > 0)
            .then(pl.lit("better"))
            .otherwise(pl.lit("worse")),
        )
    )
    return checked(table, League)


def best_simple(evaluations: pl.DataFrame) -> dict[Question, str]:
    """The simple model with the highest held-out AUROC for each question; on a tie the simplest. Reads Evaluations."""
    simple = evaluations.filter(~pl.col("model").is_in(NOT_SIMPLE))
    best = simple.sort("auroc", descending=True, maintain_order=True).unique(QUESTION, keep="first")
    return {Question(task, days): model for task, days, model in best.select(*QUESTION, "model").sort(pl.all()).rows()}


def holm(p_values: list[float]) -> list[float]:
    """P-values adjusted so that the chance of any false finding among them stays below the level (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    back = np.empty(len(p_values))
    back[order] = adjusted
    return [float(number) for number in back]


def _gains(
    held_out: dict[str, pl.DataFrame], question: Question, best: str, settings: StudySettings
) -> list[tuple[str, int, str, float, float, float, float]]:
    """Task, horizon, model, difference of AUROC, its interval and p-value, for every model that is not simple."""
    first = held_out[best]
    events = first["is_event"].to_numpy()
    seed = bootstrap_seed(settings, question, "held-out resamples")
    resamples = draw_resamples(first["subject_id"].to_numpy(), settings.bootstrap_resamples, seed)

    def aurocs(model: str) -> NDArray[np.float64]:
        """On the rows as they are, then on each resample."""
        ranks = ranking(held_out[model]["score"].to_numpy(), held_out[model]["risk"].to_numpy())
        return np.append(auroc(ranks, events), resampled_auroc(ranks, events, resamples))

    of_best = aurocs(best)
    gained = {model: aurocs(model) - of_best for model in held_out if model in NOT_SIMPLE}
    return [
        (*question, model, float(gain[0]), *interval(gain[1:]), _p_value(gain[0], gain[1:]))
        for model, gain in gained.items()
    ]


def _p_value(difference: float, resampled: NDArray[np.float64]) -> float:
    """Two-sided p-value of no difference; 1 where the two models rank everybody alike in every resample."""
    error = float(np.nanstd(resampled))
    return float(erfc(abs(difference) / error / 2**0.5)) if error > 0 else 1.0


def _held_out(predictions: pl.DataFrame, question: Question) -> dict[str, pl.DataFrame]:
    """The held-out rows of a question by model, all in one order."""
    rows = predictions.filter(
        pl.col("split") == "held_out",
        pl.col("task") == question.task,
        pl.col("horizon_days") == question.horizon_days,
    )
    parts = rows.sort("model", *KEYS).partition_by("model", as_dict=True)
    return {str(model): part for (model,), part in parts.items()}


def _holm_series(p_values: pl.Series) -> pl.Series:
    return pl.Series(holm(p_values.to_list()), dtype=pl.Float64)
