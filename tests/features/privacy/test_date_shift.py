"""What a person's move in time keeps, and what it hides."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from features.privacy.date_shift import MINUTE, WEEK, draw_shift
from features.privacy.keys import derive_keys
from features.privacy.rules import load_rules
from features.records.events import read_record
from features.records.frames import frames_of
from features.records.resources import Patient
from features.records.rows import Rows

KEY = derive_keys(b"k" * 32)
subjects = st.integers(0, 2**63 - 1)


@given(subjects)
def test_a_shift_is_whole_weeks_back_and_some_seconds_within_half_an_hour(subject):
    weeks, seconds = draw_shift(KEY.date_shift, subject)
    assert weeks % WEEK == 0
    assert -260 * WEEK <= weeks <= -WEEK
    assert 0 < abs(seconds) < 30 * MINUTE
    assert draw_shift(KEY.date_shift, subject) == (weeks, seconds)


def test_shifts_differ_between_people_and_keys():
    drawn = {draw_shift(KEY.date_shift, subject) for subject in range(500)}
    assert len(drawn) > 490
    other = derive_keys(b"o" * 32)
    assert draw_shift(KEY.date_shift, 1) != draw_shift(other.date_shift, 1)


@given(
    st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2030, 1, 1)), min_size=2, max_size=6),
    st.text("abc", min_size=1),
)
def test_order_intervals_and_time_of_the_week_survive(moments, person):
    """To the minute that dates are cut to, and the half hour of the seconds for the time of the week."""
    rows = Rows(KEY, load_rules())
    for number, moment in enumerate(moments):
        text = moment.replace(tzinfo=UTC).isoformat()
        record = Patient(id=person, deceasedDateTime=text)
        read_record(record, number, rows)
    _, events = frames_of(rows)
    shifted = events.filter(code="MEDS_DEATH")["time"].to_list()
    minute = timedelta(minutes=1)
    for (before, after), (was_before, was_after) in zip(pairwise(shifted), pairwise(moments), strict=True):
        assert abs((after - before) - (was_after - was_before)) <= minute
        if was_after - was_before >= minute:
            assert after > before
    for was, now in zip(moments, shifted, strict=True):
        assert now.second == now.microsecond == 0
        weeks = (was - now) / timedelta(weeks=1)
        assert abs(weeks - round(weeks)) * timedelta(weeks=1) <= timedelta(minutes=31)


def test_a_date_without_a_time_of_day_stays_at_midnight_on_its_weekday():
    """Its midnight would betray the seconds of the shift, and with them the person's minute."""
    for number in range(50):
        rows = Rows(KEY, load_rules())
        read_record(Patient(id=f"p{number}", birthDate="1980-03-04"), 0, rows)  # a Tuesday
        _, events = frames_of(rows)
        born = events.filter(code="MEDS_BIRTH")["time"].item()
        assert (born.hour, born.minute, born.weekday()) == (0, 0, 1)
