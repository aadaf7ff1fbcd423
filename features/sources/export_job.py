"""A Bulk Data export as the server's job: started, waited for, remembered across runs, cancelled."""

import re
import threading
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import msgspec
from tqdm import tqdm

from features.errors import SourceError
from features.sources.background import start, wait_for
from features.sources.failures import refusal
from features.sources.operation_outcomes import diagnostics_of, issues_of
from features.sources.server_requests import CANCELLING_SECONDS, Connection, Tokens

_JOB = "job.json"
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d+)? ?%")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DAY_SECONDS = 86_400


class ExportExpired(SourceError):
    """The server no longer knows the job or one of its files."""


class Job(msgspec.Struct, frozen=True):
    """An export that the server works on: what was asked, where it tells how far it is, since when (Unix time, s).

    `is_full` when a person wanted everything again: that is not answered by a job begun before. Holds no token.
    """

    asked: str
    status_url: str
    is_full: bool
    begun_at: float


class ServerFile(msgspec.Struct, frozen=True):
    """A file that the server made, and how many resources it says are in it."""

    url: str
    type: str | None = None
    count: int | None = None  # below 0 by servers that do not know


class Made(msgspec.Struct, frozen=True):
    """What the server made (its manifest). `requiresAccessToken` is missing from some."""

    transactionTime: str
    output: list[ServerFile]
    requiresAccessToken: bool | None = None
    deleted: list[ServerFile] | None = None
    error: list[ServerFile] | None = None


def _remember(job: Job, folder: Path) -> None:
    building = folder / f".{_JOB}"
    building.write_bytes(msgspec.json.encode(job))
    building.replace(folder / _JOB)


def recall(folder: Path) -> Job | None:
    """The job of a run that did not come to its end; None when there is none."""
    try:
        return msgspec.json.decode((folder / _JOB).read_bytes(), type=Job)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def forget(folder: Path) -> None:
    """No later run goes on with the job."""
    (folder / _JOB).unlink()


def kick_off_url(server: str, level: str, types: tuple[str, ...], since: str | None) -> str:
    """The whole request for an export; two requests for the same are equal."""
    parameters = {"_outputFormat": "application/fhir+ndjson", "_type": ",".join(types)}
    if since:
        parameters["_since"] = since
    path = "" if level == "system" else f"/{level}"
    return f"{server}{path}/$export?{urlencode(parameters, safe=',/')}"


def kick_off(connection: Connection, tokens: Tokens | None, asked: str, is_full: bool, folder: Path) -> Job:
    """Start an export and write it down in `folder`, so that a run after a killed one goes on with it.

    An interrupt waits shortly for the server's answer: a job that nobody knows cannot be cancelled.
    Raises SourceError with the server's own words when it refuses.
    """

    is_answered = threading.Event()

    def begin() -> Job:
        try:
            job = Job(asked, _begin(connection, tokens, asked), is_full, connection.pace.clock())
            _remember(job, folder)
        finally:
            is_answered.set()
        return job

    try:
        (begun,) = start([begin])
        wait_for([begun])
        return begun.result()
    except BaseException:
        if not is_answered.is_set():  # interrupted
            connection.stop.set()
            is_answered.wait(CANCELLING_SECONDS)
        raise


def _begin(connection: Connection, tokens: Tokens | None, asked: str) -> str:
    """Ask the server to begin, and give the address at which it tells how far it is."""
    what = "Starting the export"
    headers = {"Prefer": "respond-async"}
    response = connection.ask(
        "GET", asked, what, tokens=tokens, accept="application/fhir+json", headers=headers, starts_work=True
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
    return str(connection.require_safe(response.url.join(place)))


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
                return _made(response, connection)
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


def _made(response: httpx.Response, connection: Connection) -> Made:
    try:
        made = msgspec.json.decode(response.content, type=Made, strict=False)  # a count may be "2" or 2.0
        if not _INSTANT.fullmatch(made.transactionTime):
            raise ValueError(made.transactionTime)
        seconds = datetime.fromisoformat(made.transactionTime).timestamp()
        if not 0 < seconds < connection.pace.clock() + _DAY_SECONDS:  # the next export would ask from there on
            raise ValueError(made.transactionTime)
    except (msgspec.DecodeError, ValueError):
        raise SourceError(
            f"The server {connection.base.host} says that the export is done, and its list of files cannot be "
            "understood (output, and as transactionTime a moment with its zone that has come, are needed). It does "
            "not follow Bulk Data Access 2.0."
        ) from None
    if connection.is_own(response.url):
        return made
    # What another server says does not send the token anywhere but to the FHIR server.
    return msgspec.structs.replace(made, requiresAccessToken=None)
