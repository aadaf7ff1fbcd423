"""How long to wait for a server, and how often to ask again."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_EPOCH_FROM = 10_000_000  # a Retry-After above (116 days) is no length of time but a moment, in Unix time


@dataclass(frozen=True)
class Pace:
    """How patiently a server is asked: `tries` in a row without headway, `most_tries` of one thing in all.

    An unfinished job is gone on with by later runs until it is `keep_job_hours` old.
    `sleep`, `clock` (Unix time, s) and `jitter` (0 to 1) can be other than real."""

    deadline_hours: float = 24
    tries: int = 8
    most_tries: int = 1000
    keep_job_hours: float = 72
    longest_wait_seconds: float = 300
    longest_guess_seconds: float = 60
    timeout_seconds: float = 60
    downloads_at_once: int = 4
    sleep: Callable[[float], object] | None = None
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def guess(self, turn: int) -> float:
        """How long to wait after the `turn`-th time (from 1) when the server does not say: doubling, with jitter."""
        return min(2.0 ** (turn - 1), self.longest_guess_seconds) * (1 + self.jitter()) / 2


def seconds_to_wait(retry_after: str | None, now: float) -> float | None:
    """What a Retry-After header asks for (s): a number of seconds, an HTTP date, or, against the rules, Unix time.

    `now` is Unix time (s). None when there is no header, or none that can be understood.
    """
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            return parsedate_to_datetime(retry_after).timestamp() - now
        except (ValueError, TypeError):
            return None
    if not math.isfinite(seconds):
        return None
    if seconds > _EPOCH_FROM * 1000:  # Unix time in milliseconds
        return seconds / 1000 - now
    return seconds - now if seconds > _EPOCH_FROM else seconds
