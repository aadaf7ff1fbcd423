"""One secret move for all of a person's dates: whole weeks plus some seconds.

Order, intervals and weekday stay. The seconds, with the cut to the minute that follows, hide a person's
constant minute:second, a fingerprint that survives a move by whole days. A date without a time of day moves
by the weeks alone: it has no fingerprint, and its midnight would betray the seconds.
"""

from hashlib import blake2b

MICROSECONDS = 1_000_000
MINUTE = 60 * MICROSECONDS
DAY = 24 * 60 * MINUTE
WEEK = 7 * DAY

_MOST_WEEKS = 260  # five years; always back, so that no date lands after the day it was exported
_MOST_SECONDS = 30 * 60
CAP_SPREAD_DAYS = 3 * 365


def draw_shift(key: bytes, subject_id: int) -> tuple[int, int]:
    """A person's move in microseconds: (whole weeks, seconds); both are added to a true time.

    Weeks lie in -260 … -1, seconds in -1,799 … 1,799 without 0, so nobody stays where they were.
    """
    digest = blake2b(subject_id.to_bytes(8, "little"), key=key, digest_size=16).digest()
    weeks = -1 - int.from_bytes(digest[:8], "little") % _MOST_WEEKS
    seconds = 1 + int.from_bytes(digest[8:15], "little") % (_MOST_SECONDS - 1)
    return weeks * WEEK, seconds * MICROSECONDS * (1 if digest[15] & 1 else -1)


def draw_cap_days(key: bytes, subject_id: int) -> int:
    """By how many days, 0 … 1,094, a person's capped birth lies after the limit that all ages over 89 share.

    Without it, everybody capped would have the same birth date but for the shift, and so give the shift away.
    """
    digest = blake2b(b"cap" + subject_id.to_bytes(8, "little"), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "little") % CAP_SPREAD_DAYS
