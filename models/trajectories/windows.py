"""What is known of a course when it is forecast: a regular grid before the moment, and what became of it after.

Time is cut into cells that end, counted backwards, at the moment of the forecast. The value of a cell is the last one
measured in it. A cell without a measurement has none: nothing is interpolated, and such a cell ahead is neither
trained on nor judged. Where a model needs a number it gets the last value before the cell, with how long ago that was.
Inputs are events with known_time <= prediction_time alone. Treatment goes on as it stands at that moment.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.codes import groups_of_codes, load_code_groups
from features.points import DAYS_PER_YEAR
from models.questions import KEYS
from models.trajectories.measures import Setting

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Windows:
    """N courses; E cells of look-back (the last ends when the forecast is made), H ahead, M measures of the setting.

    keys: subject_id, prediction_time, measure (place in the setting). history (N, E), future (N, H): NaN where nothing
    was measured. cells_since (N,): how many cells before the forecast the last value was measured, with fractions.
    latest (N, M): the last value of each measure in the look-back, or NaN. age_years (N,); sex (N,) in words;
    conditions (N, C): known by then; drugs (N, E, D): active at each cell's end.
    """

    setting: Setting
    keys: pl.DataFrame
    history: Floats
    future: Floats
    cells_since: Floats
    latest: Floats
    age_years: Floats
    sex: NDArray[np.str_]
    conditions: Flags
    drugs: Flags

    def __len__(self) -> int:
        return self.keys.height

    @property
    def measure(self) -> NDArray[np.int64]:
        """The place of each course's measure in the setting (N,)."""
        return self.keys["measure"].to_numpy()

    @property
    def last(self) -> Floats:
        """The last value known of each course (N,)."""
        return self.latest[np.arange(len(self)), self.measure]

    @property
    def is_measured_ahead(self) -> Flags:
        """Which cells ahead have a value (N, H)."""
        return ~np.isnan(self.future)

    def possible(self, values: Floats) -> Floats:
        """`values` (N, ...) held inside what is possible for each course's measure: no saturation above 100 %."""
        bounds = np.array([(one.lowest, one.highest) for one in self.setting.measures])[self.measure]
        low, high = (bounds[:, end].reshape(-1, *(1,) * (values.ndim - 1)) for end in (0, 1))
        return np.asarray(values.clip(low, high))

    def take(self, rows: NDArray[np.generic]) -> "Windows":
        """Some of the courses, by place or by flag."""
        places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Windows(
            self.setting,
            self.keys[places],
            self.history[places],
            self.future[places],
            self.cells_since[places],
            self.latest[places],
            self.age_years[places],
            self.sex[places],
            self.conditions[places],
            self.drugs[places],
        )


def build_windows(
    events: pl.LazyFrame, measured: pl.DataFrame, who: pl.DataFrame, origins: pl.DataFrame, setting: Setting
) -> Windows:
    """The courses with at least one value in the look-back, for each origin and measure.

    Reads:    `events`: features.tables.Events, for conditions and drugs. `measured`, `who`, `origins`: of
              models.trajectories.measurements.
    """
    at = origins.join(who, on="subject_id", how="left").sort(KEYS).with_row_index("origin")
    grid, since = _grid(measured, at, setting)
    origin, measure = np.nonzero(~np.isnan(since))
    latest = _last_known(grid[:, :, : setting.look_back])
    age = (at["prediction_time"] - at["birth"]).dt.total_days().cast(pl.Float64).to_numpy() / DAYS_PER_YEAR
    return Windows(
        setting=setting,
        keys=at.select(KEYS)[origin].with_columns(measure=pl.Series(measure, dtype=pl.Int64)),
        history=grid[origin, measure, : setting.look_back],
        future=grid[origin, measure, setting.look_back :],
        cells_since=since[origin, measure],
        latest=latest[origin],
        age_years=age[origin],
        sex=at["sex"].fill_null("unknown").to_numpy().astype(np.str_)[origin],
        conditions=_conditions(events, at, setting)[origin],
        drugs=_drugs(events, at, setting)[origin],
    )


