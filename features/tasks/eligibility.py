"""Who may be asked about at a moment, told from what is known at that moment alone."""

from collections.abc import Iterator

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
    """Keep the moments at which `task` may be asked: what `eligibility_steps` leaves, with the same columns."""
    *_, (_, left) = eligibility_steps(moments, events, codes, periods, task, lookback_days)
    return left


def eligibility_steps(
    moments: pl.DataFrame,
    events: pl.LazyFrame,
    codes: pl.DataFrame,
    periods: pl.DataFrame,
    task: Task,
    lookback_days: int,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Leave out, step by step, the moments at which `task` may not be asked.

    Reads:    `moments`: subject_id, prediction_time, encounter_id (where the task is about stays). `events`:
              features.tables.Events, of which only those with known_time <= prediction_time count. `codes`: code, every
              code of the events. `periods`: ObservationPeriods.
    Yields:   what was asked for, in words, and the moments that are left. A person must be alive, observed since at
              least the look-back, of the task's age and sex (who has none on record is left out where asked for),
              known to have what `any_before` names, and free of what `none_before` and `none_in_stay` name.
    """

    def known(name: str) -> pl.DataFrame:
        return predicate_events(events, codes, task.predicates, name)

    of = task.eligibility
    moments = observed_moments(moments, periods, lookback_days)
    yield f"observed for the {lookback_days:,} days before, alive and not moved away", moments
    if of.age_at_least is not None or of.age_below is not None:
        moments = _of_age(moments, events, of.age_at_least, of.age_below)
        yield _ages_in_words(of.age_at_least, of.age_below), moments
    if of.sex is not None:
        sexed = events.filter(pl.col("code") == f"SEX//{of.sex}").select("subject_id").unique().collect()
        moments = moments.join(sexed, on="subject_id", how="semi")
        yield of.sex, moments
    for window in of.required():
        moments = _with_latest_known(moments, known(window.predicate), window).filter(_is_inside(window))
        moments = moments.drop("window_end", "latest_known")
        yield f"known: {_in_words(window)}", moments
    for window in of.windows():
        moments = _without_known(moments, known(window.predicate), window)
        yield f"not known: {_in_words(window)}", moments
    for name in of.last_value:
        moments = with_last_value(moments, events, codes, task, name)
        yield f"latest value: {name.replace('_', ' ')}", moments
    for name in of.none_in_stay:
        moments = _without_known_in_stay(moments, known(name))
        yield f"not in this stay: {name.replace('_', ' ')}", moments


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


def _of_age(moments: pl.DataFrame, events: pl.LazyFrame, youngest: float | None, oldest: float | None) -> pl.DataFrame:
    births = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min()).collect()
    age_years = (pl.col("prediction_time") - pl.col("birth")).dt.total_seconds() / 86_400 / DAYS_PER_YEAR
    return (
        moments.join(births, on="subject_id", how="left")
        .filter(
            age_years >= (0 if youngest is None else youngest),
            age_years < (float("inf") if oldest is None else oldest),
        )
        .select(moments.columns)
    )


def with_last_value(
    moments: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task, name: str
) -> pl.DataFrame:
    """Keep the moments at which, of the values of a predicate's codes known by then, the latest is the predicate's."""
    every = {name: task.predicates[name].without_bound()}
    values = predicate_events(events, codes, every, name).drop_nulls("numeric_value")
    inside = predicate_events(events, codes, task.predicates, name).select(
        "subject_id", "time", "numeric_value", is_inside=pl.lit(True)
    )
    latest = (
        moments.select("subject_id", "prediction_time")
        .join(values.select("subject_id", "time", "known_time", "numeric_value"), on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
        .sort("time", "known_time", "numeric_value")
        .unique(["subject_id", "prediction_time"], keep="last", maintain_order=True)
        .join(inside.unique(), on=["subject_id", "time", "numeric_value"], how="semi")
    )
    return moments.join(latest, on=["subject_id", "prediction_time"], how="semi", maintain_order="left")


def _ages_in_words(youngest: float | None, oldest: float | None) -> str:
    at_least = "" if youngest is None else f"{youngest:g} years or older"
    below = "" if oldest is None else f"younger than {oldest:g} years"
    return " and ".join(part for part in (at_least, below) if part)


def _in_words(window: KnownWindow) -> str:
    begins = "" if window.from_days_before is None else f" in the {window.from_days_before:,} days before"
    ends = "" if not window.until_days_before else f", until {window.until_days_before:,} days before"
    return f"{window.predicate.replace('_', ' ')}{begins}{ends}"


def _without_known_in_stay(moments: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Keep the moments whose own stay holds no event of `known` (subject_id, encounter_id, known_time) by then."""
    first = known.drop_nulls("encounter_id").group_by("subject_id", "encounter_id").agg(pl.col("known_time").min())
    return (
        moments.join(first, on=["subject_id", "encounter_id"], how="left", maintain_order="left")
        .filter(~(pl.col("known_time") <= pl.col("prediction_time")).fill_null(False))
        .select(moments.columns)
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
