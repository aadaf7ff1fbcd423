"""The simple forecasts that a network has to beat: the last value, a straight line shrunk to the usual one, trees.

All give quantiles (models.trajectories.measures.QUANTILES) of shape (N, H, Q), in the unit of each course.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.stats import norm

from models.trajectories.measures import QUANTILES
from models.trajectories.scales import Scales
from models.trajectories.windows import Floats, Windows

_ROUNDS_OF_EM = 30
_TREES = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_MOST_ROUNDS, _PATIENCE = 400, 20


class LastValue(BaseModel, frozen=True, extra="forbid"):
    """Quantiles of what train patients' values had changed by at each step, for each measure: (M, H, Q), scaled."""

    changes: list[list[list[float]]]


def fit_last_value(windows: Windows, scales: Scales) -> LastValue:
    """Take the quantiles of the changes of train courses; of a step that was never measured, those of all steps."""
    ahead = scales.changes(windows, windows.future)
    of_measures = []
    for place in range(len(windows.setting.measures)):
        rows = ahead[windows.measure == place]
        everything = rows[~np.isnan(rows)]
        of_steps = []
        for step in range(windows.setting.ahead):
            seen = rows[:, step][~np.isnan(rows[:, step])]
            seen = seen if len(seen) else everything if len(everything) else np.zeros(1)
            of_steps.append([float(one) for one in np.quantile(seen, QUANTILES)])
        of_measures.append(of_steps)
    return LastValue(changes=of_measures)


def forecast_last_value(model: LastValue, windows: Windows, scales: Scales) -> Floats:
    """The last value known, with the quantiles of train patients' changes around it."""
    return scales.values(windows, np.array(model.changes)[windows.measure])


class MixedTrend(BaseModel, frozen=True, extra="forbid"):
    """A straight line for each course, drawn from a normal population of lines: y = intercept + slope * cells + noise.

    Of each measure, scaled as levels are: mean line (M, 2), covariance of lines (M, 2, 2), variance of noise (M,).
    A course's own line is its posterior mean (empirical Bayes, or BLUP): few and old values count little.
    """

    line: list[list[float]]
    covariance: list[list[list[float]]]
    noise: list[float]


def fit_mixed_trend(windows: Windows, scales: Scales) -> MixedTrend:
    """Maximum likelihood by the EM algorithm (Laird and Ware, Biometrics 1982;38:963-74), a course as one unit."""
    lines, covariances, noises = [], [], []
    for place in range(len(windows.setting.measures)):
        of_measure = windows.take(windows.measure == place)
        both = np.hstack([of_measure.history, of_measure.future])
        values = (both - scales.mean[place]) / scales.spread[place]
        line, covariance, noise = np.zeros(2), np.diag([1.0, 0.01]), 0.5
        for _ in range(_ROUNDS_OF_EM if len(of_measure) else 0):
            mean, spread = _own_lines(line, covariance, noise, values, windows.setting.look_back)
            line = mean.mean(axis=0)
            centred = mean - line
            covariance = spread.mean(axis=0) + centred.T @ centred / len(mean)
            design = _design(values.shape[1], windows.setting.look_back)
            left = np.where(np.isnan(values), 0, values - mean @ design.T)
            around = np.einsum("ti,nij,tj->nt", design, spread, design) * ~np.isnan(values)
            noise = float(((left**2).sum() + around.sum()) / (~np.isnan(values)).sum())
        lines.append(line.tolist())
        covariances.append(covariance.tolist())
        noises.append(noise)
    return MixedTrend(line=lines, covariance=covariances, noise=noises)


def own_trends(model: MixedTrend, windows: Windows, scales: Scales) -> tuple[Floats, Floats]:
    """Each course's own line, and the standard deviation of a value around it, in its unit. Shapes: (N, E + H) both."""
    setting = windows.setting
    centre = np.zeros((len(windows), setting.look_back + setting.ahead))
    width = np.zeros_like(centre)
    design = _design(setting.look_back + setting.ahead, setting.look_back)
    for place in range(len(setting.measures)):
        rows = windows.measure == place
        values = (windows.history[rows] - scales.mean[place]) / scales.spread[place]
        line, covariance = np.array(model.line[place]), np.array(model.covariance[place])
        mean, spread = _own_lines(line, covariance, model.noise[place], values, setting.look_back)
        around = np.einsum("ti,nij,tj->nt", design, spread, design) + model.noise[place]
        centre[rows] = scales.mean[place] + mean @ design.T * scales.spread[place]
        width[rows] = np.sqrt(around) * scales.spread[place]
    return centre, width


def forecast_mixed_trend(model: MixedTrend, windows: Windows, scales: Scales) -> Floats:
    """Each course's own line carried on, with normal quantiles of its uncertainty and the noise."""
    centre, width = (both[:, windows.setting.look_back :, None] for both in own_trends(model, windows, scales))
    return np.asarray(centre + width * norm.ppf(QUANTILES))