def _grid(measured: pl.DataFrame, at: pl.DataFrame, setting: Setting) -> tuple[Floats, Floats]:
    """The last value of each cell (origins, M, E + H), and the cells since the last value known (origins, M)."""
    ahead = pl.col("time") > pl.col("prediction_time")
    known = pl.col("known_time") <= pl.col("prediction_time")
    since = (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds()
    cell = int(setting.cell.total_seconds() * 1_000_000)
    place = (
        pl.when(ahead)
        .then(setting.look_back + (-since - 1).floordiv(cell))
        .otherwise(setting.look_back - 1 - since.floordiv(cell))
    )
    cells = (
        at.select("origin", *KEYS)
        .join(measured, on="subject_id")
        .with_columns(place=place, since=since / cell)
        .filter(known | ahead, pl.col("place").is_between(0, setting.look_back + setting.ahead - 1))
        .sort("origin", "measure", "time", "known_time", "value")
        .group_by("origin", "measure", "place", maintain_order=True)
        .agg(pl.col("value").last(), pl.col("since").last())
    )
    grid = np.full((at.height, len(setting.measures), setting.look_back + setting.ahead), np.nan)
    grid[cells["origin"].to_numpy(), cells["measure"].to_numpy(), cells["place"].to_numpy()] = cells["value"].to_numpy()
    last = cells.filter(pl.col("place") < setting.look_back).group_by("origin", "measure").agg(pl.col("since").min())
    elapsed = np.full(grid.shape[:2], np.nan)
    elapsed[last["origin"].to_numpy(), last["measure"].to_numpy()] = last["since"].to_numpy()
    return grid, elapsed


def carried_forward(history: Floats) -> tuple[Floats, Floats]:
    """The last value up to each cell (last axis), and how many cells ago it was measured; NaN before the first."""
    cells = np.arange(history.shape[-1])
    measured_at = np.maximum.accumulate(np.where(np.isnan(history), -1, cells), axis=-1)
    values = np.take_along_axis(history, np.maximum(measured_at, 0), axis=-1)
    is_known = measured_at >= 0
    return np.where(is_known, values, np.nan), np.where(is_known, cells - measured_at, np.nan)


def _last_known(history: Floats) -> Floats:
    return carried_forward(history)[0][..., -1]


def _conditions(events: pl.LazyFrame, at: pl.DataFrame, setting: Setting) -> Flags:
    """Which of the setting's conditions were known at each origin (origins, C)."""
    found = _of_groups(events, setting.conditions).group_by("subject_id", "place").agg(pl.col("known_time").min())
    known = (
        at.select("origin", *KEYS)
        .join(found, on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
    )
    flags = np.zeros((at.height, len(setting.conditions)), dtype=np.bool_)
    flags[known["origin"].to_numpy(), known["place"].to_numpy()] = True
    return flags


def _drugs(events: pl.LazyFrame, at: pl.DataFrame, setting: Setting) -> Flags:
    """Which of the setting's drugs were active at each cell's end, by what is known at the origin (origins, E, D)."""
    active = {group.name: group.active_days for group in load_code_groups()}
    days = pl.Series([active[name] for name in setting.drugs], dtype=pl.Int64)
    orders = (
        at.select("origin", *KEYS)
        .join(_of_groups(events, setting.drugs), on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
        .with_columns(until=pl.col("time") + pl.duration(days=pl.lit(days).gather(pl.col("place"))))
    )
    flags = np.zeros((at.height, setting.look_back, len(setting.drugs)), dtype=np.bool_)
    for cell in range(setting.look_back):
        end = pl.col("prediction_time") - (setting.look_back - 1 - cell) * setting.cell
        taking = orders.filter(pl.col("time") <= end, end < pl.col("until"))
        flags[taking["origin"].to_numpy(), cell, taking["place"].to_numpy()] = True
    return flags


def _of_groups(events: pl.LazyFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Events of code groups: subject_id, time, known_time, place (of the group in `names`)."""
    codes = groups_of_codes(events.select("code").unique().collect())
    places = pl.DataFrame({"group": names, "place": range(len(names))}, schema={"group": pl.String, "place": pl.Int64})
    wanted = codes.join(places, on="group").select("code", "place")
    return (
        events.filter(pl.col("code").is_in(wanted["code"].unique().implode()))
        .select("subject_id", "time", "known_time", "code")
        .collect()
        .filter(pl.col("time").is_not_null())
        .join(wanted, on="code")
        .drop("code")
    )
