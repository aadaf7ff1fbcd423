"""What has been landed from one FHIR server: its exports in order, and how a new one joins or replaces them.

fhir_server/0001-full/    Patient.000.ndjson, …, manifest.json
fhir_server/0002-since/   what changed after it; deleted.000.ndjson names what is gone
fhir_server/0003-partial/ what came when the server said that records are missing; goes when an export has come whole
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.errors import SourceError
from features.sources.landed import LandedFile, Manifest, landing, read_manifest, sum_of_digests
from features.sources.repeats import find_repeats

Part = Literal["full", "since", "partial"]

_EXPORT = re.compile(r"(\d{4,})-(full|since|partial)")
_ASKED_UNTIL = ".asked_until"
_NOTHING = (sum_of_digests([]), sum_of_digests([]))


@dataclass(frozen=True)
class Landed:
    """The exports that lie at a place, oldest first, and the moment until which the last whole one was asked for."""

    folders: tuple[Path, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    asked_until: str | None = None

    @property
    def next_number(self) -> int:
        """The number of the next export."""
        return int(self.folders[-1].name.partition("-")[0]) + 1 if self.folders else 1

    @property
    def partial(self) -> dict[Path, Manifest]:
        """Those of which the server said that records are missing."""
        return {
            folder: manifest
            for folder, manifest in zip(self.folders, self.manifests, strict=True)
            if _is_partial(folder)
        }

    def files(self) -> Iterator[tuple[LandedFile, Path]]:
        """All files of records, and where they lie."""
        for folder, manifest in zip(self.folders, self.manifests, strict=True):
            yield from ((file, folder / file.name) for file in manifest.files)

    def answers(self, origin: str, parameters: dict[str, str | int]) -> bool:
        """Whether all of it was asked of the same address with the same parameters, so that a part can be added."""
        return bool(self.manifests) and all(
            manifest.origin == origin
            and all(manifest.parameters.get(name) == value for name, value in parameters.items())
            for manifest in self.manifests
        )

    def says(self, new: Manifest, is_partial: bool) -> bool:
        """Whether a new export says nothing that does not lie here already.

        A full one must say what all of it says together. One of changes may also repeat the last, as a server does
        that does not know `_since`. That the server could not export everything is news, and so is that it could.
        """
        if not self.manifests or is_partial != bool(self.partial):
            return False
        has_deletions = any(manifest.deleted for manifest in self.manifests)
        all_together = sum_of_digests(manifest.content() for manifest in self.manifests)
        if not has_deletions and not new.deleted and new.content() == all_together:
            return True
        return new.since is not None and _said(new) in (_said(self.manifests[-1]), _NOTHING)


def landed_at(place: Path) -> Landed:
    """What lies at `place`. Raises SourceError when an export there lacks its manifest."""
    if not place.exists():
        return Landed()
    numbered = [(int(found[1]), path) for path in place.iterdir() if (found := _EXPORT.fullmatch(path.name))]
    folders = tuple(path for _, path in sorted(numbered))
    manifests = []
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest is None:
            raise SourceError(f"The export {folder} has lost its manifest. Remove {place}, and all is exported anew.")
        manifests.append(manifest)
    whole = [manifest for folder, manifest in zip(folders, manifests, strict=True) if not _is_partial(folder)]
    asked_until = whole[-1].covers_until if whole else None
    if (noted := place / _ASKED_UNTIL).exists():
        asked_until = noted.read_text().strip()
    return Landed(folders, tuple(manifests), asked_until)


def covered_until(place: Path) -> str | None:
    """The last moment that the records at `place` know of, as the server stated it; None when nothing was landed."""
    landed = landed_at(place)
    return landed.asked_until or (landed.manifests[-1].covers_until if landed.manifests else None)


def add(place: Path, folder: Path, new: Manifest, landed: Landed, part: Part) -> None:
    """Move a finished export from `folder` to its place.

    A full one replaces all that was there. Any other is added and takes the place of partial ones: one that is whole
    that of all, since it was asked for all that they were asked for; a partial one that of those of which it says every
    line once more. Beside `folder` is room for what goes.
    """
    name = f"{landed.next_number:04d}-{part}"
    if part == "full" or not landed.folders:
        with landing(place) as building:
            os.replace(folder, building / name)
        return
    os.replace(folder, place / name)
    for path, manifest in landed.partial.items():
        repeats = find_repeats(_all_files(path, manifest), _all_files(place / name, new))
        if part == "since" or repeats.again == repeats.landed:
            os.replace(path, folder.with_name(path.name))
    if part == "since":
        (place / _ASKED_UNTIL).unlink(missing_ok=True)


def note_asked_until(place: Path, moment: str) -> None:
    """Remember up to when the server was asked, when it had nothing new to say."""
    building = place / f"{_ASKED_UNTIL}.new"
    building.write_text(moment)
    building.replace(place / _ASKED_UNTIL)


@contextmanager
def alone_at(place: Path) -> Iterator[None]:
    """Hold the place's lock while exporting to it. Raises SourceError when another run does."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceError(f"Another run is exporting to {place}. Wait for it, or choose another --home.") from None
        yield


def _said(manifest: Manifest) -> tuple[str, str]:
    return manifest.content(), sum_of_digests(file.content for file in manifest.deleted)


def _all_files(folder: Path, manifest: Manifest) -> list[tuple[LandedFile, Path]]:
    return [(file, folder / file.name) for file in (*manifest.files, *manifest.deleted)]


def _is_partial(folder: Path) -> bool:
    return folder.name.endswith("-partial")
