"""Records from a FHIR server: a Bulk Data Access 2.0 export, landed whole or not at all.

The steps of an export are files of their own: who asks (`smart_authorization`), the job (`export_job`), its files
(`export_files`), and how it joins what was landed before (`export_landing`).
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from features.errors import SourceError
from features.sources.export_files import Wanted, fetch_all
from features.sources.export_job import (
    ExportExpired,
    Made,
    ServerFile,
    kick_off,
    kick_off_url,
    recall,
    remember,
    wait_until_made,
)
from features.sources.export_landing import Landed, add, alone_at, landed_at, note_asked_until
from features.sources.export_request import ExportRequest
from features.sources.landed import LandedFile, Manifest, heal, write_manifest
from features.sources.operation_outcomes import in_words, tally
from features.sources.patience import Pace
from features.sources.server_requests import Connection, Tokens, Unreachable
from features.sources.smart_authorization import AccessTokens, find_token_endpoint, load_signing_key, scope_of

KIND = "fhir_server"
_HOLDS = {"deleted": "Bundle", "error": "OperationOutcome"}
_REPEATED = (
    "As many records came as in a full export, so the server seems not to know `_since`. The result is right; "
    "a full export from time to time keeps one copy of the records in place of many."
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What came of an export: files as they will be named and where they lie now, and what the server could not do."""

    records: list[tuple[LandedFile, Path]]
    deleted: list[tuple[LandedFile, Path]]
    issues: Counter[str]
    not_asked_for: list[str]


def export(
    request: ExportRequest,
    place: Path,
    now: datetime,
    *,
    full: bool = False,
    pace: Pace | None = None,
    tell: Callable[[str], None] = _LOG.warning,
) -> Path:
    """Bring `place` up to date with the server, and give it back.

    The first export is a full one, as is one with `full`, or for another address or other types than before; it
    replaces what lies there. Others ask for what has changed since, and are added. Without news nothing changes.
    `now` (UTC) is written into the manifest; `tell` gets what a person should know, one sentence at a time.

    Raises SourceError or KeyFileError; what lay at `place` is then as it was. An unfinished export is gone on with by
    the next call when the server was only out of reach, and cancelled otherwise, also when interrupted.
    """
    with alone_at(place), Connection(request.server, pace or Pace()) as connection:
        heal(place)
        parameters: dict[str, str | int] = {"level": request.level, "types": ",".join(request.all_types)}
        landed = landed_at(place)
        can_add = landed.answers(request.origin, parameters)
        since = landed.asked_until if can_add and not full else None
        asked = kick_off_url(request.server, request.level, request.all_types, since)
        workroom = place.with_name(f".exporting-{place.name}")
        tokens = _tokens(request, connection)
        with _cancelled_when_useless(connection, tokens, workroom):
            made, fetched = _export(connection, tokens, asked, workroom, set(request.all_types), tell)
            manifest = Manifest(
                kind=KIND,
                origin=request.origin,
                made_at=now.astimezone(UTC).isoformat(),
                files=tuple(file for file, _ in fetched.records),
                covers_until=made.transactionTime,
                since=since,
                deleted=tuple(file for file, _ in fetched.deleted),
                parameters={**parameters, **({"issues": in_words(fetched.issues)} if fetched.issues else {})},
            )
            _tell_what_is_odd(manifest, fetched, request, tell)
            if can_add and landed.says(manifest):
                note_asked_until(place, made.transactionTime)
                tell(f"Unchanged: {request.origin} has told nothing new. What was landed stays as it is.")
            else:
                if since and manifest.resources >= landed.manifests[0].resources:
                    tell(_REPEATED)
                _land(manifest, fetched, workroom, place, landed)
        _cancel(connection, tokens, workroom)  # done: the server may throw its files away
        return place


def _tokens(request: ExportRequest, connection: Connection) -> Tokens | None:
    if request.client_id is None and request.key_path is None:
        return None
    if request.client_id is None or request.key_path is None:
        raise SourceError("A client id and a key file belong together: give both, or none for an open server.")
    signing = load_signing_key(request.key_path)
    token_url, is_version_2 = request.token_url, False
    if token_url is None:
        token_url, is_version_2 = find_token_endpoint(connection, request.server)
    scope = request.scope or scope_of(request.all_types, is_version_2)
    return AccessTokens(connection, signing, request.client_id, token_url, scope)


