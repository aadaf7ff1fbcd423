"""Landing the records of any source: whatever it is, what comes after reads a folder of FHIR R4 files.

A folder of somebody's own and the example patients already lie there; the others are made or fetched into
<home>/landed/<kind>/ and left alone as long as the same is asked for.
"""

import sys
from datetime import date, datetime
from pathlib import Path

from features.home import Home
from features.publishing import alone_in
from features.sources.choice import Source
from features.sources.folder import example_patients
from features.sources.landed import is_landed, landing, last_whole_day, read_manifest, write_manifest
from features.sources.synthea import land_synthea


def folder_of(source: Source, home: Home) -> Path:
    """Where the records of `source` lie once they are landed."""
    if source.kind == "folder":
        return Path(source.named)
    return example_patients() if source.kind == "examples" else home.landed / source.kind


def land(source: Source, home: Home, seed: int, now: datetime, processes: int | None = None) -> Path:
    """See to it that the records of `source` lie in `folder_of(source, home)`, and return it.

    `seed` starts every random draw; `now` (UTC) goes into the manifest.
    Raises SourceError with the next step when they cannot be had; what was landed before then stays.
    """
    folder = folder_of(source, home)
    if source.kind in ("folder", "examples"):
        return folder
    with alone_in(home):
        home.landed.mkdir(mode=0o700, exist_ok=True)
        if source.kind == "simulated":
            _simulate(source.patients, folder, seed, processes, source.options.get("format", "ndjson"))
        elif source.kind == "synthea":
            options = source.options
            land_synthea(folder, source.patients, seed, options.get("state", ""), options.get("city", ""), now)
        else:
            _export(source, folder, now)
    return folder


def last_stated_day(source: Source, home: Home) -> date | None:
    """The last whole day that the source says its records cover; None when it does not say."""
    folder = folder_of(source, home)
    if source.kind == "fhir_server":
        from features.sources.export_landing import covered_until

        return last_whole_day(covered_until(folder))
    manifest = read_manifest(folder)
    return last_whole_day(manifest.covers_until) if manifest else None


def _simulate(patients: int, folder: Path, seed: int, processes: int | None, format: str) -> None:
    from features.sources.simulation import VERSION, simulate

    asked: dict[str, str | int] = {"patients": patients, "seed": seed, "version": VERSION, "format": format}
    if is_landed(folder, "simulated", asked):
        return
    with landing(folder) as building:
        write_manifest(building, simulate(building, patients, seed, processes, format))


def _export(source: Source, folder: Path, now: datetime) -> None:
    from features.sources.bulk_export import ExportRequest, export

    options = source.options
    request = ExportRequest(
        base_url=source.named,
        types=tuple(filter(None, options.get("types", "").split(","))),
        client_id=options.get("client_id"),
        key_path=Path(options["client_key"]) if "client_key" in options else None,
        token_url=options.get("token_url"),
        scope=options.get("scope"),
    )
    export(request, folder, now, full="full" in options, tell=lambda said: print(said, file=sys.stderr))
