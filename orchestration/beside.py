"""Writing beside a file and renaming: the name of what is being built, and clearing what a killed run left."""

import os
import shutil
from pathlib import Path

_MARK = ".building."


def beside(path: Path) -> Path:
    """A hidden neighbour of `path` that belongs to this process."""
    return path.with_name(f".{path.name}{_MARK}{os.getpid()}")


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that are no longer running were building anywhere below `folder`."""
    for leftover in folder.rglob(f".*{_MARK}*"):
        if _is_running(leftover.name.rpartition(".")[2]):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # another user's, and running
        return True
    return True
