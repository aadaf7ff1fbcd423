"""Work in threads that do not keep the process alive: an interrupt need not wait for a server that does not answer."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


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
        threading.Thread(target=work, daemon=True).start()
    return futures
