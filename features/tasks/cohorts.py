"""Who is asked for each task, who is left out by which rule, and what followed: the counts behind the cohort report."""

from collections.abc import Sequence

import polars as pl

from features.settings import StudySettings
from features.tables import STATES, CohortCounts, checked, empty
from features.tasks.in_records import unanswerable, without_a_code
from features.tasks.labels import covered, events_of_tasks, moments_by_step
from features.tasks.moments import KEYS
from features.tasks.schema import Task

UNVERIFIED = "censored at once: nobody looked for it"
NOT_COVERED = "left out: the source does not cover the horizon"
IN_GAP = "left out: the outcome came in the gap before the window of outcomes"
_NO_SITE = "no site on record"
_QUESTION = ["task", "horizon_days"]


def cohort_counts(
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    labels: pl.DataFrame,
    codes: pl.DataFrame,
    tasks: list[Task],
    settings: StudySettings,
    shifts: pl.DataFrame,
) -> pl.DataFrame:
    """Count every task's cohort.

    Reads:    `events`: features.tables.Events. `periods`: ObservationPeriods. `labels`: Labels of `tasks`. `codes`:
              code, every code of the events. `shifts`: subject_id, shift_us (shifted = true + shift).
    Returns:  CohortCounts. Counts are exact: whoever shows them hides the small ones. For each horizon the
              prediction times of the states and of what is left out add up to those of the last step.
    """
    of_tasks = events_of_tasks(events, tasks)
    steps, left_out = [], []
    for task in tasks:
        by_step = list(moments_by_step(of_tasks, periods, task, settings))
        steps.append(_steps(task, by_step))
        left_out.append(_left_out(task, by_step[-1][1], periods, labels.filter(task=task.name)))
    refused = [
        {"task": task, "horizon_days": days, "part": "refused", "place": 0, "name": reason}
        for (task, days), reason in unanswerable(tasks, codes, periods, settings).items()
    ]
    no_code = [
        {"task": task.name, "part": "no_code", "place": place, "name": name.replace("_", " ")}
        for task in tasks
        for place, name in enumerate(without_a_code(task, codes))
    ]
    described = labels.with_columns(
        name=pl.when(pl.col("state") == "censored", pl.col("time_to_event_days") == 0)
        .then(pl.lit(UNVERIFIED))
        .otherwise("state")
    )
    true_years = labels.join(shifts, on="subject_id").with_columns(
        name=(pl.col("prediction_time") - pl.duration(microseconds="shift_us")).dt.year().cast(pl.String)
    )
    order = [*STATES, UNVERIFIED]
    parts = [
        *steps,
        *left_out,
        _counted(described, "state").with_columns(
            place=pl.col("name").replace_strict(order, range(len(order)), return_dtype=pl.Int32)
        ),
        _counted(_with_site(labels, events), "site")
        .sort(pl.col("subjects").neg(), "name")
        .with_columns(place=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(_QUESTION)),
        _counted(true_years, "calendar_year").with_columns(place=pl.col("name").cast(pl.Int32)),
        pl.DataFrame(refused, schema_overrides={"horizon_days": pl.Int32, "place": pl.Int32}),
        pl.DataFrame(no_code, schema_overrides={"place": pl.Int32}),
    ]
    columns = empty(CohortCounts)
    table = pl.concat([columns, *parts], how="diagonal").with_columns(
        pl.col("prediction_times", "subjects").fill_null(0)
    )
    return checked(table.sort("task", "horizon_days", "part", "place", "name"), CohortCounts)


def _steps(task: Task, by_step: list[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    rows = [
        (task.name, None, "step", place, words, moments.height, moments["subject_id"].n_unique())
        for place, (words, moments) in enumerate(by_step)
    ]
    return _table(rows)


def _left_out(task: Task, asked: pl.DataFrame, periods: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """What of the last step, `asked`, has no label of `task` within each horizon, and why."""
    rows = []
    for days in task.horizons_days:
        inside = covered(asked, periods, days)
        in_gap = inside.join(labels.filter(horizon_days=days), on=KEYS, how="anti")
        beyond = asked.join(inside, on=KEYS, how="anti")
        rows += [
            (task.name, days, "left_out", place, words, moments.height, moments["subject_id"].n_unique())
            for place, (words, moments) in enumerate([(NOT_COVERED, beyond), (IN_GAP, in_gap)])
            if moments.height
        ]
    return _table(rows)


def _table(rows: Sequence[tuple[str, int | None, str, int, str, int, int]]) -> pl.DataFrame:
    names = ["task", "horizon_days", "part", "place", "name", "prediction_times", "subjects"]
    return pl.DataFrame(rows, schema={name: empty(CohortCounts).schema[name] for name in names}, orient="row")


def _counted(rows: pl.DataFrame, part: str) -> pl.DataFrame:
    """Counts of labelled rows by question and `name`."""
    is_event = pl.col("state") == "event"
    return rows.group_by(*_QUESTION, "name").agg(
        part=pl.lit(part),
        prediction_times=pl.len().cast(pl.Int64),
        subjects=pl.col("subject_id").n_unique().cast(pl.Int64),
        events=is_event.sum().cast(pl.Int64),
        subjects_with_event=pl.col("subject_id").filter(is_event).n_unique().cast(pl.Int64),
        followed_years=pl.col("time_to_event_days").cast(pl.Float64).sum() / 365.25,
        median_followed_days=pl.col("time_to_event_days").cast(pl.Float64).median(),
    )


def _with_site(labels: pl.DataFrame, events: pl.LazyFrame) -> pl.DataFrame:
    """Add name: the pseudonym of the site that was last known to have seen the person by then."""
    seen = events.filter(pl.col("site_id").is_not_null(), pl.col("known_time").is_not_null())
    sites = seen.select("subject_id", "known_time", "site_id").unique().collect().sort("known_time", "site_id")
    return (
        labels.sort("prediction_time")
        .join_asof(
            sites,
            left_on="prediction_time",
            right_on="known_time",
            by="subject_id",
            check_sortedness=False,  # both sides are sorted above
        )
        .with_columns(name=pl.col("site_id").cast(pl.String).fill_null(_NO_SITE))
        .sort(KEYS)
    )
