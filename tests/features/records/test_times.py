"""FHIR dates as microseconds: precision, zones, and what is no date."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.records.times import read_moment


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "first", "last", "has_time"),
    [
        ("2020", at(2020, 1, 1), at(2021, 1, 1) - 1, False),
        ("2020-12", at(2020, 12, 1), at(2021, 1, 1) - 1, False),
        ("2020-02-28", at(2020, 2, 28), at(2020, 2, 29) - 1, False),
        ("2020-02-28T10:00:00Z", at(2020, 2, 28, 10), at(2020, 2, 28, 10), True),
        ("2020-02-28T10:00:00-05:00", at(2020, 2, 28, 15), at(2020, 2, 28, 15), True),
        ("2020-02-28T10:00:00", at(2020, 2, 28, 10), at(2020, 2, 28, 10), True),  # no zone: taken as UTC
        ("2020-02-28T10:00", at(2020, 2, 28, 10), at(2020, 2, 28, 10), True),
    ],
)
def test_moments_by_hand(text, first, last, has_time):
    assert read_moment(text) == (first, last, has_time)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "20200228", "2020-13", "2020-02-30", "2020-02-28T25:00:00Z", "28.02.2020", "2020-W10-1"]
)
def test_what_is_no_date_is_refused(text):
    assert read_moment(text) is None


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_zone_means_the_same_moment(moment, minutes):
    zoned = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    read = read_moment(zoned.isoformat())
    assert read is not None
    assert datetime(1970, 1, 1) + timedelta(microseconds=read.first) == moment
