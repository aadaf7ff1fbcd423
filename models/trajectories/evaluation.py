"""How near do forecasts come to what was measured, and do their bands cover it?

The pinball loss, averaged over quantiles and doubled, approximates the continuous ranked probability score (CRPS); of a
forecast of one value that is the absolute error. Intervals are 95 %, by bootstrap of patients, paired between models.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.result_tables import TrajectoryEvaluations
from features.tables import checked
from models.discrimination import Resamples, draw_resamples, interval
from models.trajectories.conformal import conformal_band
from models.trajectories.measures import BAND, MEDIAN, QUANTILES
from models.trajectories.windows import Flags, Floats, Windows

ALL_STEPS = 0
_TOLERANCE = 0.05


def crps(windows: Windows, quantiles: Floats) -> Floats:
    """Twice the pinball loss averaged over the quantiles, of each cell ahead (N, H); NaN where nothing was measured."""
    error = windows.future[:, :, None] - quantiles
    levels = np.array(QUANTILES)
    return np.asarray(2 * np.maximum(levels * error, (levels - 1) * error).mean(axis=-1))


def mean_crps(windows: Windows, quantiles: Floats, place: int) -> float:
    """The mean CRPS of a measure's measured cells."""
    return float(np.nanmean(crps(windows, quantiles)[windows.measure == place]))


def evaluate(
    windows: Windows,
    forecasts: Mapping[str, Floats],
    margins: Mapping[str, list[list[float]]],
    released: Mapping[str, str],
    best_simple: Mapping[str, str],
    resamples: int,
    seed: int,
) -> pl.DataFrame:
    """TrajectoryEvaluations of the held-out courses of one setting, of the measures in `released`.

    `forecasts`: quantiles (N, H, Q) by model; `margins`: of each model (models.trajectories.conformal). `released`,
    `best_simple`: a model for each measure. Steps without a measured cell are left out.
    """
    rows = []
    for name in released:
        place = windows.setting.names.index(name)
        places = np.flatnonzero(windows.measure == place)
        of_measure = windows.take(places)
        drawn = draw_resamples(of_measure.keys["subject_id"].to_numpy(), resamples, [seed, place])
        simple = best_simple[name]
        for step in (ALL_STEPS, *range(1, windows.setting.ahead + 1)):
            judged = of_measure.is_measured_ahead & _at(step, of_measure)
            if not judged.any():
                continue
            reference = crps(of_measure, forecasts[simple][places])
            for model, quantiles in forecasts.items():
                own = quantiles[places]
                measures = _measures(of_measure, own, margins[model], judged, drawn)
                difference = crps(of_measure, own) - reference
                rows.append(
                    {
                        "setting": windows.setting.name,
                        "measure": name,
                        "step": step,
                        "model": model,
                        "unit": windows.setting.measures[place].unit,
                        "is_released": model == released[name],
                        "is_best_simple": model == simple,
                        "values": int(judged.sum()),
                        "subjects": int(of_measure.keys["subject_id"].filter(pl.Series(judged.any(axis=1))).n_unique()),
                        **measures,
                        **_with_interval("difference", difference, judged, drawn),
                    }
                )
    table = pl.DataFrame(rows, schema={name: of.dtype for name, of in TrajectoryEvaluations.columns().items()})
    return checked(table, TrajectoryEvaluations)


def _measures(
    windows: Windows, quantiles: Floats, margins: list[list[float]], judged: Flags, drawn: Resamples
) -> dict[str, float]:
    low, high = conformal_band(margins, windows, quantiles)
    raw = (windows.future >= quantiles[:, :, 0]) & (windows.future <= quantiles[:, :, -1])
    inside = (windows.future >= low) & (windows.future <= high)
    return {
        **_with_interval("crps", crps(windows, quantiles), judged, drawn),
        "absolute_error": float(np.abs(windows.future - quantiles[:, :, MEDIAN])[judged].mean()),
        "raw_coverage": float(raw[judged].mean()),
        "raw_width": float((quantiles[:, :, -1] - quantiles[:, :, 0])[judged].mean()),
        **_with_interval("coverage", inside.astype(np.float64), judged, drawn),
        "width": float((high - low)[judged].mean()),
    }


def _with_interval(name: str, each: Floats, judged: Flags, drawn: Resamples) -> dict[str, float]:
    """The mean over the judged cells, with its interval."""
    sums = drawn.sums(np.where(judged, each, 0).sum(axis=1))
    counts = drawn.sums(judged.sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = interval(np.asarray(sums / counts))
    return {name: float(each[judged].mean()), f"{name}_low": low, f"{name}_high": high}


def _at(step: int, windows: Windows) -> NDArray[np.bool_]:
    steps = np.arange(1, windows.setting.ahead + 1)
    return np.broadcast_to((steps == step) | (step == ALL_STEPS), windows.future.shape)


def uncovered(evaluations: pl.DataFrame) -> list[str]:
    """In words, the released forecasts whose corrected band misses 80 % by more than chance and 5 points."""
    of_released = evaluations.filter(pl.col("is_released"), pl.col("step") == ALL_STEPS)
    misses = (pl.col("coverage") - BAND).abs() > _TOLERANCE
    by_chance = pl.lit(BAND).is_between("coverage_low", "coverage_high")
    return [
        f"{row['measure'].replace('_', ' ')} ({row['setting']}) {row['coverage']:.0%}"
        for row in of_released.filter(misses & ~by_chance).iter_rows(named=True)
    ]
