"""The events as they were seen on a past day: what stood in the record then, whatever has become of it since.

As exact as the readings are frequent: a day on which records were read is given back as that reading left it; of a day
between two readings, what the source's own words tell (features.superseded). The past begins with the first reading
into a home. Two things are never given back: patients whom the source took back, and the years before a birth that
has been moved up to cap a great age.
"""

from datetime import date

import polars as pl

from features.feature_tables import build_features
from features.home import Home
from features.ingest import events_of
from features.meds_codes import BIRTH, DEATH, MOVED
from features.privacy.keys import Key
from features.privacy.vault import read_shifts
from features.scoring_day import prediction_times_at_end_of
from features.superseded import SAID, history
from features.timelines import MEDS_TYPES

_SEEN_IN_ORDER = ["subject_id", "time", "known_time", "code", "numeric_value", "unit", "text_value", "encounter_id"]


def seen_on(day: date, last_day: date, home: Home, key: Key) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """The events as they were seen at the end of a real day, and that moment in each patient's own time.

    The last day that the records cover, and any later one, is seen with all that has been read: nothing is newer.
    Returns:  features.tables.Events with known_time up to the moment; subject_id, prediction_time.
    """
    moments = prediction_times_at_end_of(day, last_day, read_shifts(home.vault, key))
    past = history(home, key)
    return events_seen(events_of(home), past.clear() if day >= last_day else past, moments), moments


def events_seen(events: pl.LazyFrame, past: pl.DataFrame, moments: pl.DataFrame) -> pl.LazyFrame:
    """The events that stood in the record at a moment of each patient's own time.

    Reads:    `events`: features.tables.Events, each subject's in order. `past`: features.tables.Superseded.
              `moments`: subject_id, prediction_time; one row a subject.
    Returns:  Events of these subjects, each subject's in order: of `events`, those known by then that had come; of
              `past`, those that had come and still held.
    """
    at = moments.lazy().select("subject_id", "prediction_time")
    is_known = (pl.col("known_time") <= pl.col("prediction_time")).fill_null(value=True)
    has_come = (pl.col("known_from") <= pl.col("prediction_time")).fill_null(value=True)
    known = events.join(at, on="subject_id", maintain_order="left").filter(is_known)
    columns = MEDS_TYPES.names
    if past.is_empty():
        return known.select(columns)
    is_late = pl.col("known_until").is_null()
    of_some = pl.col("subject_id").is_in(past["subject_id"].unique().implode())
    late = past.filter(is_late).select(*SAID, "known_from").lazy()
    standing = known.filter(of_some).join(late, on=SAID, how="left", nulls_equal=True).filter(has_come)
    held = (
        past.lazy()
        .filter(~is_late)
        .join(at, on="subject_id")
        .filter(is_known, has_come, pl.col("prediction_time") < pl.col("known_until"))
    )
    with_a_past = pl.concat([standing.select(columns), held.select(columns)]).sort(*_SEEN_IN_ORDER, "record_id")
    return pl.concat([known.filter(~of_some).select(columns), with_a_past])


def features_of_day(
    day: date, events: pl.LazyFrame, moments: pl.DataFrame, definitions: pl.DataFrame, lookback_days: int
) -> pl.DataFrame:
    """The feature table of a real day: a row for each of the living of whom something became known in the look-back.

    Reads:    `events`, `moments`: as `seen_on` gives them. `definitions`: FeatureDefinitions.
    Returns:  as_of (the real day), subject_id, then a Float32 column for each definition; sorted. No moved time: beside
              the day it would tell the shift.
    """
    table = build_features(events, _people(events, moments, lookback_days), definitions)
    return table.select(pl.lit(day).alias("as_of"), "subject_id", *definitions["feature"])


def _people(events: pl.LazyFrame, moments: pl.DataFrame, lookback_days: int) -> pl.DataFrame:
    """The moments of those who have a row: subject_id, prediction_time."""
    tells_nothing = pl.col("code").is_in([BIRTH, DEATH, MOVED])
    people = (
        events.group_by("subject_id")
        .agg(latest=pl.col("known_time").filter(~tells_nothing).max(), is_dead=(pl.col("code") == DEATH).any())
        .collect(engine="streaming")
    )
    is_recent = pl.col("latest") > pl.col("prediction_time") - pl.duration(days=lookback_days)
    return moments.join(people.filter(~pl.col("is_dead")), on="subject_id").filter(is_recent)