def _export(
    connection: Connection,
    tokens: Tokens | None,
    asked: str,
    workroom: Path,
    types: set[str],
    tell: Callable[[str], None],
) -> tuple[Made, Fetched]:
    """Have the server export, and fetch all of it; started anew, once, when the server no longer has it."""
    job = recall(workroom)
    if job and job.asked != asked:
        _cancel(connection, tokens, workroom)
        job = None
    for is_last in (False, True):
        try:
            if job is None:
                workroom.mkdir(mode=0o700, exist_ok=True)
                job = kick_off(connection, tokens, asked)
                remember(job, workroom)
            made = wait_until_made(connection, tokens, job)
            return made, _fetch(connection, tokens, made, workroom, types)
        except ExportExpired as problem:
            if is_last:
                raise SourceError(
                    f"{problem} It was started anew once already. Ask those who run the server."
                ) from None
            tell(f"{problem} The export is started anew.")
            _cancel(connection, tokens, workroom)
            job = None
    raise AssertionError("unreachable")


def _fetch(connection: Connection, tokens: Tokens | None, made: Made, workroom: Path, types: set[str]) -> Fetched:
    lists = {
        "records": [file for file in made.output if file.type in types],
        "deleted": made.deleted or [],
        "error": made.error or [],
    }
    kinds = [(kind, file) for kind, files in lists.items() for file in files]

    def wanted(position: int, kind: str, file: ServerFile) -> Wanted:
        holds = str(file.type) if kind == "records" else _HOLDS[kind]
        seen = connection.tokens_for(file.url, tokens) if made.requiresAccessToken is None else tokens
        return Wanted(position, holds, file.url, file.count, None if made.requiresAccessToken is False else seen)

    files = fetch_all(connection, [wanted(position, *one) for position, one in enumerate(kinds)], workroom)
    names: Counter[str] = Counter()
    found: dict[str, list[tuple[LandedFile, Path]]] = {kind: [] for kind in lists}
    for (kind, _), file in zip(kinds, files, strict=True):
        if file.resources:
            start = "deleted" if kind == "deleted" else file.resource_type
            named = msgspec.structs.replace(file, name=f"{start}.{names[start]:03d}.ndjson")
            names[start] += 1
            found[kind].append((named, workroom / file.name))
    issues: Counter[str] = Counter()
    for _, path in found["error"]:
        with path.open("rb") as lines:
            issues += tally(lines)
    return Fetched(found["records"], found["deleted"], issues, sorted({str(f.type) for f in made.output} - types))


def _land(manifest: Manifest, fetched: Fetched, workroom: Path, place: Path, landed: Landed) -> None:
    folder = workroom / "landed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for file, path in (*fetched.records, *fetched.deleted):
        os.replace(path, folder / file.name)
    write_manifest(folder, manifest)
    add(place, folder, landed, is_full=manifest.since is None)


def _tell_what_is_odd(
    manifest: Manifest, fetched: Fetched, request: ExportRequest, tell: Callable[[str], None]
) -> None:
    if manifest.since is None and not manifest.resources:
        raise SourceError(
            f"{request.origin} exported no record at all. Check that the client may read these types "
            f"({', '.join(request.all_types)}) and that the group or the server holds patients."
        )
    if fetched.issues:
        tell(
            f"The server could not export everything; it names {in_words(fetched.issues)}. Later exports ask only for "
            "what changes from now on: when the server is mended, ask for a full export."
        )
    if fetched.not_asked_for:
        tell(f"The server also offered {', '.join(fetched.not_asked_for)}, not asked for and not fetched.")
    if manifest.since is None:
        absent = sorted(set(request.all_types) - {file.resource_type for file in manifest.files})
        if absent:
            tell(f"The server exported no {', '.join(absent)}.")


@contextmanager
def _cancelled_when_useless(connection: Connection, tokens: Tokens | None, workroom: Path) -> Iterator[None]:
    """Keep the job, and what has arrived, only when the next run can go on with it."""
    try:
        yield
    except Unreachable as problem:
        if problem.is_verdict:
            _cancel(connection, tokens, workroom)
        raise SourceError(f"{problem} The last good state stands. Run again later to go on from here.") from None
    except SourceError as problem:
        _cancel(connection, tokens, workroom)
        raise SourceError(f"{problem} The last good state stands.") from None
    except Exception:
        raise
    except BaseException:  # interrupted
        _cancel(connection, tokens, workroom)
        raise


def _cancel(connection: Connection, tokens: Tokens | None, workroom: Path) -> None:
    """Let the server and this machine forget the job."""
    job = recall(workroom)
    if job:
        connection.cancel(job.status_url, tokens)
    shutil.rmtree(workroom, ignore_errors=True)
