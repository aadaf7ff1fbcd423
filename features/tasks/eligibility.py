"""Who may be asked about at a moment, told from what is known at that moment alone."""

import polars as pl

from features.meds_codes import BIRTH
from features.tasks.predicates import predicate_events
from features.tasks.schema import KnownWindow, Task

DAYS_PER_YEAR = 365.25


def eligible_moments(
    moments: pl.DataFrame,
    events: pl.LazyFrame,
    codes: pl.DataFrame,
    periods: pl.DataFrame,
    task: Task,
    lookback_days: int,
) -> pl.DataFrame:
    """Keep the moments at which `task` may be asked.

    Reads:    `moments`: subject_id, prediction_time. `events`: features.tables.Events, of which only those with
              known_time <= prediction_time count. `codes`: code, every code of the events.
              `periods`: ObservationPeriods.
    Returns:  the same columns. A person must be alive, observed since at least the look-back, of the task's age (a
              person of unknown birth is left out where an age is asked for), and free of what `none_before` names.
    """
    kept = observed_moments(moments, periods, lookback_days)
    kept = _of_age(kept, events, task)
    for window in task.eligibility.windows():
        known = predicate_events(events, codes, task.predicates[window.predicate])
        kept = _without_known(kept, known, window)
    return kept.select("subject_id", "prediction_time")


def observed_moments(moments: pl.DataFrame, periods: pl.DataFrame, lookback_days: int) -> pl.DataFrame:
    """Keep the moments inside a person's observation period, a whole look-back after its start.

    The last moment of the source itself is inside; the moment of death, or of leaving earlier, is not.
    """
    is_last_covered = (pl.col("prediction_time") == pl.col("end")) & (pl.col("end") == pl.col("covered_until"))
    return (
        moments.join(periods.select("subject_id", "start", "end", "covered_until"), on="subject_id")
        .filter(pl.col("start") + pl.duration(days=lookback_days) <= pl.col("prediction_time"))
        .filter((pl.col("prediction_time") < pl.col("end")) | is_last_covered)
        .select(moments.columns)
    )


def known_within(moments: pl.DataFrame, known: pl.DataFrame, days: int) -> pl.DataFrame:
    """Keep the moments before which something became known within `days`.

    Reads:    `known`: subject_id, known_time.
    """
    window = KnownWindow(predicate="", from_days_before=days)
    return _with_latest_known(moments, known, window).filter(_is_inside(window)).select(moments.columns)


def _of_age(moments: pl.DataFrame, events: pl.LazyFrame, task: Task) -> pl.DataFrame:
    youngest, oldest = task.eligibility.age_at_least, task.eligibility.age_below
    if youngest is None and oldest is None:
        return moments
    births = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min()).collect()
    age_years = (pl.col("prediction_time") - pl.col("birth")).dt.total_seconds() / 86_400 / DAYS_PER_YEAR
    return moments.join(births, on="subject_id", how="left").filter(
        age_years >= (0 if youngest is None else youngest),
        age_years < (float("inf") if oldest is None else oldest),
    )


def _without_known(moments: pl.DataFrame, known: pl.DataFrame, window: KnownWindow) -> pl.DataFrame:
    """Keep the moments for which no event of `known` (subject_id, known_time) lies in `window` before them."""
    latest = _with_latest_known(moments, known, window)
    return latest.filter(~_is_inside(window)).select(moments.columns)


def _with_latest_known(moments: pl.DataFrame, known: pl.DataFrame, window: KnownWindow) -> pl.DataFrame:
    """Add latest_known: when something last became known by the end of `window`; null when nothing did."""
    return (
        moments.with_columns(window_end=pl.col("prediction_time") - pl.duration(days=window.until_days_before))
        .sort("window_end")
        .join_asof(
            known.select("subject_id", latest_known="known_time").unique().sort("latest_known"),
            left_on="window_end",
            right_on="latest_known",
            by="subject_id",
            strategy="backward",
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
        .sort("subject_id", "prediction_time")
    )


def _is_inside(window: KnownWindow) -> pl.Expr:
    """Whether latest_known lies inside the window, the beginning excluded, the end included."""
    is_known = pl.col("latest_known").is_not_null()
    if window.from_days_before is None:
        return is_known
    begins = pl.col("prediction_time") - pl.duration(days=window.from_days_before)
    return is_known & (pl.col("latest_known") > begins)
