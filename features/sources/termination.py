"""SIGTERM (kill, systemd, docker stop) ends like Ctrl-C: what must be cleared away is."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def termination_is_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM within the block, or the function decorated with it.

    Only where SIGTERM would end the process without a word: Dagster, for one, sees to it itself.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
