"""A Bulk Data export as the server's job: started, waited for, remembered across runs, cancelled."""

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from tqdm import tqdm

from features.errors import SourceError
from features.sources.operation_outcomes import diagnostics_of, issues_of
from features.sources.server_requests import Connection, Tokens, refusal

_JOB = "job.json"
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d+)? ?%")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,60}")


class ExportExpired(SourceError):
    """The server no longer knows the job or one of its files."""


class Job(msgspec.Struct, frozen=True):
    """An export that the server works on: what was asked, and where it tells how far it is. Holds no token."""

    asked: str
    status_url: str


class ServerFile(msgspec.Struct, frozen=True):
    """A file that the server made, and how many resources it says are in it."""

    url: str
    type: str | None = None
    count: int | None = None


class Made(msgspec.Struct, frozen=True):
    """What the server made (its manifest). `requiresAccessToken` is missing from some."""

    transactionTime: str
    output: list[ServerFile]
    requiresAccessToken: bool | None = None
    deleted: list[ServerFile] | None = None
    error: list[ServerFile] | None = None


def remember(job: Job, folder: Path) -> None:
    """Write the job down, so that a run after a killed one goes on with it."""
    building = folder / f".{_JOB}"
    building.write_bytes(msgspec.json.encode(job))
    building.replace(folder / _JOB)


def recall(folder: Path) -> Job | None:
    """The job of a run that did not come to its end; None when there is none."""
    try:
        return msgspec.json.decode((folder / _JOB).read_bytes(), type=Job)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def kick_off_url(server: str, level: str, types: tuple[str, ...], since: str | None) -> str:
    """The whole request for an export; two requests for the same are equal."""
    parameters = {"_outputFormat": "application/fhir+ndjson", "_type": ",".join(types)}
    if since:
        parameters["_since"] = since
    path = "" if level == "system" else f"/{level}"
    return f"{server}{path}/$export?{urlencode(parameters, safe=',/')}"


def kick_off(connection: Connection, tokens: Tokens | None, asked: str) -> Job:
    """Start an export. Raises SourceError with the server's own words when it refuses."""
    what = "Starting the export"
    response = connection.ask(
        "GET", asked, what, tokens=tokens, accept="application/fhir+json", headers={"Prefer": "respond-async"}
    )
    if response.status_code in (401, 403):
        raise refusal(response, what)
    if response.status_code != 202:
        raise SourceError(
            f"The server {connection.base.host} did not start an export: HTTP {response.status_code}"
            f"{issues_of(response)}.{diagnostics_of(response)} Check that the address is that of a FHIR server (…/fhir,"
            " …/fhir/Patient or …/fhir/Group/ID) with Bulk Data export, and that it exports all types asked for."
        )
    place = response.headers.get("Content-Location")
    if not place:
        raise SourceError(
            f"The server {connection.base.host} started an export and did not say where to ask for it (no "
            "Content-Location). It does not follow Bulk Data Access 2.0; report this to its makers."
        )
    return Job(asked, str(connection.require_safe(response.url.join(place))))


def wait_until_made(connection: Connection, tokens: Tokens | None, job: Job) -> Made:
    """Ask from time to time whether the job is done, until it is.

    Raises ExportExpired when the server does not know the job any longer, SourceError when the job failed.
    """
    what = "Asking how far the export is"
    turn = 0
    bar = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}"
    with tqdm(total=100, desc="the server exports", bar_format=bar, disable=None) as progress:
        while True:
            response = connection.ask("GET", job.status_url, what, tokens=connection.tokens_for(job.status_url, tokens))
            if response.status_code == 200:
                progress.update(100 - progress.n)
                return _made(response.content, connection)
            if response.status_code in (404, 410):
                raise ExportExpired(f"{what}: the server no longer knows the export (HTTP {response.status_code}).")
            if response.status_code != 202:
                raise refusal(response, what)
            if found := _PERCENT.search(response.headers.get("X-Progress", "")):
                progress.n = min(int(found[1]), 100)
            progress.refresh()
            turn += 1
            wait = connection.asked_wait(response)
            connection.wait(connection.pace.guess(turn) if wait is None else wait)


def _made(content: bytes, connection: Connection) -> Made:
    try:
        made = msgspec.json.decode(content, type=Made)
        datetime.fromisoformat(made.transactionTime)
    except (msgspec.DecodeError, ValueError):
        raise SourceError(
            f"The server {connection.base.host} says that the export is done, and its list of files cannot be "
            "understood (transactionTime and output are needed). It does not follow Bulk Data Access 2.0."
        ) from None
    # The type becomes a file's name.
    if not all(_TYPE.fullmatch(file.type or "") for file in made.output):
        raise SourceError(f"The server {connection.base.host} lists a file of no FHIR type. Report this to its makers.")
    return made
