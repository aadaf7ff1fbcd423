"""Which export is a file of? A source may hold several, each in a folder of its own with a manifest."""

from pathlib import Path

import polars as pl

from features.records.reading import SourceFile
from features.records.times import read_moment
from features.sources.landed import MANIFEST, Manifest, read_manifest

# export: the how-manyth, in the order of the folders' names. kind: what the manifest calls the source. covers_until:
# true microseconds since 1970 in UTC, the last moment that the export knows of. Both null when there is none to say so.
EXPORTS = pl.Schema({"export": pl.Int64, "folder": pl.String, "kind": pl.String, "covers_until": pl.Int64})


def exports_of(source: Path, files: list[SourceFile]) -> tuple[list[int], pl.DataFrame]:
    """The export that each file is of, and EXPORTS.

    A file is of the export whose manifest (`features.sources.landed`) lies in the nearest folder above it. Files
    without one are of one export, which comes before all others. An export without any file counts too: it says that
    until its end nothing was new.
    """
    base = source.parent if source.is_file() else source
    manifests: dict[Path, Manifest | None] = {}
    exports: dict[Path, Path] = {}
    for folder in {file.path.parent for file in files}:
        above = [one for one in (folder, *folder.parents) if one.is_relative_to(base)]
        for one in above:
            if one not in manifests:
                manifests[one] = read_manifest(one)
        exports[folder] = next((one for one in above if manifests[one] is not None), base)
    below = source.glob(f"[!.]*/{MANIFEST}") if source.is_dir() else ()
    silent = {path.parent for path in below} - set(exports.values())
    manifests |= {folder: read_manifest(folder) for folder in silent}
    standing = {*exports.values(), *(folder for folder in silent if manifests[folder] is not None)}
    order = sorted(standing, key=lambda folder: (folder != base, folder))
    rows = []
    for number, folder in enumerate(order):
        manifest = manifests[folder]
        kind = None if manifest is None else manifest.kind
        moment = None if manifest is None else read_moment(manifest.covers_until or "")
        until = None if moment is None else moment.last
        rows.append((number, folder.relative_to(base).as_posix(), kind, until))
    numbers = {folder: number for number, folder in enumerate(order)}
    return [numbers[exports[file.path.parent]] for file in files], pl.DataFrame(rows, schema=EXPORTS, orient="row")
