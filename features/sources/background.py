"""Work in threads that do not keep the process alive: an interrupt need not wait for a server that does not answer.

A signal that comes between two steps of Python, just before a lock is waited for, does not end that wait; and one that
comes inside `threading`'s own Python leaves its locks in disorder. So the main thread waits here in short slices, for
queues written in C.
"""

import _thread
import queue
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


def wait_for(futures: Sequence[Future[Result]], until_failure: bool = False) -> None:
    """Return when all have ended, or one has failed; an interrupt is raised in a fifth of a second."""
    ended: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    for _ in futures:
        future = _take(ended)
        if until_failure and not future.cancelled() and future.exception():
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


def _take(arrived: "queue.SimpleQueue[Result]") -> Result:
    while True:
        try:
            return arrived.get(timeout=_SLICE_SECONDS)
        except queue.Empty:
            continue
