"""How a command ends that could not finish: one message with the next step, and an exit code.

Whatever a person can put right ends with exit code 2, Ctrl-C with 130; anything else is a fault of ours, with its
traceback and exit code 1.
"""

import errno
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from features.errors import SequelaError

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL_DISK = ("No space left on device", "database or disk is full", "disk I/O error")


def explain(error: Exception) -> int:
    """Tell the person what to do when the error, or one that it came from, says so."""
    for cause in _causes(error):
        if isinstance(cause, SequelaError):
            return say(str(cause), 2)
        if isinstance(cause, KeyboardInterrupt):
            return say("Interrupted. What was finished stays; run the same command again to go on.", 130)
        if _is_disk_full(cause):
            return say(
                "The disk is full or refuses to be written. The last good state stands; make room, run again.", 2
            )
        if isinstance(cause, OSError) and cause.errno in _NOT_ALLOWED:
            where = (
                f" in {Path(str(cause.filename)).parent}" if cause.filename else ""
            )  # a file's name may be a patient's
            return say(f"A file or folder{where} may not be read or written ({cause.strerror}). Change who may.", 2)
    traceback.print_exception(error)
    return say("That was not expected: please report it with the lines above.", 1)


def _is_disk_full(error: BaseException) -> bool:
    """Python, polars and DuckDB, and SQLite say it each in their own way."""
    said = str(error)
    is_said = any(words in said for words in _FULL_DISK)
    return is_said or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def say(message: str, exit_code: int = 0) -> int:
    """Tell the person; the commands that a message names as `sequela ...` are told as they can be typed here."""
    from orchestration.summary import command_name

    print(message.replace("`sequela ", f"`{command_name()} "), file=sys.stderr)
    return exit_code