def _design(cells: int, look_back: int) -> Floats:
    """1 and the cells since the forecast was made, for each cell. Shapes: (T, 2)."""
    return np.column_stack([np.ones(cells), np.arange(cells) - look_back + 0.5])


def _own_lines(line: Floats, covariance: Floats, noise: float, values: Floats, look_back: int) -> tuple[Floats, Floats]:
    """Posterior mean (N, 2) and covariance (N, 2, 2) of each course's line, given its values (N, T), NaN unmeasured."""
    design = _design(values.shape[1], look_back)
    is_measured = ~np.isnan(values)
    prior = np.linalg.inv(covariance + 1e-9 * np.eye(2))
    told = np.einsum("nt,ti,tj->nij", is_measured, design, design) / noise
    spread = np.linalg.inv(prior + told)
    pull = np.where(is_measured, values, 0) @ design / noise + prior @ line
    return np.einsum("nij,nj->ni", spread, pull), spread


def tree_features(windows: Windows, scales: Scales, trend: MixedTrend) -> tuple[Floats, list[str]]:
    """What the trees see of each course and step: (N * H, F), steps of one course together; and the names."""
    setting = windows.setting
    history = scales.changes(windows, windows.history)
    known = ~np.isnan(history)
    count = known.sum(axis=1)
    mean = np.where(known, history, 0).sum(axis=1) / count
    squares = np.where(known, (history - mean[:, None]) ** 2, 0).sum(axis=1)
    columns: dict[str, NDArray] = {
        "measure": windows.measure,
        "cells_since": windows.cells_since,
        "values_known": count,
        "mean_change": mean,
        "spread": np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan),
        "age_years": windows.age_years,
        "is_female": np.select([windows.sex == "female", windows.sex == "male"], [1.0, 0.0], np.nan),
        "level": scales.levels(windows.latest)[np.arange(len(windows)), windows.measure],
    }
    columns |= {f"cell_{setting.look_back - cell}": history[:, cell] for cell in range(setting.look_back)}
    columns |= {f"latest_{name}": windows.latest[:, place] for place, name in enumerate(setting.names)}
    columns |= {name: windows.conditions[:, place] for place, name in enumerate(setting.conditions)}
    columns |= {name: windows.drugs[:, -1, place] for place, name in enumerate(setting.drugs)}
    # How long ago each drug was begun, in cells of the look-back: what was begun lately has not done its work yet.
    columns |= {f"cells_on_{name}": windows.drugs[:, :, place].sum(axis=1) for place, name in enumerate(setting.drugs)}
    each = np.column_stack([column.astype(np.float64) for column in columns.values()])
    steps = np.tile(np.arange(1.0, setting.ahead + 1), len(windows))
    centre, width = (both[:, setting.look_back :] for both in own_trends(trend, windows, scales))
    own = scales.changes(windows, centre).ravel()
    own_width = (scales.changes(windows, centre + width) - scales.changes(windows, centre)).ravel()
    matrix = np.column_stack([np.repeat(each, setting.ahead, axis=0), steps, own, own_width])
    return matrix, [*columns, "step", "own_trend", "own_trend_width"]


def fit_trees(train: Windows, tuning: Windows, scales: Scales, trend: MixedTrend, seed: int) -> dict[str, str]:
    """LightGBM quantile regression of the change: a model in LightGBM's own text for each quantile.

    Fitted on the measured cells ahead of train courses, stopped by those of tuning courses.
    """
    import lightgbm

    datasets: list[lightgbm.Dataset] = []
    for windows in (train, tuning):
        matrix, names = tree_features(windows, scales, trend)
        changes = scales.changes(windows, windows.future).ravel()
        rows = ~np.isnan(changes)
        datasets.append(
            lightgbm.Dataset(
                matrix[rows],
                changes[rows],
                feature_name=names,
                categorical_feature=["measure"],
                reference=datasets[0] if datasets else None,
            )
        )
    stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
    fitted = {}
    for quantile in QUANTILES:
        choices = _TREES | {"objective": "quantile", "alpha": quantile, "seed": seed}
        booster = lightgbm.train(choices, datasets[0], _MOST_ROUNDS, valid_sets=[datasets[1]], callbacks=[stop])
        fitted[str(quantile)] = booster.model_to_string(num_iteration=booster.best_iteration)
    return fitted


def forecast_trees(texts: Mapping[str, str], windows: Windows, scales: Scales, trend: MixedTrend) -> Floats:
    """Quantiles by the trees, in ascending order."""
    import lightgbm

    matrix, _ = tree_features(windows, scales, trend)
    shape = (len(windows), windows.setting.ahead)
    each = [
        np.asarray(lightgbm.Booster(model_str=texts[str(quantile)]).predict(matrix, num_threads=1)).reshape(shape)
        for quantile in QUANTILES
    ]
    return scales.values(windows, np.sort(np.stack(each, axis=-1), axis=-1))
