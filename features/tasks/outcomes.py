"""When, after each moment, did what is forecast happen?"""

import polars as pl

from features.tasks.moments import KEYS, stays
from features.tasks.predicates import predicate_events
from features.tasks.schema import Fall, Task


def first_outcomes(moments: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """The first outcome after the outcome window opens, by clinical time.

    Reads:    `moments`: subject_id, prediction_time, opens, and encounter_id where the task is about stays.
    Adds:     outcome: when it happened, strictly after `opens`; null when never. doubtful: when it may have happened,
              but nobody looked again; null when never.
    """
    found = _events_of(events, codes, task)
    moments = _with_next(moments, found, after="opens", as_column="outcome")
    moments = moments.with_columns(doubtful=pl.lit(None, pl.Datetime("us")))
    for fall in task.outcome.falls:
        values = predicate_events(events, codes, task.predicates, fall.predicate)
        moments = moments.join(_falls(moments, values, fall), on=KEYS, how="left", maintain_order="left")
        moments = moments.with_columns(
            outcome=pl.min_horizontal("outcome", "fell"), doubtful=pl.min_horizontal("doubtful", "may_have_fallen")
        ).drop("fell", "may_have_fallen")
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


def verifications(events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame | None:
    """When one of `verified_by` happened: subject_id, verified; None where the task asks for nothing of the kind."""
    found = [predicate_events(events, codes, task.predicates, name) for name in task.outcome.verified_by]
    if not found:
        return None
    return pl.concat(found).select("subject_id", verified="time").unique().sort("verified")


def with_last_verification(moments: pl.DataFrame, verified: pl.DataFrame | None) -> pl.DataFrame:
    """Add verified, the last of `verified` (as of `verifications`) in (opens, closes]; null when there is none."""
    if verified is None:
        return moments.with_columns(verified=pl.lit(None, pl.Datetime("us")))
    return (
        moments.sort("closes")
        .join_asof(
            verified,
            left_on="closes",
            right_on="verified",
            by="subject_id",
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
        .with_columns(verified=pl.when(pl.col("verified") > pl.col("opens")).then("verified"))
        .sort(KEYS)
    )


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
    """When each person's value first fell by the share of the latest that was known: keys, fell, may_have_fallen.

    Reads:    `moments`: keys, opens. `values`: subject_id, time, known_time, numeric_value.
    Without a value known at the moment there is no fall. A fall is confirmed by the first value that was measured
    `confirmed_after_days` later or more, and at most a year after that, if it is as low. Where no such value was
    measured it may have fallen.
    """
    values = values.drop_nulls("numeric_value").select("subject_id", "time", "known_time", value="numeric_value")
    limits = (
        moments.select(*KEYS, "opens")
        .join(values, on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
        .sort("time", "known_time", "value")
        .unique(KEYS, keep="last", maintain_order=True)
        .select(*KEYS, "opens", limit=pl.col("value") * (1 - fall.by_percent / 100))
    )
    low = limits.join(values.select("subject_id", "time", "value"), on="subject_id").filter(
        pl.col("time") > pl.col("opens"), pl.col("value") <= pl.col("limit")
    )
    if not fall.confirmed_after_days:
        return low.group_by(KEYS).agg(
            fell=pl.col("time").min(), may_have_fallen=pl.lit(None, pl.Datetime("us")).first()
        )
    again = (
        low.with_columns(due=pl.col("time") + pl.duration(days=fall.confirmed_after_days))
        .sort("due")
        .join_asof(
            values.sort("time").select("subject_id", measured="time", again="value"),
            left_on="due",
            right_on="measured",
            by="subject_id",
            strategy="forward",
            tolerance="365d",
            check_sortedness=False,  # both sides are sorted above
        )
    )
    return again.group_by(KEYS).agg(
        fell=pl.col("time").filter(pl.col("again") <= pl.col("limit")).min(),
        may_have_fallen=pl.col("time").filter(pl.col("again").is_null()).min(),
    )
