"""What do simple models say? Age and sex, clinical scores, logistic regression on the feature table, and LightGBM.

All answer with log-odds for one question. Everything that is fitted, medians and scales too, is fitted on train
patients; tuning patients choose the strength of the penalty and the number of trees.
"""

import warnings
from collections.abc import Sequence

import lightgbm
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from models.calibration import logit

Matrix = NDArray[np.floating]

FARTHEST_SCALED = 5.0
ROWS_AT_ONCE = 10_000
PENALTY_STRENGTHS = (0.001, 0.01, 0.1)  # scikit-learn's C: smaller is simpler
THREADS = 1
BOOSTING = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    # A second thread costs more in waiting than it saves, above all on a busy machine.
    "num_threads": THREADS,
    "verbosity": -1,
}
MOST_TREES = 400
TREES_WITHOUT_GAIN = 40
FEWEST_TO_LEARN_FROM = 10  # train rows without a score, with the outcome and without it


class LinearModel(BaseModel, frozen=True, extra="forbid"):
    """A logistic regression as numbers. Its log-odds are intercept + coefficients · design(features).

    The design holds, for each feature: its value (median where missing, then standardised, then cut at ±5; those in
    `logits` are probabilities and count by their log-odds); for `squared` features the standardised square; and for
    `missing_flags` 1 where the value is missing. Where `only_without` names a feature, the others count only in rows
    in which that one is missing.
    """

    features: list[str]
    medians: list[float]
    centres: list[float]
    scales: list[float]
    squared: list[str]
    missing_flags: list[str]
    coefficients: list[float]
    intercept: float
    logits: list[str] = []
    only_without: str = ""


def fit_age_sex(
    train: Matrix, train_events: NDArray[np.bool_], columns: list[str], demographic: list[str]
) -> LinearModel:
    """Logistic regression on the demographic columns alone, with a square for those that are not yes or no.

    Shapes: N rows, F features: train (N, F), train_events (N,). Hardly penalised.
    """
    part = _columns(train, columns, demographic)
    squared = _not_yes_or_no(train, columns, demographic)
    prepared = _prepare(part, demographic, squared=squared, with_missing_flags=False)
    return _fitted(prepared, part, train_events, (1.0,))[0]


def fit_comparator(
    train: Matrix, train_events: NDArray[np.bool_], columns: list[str], wanted: Sequence[str], demographic: list[str]
) -> LinearModel | None:
    """Logistic regression on a few columns, such as a clinical score, with a flag for rows where one is missing.

    Where a comparator of one column has no value, age and sex answer in its place: a score that can seldom be computed
    is not to look weak for that. How they do so is learnt from the train rows without a value; where those are too few,
    from all train rows. Hardly penalised, so that a published score is judged by its ranking and is calibrated
    like the other models. A column that lies between 0 and 1 everywhere is a probability, and counts by its log-odds.
    None when no column of `wanted` is there with two different values. Shapes: train (N, F), train_events (N,).
    """
    there = [name for name in wanted if name in columns]
    known = [column[~np.isnan(column)] for column in _columns(train, columns, there).T]
    varied = [name for name, values in zip(there, known, strict=True) if len(values) and np.ptp(values) > 0]
    if not varied:
        return None
    logits = [
        name
        for name, values in zip(there, known, strict=True)
        if name in varied and values.min() > 0 and values.max() < 1
    ]
    if len(wanted) > 1 or not demographic:
        part = _columns(train, columns, varied)
        return _fitted(_prepare(part, varied, [], with_missing_flags=True, logits=logits), part, train_events, (1.0,))[
            0
        ]
    score = varied[0]
    names = [score, *(name for name in demographic if name != score)]
    part = _columns(train, columns, names)
    squared = _not_yes_or_no(train, columns, names[1:])
    gated = _prepare(part, names, squared, with_missing_flags=True, logits=logits)
    gated = gated.model_copy(update={"only_without": score})
    without = np.isnan(part[:, 0])
    if min(train_events[without].sum(), (~train_events[without]).sum()) >= FEWEST_TO_LEARN_FROM:
        return _fitted(gated, part, train_events, (1.0,))[0]
    return _with_fallback(gated, part, train_events, fit_age_sex(train, train_events, columns, names[1:]))


