"""Prediction times as rows, and the events that features read as series: one for each person and measure."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

KEYS = ["subject_id", "prediction_time"]
DAYS_PER_YEAR = 365.25
DAY_US = 86_400_000_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Prediction times, sorted by subject and time; their places are the rows of the feature table.

    people: subject_id in order. distinct: all prediction times once. ends: the row after each person's last.
    """

    people: pl.Series
    distinct: Ints
    keys: Ints
    ends: Ints

    def first_at(self, person: Ints, moment: Ints) -> Ints:
        """The first row of each person (by place) at or after a moment in µs; the row after their last when none is."""
        wanted = person * (len(self.distinct) + 1) + np.searchsorted(self.distinct, moment)
        return np.searchsorted(self.keys, wanted)


@dataclass(frozen=True)
class Points:
    """The events of some measures, in series: one for each person and measure, each in the order of time.

    Arrays over events: series, time and known (µs), value (NaN when not a number), record_id. Arrays over series:
    person (place in `moments`), measure.
    """

    moments: Moments
    series: Ints
    time: Ints
    known: Ints
    value: Floats
    record_id: Ints
    person: Ints
    measure: Ints


def moments_of(rows: pl.DataFrame) -> Moments:
    """Reads subject_id, prediction_time; distinct and sorted by both."""
    people = rows["subject_id"].unique(maintain_order=True)
    at = _us(rows["prediction_time"])
    distinct = np.unique(at)
    person = rows["subject_id"].rle_id().to_numpy().astype(np.int64)
    keys = person * (len(distinct) + 1) + np.searchsorted(distinct, at)
    return Moments(people, distinct, keys, np.searchsorted(person, np.arange(len(people)), side="right"))


def points_of(events: pl.DataFrame, moments: Moments, measures: pl.DataFrame) -> Points:
    """Put the events that measures read into series.

    Reads:  `events`: subject_id, time, known_time, code, numeric_value, record_id; without a time they are left
            out. `measures`: code, measure (a number from 0); a code may feed several measures.
    """
    people = pl.DataFrame({"subject_id": moments.people}).with_row_index("person")
    found = (
        events.lazy()
        .filter(pl.col("time").is_not_null())
        .join(measures.lazy(), on="code")
        .join(people.lazy(), on="subject_id")
        .select("person", "measure", "time", "known_time", "record_id", value=pl.col("numeric_value").cast(pl.Float64))
        # A full order makes ties and sums come out the same however the events were ordered.
        .sort("person", "measure", "time", "known_time", "record_id", "value")
        .collect()
    )
    person, measure = (found[name].to_numpy().astype(np.int64) for name in ("person", "measure"))
    starts = np.ones(found.height, dtype=bool)
    starts[1:] = (person[1:] != person[:-1]) | (measure[1:] != measure[:-1])
    return Points(
        moments=moments,
        series=np.cumsum(starts) - 1,
        time=_us(found["time"]),
        known=_us(found["known_time"]),
        value=found["value"].fill_null(np.nan).to_numpy(),
        record_id=found["record_id"].to_numpy(),
        person=person[starts],
        measure=measure[starts],
    )


def with_numbers(points: Points) -> Points:
    """Only the events with a number."""
    return only(points, ~np.isnan(points.value))


def a_day_old(points: Points) -> Points:
    """The events as seen from a day after they happened: a visit that ends now is not its own predecessor."""
    return replace(points, known=np.maximum(points.known, points.time + DAY_US))


def only(points: Points, kept: NDArray[np.bool_]) -> Points:
    """Some of the events; the series keep their places."""
    if kept.all():
        return points
    return replace(
        points,
        series=points.series[kept],
        time=points.time[kept],
        known=points.known[kept],
        value=points.value[kept],
        record_id=points.record_id[kept],
    )


def with_stay_days(events: pl.LazyFrame) -> pl.LazyFrame:
    """The end of each inpatient stay with its length.

    Reads:    features.tables.Events.
    Returns:  the ENCOUNTER//IMP//end events, numeric_value = days since the same encounter's start. An end whose
              encounter or start is unknown is left out.
    """
    # A start that became known after the end would be the future at that moment.
    starts = events.filter(pl.col("code") == "ENCOUNTER//IMP//start").select(
        "subject_id", "encounter_id", started="time", start_known="known_time"
    )
    first_start = (
        events.filter((pl.col("code") == "ENCOUNTER//IMP//end") & pl.col("encounter_id").is_not_null())
        .join(starts, on=["subject_id", "encounter_id"])
        .filter((pl.col("start_known") <= pl.col("known_time")) & (pl.col("started") <= pl.col("time")))
    )
    stay_days = (pl.col("time") - pl.col("started")).dt.total_seconds() / 86_400
    return (
        first_start.with_columns(numeric_value=stay_days.cast(pl.Float32))
        .drop("started", "start_known")
        # One end with two starts would count twice; the earlier start stands.
        .sort("numeric_value", descending=True)
        .unique(["subject_id", "encounter_id", "record_id", "time", "known_time"], keep="first", maintain_order=True)
    )


def _us(moments: pl.Series) -> Ints:
    return moments.cast(pl.Datetime("us")).to_physical().to_numpy()
