"""When is a question asked, and what was the answer?

Prediction times see what was known (known_time); labels see what happened (clinical time). Both lie inside the window
in which the source observes everybody alike, so neither a record's length nor the calendar tells the answer.
"""

from datetime import datetime, timedelta

import polars as pl

from features.meds_codes import BIRTH, DEATH, MOVED
from features.settings import StudySettings
from features.tables import Labels, checked, empty
from features.tasks.eligibility import eligible_moments, known_within
from features.tasks.predicates import matched_units, predicate_events
from features.tasks.schema import Predicate, Task

_ENCOUNTER_END = Predicate(prefixes=("ENCOUNTER//",))
_END_CODE = r"^ENCOUNTER//.*//end$"
_KEYS = ["subject_id", "prediction_time"]


def build_labels(
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    splits: pl.DataFrame,
    tasks: list[Task],
    settings: StudySettings,
) -> pl.DataFrame:
    """Label every prediction time of every task.

    Reads:    `events`: features.tables.Events. `periods`: ObservationPeriods. `splits`: SubjectSplits.
    Returns:  Labels, sorted by task, subject and prediction time. No row for a task that nobody is eligible for,
              or whose horizon is longer than the source covers.
    """
    codes = events.select("code").unique().collect()
    events = _of_tasks(events, codes, tasks)
    labelled = [empty(Labels).drop("split")]
    for task in tasks:
        moments = prediction_times(events, periods, task, settings)
        labelled.append(label(moments, events, periods, task).select(empty(Labels).drop("split").columns))
    labels = pl.concat(labelled).join(splits, on="subject_id", how="left", maintain_order="left")
    return checked(labels.sort("task", *_KEYS), Labels)


def prediction_times(events: pl.LazyFrame, periods: pl.DataFrame, task: Task, settings: StudySettings) -> pl.DataFrame:
    """The moments at which `task` is asked: encounter ends of eligible people, spaced as the task says.

    Returns:  subject_id, prediction_time; distinct, sorted. The whole horizon lies inside what the source covers,
              for those who die as for those who live. The encounter that ends is itself known in the look-back.
    """
    codes = events.select("code").unique().collect()
    moments = (
        events.filter(pl.col("code").str.contains(_END_CODE) & pl.col("known_time").is_not_null())
        .select("subject_id", prediction_time="known_time")
        .unique()
        .sort(_KEYS)
        .collect()
    )
    eligible = eligible_moments(moments, events, codes, periods, task, settings.lookback_days)
    spaced = _spaced(eligible.sort(_KEYS), timedelta(days=task.prediction_time.at_most_one_per_days))
    return (
        spaced.join(periods.select("subject_id", "covered_until"), on="subject_id", maintain_order="left")
        .filter(pl.col("prediction_time") + pl.duration(days=task.horizon_days) <= pl.col("covered_until"))
        .select(_KEYS)
    )


def label(moments: pl.DataFrame, events: pl.LazyFrame, periods: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Say what followed each moment.

    Reads:    `moments`: subject_id, prediction_time.
    Adds:     task, horizon_days, state, time_to_event_days (days to the outcome, to death, to the end of follow-up, or
              the horizon). An outcome counts in (prediction_time + starts_after_days, prediction_time + horizon], by
              clinical time, and comes before a death at the same moment.
    """
    codes = events.select("code").unique().collect()
    outcomes = _outcomes(events, codes, task)
    deaths = events.filter(pl.col("code") == DEATH).group_by("subject_id").agg(death=pl.col("time").min()).collect()
    followed = (
        moments.with_columns(
            opens=pl.col("prediction_time") + pl.duration(days=task.outcome.starts_after_days),
            closes=pl.col("prediction_time") + pl.duration(days=task.horizon_days),
        )
        .join(periods.select("subject_id", "end"), on="subject_id")
        .join(deaths, on="subject_id", how="left")
        .sort("opens")
        .join_asof(
            outcomes.select("subject_id", outcome="time").unique().sort("outcome"),
            left_on="opens",
            right_on="outcome",
            by="subject_id",
            strategy="forward",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
    )
    happened = (pl.col("outcome") <= pl.col("closes")) & (pl.col("outcome") <= pl.col("end"))
    state = (
        pl.when(happened)
        .then(pl.lit("event"))
        .when((pl.col("death") <= pl.col("closes")) & (pl.col("death") <= pl.col("end")))
        .then(pl.lit("died_first"))
        .when(pl.col("end") < pl.col("closes"))
        .then(pl.lit("censored"))
        .otherwise(pl.lit("none"))
    )
    until = (
        pl.when(state == "event")
        .then("outcome")
        .when(state == "died_first")
        .then("death")
        .when(state == "censored")
        .then("end")
        .otherwise("closes")
    )
    return followed.select(
        *_KEYS,
        task=pl.lit(task.name),
        horizon_days=pl.lit(task.horizon_days, pl.Int32),
        state=state,
        time_to_event_days=((until - pl.col("prediction_time")).dt.total_seconds() / 86_400).cast(pl.Float32),
    ).sort(_KEYS)


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
    codes = events.select("code").unique().collect()
    known = (
        events.filter(pl.col("known_time").is_not_null())
        .filter(pl.col("subject_id").is_in(times["subject_id"].unique().implode()))
        .filter(~pl.col("code").is_in([DEATH, BIRTH, MOVED]))
        .select("subject_id", "known_time")
        .unique()
        .collect()
    )
    present = known_within(times.select(_KEYS).unique(), known, lookback_days)
    events = _of_tasks(events, codes, tasks)
    eligible = [empty(Labels).select(*_KEYS, "task", "horizon_days")]
    for task in tasks:
        moments = eligible_moments(present, events, codes, periods, task, lookback_days)
        eligible.append(moments.with_columns(task=pl.lit(task.name), horizon_days=pl.lit(task.horizon_days, pl.Int32)))
    return pl.concat(eligible).sort("task", *_KEYS)


def _of_tasks(events: pl.LazyFrame, codes: pl.DataFrame, tasks: list[Task]) -> pl.LazyFrame:
    """The events that any of the tasks looks at, read once and held in memory: few columns, few codes."""
    predicates = [predicate for task in tasks for predicate in task.predicates.values()]
    wanted = matched_units(codes, [*predicates, _ENCOUNTER_END, Predicate(codes=(BIRTH, DEATH))])
    return (
        events.filter(pl.col("code").is_in(wanted["code"].unique().implode()))
        .select("subject_id", "time", "known_time", "code")
        .collect()
        .lazy()
    )


def _outcomes(events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Outcome events as subject_id, time; for a `first` outcome only the first ever of each unit."""
    found = pl.concat([predicate_events(events, codes, task.predicates[name]) for name in task.outcome.any_of])
    if task.outcome.first:
        found = found.group_by("subject_id", "unit").agg(pl.col("time").min())
    return found.select("subject_id", "time")


def _spaced(moments: pl.DataFrame, spacing: timedelta) -> pl.DataFrame:
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
