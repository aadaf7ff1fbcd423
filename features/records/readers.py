"""Processes that land tasks beside this one.

Plain child processes that talk over pipes, rather than multiprocessing's: those import the program's main module
again, Dagster with it, before they read a single record, and fork when this process already has threads.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from features.errors import SequelaError
from features.privacy.keys import Key
from features.records.landing import Landed, Task, land

Submit = Callable[[Task, Key, int, Path, dict[int, int] | None], Future[Landed]]


@contextmanager
def readers(count: int) -> Iterator[Submit]:
    """`count` processes, started when first needed; a function that hands one of them a task of `land`."""
    own = threading.local()
    started: list[subprocess.Popen[bytes]] = []

    def ask(*task: object) -> Landed:
        if not hasattr(own, "process"):
            own.process = _start()
            started.append(own.process)
        try:
            pickle.dump(task, own.process.stdin)
            own.process.stdin.flush()
            answer = pickle.load(own.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise SequelaError(
                "A process that was reading records ended unexpectedly, perhaps for want of memory. Run again with "
                "`--processes 1`. The last good state stands."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    threads = ThreadPoolExecutor(count)
    try:
        yield lambda *task: threads.submit(ask, *task)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in started:
            process.kill()
            process.communicate()


def _start() -> subprocess.Popen[bytes]:
    # As many processes as cores: more threads than one each would only queue.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "features.records.readers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _serve() -> None:
    """Land tasks from standard input until it closes, as it does when the process that asks has ended."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Landed | Exception = land(*task)
        except Exception as problem:  # handed to the process that asked, which raises it
            answer = problem
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