def _with_fallback(gated: LinearModel, part: Matrix, events: NDArray[np.bool_], instead: LinearModel) -> LinearModel:
    """A comparator fitted where its score is known; where it is not, `instead`, fitted on all train rows, answers.

    `gated` is the design of the score, then of the features of `instead`.
    """
    known = ~np.isnan(part[:, 0])
    alone = gated.model_copy(
        update={
            "features": gated.features[:1],
            "medians": gated.medians[:1],
            "centres": gated.centres[:1],
            "scales": gated.scales[:1],
            "squared": [],
            "missing_flags": [],
            "coefficients": [0.0],
            "only_without": "",
        }
    )
    fitted = _fitted(alone, part[known][:, :1], events[known], (1.0,))[0]
    at_median = linear_log_odds(fitted, np.full((1, 1), np.nan), fitted.features)[0]  # what a row without it would get
    return gated.model_copy(
        update={
            "medians": [*fitted.medians, *instead.medians],
            "centres": [*fitted.centres, *instead.centres],
            "scales": [*fitted.scales, *instead.scales],
            "squared": instead.squared,
            "missing_flags": fitted.features,
            "coefficients": [*fitted.coefficients, *instead.coefficients, instead.intercept - at_median],
            "intercept": fitted.intercept,
        }
    )


def fit_logistic_regression(
    train: Matrix,
    train_events: NDArray[np.bool_],
    tuning: Matrix,
    tuning_events: NDArray[np.bool_],
    columns: list[str],
) -> LinearModel:
    """Penalised logistic regression on the whole feature table; the penalty is the best on tuning patients.

    Shapes: train (N, F), tuning (M, F), NaN where a feature is missing.
    """
    prepared = _prepare(train, columns, squared=[], with_missing_flags=True)
    fitted = _fitted(prepared, train, train_events, PENALTY_STRENGTHS)
    losses = [log_loss(linear_log_odds(model, tuning, columns), tuning_events) for model in fitted]
    return fitted[int(np.argmin(losses))]


def linear_log_odds(model: LinearModel, features: Matrix, columns: list[str]) -> NDArray[np.float64]:
    """Log-odds of each row. Shapes: features (N, F) with names `columns` -> (N,)."""
    parts = [linear_terms(model, features[rows], columns).sum(axis=1) for rows in _slices(len(features))]
    return model.intercept + np.concatenate([np.zeros(0), *parts])


def linear_terms(model: LinearModel, features: Matrix, columns: list[str]) -> NDArray[np.float64]:
    """What each feature of the model adds to the log-odds, against a typical train patient. Shapes: -> (N, F)."""
    part = _columns(features, columns, model.features)
    parts = _design_parts(model, part)
    coefficients = np.asarray(model.coefficients)
    terms = parts[0] * coefficients[: len(model.features)]
    start = len(model.features)
    for names, block in ((model.squared, parts[1]), (model.missing_flags, parts[2])):
        places = [model.features.index(name) for name in names]
        terms[:, places] += block * coefficients[start : start + len(names)]
        start += len(names)
    return terms


def fit_lightgbm(
    train: Matrix,
    train_events: NDArray[np.bool_],
    tuning: Matrix,
    tuning_events: NDArray[np.bool_],
    seed: int,
) -> str:
    """Boosted trees, stopped when tuning patients gain nothing more; returned as LightGBM's own text.

    The same rows in the same order give the same text. Missing features are left to the trees.
    """
    booster = lightgbm.train(
        BOOSTING | {"seed": seed % 2**31},
        lightgbm.Dataset(train, train_events.astype(np.float32), params={"verbosity": -1}),
        num_boost_round=MOST_TREES,
        valid_sets=[lightgbm.Dataset(tuning, tuning_events.astype(np.float32), params={"verbosity": -1})],
        callbacks=[lightgbm.early_stopping(TREES_WITHOUT_GAIN, verbose=False)],
    )
    return str(booster.model_to_string(num_iteration=booster.best_iteration))


def lightgbm_log_odds(text: str, features: Matrix) -> NDArray[np.float64]:
    """Log-odds of each row by the saved trees. Shapes: (N, F) -> (N,)."""
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(features, raw_score=True, num_threads=THREADS), dtype=np.float64)


def lightgbm_terms(text: str, features: Matrix) -> NDArray[np.float64]:
    """What each feature adds to the log-odds (TreeSHAP), the common start left out. Shapes: (N, F) -> (N, F)."""
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(features, pred_contrib=True, num_threads=THREADS), dtype=np.float64)[:, :-1]


