"""From what ACES counted to our labels: what its language cannot say, applied afterwards."""

from datetime import timedelta

import polars as pl

from features.settings import StudySettings
from features.tasks.aces import answer_names, without_answers
from features.tasks.eligibility import observed_moments, with_last_value
from features.tasks.labels import covered, spaced
from features.tasks.moments import KEYS, moments_of, outside_other_stays, stays
from features.tasks.schema import Task

NO_ROWS = pl.DataFrame(schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "is_event": pl.Boolean})


def aces_answers(
    counts: pl.DataFrame,
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    task: Task,
    horizon_days: int,
    settings: StudySettings,
) -> pl.DataFrame:
    """Our rows and answers from those of ACES, for a file of features/tasks/aces.py.

    Reads:    `counts`: what aces-cli writes into window_stats_dir: a row for each moment at which somebody is eligible,
              a struct of counts for each window; perhaps without columns when there is none. `events`: as
              features.tasks.labels.events_of_tasks makes them. `periods`: ObservationPeriods.
    Returns:  subject_id, prediction_time, is_event (null where ACES cannot answer), sorted. is_event is false for
              `none`, `died_first` and `censored` alike: ACES does not tell them apart.
    """
    if counts.is_empty():
        return NO_ROWS
    rows = _outside_other_stays(observed_moments(counts, periods, settings.lookback_days), events, task).sort(KEYS)
    codes = events.select("code").unique().collect()
    for name in task.eligibility.last_value:
        rows = with_last_value(rows, events, codes, task, name)
    if spacing_days := task.prediction_time.at_most_one_per_days:
        rows = spaced(rows, timedelta(days=spacing_days))
    rows = covered(rows, periods, horizon_days)
    if without_answers(task) is not None:
        return rows.select(*KEYS, is_event=pl.lit(None, pl.Boolean))
    if task.outcome.starts_after_days:
        rows = rows.filter(~_any_first(task, "gap", ["record"]))
    return rows.select(*KEYS, is_event=_is_event(task))


def _outside_other_stays(rows: pl.DataFrame, events: pl.LazyFrame, task: Task) -> pl.DataFrame:
    """Leave out moments in the midst of a stay; a moment of a task about stays is known by its time alone."""
    codes = events.select("code").unique().collect()
    if task.is_about_stays:
        return rows.join(moments_of(events, codes, task).select(KEYS), on=KEYS, how="semi")
    own = rows.with_columns(encounter_id=pl.lit(None, pl.Int64))
    return outside_other_stays(own, stays(events)).select(rows.columns)


def _is_event(task: Task) -> pl.Expr:
    happens = _any_first(task, "target", ["record", *(["gap"] if task.outcome.starts_after_days else [])])
    if task.outcome.within_stay:
        return happens & _any_first(task, "stay", [])
    return ~happens if task.outcome.stay_lasts_days is not None else happens


def _any_first(task: Task, window: str, earlier: list[str]) -> pl.Expr:
    """Whether an outcome lies in the window; one that had come in `earlier` windows does not count if first."""
    found = []
    for names in answer_names(task).values():
        is_inside = _count(window, names) > 0
        is_new = [_count(before, names) == 0 for before in earlier if task.outcome.first is not None]
        found.append(pl.all_horizontal(is_inside, *is_new))
    return pl.any_horizontal(found)


def _count(window: str, names: list[str]) -> pl.Expr:
    """Events of the predicates that ACES counted in a window; ACES names it by the end that is not its anchor."""
    summary = pl.col(f"{window}.start_summary" if window == "record" else f"{window}.end_summary")
    return pl.sum_horizontal(summary.struct.field(name) for name in names)
