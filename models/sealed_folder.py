"""A folder of plain numbers and text, each file sealed by its hash; its version is the digest of the hashes."""

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from features.errors import ModelError

_MANIFEST = "manifest.json"


def write_sealed(folder: Path, write: Callable[[Path], None], libraries: tuple[str, ...]) -> str:
    """Have `write` fill a folder beside `folder`, seal it and rename it in; returns the version.

    A run killed between the two renames leaves the folder before in `<folder>.previous`, where open_sealed finds it.
    """
    partial, previous = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "previous"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    hashes = _hashes(partial)
    made_with = {name: version(name) for name in libraries}
    write_json(partial / _MANIFEST, {"version": _version_of(hashes), "made_with": made_with, "sha256": hashes})
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    return _version_of(hashes)


def open_sealed(folder: Path, how_to_make: str) -> tuple[Path, str]:
    """Where a sealed folder lies, and its version, once every file was checked against its hash.

    Raises ModelError when it is missing or was changed after it was written; `how_to_make` says what to do then.
    """
    previous = folder.with_name(f"{folder.name}.previous")
    place = previous if previous.exists() and not folder.exists() else folder
    if not (place / _MANIFEST).is_file():
        raise ModelError(f"There is no saved model in {folder.name}/. {how_to_make}")
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
        expected, of_version = manifest["sha256"], str(manifest["version"])
        found = _hashes(place)
        changed = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The manifest in {folder.name}/ cannot be read. {how_to_make}") from error
    if changed or of_version != _version_of(expected):
        raise ModelError(
            f"The saved model in {folder.name}/ was changed after it was written: "
            f"{', '.join(changed) or _MANIFEST}. Restore it, or make it again. {how_to_make}"
        )
    return place, of_version


def write_json(path: Path, content: object) -> None:
    """Write numbers and text that read the same everywhere; no NaN."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _version_of(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
