"""The end of a real day in shifted time, and which days may be asked for."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ScoringError
from features.scoring_day import prediction_times_at_end_of, require_scorable

SECOND = 1_000_000
WEEK = 7 * 24 * 3600 * SECOND
DAY = date(2021, 4, 1)
MIDNIGHT_AFTER = datetime(2021, 4, 2)


def shifts(*amounts: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"subject_id": range(len(amounts)), "shift_us": amounts}, schema_overrides={"shift_us": pl.Int64}
    )


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (-2 * WEEK, datetime(2021, 3, 18, 23, 59, 59, 999999)),  # two weeks before 2 April 00:00, less an instant
        (-2 * WEEK - 90 * SECOND, datetime(2021, 3, 18, 23, 57, 59, 999999)),  # 23:58:30 cut to the minute
        (-2 * WEEK + 90 * SECOND, datetime(2021, 3, 18, 23, 59, 59, 999999)),  # dates alone move by the weeks
    ],
)
def test_end_of_day_by_hand(shift, expected):
    assert prediction_times_at_end_of(DAY, DAY, shifts(shift))["prediction_time"].item() == expected


def test_after_the_last_day_nothing_more_is_known():
    later = prediction_times_at_end_of(DAY + timedelta(days=9), DAY, shifts(-WEEK))
    assert later.equals(prediction_times_at_end_of(DAY, DAY, shifts(-WEEK)))


@given(
    weeks=st.integers(1, 260),
    seconds=st.integers(-1799, 1799),
    after=st.integers(0, 3 * 24 * 3600),
)
def test_nothing_of_the_next_day_counts(weeks, seconds, after):
    shift = -weeks * WEEK + seconds * SECOND
    moment = prediction_times_at_end_of(DAY, DAY, shifts(shift))["prediction_time"].item()
    with_time = (MIDNIGHT_AFTER + timedelta(seconds=after, microseconds=shift)).replace(second=0, microsecond=0)
    date_only = MIDNIGHT_AFTER + timedelta(days=after // 86_400) - timedelta(weeks=weeks)
    assert moment < with_time
    assert moment < date_only


def test_a_day_out_of_reach_is_refused():
    first, last = date(2011, 4, 1), DAY
    require_scorable(first, first, last)
    require_scorable(last + timedelta(days=31), first, last)
    with pytest.raises(ScoringError, match="before the first day"):
        require_scorable(first - timedelta(days=1), first, last)
    with pytest.raises(ScoringError, match="newer export"):
        require_scorable(last + timedelta(days=32), first, last)
