"""Reading FHIR dates: any precision, any zone, as microseconds since 1970 in UTC."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_WITH_SECONDS = len("2020-01-01T00:00:00")
_FHIR_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")


class Moment(NamedTuple):
    """A FHIR date: the first and the last microsecond it may mean, and whether a time of day was given."""

    first: int
    last: int
    has_time: bool


_new = tuple.__new__


def read_moment(text: str) -> Moment | None:
    """Read a FHIR date, dateTime or instant; None when it is none.

    A year, month or day stands for all its moments. A time without a zone is taken as UTC.
    """
    if len(text) >= _WITH_SECONDS and text[10] == "T" and text[16] == ":":  # by far the commonest, and C reads it
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        microseconds = (moment - _EPOCH) // _MICROSECOND
        return _new(Moment, (microseconds, microseconds, True))  # several times as fast as Moment(...)
    parts = _FHIR_TIME.fullmatch(text)
    if parts is None:
        return None
    year, month, day, time_of_day, zone = parts.groups()
    try:
        if time_of_day:
            moment = datetime.fromisoformat(text if zone else text + "+00:00")
            microseconds = (moment - _EPOCH) // _MICROSECOND
            return Moment(microseconds, microseconds, has_time=True)
        first = date(int(year), int(month or 1), int(day or 1))
        after = _day_after(first, has_month=month is not None, has_day=day is not None)
    except (ValueError, OverflowError):
        return None
    midnight = (datetime(first.year, first.month, first.day, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    last = (datetime(after.year, after.month, after.day, tzinfo=UTC) - _EPOCH) // _MICROSECOND - 1
    return Moment(midnight, last, has_time=False)


def _day_after(first: date, *, has_month: bool, has_day: bool) -> date:
    if has_day:
        return first + _DAY
    if has_month:
        return date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return date(first.year + 1, 1, 1)
