"""What course is to be expected of each patient from the latest measurement on?"""

import numpy as np
import polars as pl

from features.result_tables import Trajectories
from features.tables import checked, empty
from models.questions import KEYS
from models.trajectories.conformal import conformal_band
from models.trajectories.measurements import latest_origins, measurements, people
from models.trajectories.measures import QUANTILES
from models.trajectories.saved import SavedSetting, SavedTrajectories, forecasts
from models.trajectories.windows import Windows, build_windows


def forecast_latest(saved: SavedTrajectories, events: pl.LazyFrame) -> pl.DataFrame:
    """The Trajectories of every living adult, made when a measurement of the setting last became known.

    Of measures with a value in the look-back. The same inputs give the same rows.
    """
    tables = [empty(Trajectories)]
    who = people(events)
    for of_setting in saved.settings.values():
        setting = of_setting.setting
        measured = measurements(events, setting)
        origins = latest_origins(events, measured, who, setting)
        windows = build_windows(events, measured, who, origins, setting)
        for name, model in of_setting.models.released.items():
            of_measure = windows.take(windows.measure == setting.names.index(name))
            if len(of_measure):
                tables.append(_table(of_setting, of_measure, model, saved.version))
    return checked(pl.concat(tables).sort("subject_id", "setting", "measure", "step"), Trajectories)


def _table(saved: SavedSetting, windows: Windows, model: str, version: str) -> pl.DataFrame:
    """Trajectories of one measure by one model."""
    setting, count = saved.setting, len(windows)
    measure = setting.measures[int(windows.measure[0])]
    quantiles = forecasts(saved, windows, (model,))[model]
    low, high = conformal_band(saved.models.margins[model], windows, quantiles)
    steps = np.tile(np.arange(1, setting.ahead + 1), count)
    columns: dict[str, pl.Expr | pl.Series] = {
        "setting": pl.lit(setting.name),
        "measure": pl.lit(measure.name),
        "step": pl.Series(steps, dtype=pl.Int32),
        "unit": pl.lit(measure.unit),
        "ahead_from": pl.Series((steps - 1) * setting.cell_length),
        "ahead_to": pl.Series(steps * setting.cell_length),
        "time_unit": pl.lit(setting.time_unit),
        "last_value": pl.Series(windows.last.repeat(setting.ahead)),
        **{
            f"q{round(100 * quantile)}": pl.Series(quantiles[:, :, place].ravel())
            for place, quantile in enumerate(QUANTILES)
        },
        "low": pl.Series(low.ravel()),
        "high": pl.Series(high.ravel()),
        "model": pl.lit(model),
        "model_version": pl.lit(version),
    }
    keys = windows.keys.select(KEYS)[np.arange(count).repeat(setting.ahead)]
    return keys.with_columns(**columns).select(Trajectories.column_names())
