"""Spreading independent pieces of work over this process and others beside it.

Plain child processes that talk over pipes, rather than multiprocessing's: those import the program's main module
again, Dagster with it, before they do anything, and fork when this process already has threads.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from features.errors import SequelaError

Result = TypeVar("Result")
Spread = Callable[[Callable[..., Result], Sequence[tuple], str, str], Iterator[Result]]


@contextmanager
def workers(count: int) -> Iterator[Spread]:
    """Give `spread(function, pieces, description, unit)`, which works on the pieces here and in `count - 1` children.

    A piece is the tuple of arguments of `function`, which stands at the top of a module. Results come as they are
    ready, in no order. Children start when the first piece is handed to them and stay until the end.
    """
    own = threading.local()
    started: list[subprocess.Popen[bytes]] = []

    def ask(function: Callable[..., Result], piece: tuple) -> Result:
        if not hasattr(own, "child"):
            own.child = _start()
            started.append(own.child)
        try:
            pickle.dump((function, piece), own.child.stdin)
            own.child.stdin.flush()
            answer = pickle.load(own.child.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise SequelaError(
                "A process at work beside this one ended unexpectedly, perhaps for want of memory. Run again with "
                "`--processes 1`. The last good state stands."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def spread(
        function: Callable[..., Result], pieces: Sequence[tuple], description: str, unit: str
    ) -> Iterator[Result]:
        waiting = deque(pieces)
        running: set[Future[Result]] = set()
        with tqdm(total=len(pieces), desc=description, unit=unit, disable=None) as progress:
            while waiting or running:
                while waiting and len(running) < 2 * (count - 1):  # one at work and one at hand for each child
                    running.add(threads.submit(ask, function, waiting.popleft()))
                if waiting:  # this process works too, all the more while the others are starting
                    yield function(*waiting.popleft())
                    progress.update()
                done, running = wait(running, timeout=0 if waiting else None, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                    progress.update()

    threads = ThreadPoolExecutor(max(1, count - 1))
    try:
        yield spread
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in started:
            child.kill()
            child.communicate()


def alone(function: Callable[..., Result], pieces: Sequence[tuple], description: str, unit: str) -> Iterator[Result]:
    """Work on the pieces here, one after the other, like what `workers` gives."""
    for piece in tqdm(pieces, desc=description, unit=unit, disable=None):
        yield function(*piece)


def _start() -> subprocess.Popen[bytes]:
    # As many processes as cores: more threads than one each would only queue.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "features.processes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


def _serve() -> None:
    """Work on pieces from standard input until it closes, as it does when the process that asks has ended."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            function, piece = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = function(*piece)
        except Exception as problem:  # handed to the process that asked, which raises it
            answer = problem
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
