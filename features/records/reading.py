"""From files to blocks of records: bundles of any kind and NDJSON, plain, gzip or zstd, told apart by content.

A file is read in stretches of whole lines. Where a stretch ends is decided by its lines, not by their place in the
file: after a line has come or gone, all stretches but those around it stay what they were, and are known again.
"""

import contextlib
import re
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import zstandard
from isal import isal_zlib

from features.errors import SourceError
from features.privacy.rules import load_rules
from features.records.blocks import Block, Refused, block_of_document, blocks_of_lines
from features.records.quarantine import NOT_DECODED
from features.sources.landed import MANIFEST

LEAST_BYTES = 260_000  # of a stretch, decompressed; few enough that its records stay in the processor's cache
_MOST_BYTES = 1_000_000
_LINES_TO_AN_END = 32  # beyond the least, one line in so many ends a stretch
_CHUNK_BYTES = 1 << 15
_SNIFF_BYTES = 1 << 16
_FHIR_NAME = re.compile(rf"(?:{'|'.join(sorted({'Bundle', *load_rules().elements}))})\b.*json", re.IGNORECASE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# isal calls its exception class an instance in its stubs.
_DAMAGE: tuple[type[Exception], ...] = (zlib.error, isal_zlib.error, zstandard.ZstdError)  # type: ignore[assignment]


@dataclass(frozen=True)
class SourceFile:
    """A file of FHIR records: `number` is its place by name; `shape` tells one JSON a line from one in all."""

    path: Path
    name: str
    number: int
    size: int
    compression: Literal["plain", "gzip", "zstd"]
    shape: Literal["lines", "document"]


class _Damaged(Exception):
    """Compressed data that end early or cannot be decompressed; what came before has been handed on."""


def find_files(source: Path) -> tuple[list[SourceFile], int]:
    """The files of FHIR records below `source` (a folder or one file), by name, and how many hold something else.

    Raises SourceError when there is no such folder or it holds no file.
    """
    if not source.exists():
        raise SourceError(f"There is no folder {source}. Give the folder of FHIR records to --from.")
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise SourceError(f"The folder {source} is empty. Put FHIR R4 bundles (.json) or NDJSON files there.")
    base = source.parent if source.is_file() else source
    found: list[SourceFile] = []
    left_alone = 0
    for path in paths:
        kind = _sniff(path)
        if kind is None:
            left_alone += path.name != MANIFEST  # which speaks of the records, so nobody needs to be told
        else:
            compression, shape = kind
            name = path.relative_to(base).as_posix()
            found.append(SourceFile(path, name, len(found), path.stat().st_size, compression, shape))
    return found, left_alone


def _sniff(path: Path) -> tuple[Literal["plain", "gzip", "zstd"], Literal["lines", "document"]] | None:
    """Compression and shape by content; None for a file that holds no FHIR.

    A damaged start is no reason to leave a file alone: what cannot be read of it belongs in the quarantine.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    compression = next((name for start, name in _MAGIC.items() if magic.startswith(start)), "plain")
    start = b""
    is_damaged = False
    try:
        for chunk in _decompressed(path, compression):
            start += chunk
            if len(start) >= _SNIFF_BYTES:
                break
    except _Damaged:
        is_damaged = True
    start = start[:_SNIFF_BYTES].removeprefix(_BYTE_ORDER_MARK).lstrip()
    lines = start.split(b"\n")
    written = [line for line in lines if line.strip()]
    looks_like_json = start.startswith(b"{") or 2 * sum(line.startswith(b"{") for line in written) > len(written)
    has_records = looks_like_json and b'"resourceType"' in start
    if _is_export_log(start) or not (has_records or is_damaged or (start and _FHIR_NAME.match(path.name))):
        return None
    # A pretty-printed document has no line that is a resource by itself; NDJSON has, even with a bad line or two.
    is_one_document = (
        start.startswith(b"{")
        and any(line.strip() for line in lines[1:])
        and not any(line.startswith(b"{") and _is_resource(line) for line in lines)
    )
    return compression, "document" if is_one_document else "lines"  # type: ignore[return-value]


def _is_resource(line: bytes) -> bool:
    try:
        return "resourceType" in msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except NOT_DECODED:
        return False


def _is_export_log(start: bytes) -> bool:
    """Whether the file is the log of a Bulk Data export, which is NDJSON but not FHIR."""
    first_line = start.split(b"\n", 1)[0]
    return b'"exportId"' in first_line and b'"eventId"' in first_line


def _decompressed(path: Path, compression: str) -> Iterator[bytes]:
    """The file's content, piece by piece. Raises _Damaged after the last readable piece."""
    with path.open("rb") as file:
        if compression == "plain":
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            return
        start: Callable = (
            (lambda: isal_zlib.decompressobj(31))
            if compression == "gzip"
            else (lambda: zstandard.ZstdDecompressor().decompressobj())
        )
        unpacker = start()
        while chunk := file.read(_CHUNK_BYTES):
            while chunk:
                if unpacker.eof:  # a further member of the same file
                    if not chunk.strip(b"\x00"):  # padding
                        break
                    unpacker = start()
                try:
                    yield unpacker.decompress(chunk)
                except _DAMAGE:
                    raise _Damaged("compressed data damaged") from None
                chunk = unpacker.unused_data if unpacker.eof else b""
        if not unpacker.eof:
            raise _Damaged("compressed file ends too early")


def raw_text(file: SourceFile) -> Iterator[bytes]:
    """The decompressed content of a file, piece by piece; of a damaged one, what comes before the damage."""
    with contextlib.suppress(_Damaged):
        yield from _decompressed(file.path, file.compression)


class Stretch(NamedTuple):
    """Whole lines of a file, or a document: the how-manyth, from which byte on, and why nothing follows."""

    nth: int
    offset: int
    text: bytes
    damage: str


def read_stretches(
    file: SourceFile, part: int = 0, parts: int = 1, wanted: Container[int] | None = None
) -> Iterator[Stretch]:
    """One part of `file`: part k of n holds every n-th stretch, starting at k; of them only the wanted (`nth`)."""
    stretches = iter([_read_document(file)]) if file.shape == "document" else _stretches(file)
    for stretch in stretches:
        if stretch.nth % parts == part and (wanted is None or stretch.nth in wanted):
            yield stretch


def blocks_of(file: SourceFile, stretch: Stretch) -> Iterator[Block]:
    """The records of a stretch; their positions, and the offsets of what is refused, count from its start."""
    if file.shape == "lines":
        yield from blocks_of_lines(0, stretch.text, stretch.damage)
    elif stretch.damage:
        yield Block((), (), [Refused(0, None, stretch.damage)])
    else:
        yield block_of_document(0, stretch.text)


def _stretches(file: SourceFile) -> Iterator[Stretch]:
    """The last line of damaged data is dropped as cut off."""
    held, offset, nth, looked_at = bytearray(), 0, 0, 0
    damage = ""
    try:
        for chunk in _decompressed(file.path, file.compression):
            held += chunk if offset or held else chunk.removeprefix(_BYTE_ORDER_MARK)
            while len(held) >= LEAST_BYTES:
                cut, looked_at = _end_of_stretch(held, looked_at)
                if not cut:
                    break
                yield Stretch(nth, offset, bytes(held[:cut]), "")
                offset, nth, looked_at = offset + cut, nth + 1, 0
                del held[:cut]
    except _Damaged as error:
        damage = str(error)
        del held[held.rfind(b"\n") + 1 :]
    if held or damage:
        yield Stretch(nth, offset, bytes(held), damage)


def _end_of_stretch(held: bytearray, looked_at: int) -> tuple[int, int]:
    """Where the stretch at the start of `held` ends, 0 when that is not in sight, and up to where was looked.

    It ends after the first line beyond LEAST_BYTES whose checksum says so, or, among lines without such a one, beyond
    _MOST_BYTES.
    """
    start = looked_at or held.find(b"\n", LEAST_BYTES - 1) + 1
    while start:
        if start >= _MOST_BYTES:
            return start, start
        end = held.find(b"\n", start)
        if end < 0:
            break
        if zlib.crc32(held[start:end]) % _LINES_TO_AN_END == 0:
            return end + 1, end + 1
        start = end + 1
    return 0, start


def _read_document(file: SourceFile) -> Stretch:
    try:
        content = b"".join(_decompressed(file.path, file.compression)).removeprefix(_BYTE_ORDER_MARK)
    except _Damaged as error:
        return Stretch(0, 0, b"", str(error))
    return Stretch(0, 0, content, "")
