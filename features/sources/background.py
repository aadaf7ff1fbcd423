"""Work in threads that do not keep the process alive: an interrupt need not wait for a server that does not answer.

A signal that comes between two steps of Python, just before a lock is waited for, does not end that wait; and one that
comes inside `threading`'s own Python leaves its locks in disorder. So waits here are cut in short slices, and are for
queues written in C or for the clock. An answer of a server is waited for in another thread, or until its time-out.
"""

import _thread
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

_SLICE_SECONDS = 0.2


def start(tasks: Sequence[Callable[[], Result]], at_once: int = 1) -> list[Future[Result]]:
    """Begin the tasks in their order, so many at a time. A future that is cancelled in time is not begun."""
    futures: list[Future[Result]] = [Future() for _ in tasks]
    waiting: queue.SimpleQueue[tuple[Callable[[], Result], Future[Result]]] = queue.SimpleQueue()
    for one in zip(tasks, futures, strict=True):
        waiting.put(one)

    def work() -> None:
        while not waiting.empty():
            try:
                task, future = waiting.get_nowait()
            except queue.Empty:  # another thread was faster
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(task())
                except BaseException as problem:
                    future.set_exception(problem)

    for _ in range(min(at_once, len(tasks))):
        _thread.start_new_thread(work, ())  # threading.Thread would wait, in Python, until it runs
    return futures


def wait_for(
    futures: Sequence[Future[Result]], until_failure: bool = False, at_most_seconds: float | None = None
) -> None:
    """Return when all have ended, one failed, or time is over; an interrupt is raised in a fifth of a second."""
    ended: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    until = None if at_most_seconds is None else time.monotonic() + at_most_seconds
    for _ in futures:
        one = _take(ended, until)
        if one is None or (until_failure and not one.cancelled() and one.exception()):
            return


def follow(lines: Iterable[str]) -> Iterator[str]:
    """The lines as they come; an interrupt is raised in a fifth of a second, also while none comes."""
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            arrived.put(line)

    (reading,) = start([read])
    reading.add_done_callback(lambda _: arrived.put(None))  # also when it failed
    while (line := _take(arrived)) is not None:
        yield line
    reading.result()


def pause(seconds: float, stop: threading.Event) -> None:
    """Wait so long, or until `stop` is set; an interrupt is raised in a fifth of a second."""
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_SECONDS))


def _take(arrived: "queue.SimpleQueue[Result]", until: float | None = None) -> Result | None:
    """The next that arrives; None when it is later than `until`, on the clock of time.monotonic."""
    while until is None or time.monotonic() < until:
        try:
            return arrived.get(timeout=_SLICE_SECONDS)
        except queue.Empty:
            continue
    return None
