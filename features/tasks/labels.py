"""When is a question asked, and what was the answer?

Prediction times see what was known (known_time); labels see what happened (clinical time). Both lie inside the window
in which the source observes everybody alike, so neither a record's length nor the calendar tells the answer.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from features.derived_events import CREATININE, EGFR, egfr_events
from features.meds_codes import BIRTH, DEATH, MOVED
from features.settings import StudySettings
from features.tables import Labels, checked, empty
from features.tasks.eligibility import eligibility_steps, eligible_moments, known_within
from features.tasks.moments import KEYS, moments_of, stays
from features.tasks.outcomes import (
    first_outcomes,
    verifications,
    with_last_verification,
    with_stay_end,
    without_outcome_in_gap,
)
from features.tasks.predicates import matched_units, predicate_events
from features.tasks.schema import Predicate, Task

_ALWAYS_NEEDED = Predicate(codes=(BIRTH, DEATH), prefixes=("ENCOUNTER//", "SEX//"))
_SCORED_WITHIN_DAYS = 1


def build_labels(
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    splits: pl.DataFrame,
    tasks: list[Task],
    settings: StudySettings,
) -> pl.DataFrame:
    """Label every prediction time of every task, at each of its horizons.

    Reads:    `events`: features.tables.Events. `periods`: ObservationPeriods. `splits`: SubjectSplits.
    Returns:  Labels, sorted by task, horizon, subject and prediction time. No row for a task that nobody is eligible
              for, or for a horizon that is longer than the source covers.
    """
    events = events_of_tasks(events, tasks)
    labelled = [empty(Labels).drop("split")]
    for task in tasks:
        moments = prediction_times(events, periods, task, settings)
        labelled.append(label(moments, events, periods, task).select(empty(Labels).drop("split").columns))
    labels = pl.concat(labelled).join(splits, on="subject_id", how="left", maintain_order="left")
    return checked(labels.sort("task", "horizon_days", *KEYS), Labels)


def prediction_times(events: pl.LazyFrame, periods: pl.DataFrame, task: Task, settings: StudySettings) -> pl.DataFrame:
    """The moments at which `task` is asked: those of its kind at which people are eligible, spaced as the task says.

    Returns:  subject_id, prediction_time, encounter_id (of the stay; null where the task is not about stays); distinct,
              sorted. The whole of the shortest horizon lies inside what the source covers, for those who die as for
              those who live.
    """
    *_, (_, left) = moments_by_step(events, periods, task, settings)
    return left


def moments_by_step(
    events: pl.LazyFrame, periods: pl.DataFrame, task: Task, settings: StudySettings
) -> Iterator[tuple[str, pl.DataFrame]]:
    """The moments of a task before and after each step that leaves some out, with the step in words."""
    codes = events.select("code").unique().collect()
    every = moments_of(events, codes, task)
    yield "every moment of the kind", every
    moments = every
    for words, left in eligibility_steps(every, events, codes, periods, task, settings.lookback_days):
        moments = left
        yield words, left
    if spacing_days := task.prediction_time.at_most_one_per_days:
        moments = spaced(moments.sort(KEYS), timedelta(days=spacing_days))
        yield f"at most one in {spacing_days:,} days", moments
    shortest = task.horizons_days[0]
    moments = covered(moments.sort(KEYS), periods, shortest)
    yield f"the {shortest:,} days after are covered by the source", moments


def label(moments: pl.DataFrame, events: pl.LazyFrame, periods: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Say what followed each moment, within each horizon that the source covers after it.

    Reads:    `moments`: subject_id, prediction_time, and encounter_id where the task is about stays.
    Adds:     task, horizon_days, state, time_to_event_days (days to the outcome, to death, to the end of follow-up, or
              the horizon). An outcome counts in (prediction_time + starts_after_days, prediction_time + horizon], by
              clinical time, and comes before a death at the same moment; whose outcome comes in the gap has no row.
              After a stay that ended without the outcome that can come only `within_stay`, it is `none`. An absence
              that nobody verified where the task asks for it is censored at the last verification, or at once; a fall
              that nobody confirmed or refuted is censored when it was seen.
    """
    codes = events.select("code").unique().collect()
    deaths = events.filter(pl.col("code") == DEATH).group_by("subject_id").agg(death=pl.col("time").min()).collect()
    followed = (
        moments.with_columns(opens=pl.col("prediction_time") + pl.duration(days=task.outcome.starts_after_days))
        .join(periods.select("subject_id", "end"), on="subject_id", maintain_order="left")
        .join(deaths, on="subject_id", how="left", maintain_order="left")
    )
    followed = with_stay_end(without_outcome_in_gap(followed, events, codes, task), events)
    followed = first_outcomes(followed, events, codes, task)
    verified = verifications(events, codes, task)
    if task.outcome.within_stay:
        is_inside = pl.col("outcome") <= pl.col("stay_end").fill_null(pl.col("end"))
        followed = followed.with_columns(outcome=pl.when(is_inside).then("outcome"))
    of_horizons = []
    for days in task.horizons_days:
        closing = covered(followed, periods, days).with_columns(
            closes=pl.col("prediction_time") + pl.duration(days=days)
        )
        answered = _at_horizon(with_last_verification(closing, verified), task)
        of_horizons.append(answered.with_columns(task=pl.lit(task.name), horizon_days=pl.lit(days, pl.Int32)))
    return pl.concat(of_horizons).select(*KEYS, "task", "horizon_days", "state", "time_to_event_days")


