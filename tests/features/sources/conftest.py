"""A server on loopback, and time that passes at once."""

from collections.abc import Iterator

import pytest

from features.sources.patience import Pace
from tests.features.sources.bulk_server import BulkServer, conditions, patients


class Clock:
    """Time that passes only by waiting; `waits` are the seconds waited each time."""

    def __init__(self) -> None:
        self.now = 1_780_000_000.0
        self.waits: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """Waits are doubled from 1 s on, without jitter, and take no time."""
    return Pace(sleep=clock.sleep, clock=clock.time, jitter=lambda: 1.0, tries=4, timeout_seconds=5)


@pytest.fixture
def server(clock: Clock) -> Iterator[BulkServer]:
    """Three patients in two files, and two conditions."""
    output = [("Patient", patients("a", "b")), ("Condition", conditions("x", "y")), ("Patient", patients("c"))]
    with BulkServer(output=output, clock=clock.time) as server:
        yield server
