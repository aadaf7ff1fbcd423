"""Waiting for work in other threads, and being interrupted while nothing comes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from features.sources.background import follow, pause, start, wait_for


@pytest.fixture
def silence() -> Iterator[Callable[[], None]]:
    """A task that interrupts the main thread where its wait does not notice, and then says nothing for 30 s.

    The signal's handler runs in the task's own thread, as it does when a signal comes just before a wait: Python
    has noted it, and nothing wakes the main thread.
    """
    is_over = threading.Event()

    def task() -> None:
        time.sleep(0.3)  # until the main thread waits
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        is_over.wait(30)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    yield task
    is_over.set()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def test_an_interrupt_just_before_a_wait_ends_it(silence: Callable[[], None]) -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait_for(start([silence]))
    assert time.monotonic() - begun < 10  # far from the 30 s of the task


def test_an_interrupt_just_before_a_pause_ends_it(silence: Callable[[], None]) -> None:
    start([silence])
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pause(30, threading.Event())
    assert time.monotonic() - begun < 10


def test_a_pause_ends_when_it_is_over_or_when_all_shall_stop() -> None:
    begun, stop = time.monotonic(), threading.Event()
    pause(0.3, stop)
    assert 0.3 <= time.monotonic() - begun < 10
    stop.set()
    pause(1000, stop)
    assert time.monotonic() - begun < 10


def test_a_wait_is_no_longer_than_asked() -> None:
    is_over = threading.Event()
    begun = time.monotonic()
    wait_for(start([is_over.wait]), at_most_seconds=0.3)
    assert 0.3 <= time.monotonic() - begun < 10
    is_over.set()


def test_an_interrupt_just_before_a_line_ends_the_reading(silence: Callable[[], None]) -> None:
    def lines() -> Iterator[str]:
        yield "first"
        silence()

    begun = time.monotonic()
    read: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        read.extend(follow(lines()))
    assert read == ["first"]
    assert time.monotonic() - begun < 10


def test_lines_come_in_their_order_and_a_failure_after_them() -> None:
    def lines() -> Iterator[str]:
        yield from "abc"
        raise OSError("broken")

    read: list[str] = []
    with pytest.raises(OSError, match="broken"):
        read.extend(follow(lines()))
    assert read == ["a", "b", "c"]
    assert list(follow([])) == []


def test_a_failure_ends_the_wait_and_what_is_cancelled_is_not_begun() -> None:
    is_over = threading.Event()
    begun = []

    def fail() -> bool:
        raise ValueError

    def work() -> bool:
        return is_over.wait(30)

    futures = start([fail, work, work, lambda: not begun.append(1)], at_once=2)
    wait_for(futures, until_failure=True)
    assert isinstance(futures[0].exception(), ValueError)
    futures[3].cancel()
    is_over.set()
    wait_for(futures)
    assert [future.result() for future in futures[1:3]] == [True, True]
    assert futures[3].cancelled()
    assert begun == []
