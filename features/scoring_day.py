"""When is the end of a real day in each patient's own shifted time?"""

from datetime import date, datetime, time, timedelta

import polars as pl

from features.errors import ScoringError
from features.privacy.date_shift import MINUTE, WEEK

LATEST_AFTER_DATA_END = timedelta(days=31)


def require_scorable(as_of: date, first_day: date, last_day: date) -> None:
    """Raise ScoringError unless the records can say something about `as_of`, a real day.

    `first_day` and `last_day` are the true days between which the source observes anybody.
    """
    if as_of < first_day:
        raise ScoringError(
            f"{as_of} lies before the first day these records cover ({first_day}). "
            f"Choose a day from {first_day} to {last_day + LATEST_AFTER_DATA_END}."
        )
    if as_of > last_day + LATEST_AFTER_DATA_END:
        raise ScoringError(
            f"The records end on {last_day}; {as_of} lies more than {LATEST_AFTER_DATA_END.days} days later, too "
            "long without news of anybody. Read a newer export (`sequela run --from …`), or choose a day up to "
            f"{last_day + LATEST_AFTER_DATA_END}."
        )


def prediction_times_at_end_of(as_of: date, last_day: date, shifts: pl.DataFrame) -> pl.DataFrame:
    """Each patient's last moment of the real day `as_of`, in shifted time, to the minute, less an instant.

    A day after `last_day`, the last that the records cover, is asked at the end of that last day: nothing more is
    known by then.
    Reads:    shifts (subject_id, shift_us: whole weeks plus some seconds, added to true times).
    Returns:  subject_id, prediction_time. Never later than the day's end for either kind of event: those with a
              time of day moved by weeks and seconds and were cut to the minute, those without moved by the weeks
              alone. So an event of the next day never counts; one of the day's last half hour may not yet.
    """
    midnight = pl.lit(datetime.combine(min(as_of, last_day), time.min) + timedelta(days=1))
    weeks_us = ((pl.col("shift_us") / WEEK).round() * WEEK).cast(pl.Int64)
    earlier_us = pl.when(pl.col("shift_us") < weeks_us).then(pl.col("shift_us")).otherwise(weeks_us)
    to_the_minute = earlier_us.floordiv(MINUTE) * MINUTE
    return shifts.select(
        "subject_id",
        prediction_time=(midnight + pl.duration(microseconds=to_the_minute - 1)).cast(pl.Datetime("us")),
    )
