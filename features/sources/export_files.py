"""Fetching the files of an export: several at a time, each taken up again where it broke off, counted at the end."""

import hashlib
import mmap
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from isal import igzip, isal_zlib
from tqdm import tqdm

from features.errors import SourceError
from features.sources.export_job import ExportExpired
from features.sources.landed import LandedFile, landed_file
from features.sources.server_requests import Connection, Stopped, Tokens, Transient, Unreachable, refusal

_CHUNK_BYTES = 1 << 18
_GRAVEST_FIRST = {ExportExpired: 1, SourceError: 2, Unreachable: 3, Stopped: 4}
_GZIP = b"\x1f\x8b"
# isal calls its exception class an instance in its stubs.
_DAMAGE: tuple[type[Exception], ...] = (EOFError, zlib.error, isal_zlib.error, igzip.BadGzipFile)  # type: ignore[assignment]


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
    threads = ThreadPoolExecutor(connection.pace.downloads_at_once)
    with tqdm(desc=f"fetching {len(wanted)} files", unit="B", unit_scale=True, disable=None) as progress:

        def arrived(size: int) -> None:
            with progress.get_lock():
                progress.update(size)

        futures = [threads.submit(_fetch, connection, one, folder, arrived) for one in wanted]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(isinstance(future.exception(), ExportExpired) for future in done):
                connection.stop.set()  # the rest is of no use
            threads.shutdown(wait=True, cancel_futures=True)  # else, those under way may come to their end
            connection.stop.clear()
        except BaseException:
            connection.stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
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
    said = f"{problem} Missing are {missing.total():,} of {of:,} files ({each})."
    return type(problem)(said)


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
    # Bytes that the server compresses on the way cannot be gone on with, so a second attempt asks for them as they are.
    headers = {
        "Accept": "application/fhir+ndjson",
        "Accept-Encoding": "gzip" if before is None else "identity",
    }
    if have:
        headers["Range"] = f"bytes={have}-"
        if unchanged := resumable.read_text():
            headers["If-Range"] = unchanged
    with connection.answer("GET", wanted.url, what, headers, wanted.tokens) as response:
        if response.status_code in (404, 410):
            raise ExportExpired(f"{what}: the server no longer has it (HTTP {response.status_code}).")
        goes_on = (
            response.status_code == 206
            and have > 0
            and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            and _is_as_it_lies(response)
        )
        if response.status_code == 416 or (response.status_code == 206 and not goes_on):
            _forget(part, resumable)
            raise Transient("the server does not go on where the file broke off")
        if response.status_code not in (200, 206):
            raise refusal(response, what)
        if not goes_on:
            _note_resumable(response, resumable)
        with part.open("ab" if goes_on else "wb") as file:
            try:
                for chunk in response.iter_raw():
                    connection.check()
                    file.write(chunk)
                    arrived(len(chunk))
            except httpx.RequestError:
                got_further = file.tell() > (before or 0)
                raise Transient("the connection broke", got_further=got_further) from None
    _finish(part, whole)
    resumable.unlink(missing_ok=True)


def _note_resumable(response: httpx.Response, resumable: Path) -> None:
    if not _is_as_it_lies(response) or response.headers.get("Accept-Ranges") == "none":
        resumable.unlink(missing_ok=True)
        return
    tag = response.headers.get("ETag", "")
    resumable.write_text(response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag)


def _is_as_it_lies(response: httpx.Response) -> bool:
    return bool(response.headers.get("Content-Encoding", "identity") == "identity")


def _finish(part: Path, whole: Path) -> None:
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
    if not _ends_whole(part):
        _forget(part, part.with_suffix(".resumable"))
        raise Transient("the file ended in the middle of a line")
    os.replace(part, whole)


def _ends_whole(path: Path) -> bool:
    """Whether the last line is a whole one; a server that gives no length can break off without a sign."""
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        last = text[text.rfind(b"\n") + 1 :]
    try:
        return not last.strip() or bool(msgspec.json.decode(last, type=msgspec.Raw))
    except msgspec.DecodeError:
        return False


def _forget(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
