"""Moving a finished state into a home's place, all of it or none of it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import SequelaError
from features.home import Home

_SET_ASIDE = ".replaced"
_DONE = ".replaced.done"


def publish(workroom: Path, home: Home) -> None:
    """Move the tables, the vault and the dataset of `workroom` into `home`.

    What they replace is set aside until the last is in place; renaming that folder is the moment from which the new
    state counts. A kill before it is undone by `heal`.
    """
    new = [(path, home.tables / path.name) for path in sorted((workroom / "tables").iterdir())]
    new += [(workroom / "vault", home.vault), (workroom / "meds", home.meds)]
    aside = home.path / _SET_ASIDE
    aside.mkdir()
    home.tables.mkdir(parents=True, exist_ok=True)
    for path, place in new:
        if place.exists():
            kept = aside / place.relative_to(home.path)
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, kept)
        os.replace(path, place)
    os.replace(aside, home.path / _DONE)
    shutil.rmtree(home.path / _DONE)


def heal(home: Home, workroom: Path) -> None:
    """Undo a publication that was killed half way, and clear away what a killed run left half made."""
    aside = home.path / _SET_ASIDE
    if aside.exists():
        for kept in sorted(aside.rglob("*")):
            is_whole = kept.parent in (aside, aside / home.tables.name) and kept != aside / home.tables.name
            if is_whole:
                place = home.path / kept.relative_to(aside)
                if place.is_dir():
                    shutil.rmtree(place)
                os.replace(kept, place)
    for litter in (aside, home.path / _DONE, workroom):
        shutil.rmtree(litter, ignore_errors=True)


@contextmanager
def alone_in(home: Home) -> Iterator[None]:
    """Hold the home's lock while reading into it. Raises SequelaError when another run does."""
    home.path.mkdir(parents=True, exist_ok=True)
    with (home.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SequelaError(
                f"Another run is reading records into {home.path}. Wait for it, or choose another --home."
            ) from None
        yield