def _at_horizon(followed: pl.DataFrame, task: Task) -> pl.DataFrame:
    """State and time_to_event_days within the horizon that ends at `closes`, for `followed` as `label` makes it."""
    closes, outcome, is_answered = pl.col("closes"), pl.col("outcome"), pl.lit(False)
    is_unknown, known_until = pl.col("doubtful") <= closes, pl.col("doubtful")
    if task.outcome.verified_by:
        within = task.outcome.verified_within_days
        since = pl.col("opens") if within is None else closes - pl.duration(days=within)
        is_unknown = ~(pl.col("verified") > since).fill_null(False)
        known_until = pl.coalesce("verified", "prediction_time")
    if task.outcome.stay_lasts_days is not None:
        outcome = pl.when(pl.col("stay_end") >= closes).then(closes)
        is_unknown, known_until = pl.col("stay_end").is_null(), pl.col("prediction_time")
    if task.outcome.stay_lasts_days is not None or task.outcome.within_stay:
        is_left_alive = (pl.col("stay_end") < pl.col("death")) | pl.col("death").is_null()
        is_answered = (pl.col("stay_end") <= pl.min_horizontal("end", closes)) & is_left_alive
    state = (
        pl.when((outcome <= closes) & (outcome <= pl.col("end")))
        .then(pl.lit("event"))
        .when(is_answered)
        .then(pl.lit("none"))
        .when((pl.col("death") <= closes) & (pl.col("death") <= pl.col("end")))
        .then(pl.lit("died_first"))
        .when(pl.col("end") < closes)
        .then(pl.lit("censored"))
        .when(is_unknown)
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("none"))
    )
    until = (
        pl.when(state == "event")
        .then(outcome)
        .when(state == "died_first")
        .then("death")
        .when(state == "censored")
        .then("end")
        .when(state == "unknown")
        .then(known_until)
        .otherwise(closes)
    )
    return followed.select(
        *KEYS,
        state=state.replace("unknown", "censored"),
        time_to_event_days=((until - pl.col("prediction_time")).dt.total_seconds() / 86_400).cast(pl.Float32),
    ).sort(KEYS)


def eligible_at(
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    times: pl.DataFrame,
    tasks: list[Task],
    settings: StudySettings | None = None,
) -> pl.DataFrame:
    """Who may be scored for which task at given moments; the same rules as for training, without the future.

    Reads:    `times`: subject_id, prediction_time. `settings`: the study's; its defaults when None.
    Returns:  subject_id, prediction_time, task, horizon_days; sorted. Only people of whom something became known in the
              look-back: to anybody else the models have nothing to say.
    """
    lookback_days = (settings or StudySettings()).lookback_days
    known = (
        events.filter(pl.col("known_time").is_not_null())
        .filter(pl.col("subject_id").is_in(times["subject_id"].unique().implode()))
        .filter(~pl.col("code").is_in([DEATH, BIRTH, MOVED]))
        .select("subject_id", "known_time")
        .unique()
        .collect()
    )
    present = known_within(times.select(KEYS).unique(), known, lookback_days)
    events = events_of_tasks(events, tasks)
    codes = events.select("code").unique().collect()
    eligible = [empty(Labels).select(*KEYS, "task", "horizon_days")]
    for task in tasks:
        asked = _asked_now(present, events, codes, task, lookback_days)
        moments = eligible_moments(asked, events, codes, periods, task, lookback_days).select(KEYS).unique()
        eligible += [
            moments.with_columns(task=pl.lit(task.name), horizon_days=pl.lit(days, pl.Int32))
            for days in task.horizons_days
        ]
    return pl.concat(eligible).sort("task", "horizon_days", *KEYS)


