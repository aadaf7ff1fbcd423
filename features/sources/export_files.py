"""Fetching the files of an export: several at a time, each taken up again where it broke off, counted at the end."""

import hashlib
import mmap
import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import httpx
import msgspec
from isal import igzip, isal_zlib
from tqdm import tqdm

from features.errors import SourceError
from features.sources.background import start, wait_for
from features.sources.export_job import ExportExpired
from features.sources.failures import Stopped, Transient, Unreachable, refusal
from features.sources.landed import LandedFile, landed_file
from features.sources.server_requests import Connection, Tokens

_CHUNK_BYTES = 1 << 18
_GRAVEST_FIRST = {ExportExpired: 1, SourceError: 2, Unreachable: 3, Stopped: 4}
_GZIP = b"\x1f\x8b"
_PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_CERTAIN_AFTER_SECONDS = 60  # RFC 7232, 2.2.2; a file may change twice in the second that a date names
# isal calls its exception class an instance in its stubs.
_DAMAGE: tuple[type[Exception], ...] = (EOFError, zlib.error, isal_zlib.error, igzip.BadGzipFile)  # type: ignore[assignment]


_NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_SAYS_TYPE = re.compile(rb'\{\s*"resourceType"\s*:\s*"(\w+)"')


class _Resource(msgspec.Struct):
    resourceType: str


class _Bundle(msgspec.Struct):
    entry: list[msgspec.Raw] = []


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: its place in the server's list, what it holds, and how many resources the server counts."""

    position: int
    resource_type: str
    url: str
    count: int | None
    tokens: Tokens | None

    @property
    def key(self) -> str:
        """Its name while it is fetched: another job's file, or one with a new address, has another."""
        return hashlib.blake2b(f"{self.position} {self.url}".encode(), digest_size=12).hexdigest()


def fetch_all(connection: Connection, wanted: Sequence[Wanted], folder: Path) -> list[LandedFile]:
    """Fetch the files into `folder`, in the order wanted; those that are there already are kept.

    Raises ExportExpired when the server has them no longer, Unreachable, or another SourceError; all say what is
    missing. What has arrived stays in the folder for another attempt.
    """
    with tqdm(desc=f"fetching {len(wanted)} files", unit="B", unit_scale=True, disable=None) as progress:

        def arrived(size: int) -> None:
            with progress.get_lock():
                progress.update(size)

        tasks = [partial(_fetch, connection, one, folder, arrived) for one in wanted]
        futures: list[Future[LandedFile]] = []
        try:
            futures = start(tasks, connection.pace.downloads_at_once)
            wait_for(futures, until_failure=True)
            if any(isinstance(future.exception(), ExportExpired) for future in futures if future.done()):
                connection.stop.set()  # the rest is of no use
            for future in futures:
                future.cancel()
            wait_for(futures)  # those under way may come to their end
            connection.stop.clear()
        except BaseException:
            connection.stop.set()
            for future in futures:
                future.cancel()
            raise
    problems = [problem for future in futures if not future.cancelled() and (problem := future.exception())]
    if not problems:
        return [future.result() for future in futures]
    missing = Counter(
        one.resource_type
        for one, future in zip(wanted, futures, strict=True)
        if future.cancelled() or future.exception()
    )
    gravest = min(problems, key=lambda problem: _GRAVEST_FIRST.get(type(problem), 0))
    raise _told(gravest, missing, len(wanted)) from None


def _told(problem: BaseException, missing: Counter[str], of: int) -> BaseException:
    """The same error, with what is missing."""
    if isinstance(problem, OSError):
        problem = Unreachable(f"A file could not be written ({problem.strerror}).")
    if not isinstance(problem, SourceError):
        return problem
    each = ", ".join(f"{count:,} of {one}" for one, count in sorted(missing.items()))
    problem.args = (f"{problem} Missing are {missing.total():,} of {of:,} files ({each}).",)
    return problem


def _fetch(connection: Connection, wanted: Wanted, folder: Path, arrived: Callable[[int], None]) -> LandedFile:
    """One file, whole and with as many resources as the server counts; a wrong count is given a second chance."""
    whole = folder / f"{wanted.key}.ndjson"
    what = f"Fetching file {wanted.position + 1} ({wanted.resource_type})"
    for _ in range(2):
        if not whole.exists():
            connection.persist(lambda: _receive(connection, wanted, whole, what, arrived), what)
        file = landed_file(whole, wanted.resource_type)
        if wanted.count is None or file.resources == wanted.count:
            return file
        if wanted.resource_type == "Bundle" and _entries(whole) == wanted.count:  # a server may count what they hold
            return file
        whole.unlink()
    raise SourceError(
        f"{what}: the server counts {wanted.count:,} resources, and {file.resources:,} came, twice. "
        "Run again; if it stays so, report it to those who run the server."
    )


