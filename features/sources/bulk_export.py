"""Records from a FHIR server: a Bulk Data Access 2.0 export, landed whole or not at all.

The steps of an export are files of their own: who asks (`smart_authorization`), the job (`export_job`), its files
(`export_files`), and how it joins what was landed before (`export_landing`).
"""

import logging
import os
import re
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
    forget,
    kick_off,
    kick_off_url,
    recall,
    wait_until_made,
)
from features.sources.export_landing import Landed, Part, add, alone_at, landed_at, note_asked_until
from features.sources.export_request import ExportRequest
from features.sources.failures import Unreachable
from features.sources.landed import LandedFile, Manifest, heal, write_manifest
from features.sources.operation_outcomes import in_words, is_grave, tally
from features.sources.patience import Pace
from features.sources.repeats import find_repeats
from features.sources.server_requests import Connection, Tokens
from features.sources.smart_authorization import AccessTokens, find_token_endpoint, load_signing_key, scope_of
from features.sources.termination import termination_is_interrupt

KIND = "fhir_server"
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,60}")  # becomes a file's name
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What came of an export: files as they will be named and where they lie now, and what the server could not do."""

    records: list[tuple[LandedFile, Path]]
    deleted: list[tuple[LandedFile, Path]]
    issues: Counter[str]
    not_asked_for: list[str]


@termination_is_interrupt()
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
    replaces what lies there. Others ask for what has changed since, and are added, unless the server answers with
    everything: see `Repeats`. What came of an export of which the server says that records are missing replaces
    nothing; it is added, and the next export asks from the same moment again. Without news nothing changes.
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
            made, fetched = _export(connection, tokens, asked, full, workroom, set(request.all_types), tell)
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
            is_partial = is_grave(fetched.issues)
            _tell_what_is_odd(manifest, fetched, request, tell)
            if is_partial and landed.folders and not can_add:
                raise SourceError(
                    "What was landed before is of another address or other types, and an export with records missing "
                    f"does not replace it. Have the server mended, or remove {place} first."
                )
            is_known = can_add and landed.says(manifest, is_partial)
            part: Part = "partial" if is_partial else "since" if since else "full"
            if part == "since" and not is_known and _is_everything(manifest, fetched, landed, tell):
                part, manifest = "full", msgspec.structs.replace(manifest, since=None)
            # The server may throw its files away, and no later run takes them for new ones.
            _cancel(connection, tokens, workroom)
            if not is_known:
                _land(manifest, fetched, workroom, place, landed, part)
            else:
                if not is_partial:
                    note_asked_until(place, made.transactionTime)
                tell(f"Unchanged: {request.origin} has told nothing new. What was landed stays as it is.")
            shutil.rmtree(workroom, ignore_errors=True)
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
    is_full: bool,
    workroom: Path,
    types: set[str],
    tell: Callable[[str], None],
) -> tuple[Made, Fetched]:
    """Have the server export, and fetch all of it; started anew, once, when the server no longer has it."""
    job = recall(workroom)
    begun_after = connection.pace.clock() - connection.pace.keep_job_hours * 3600
    if job is None or (job.asked, job.is_full) != (asked, is_full) or job.begun_at < begun_after:
        _forget(connection, tokens, workroom)
        job = None
    for is_last in (False, True):
        try:
            if job is None:
                workroom.mkdir(mode=0o700, exist_ok=True)
                job = kick_off(connection, tokens, asked, is_full, workroom)
            made = wait_until_made(connection, tokens, job)
            return made, _fetch(connection, tokens, made, workroom, types)
        except ExportExpired as problem:
            if is_last:
                raise SourceError(
                    f"{problem} It was started anew once already. Ask those who run the server."
                ) from None
            tell(f"{problem} The export is started anew.")
            _forget(connection, tokens, workroom)
            job = None
    raise AssertionError("unreachable")


def _fetch(connection: Connection, tokens: Tokens | None, made: Made, workroom: Path, types: set[str]) -> Fetched:
    def wanted(position: int, holds: str, file: ServerFile) -> Wanted:
        seen = connection.tokens_for(file.url, tokens) if made.requiresAccessToken is None else tokens
        count = file.count if file.count is not None and file.count >= 0 else None
        return Wanted(position, holds, file.url, count, None if made.requiresAccessToken is False else seen)

    asked_for = [(str(file.type), file) for file in made.output if file.type in types]
    deletions = [("Bundle", file) for file in made.deleted or []]
    files = fetch_all(connection, [wanted(n, *one) for n, one in enumerate([*asked_for, *deletions])], workroom)
    names: Counter[str] = Counter()
    records: list[tuple[LandedFile, Path]] = []
    deleted: list[tuple[LandedFile, Path]] = []
    for position, file in enumerate(files):
        if file.resources:
            is_deletion = position >= len(asked_for)
            start = "deleted" if is_deletion else file.resource_type
            named = msgspec.structs.replace(file, name=f"{start}.{names[start]:03d}.ndjson")
            names[start] += 1
            (deleted if is_deletion else records).append((named, workroom / file.name))
    issues: Counter[str] = Counter()
    for position, error in enumerate(made.error or [], start=len(files)):
        try:  # what the server says of its errors is told; that it cannot be had is one more, no reason to fail
            one = wanted(position, "OperationOutcome", msgspec.structs.replace(error, count=None))
            (file,) = fetch_all(connection, [one], workroom)
            with (workroom / file.name).open("rb") as lines:
                issues += tally(lines)
        except SourceError:
            issues["unreadable"] += 1
    known = {file.type for file in made.output if _TYPE.fullmatch(file.type or "")}
    if unknown := sum(file.type not in known for file in made.output):
        issues["of no FHIR type"] = unknown
    return Fetched(records, deleted, issues, sorted(str(kind) for kind in known - types))


def _is_everything(manifest: Manifest, fetched: Fetched, landed: Landed, tell: Callable[[str], None]) -> bool:
    """Whether an answer to `_since` is a full export all the same; told when it is, or may be."""
    if manifest.deleted or 2 * manifest.resources < landed.manifests[0].resources:
        return False  # a server that names what is gone knows `_since`; and less than half cannot be everything
    repeats = find_repeats(landed.files(), fetched.records)
    again, of = sum(repeats.again.values()), sum(repeats.landed.values())
    if repeats.are_everything:
        tell(
            f"The server answers `_since` with everything: {again:,} of {of:,} records that were landed came again "
            "unchanged. So this is a full export, and takes the place of what was landed."
        )
    elif 2 * again >= manifest.resources:
        tell(
            f"{again:,} of the {manifest.resources:,} records that came had been landed before, as they are: perhaps "
            "the server does not know `_since`. They were added, which loses nothing; ask for a full export (`--full`) "
            "so that records go which the server no longer has."
        )
    return repeats.are_everything


def _land(manifest: Manifest, fetched: Fetched, workroom: Path, place: Path, landed: Landed, part: Part) -> None:
    folder = workroom / "landed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for file, path in (*fetched.records, *fetched.deleted):
        os.replace(path, folder / file.name)
    write_manifest(folder, manifest)
    add(place, folder, manifest, landed, part)


def _tell_what_is_odd(
    manifest: Manifest, fetched: Fetched, request: ExportRequest, tell: Callable[[str], None]
) -> None:
    if manifest.since is None and not manifest.resources:
        named = f" and names {in_words(fetched.issues)}" if fetched.issues else ""
        raise SourceError(
            f"{request.origin} exported no record at all{named}. Check that the client may read these types "
            f"({', '.join(request.all_types)}) and that the group or the server holds patients."
        )
    if is_grave(fetched.issues):
        tell(
            f"The server could not export everything; it names {in_words(fetched.issues)}. What came is added to what "
            "was landed and replaces nothing, and the next export asks from the same moment again."
        )
    elif fetched.issues:
        tell(f"The server exported everything, with remarks: {in_words(fetched.issues)}.")
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
            _forget(connection, tokens, workroom)
        raise SourceError(f"{problem} The last good state stands. Run again later to go on from here.") from None
    except SourceError as problem:
        _forget(connection, tokens, workroom)
        raise SourceError(f"{problem} The last good state stands.") from None
    except Exception:
        raise
    except BaseException:  # interrupted
        _forget(connection, tokens, workroom)
        raise


def _forget(connection: Connection, tokens: Tokens | None, workroom: Path) -> None:
    """Let the server and this machine forget the job and what has come of it."""
    _cancel(connection, tokens, workroom)
    shutil.rmtree(workroom, ignore_errors=True)


def _cancel(connection: Connection, tokens: Tokens | None, workroom: Path) -> None:
    if job := recall(workroom):
        connection.cancel(job.status_url, tokens)
        forget(workroom)
