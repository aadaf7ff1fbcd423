"""The models of one question that read the feature table: age and sex, its comparators, and two that read all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from features.scores.columns import BY_RACE
from features.settings import StudySettings
from features.tasks.schema import Comparator
from models.baselines import (
    LinearModel,
    fit_age_sex,
    fit_comparator,
    fit_lightgbm,
    fit_logistic_regression,
    lightgbm_log_odds,
    linear_log_odds,
)
from models.costs import FIT, FORECAST, timed
from models.familiarity import Familiarity, fit_familiarity
from models.questions import feature_matrix


@dataclass(frozen=True)
class SimpleModels:
    """The models of one question that read the feature table (LightGBM as its own text), and each one's log-odds for
    the question's tuning and held-out rows. Comparators without a telling column are `left_out`, by name.
    `familiarity` tells which patients are unlike the train rows."""

    linear: dict[str, LinearModel]
    trees: str
    scores: dict[str, NDArray[np.float64]]
    left_out: tuple[str, ...]
    familiarity: Familiarity


def fit_simple_models(
    rows: pl.DataFrame,
    features: pl.DataFrame,
    definitions: pl.DataFrame,
    comparators: Sequence[Comparator],
    settings: StudySettings,
) -> SimpleModels:
    """Fit age and sex, the comparators, logistic regression and LightGBM for one question.

    Reads: `rows` (keys, split, is_event), the feature table, and FeatureDefinitions. Everything is fitted on train
    rows; tuning rows choose penalty and number of trees. Raises ModelError without a demographic column.
    """
    columns = definitions["feature"].to_list()
    demographic = definitions.filter(pl.col("kind") == "demographic")["feature"].to_list()
    if not demographic:
        raise ModelError("The feature table has no demographic column, so age + sex cannot be fitted.")
    train, tuning, judged = (
        rows.filter(part)
        for part in (pl.col("split") == "train", pl.col("split") == "tuning", pl.col("split") != "train")
    )
    x_train, x_tuning, x_judged = (feature_matrix(features, part, columns) for part in (train, tuning, judged))
    y_train, y_tuning = train["is_event"].to_numpy(), tuning["is_event"].to_numpy()
    compared = {}
    for one in comparators:
        with timed(one.name, FIT, train.height):
            compared[one.name] = fit_comparator(x_train, y_train, columns, one.features, demographic)
    familiarity = fit_familiarity(x_train, x_tuning, columns, definitions)
    # A score that reads race is a comparator, for that is how it was published, and no model's input.
    is_general = (definitions["statistic"] != BY_RACE).to_numpy()
    general = [name for name, is_one in zip(columns, is_general, strict=True) if is_one]
    with timed("age_sex", FIT, train.height):
        age_sex = fit_age_sex(x_train, y_train, columns, demographic)
    with timed("logistic_regression", FIT, train.height):
        regression = fit_logistic_regression(
            x_train[:, is_general], y_train, x_tuning[:, is_general], y_tuning, general
        )
    linear = {
        "age_sex": age_sex,
        **{name: model for name, model in compared.items() if model is not None},
        "logistic_regression": regression,
    }
    # Trees never split on a column that is the same for everybody, so later they do not read it either.
    x_train[:, ~is_general], x_tuning[:, ~is_general] = 0, 0
    with timed("lightgbm", FIT, train.height):
        trees = fit_lightgbm(x_train, y_train, x_tuning, y_tuning, settings.seed)
    scores = {}
    for name, model in linear.items():
        with timed(name, FORECAST, judged.height):
            scores[name] = linear_log_odds(model, x_judged, columns)
    with timed("lightgbm", FORECAST, judged.height):
        scores["lightgbm"] = lightgbm_log_odds(trees, x_judged)
    left_out = tuple(name for name, model in compared.items() if model is None)
    return SimpleModels(linear, trees, scores, left_out, familiarity)


def reading_race(linear: Mapping[str, LinearModel], definitions: pl.DataFrame) -> set[str]:
    """Names of the comparators that read a score by race: they are compared with, and give no patient a risk."""
    by_race = set(definitions.filter(pl.col("statistic") == BY_RACE)["feature"])
    return {name for name, model in linear.items() if by_race & set(model.features)}
