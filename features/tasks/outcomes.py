"""When, after each moment, did what is forecast happen?"""

import polars as pl

from features.tasks.moments import KEYS, stays
from features.tasks.predicates import predicate_events
from features.tasks.schema import Fall, Task


def first_outcomes(moments: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """The first outcome after the outcome window opens, by clinical time.

    Reads:    `moments`: subject_id, prediction_time, opens, and encounter_id where the task is about stays.
    Adds:     outcome: when it happened, strictly after `opens`; null when never.
    """
    found = _events_of(events, codes, task)
    moments = _with_next(moments, found, after="opens", as_column="outcome")
    for fall in task.outcome.falls:
        values = predicate_events(events, codes, task.predicates, fall.predicate)
        moments = moments.join(_falls(moments, values, fall), on=KEYS, how="left", maintain_order="left")
        moments = moments.with_columns(outcome=pl.min_horizontal("outcome", "fell")).drop("fell")
    return moments


def without_outcome_in_gap(
    moments: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task
) -> pl.DataFrame:
    """Keep the moments after which the outcome did not come before the outcome window opens.

    Who has it by then can neither get it in the window nor be held for free of it.
    """
    if task.outcome.starts_after_days == 0:
        return moments
    found = _events_of(events, codes, task)
    return (
        _with_next(moments, found, after="prediction_time", as_column="soonest")
        .filter(~(pl.col("soonest") <= pl.col("opens")).fill_null(False))
        .select(moments.columns)
    )


def with_stay_end(moments: pl.DataFrame, events: pl.LazyFrame) -> pl.DataFrame:
    """Add stay_end, when the stay that is asked about ended; null when no end is on record, or there is no stay."""
    if "encounter_id" not in moments.columns:
        return moments.with_columns(stay_end=pl.lit(None, pl.Datetime("us")))
    ends = stays(events).select("subject_id", "encounter_id", stay_end="ended")
    return moments.join(ends, on=["subject_id", "encounter_id"], how="left", maintain_order="left")


def with_last_verification(
    moments: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task
) -> pl.DataFrame:
    """Add verified: when one of `verified_by` first happened after the window opened; null when never."""
    found = [predicate_events(events, codes, task.predicates, name) for name in task.outcome.verified_by]
    if not found:
        return moments.with_columns(verified=pl.col("opens"))
    return _with_next(moments, pl.concat(found), after="opens", as_column="verified")


def _events_of(events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Outcome events as subject_id, time; of a `first` outcome only the first ever, of each unit or of all."""
    found = [predicate_events(events, codes, task.predicates, name) for name in task.outcome.any_of]
    if not found:
        return pl.DataFrame(schema={"subject_id": pl.Int64, "time": pl.Datetime("us")})
    happened = pl.concat(found)
    if task.outcome.first is not None:
        by = ["subject_id", "unit"] if task.outcome.first == "of_each_group" else ["subject_id"]
        happened = happened.group_by(by).agg(pl.col("time").min())
    return happened.select("subject_id", "time")


def _with_next(moments: pl.DataFrame, happened: pl.DataFrame, after: str, as_column: str) -> pl.DataFrame:
    """Add when the next of `happened` (subject_id, time) came, strictly after the column `after`."""
    return (
        moments.sort(after)
        .join_asof(
            happened.select("subject_id", pl.col("time").alias(as_column)).unique().sort(as_column),
            left_on=after,
            right_on=as_column,
            by="subject_id",
            strategy="forward",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
        .sort(KEYS)
    )


def _falls(moments: pl.DataFrame, values: pl.DataFrame, fall: Fall) -> pl.DataFrame:
    """When each person's value first fell by the share of what was last known at the moment: keys, fell.

    Reads:    `moments`: keys, opens. `values`: subject_id, time, known_time, numeric_value.
    Without a value known at the moment there is no fall. A fall is confirmed by the first value that was measured
    `confirmed_after_days` later or more, if that is as low.
    """
    values = values.drop_nulls("numeric_value").select("subject_id", "time", "known_time", value="numeric_value")
    last_known = (
        moments.sort("prediction_time")
        .join_asof(
            values.sort("known_time", "time").select("subject_id", "known_time", last="value"),
            left_on="prediction_time",
            right_on="known_time",
            by="subject_id",
            check_sortedness=False,  # both sides are sorted above
        )
        .select(*KEYS, "opens", limit=pl.col("last") * (1 - fall.by_percent / 100))
        .drop_nulls("limit")
    )
    low = last_known.join(values.select("subject_id", "time", "value"), on="subject_id").filter(
        pl.col("time") > pl.col("opens"), pl.col("value") <= pl.col("limit")
    )
    if fall.confirmed_after_days:
        later = pl.duration(days=fall.confirmed_after_days)
        low = (
            low.with_columns(due=pl.col("time") + later)
            .sort("due")
            .join_asof(
                values.sort("time").select("subject_id", measured="time", again="value"),
                left_on="due",
                right_on="measured",
                by="subject_id",
                strategy="forward",
                check_sortedness=False,  # both sides are sorted above
            )
            .filter(pl.col("again") <= pl.col("limit"))
        )
    return low.group_by(KEYS).agg(fell=pl.col("time").min())