def log_loss(log_odds: NDArray[np.float64], events: NDArray[np.bool_]) -> float:
    """Mean negative log-likelihood of yes-or-no outcomes. Shapes: (N,), (N,)."""
    return float(np.mean(row_log_loss(log_odds, events)))


def row_log_loss(log_odds: NDArray[np.float64], events: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Negative log-likelihood of each row's yes-or-no outcome. Shapes: (N,), (N,) -> (N,)."""
    return np.asarray(np.logaddexp(0, log_odds) - events * log_odds)


def _prepare(
    features: Matrix, names: list[str], squared: list[str], with_missing_flags: bool, logits: Sequence[str] = ()
) -> LinearModel:
    """The design of a linear model, fitted on train rows; its coefficients are still nought."""
    values = _on_scale(features, names, logits)
    missing = np.isnan(values)
    present = ~missing.all(axis=0)
    medians = np.zeros(len(names))
    medians[present] = np.nanmedian(values[:, present], axis=0)
    filled = np.where(missing, medians, values)
    spread = filled.std(axis=0)
    flagged = [name for place, name in enumerate(names) if 0 < missing[:, place].sum() < len(values)]
    flags = flagged if with_missing_flags else []
    return LinearModel(
        features=names,
        medians=medians.tolist(),
        centres=filled.mean(axis=0).tolist(),
        scales=np.where(spread > 1e-9, spread, 1.0).tolist(),
        squared=squared,
        missing_flags=flags,
        coefficients=[0.0] * (len(names) + len(squared) + len(flags)),
        intercept=0.0,
        logits=list(logits),
    )


def _on_scale(features: Matrix, names: list[str], logits: Sequence[str]) -> Matrix:
    """The features as numbers to be added up: probabilities as log-odds, the others as they are."""
    values = features.astype(np.float64)
    for place in (names.index(name) for name in logits):
        values[:, place] = logit(values[:, place])
    return values


def _design_parts(model: LinearModel, features: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    missing = np.isnan(features)
    filled = np.where(missing, model.medians, _on_scale(features, model.features, model.logits))
    scaled = ((filled - model.centres) / model.scales).clip(-FARTHEST_SCALED, FARTHEST_SCALED)
    squared = [model.features.index(name) for name in model.squared]
    flagged = [model.features.index(name) for name in model.missing_flags]
    # The mean of a squared standardised value is 1, so less 1 it is nought for the average patient.
    squares, flags = scaled[:, squared] ** 2 - 1, missing[:, flagged].astype(np.float64)
    if model.only_without:
        place = model.features.index(model.only_without)
        is_missing = missing[:, [place]]
        scaled = np.where(np.arange(scaled.shape[1]) == place, scaled, scaled * is_missing)
        squares, flags = squares * is_missing, flags * is_missing
    return scaled, squares, flags


def _fitted(
    prepared: LinearModel, features: Matrix, events: NDArray[np.bool_], strengths: tuple[float, ...]
) -> list[LinearModel]:
    """The model at each penalty strength, simplest first, each fit starting where the one before ended."""
    width = len(prepared.coefficients)
    design = np.empty((len(features), width), dtype=np.float32)
    for rows in _slices(len(features)):
        design[rows] = np.concatenate(_design_parts(prepared, features[rows]), axis=1)
    solver = LogisticRegression(max_iter=500, solver="lbfgs", warm_start=True)
    models = []
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # The penalty keeps coefficients finite, so stopping a little early only leaves them a little shorter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            solver.set_params(C=strength).fit(design, events)
            coefficients = [float(number) for number in solver.coef_[0]]
            found = {"coefficients": coefficients, "intercept": float(solver.intercept_[0])}
            models.append(prepared.model_copy(update=found))
    return models


def _not_yes_or_no(features: Matrix, columns: list[str], wanted: list[str]) -> list[str]:
    part = _columns(features, columns, wanted)
    return [name for place, name in enumerate(wanted) if len(np.unique(part[:, place])) > 3]


def _slices(rows: int) -> list[slice]:
    """Rows in parts, so that what is worked out on the way stays small."""
    return [slice(first, first + ROWS_AT_ONCE) for first in range(0, rows, ROWS_AT_ONCE)]


def _columns(features: Matrix, columns: list[str], wanted: list[str]) -> Matrix:
    places = {name: place for place, name in enumerate(columns)}
    return features[:, [places[name] for name in wanted]]