def _receive(connection: Connection, wanted: Wanted, whole: Path, what: str, arrived: Callable[[int], None]) -> None:
    """Receive what is not there yet. Raises Transient when it breaks off; what came is kept for the next time."""
    part = whole.with_suffix(".part")
    resumable = whole.with_suffix(".resumable")  # there when `part` can be gone on with; holds what must be unchanged
    before = part.stat().st_size if part.exists() else None
    have = (before or 0) if resumable.exists() else 0
    unchanged = resumable.read_text() if have else ""
    # Bytes that the server compresses on the way cannot be gone on with, so a second attempt asks for them as they are.
    headers = {
        "Accept": "application/fhir+ndjson",
        "Accept-Encoding": "gzip" if before is None else "identity",
        **({"Range": f"bytes={have}-", "If-Range": unchanged} if have else {}),
    }
    with connection.answer("GET", wanted.url, what, headers, wanted.tokens) as response:
        if response.status_code in (404, 410):
            raise ExportExpired(f"{what}: the server no longer has it (HTTP {response.status_code}).")
        end, total = _part_of(response, have, unchanged) if response.status_code == 206 else (0, 0)
        if response.status_code == 416 or (response.status_code == 206 and not end):
            _forget(part, resumable)
            raise Transient("the server does not go on where the file broke off")
        if response.status_code not in (200, 206):
            raise refusal(response, what)
        if not end:
            _note_resumable(response, resumable)
        connection.check()
        with part.open("ab" if end else "wb") as file:
            try:
                for chunk in response.iter_raw():
                    connection.check()
                    file.write(chunk)
                    arrived(len(chunk))
            except httpx.RequestError:
                # What must be started over has won nothing, however far it came.
                raise Transient("the connection broke", got_further=bool(end) and file.tell() > have) from None
    if end and part.stat().st_size != end:
        _forget(part, resumable)
        raise Transient("the server sent another part than it said")
    if end < total:
        raise Transient("the server sent a part of what was asked", got_further=True)
    _finish(part, whole, wanted.resource_type)
    resumable.unlink(missing_ok=True)


def _part_of(response: httpx.Response, have: int, unchanged: str) -> tuple[int, int]:
    """Where the part ends that goes on after `have` bytes of the same file, and the size of all; zeros for another."""
    found = _PART.fullmatch(response.headers.get("Content-Range", ""))
    is_same = unchanged and _validator(response) in ("", unchanged)
    if not found or not is_same or not _is_as_it_lies(response):
        return 0, 0
    first, last, total = (int(number) for number in found.groups())
    return (last + 1, total) if first == have <= last < total else (0, 0)


def _note_resumable(response: httpx.Response, resumable: Path) -> None:
    unchanged = _validator(response)
    if unchanged and _is_as_it_lies(response) and response.headers.get("Accept-Ranges") != "none":
        resumable.write_text(unchanged)
    else:
        resumable.unlink(missing_ok=True)


def _validator(response: httpx.Response) -> str:
    """What tells this version of a file from any other: an ETag that is not weak, else a date that is certain.

    Empty when there is neither: the rest of the file could then be another's (RFC 9110, 13.1.5).
    """
    tag = str(response.headers.get("ETag", ""))
    if tag and not tag.startswith("W/"):
        return tag
    changed = str(response.headers.get("Last-Modified", ""))
    try:
        age = parsedate_to_datetime(response.headers.get("Date", "")) - parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return ""
    return changed if age.total_seconds() >= _CERTAIN_AFTER_SECONDS else ""


def _is_as_it_lies(response: httpx.Response) -> bool:
    return bool(response.headers.get("Content-Encoding", "identity") == "identity")


def _finish(part: Path, whole: Path, resource_type: str) -> None:
    """Turn what was received into plain NDJSON, whatever it was packed in. Raises Transient when it is not whole."""
    for _ in range(2):  # a compressed file may have been compressed again on the way
        with part.open("rb") as file:
            if file.read(2) != _GZIP:
                break
        unpacked = part.with_suffix(".unpacked")
        try:
            with igzip.open(part, "rb") as packed, unpacked.open("wb") as plain:
                shutil.copyfileobj(packed, plain, _CHUNK_BYTES)
        except _DAMAGE:
            _forget(part, unpacked, part.with_suffix(".resumable"))
            raise Transient("the compressed file was damaged or ended too early") from None
        os.replace(unpacked, part)
    if fault := _fault_of(part, resource_type):
        _forget(part, part.with_suffix(".resumable"))
        raise fault
    os.replace(part, whole)


def _fault_of(path: Path, resource_type: str) -> Transient | None:
    """What is wrong with a file by its first and its last line; an empty file is whole.

    A server that gives no length can break off without a sign, and one in between can answer in its place.
    """
    if path.stat().st_size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        begin = re.match(rb"(?:\xef\xbb\xbf)?\s*", text)  # a byte order mark, against the rules
        end = len(text)
        while text[end - 1 : end].isspace():
            end -= 1
        if begin is None or begin.end() >= end:
            return None
        first = text[begin.end() : end if (stop := text.find(b"\n", begin.end(), end)) < 0 else stop]
        last = text[max(begin.end(), text.rfind(b"\n", 0, end) + 1) : end]
        is_ended = b"\n" in text[end:]
    found = {_type_of(first, is_ended or first != last), _type_of(last, is_ended)}
    if found == {resource_type}:
        return None
    if "OperationOutcome" in found:
        return Transient(f"in place of {resource_type} came what went wrong on the server", is_verdict=True)
    if found <= {resource_type, None} and last.startswith(b"{"):
        return Transient("the file ended in the middle of a line")
    return Transient(f"in place of {resource_type} came something else, such as a page to sign in")


def _type_of(line: bytes, is_ended: bool) -> str | None:
    """What a line says it is; also one that ends but cannot be understood, which is for the reader to quarantine."""
    try:
        return msgspec.json.decode(line, type=_Resource).resourceType
    except _NOT_DECODED:
        says = _SAYS_TYPE.match(line) if is_ended else None
        return says[1].decode() if says else None


def _entries(path: Path) -> int | None:
    """How many entries the Bundles of a file hold together; None when a line is none."""
    try:
        with path.open("rb") as lines:
            return sum(len(msgspec.json.decode(line, type=_Bundle).entry) for line in lines if line.strip())
    except _NOT_DECODED:
        return None


def _forget(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