def _asked_now(
    present: pl.DataFrame, events: pl.LazyFrame, codes: pl.DataFrame, task: Task, lookback_days: int
) -> pl.DataFrame:
    """Of the moments `present`, those at which a day's scores would answer the task.

    A question about a stay is answered on the day on which it arises, and of who is still in hospital where it arises
    after the admission. One about a result is answered while the result is in the look-back, any other at all times.
    """
    if task.prediction_time.at == "result":
        results = predicate_events(events, codes, task.predicates, task.prediction_time.predicate or "")
        present = known_within(present, results, lookback_days)
    if not task.is_about_stays:
        return present.with_columns(encounter_id=pl.lit(None, pl.Int64))
    arisen = moments_of(events, codes, task).rename({"prediction_time": "arose"})
    asked = present.join(arisen, on="subject_id").filter(
        pl.col("arose") <= pl.col("prediction_time"),
        pl.col("arose") > pl.col("prediction_time") - pl.duration(days=_SCORED_WITHIN_DAYS),
    )
    if task.prediction_time.at == "admission":
        ended = stays(events).select("subject_id", "encounter_id", "ended_known")
        asked = asked.join(ended, on=["subject_id", "encounter_id"], how="left").filter(
            ~(pl.col("ended_known") <= pl.col("prediction_time")).fill_null(False)
        )
    return (
        asked.sort(*KEYS, "arose", "encounter_id")
        .unique(KEYS, keep="last", maintain_order=True)
        .select(*KEYS, "encounter_id")
    )


def events_of_tasks(events: pl.LazyFrame, tasks: list[Task]) -> pl.LazyFrame:
    """The events that any of the tasks looks at, read once and held in memory: few columns, few codes.

    Kidney function is made of the creatinine results where a task asks for it.
    """
    codes = events.select("code").unique().collect()
    predicates = [predicate for task in tasks for predicate in task.predicates.values()]
    asks_for_egfr = any(EGFR in patterns for one in predicates for patterns in one.units().values())
    predicates += [_ALWAYS_NEEDED, *([Predicate(codes=CREATININE)] if asks_for_egfr else [])]
    wanted = matched_units(codes, predicates)["code"].unique().implode()
    columns = ["subject_id", "time", "known_time", "code", "encounter_id", "numeric_value", "unit"]
    read = events.filter(pl.col("code").is_in(wanted)).select(columns).collect().lazy()
    return pl.concat([read, egfr_events(read)]).collect().lazy() if asks_for_egfr else read


def covered(moments: pl.DataFrame, periods: pl.DataFrame, horizon_days: int) -> pl.DataFrame:
    """Keep the moments after which the source covers the whole horizon."""
    return (
        moments.join(periods.select("subject_id", "covered_until"), on="subject_id", maintain_order="left")
        .filter(pl.col("prediction_time") + pl.duration(days=horizon_days) <= pl.col("covered_until"))
        .select(moments.columns)
    )


def spaced(moments: pl.DataFrame, spacing: timedelta) -> pl.DataFrame:
    """Take each person's first moment, then always the next that is at least `spacing` later.

    Expects the moments sorted by person and time. Whether one is taken depends on earlier ones alone.
    """
    is_taken: list[bool] = []
    person: int | None = None
    earliest = datetime.min
    for subject_id, moment in zip(moments["subject_id"], moments["prediction_time"], strict=True):
        is_first = subject_id != person
        take = is_first or moment >= earliest
        if take:
            person, earliest = subject_id, moment + spacing
        is_taken.append(take)
    return moments.filter(pl.Series(is_taken, dtype=pl.Boolean))
