"""What every source leaves behind: a folder of FHIR R4 files and a manifest that says what, when and from where.

A source writes into a folder beside its place and moves it in whole (`landing`), so a failed or killed one leaves the
last good state. Everything after the landing reads the folder alike, whichever source filled it.
"""

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from features.errors import SourceError

MANIFEST = "manifest.json"
_BUILDING = ".landing"
_OURS = re.compile(rb'\s*\{\s*"kind":\s*"(simulated|synthea|fhir_server)"')  # how a manifest of ours begins
_SET_ASIDE = ".landed.before"


class LandedFile(msgspec.Struct, frozen=True):
    """One file of FHIR resources: its size and sha256 as it lies there, and a digest of what it says.

    `content` does not depend on the order of the lines nor on how they are spread over files: see `content_digest`.
    """

    name: str
    resource_type: str
    resources: int
    size: int
    sha256: str
    content: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a source landed.

    `kind` is "simulated", "synthea" or "fhir_server". `origin` says in words where the records come from, never with a
    credential. `made_at` is UTC, ISO 8601; `covers_until` the last moment that the records know of, as the source
    states it. `deleted` are files of Bundles whose DELETE entries name resources that no longer exist.
    """

    kind: str
    origin: str
    made_at: str
    files: tuple[LandedFile, ...]
    covers_until: str | None = None
    since: str | None = None
    deleted: tuple[LandedFile, ...] = ()
    parameters: dict[str, str | int] = {}

    @property
    def resources(self) -> int:
        """How many resources were landed, deletions not among them."""
        return sum(file.resources for file in self.files)

    def count_by_type(self) -> Counter[str]:
        """How many resources of each type were landed, deletions not among them."""
        return sum((Counter({file.resource_type: file.resources}) for file in self.files), Counter[str]())

    def content(self, resource_type: str | None = None) -> str:
        """A digest of all that was landed (of one type, when given), independent of order and of file borders."""
        return sum_of_digests(
            file.content for file in self.files if resource_type is None or file.resource_type == resource_type
        )


def content_digest(lines: Iterable[bytes]) -> str:
    """The sum, modulo 2**128, of a digest of each line: the same lines in any order and any files give the same."""
    total = sum(int.from_bytes(hashlib.blake2b(line.strip(), digest_size=16).digest()) for line in lines)
    return f"{total % (1 << 128):032x}"


def sum_of_digests(digests: Iterable[str]) -> str:
    """The digest of several files together, from theirs."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 128):032x}"


def landed_file(path: Path, resource_type: str) -> LandedFile:
    """Describe an NDJSON file that a source has written (plain text)."""
    sha256 = hashlib.sha256()
    resources = 0
    with path.open("rb") as file:

        def lines() -> Iterator[bytes]:
            nonlocal resources
            for line in file:
                sha256.update(line)
                if line.strip():
                    resources += 1
                    yield line

        content = content_digest(lines())
    return LandedFile(path.name, resource_type, resources, path.stat().st_size, sha256.hexdigest(), content)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a landed folder; None for a folder that no source of ours filled, whatever is called so there.

    Raises SourceError when there is one of ours that is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    text = path.read_bytes()
    try:
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if isinstance(error, msgspec.ValidationError) or not _OURS.match(text):
            return None  # another tool's manifest.json
        raise SourceError(f"{path} is damaged ({error}). Land the records again, or remove the folder.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all."""
    building = folder / f".{MANIFEST}"
    building.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    building.replace(folder / MANIFEST)


def changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the landed files that are missing, or no longer what the manifest says by size and sha256."""
    return [
        file.name
        for file in (*manifest.files, *manifest.deleted)
        if not (path := folder / file.name).is_file()
        or path.stat().st_size != file.size
        or sha256_of(path) != file.sha256
    ]


def is_landed(folder: Path, kind: str, asked: Mapping[str, str | int]) -> bool:
    """Whether exactly this was landed here before, and every file of it is still whole."""
    try:
        manifest = read_manifest(folder)
    except SourceError:
        return False
    is_the_same = manifest is not None and manifest.kind == kind and asked.items() <= manifest.parameters.items()
    return manifest is not None and is_the_same and not changed_files(folder, manifest)


def manifests_at(folder: Path) -> list[tuple[Path, Manifest]]:
    """The landed folders: `folder` itself, else those right below it, by name, as when a server's exports add up."""
    own = read_manifest(folder)
    if own is not None:
        return [(folder, own)]
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [(path, manifest) for path in below if (manifest := read_manifest(path)) is not None]


def last_whole_day(covers_until: str | None) -> date | None:
    """The last day (UTC) that is covered to its end, of a manifest's `covers_until`; None when it states nothing."""
    if covers_until is None:
        return None
    moment = datetime.fromisoformat(covers_until)
    if "T" not in covers_until:
        return moment.date()
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return (utc + timedelta(seconds=1)).date() - timedelta(days=1)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def heal(place: Path) -> None:
    """Put back what a landing had set aside when it was killed between its two moves."""
    aside = place.with_name(f"{_SET_ASIDE}-{place.name}")
    if aside.exists() and not place.exists():
        os.replace(aside, place)


@contextmanager
def landing(place: Path) -> Iterator[Path]:
    """An empty folder to land in; moved to `place` when the block ends well, removed when it does not.

    What lay at `place` before is replaced only then.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    building = place.with_name(f"{_BUILDING}-{place.name}")
    aside = place.with_name(f"{_SET_ASIDE}-{place.name}")
    heal(place)
    for litter in (building, aside):
        shutil.rmtree(litter, ignore_errors=True)
    building.mkdir(mode=0o700)
    try:
        yield building
        if place.exists():
            os.replace(place, aside)
        os.replace(building, place)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if not place.exists() and aside.exists():
            os.replace(aside, place)
        shutil.rmtree(aside, ignore_errors=True)
