"""Which tasks can these records not answer at all: no code of theirs occurs, or nobody is observed for long enough."""

from collections.abc import Iterator

import polars as pl

from features.derived_events import CREATININE, EGFR
from features.settings import StudySettings
from features.tasks.predicates import matched_units
from features.tasks.schema import Task


def unanswerable(
    tasks: list[Task], codes: pl.DataFrame, periods: pl.DataFrame, settings: StudySettings
) -> dict[tuple[str, int], str]:
    """Reasons by task and horizon, each with the file and line of the task that it is about.

    Reads:    `codes`: code, every code of the events. `periods`: ObservationPeriods.
    A task is refused when a predicate that decides who is asked (at: result, any_before), all of its outcomes or all of
    `verified_by` match no code of the records: its labels would all be one. A horizon is refused when the source covers
    fewer people for the look-back and the horizon than training needs.
    """
    codes = _with_derived(codes)
    covered_days = periods.select((pl.col("covered_until") - pl.col("start")).dt.total_days()).to_series().sort()
    # So many people are needed to learn anything; whom the source covers longer than all but a few tells nothing.
    enough = covered_days.tail(settings.fewest_subjects_with_event)
    longest_days = 0 if enough.is_empty() else int(enough[0])
    reasons: dict[tuple[str, int], str] = {}
    for task in tasks:
        missing = next(_missing(task, codes), None)
        for index, horizon in enumerate(task.horizons_days):
            if missing is not None:
                reasons[task.name, horizon] = missing
            elif longest_days < settings.lookback_days + horizon:
                reasons[task.name, horizon] = (
                    f"{task.place('horizons_days', index)}: the horizon of {horizon:,} days passes the end of "
                    f"observation: these records cover too few people for the look-back of "
                    f"{settings.lookback_days:,} days and it"
                )
    return reasons


def without_a_code(task: Task, codes: pl.DataFrame) -> list[str]:
    """The predicates of a task of which the records hold no code: what they would leave out, or count, nobody has.

    Reads:    `codes`: code, every code of the events.
    """
    there = _with_derived(codes)
    return [name for name, predicate in task.predicates.items() if matched_units(there, [predicate]).is_empty()]


def _with_derived(codes: pl.DataFrame) -> pl.DataFrame:
    """The codes, with that of kidney function where the records hold creatinine."""
    if codes.filter(pl.col("code").is_in(CREATININE)).is_empty():
        return codes.select("code")
    return pl.concat([codes.select("code"), pl.DataFrame({"code": [EGFR]})])


def _missing(task: Task, codes: pl.DataFrame) -> Iterator[str]:
    of = task.eligibility
    single = [("prediction_time", "predicate")] if task.prediction_time.predicate else []
    for where in single:
        yield from _none_of(task, codes, where, [task.prediction_time.predicate or ""])
    for index, window in enumerate(of.required()):
        yield from _none_of(task, codes, ("eligibility", "any_before", index), [window.predicate])
    for index, name in enumerate(of.last_value):
        yield from _none_of(task, codes, ("eligibility", "last_value", index), [name])
    outcomes = [*task.outcome.any_of, *(fall.predicate for fall in task.outcome.falls)]
    if outcomes:
        yield from _none_of(task, codes, ("outcome",), outcomes)
    if task.outcome.verified_by:
        yield from _none_of(task, codes, ("outcome", "verified_by"), list(task.outcome.verified_by))


def _none_of(task: Task, codes: pl.DataFrame, where: tuple[str | int, ...], names: list[str]) -> Iterator[str]:
    """A reason when no code of the records matches any of the predicates."""
    if matched_units(codes, [task.predicates[name] for name in names]).is_empty():
        words = " or ".join(name.replace("_", " ") for name in names)
        yield f"{task.place(*where)}: these records hold no code of {words}"
