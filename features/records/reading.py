"""From files to blocks of records: bundles of any kind and NDJSON, plain, gzip or zstd, told apart by content."""

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import zstandard
from isal import isal_zlib

from features.errors import SourceError
from features.privacy.rules import load_rules
from features.records.blocks import Block, Refused, block_of_document, blocks_of_lines
from features.sources.landed import MANIFEST

BLOCK_BYTES = 300_000  # decompressed; few enough that a block's records stay in the processor's cache
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
    except msgspec.MsgspecError:
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


def read_records(file: SourceFile, part: int = 0, parts: int = 1) -> Iterator[tuple[int, Iterator[Block]]]:
    """The records of one part of `file`, by stretch of text: its size in bytes, and what is in it.

    Part k of n holds every n-th stretch, starting at k.
    """
    if file.shape == "document":
        yield file.size, iter([_read_document(file)])
        return
    for number, (offset, text, damage) in enumerate(_stretches(file)):
        if number % parts == part:
            yield len(text), blocks_of_lines(offset, text, damage)


def _stretches(file: SourceFile) -> Iterator[tuple[int, bytes, str]]:
    """(offset, whole lines, why nothing follows); the last line of damaged data is dropped as cut off."""
    held, offset = bytearray(), 0
    damage = ""
    try:
        for chunk in _decompressed(file.path, file.compression):
            held += chunk if offset or held else chunk.removeprefix(_BYTE_ORDER_MARK)
            if len(held) >= BLOCK_BYTES and (cut := held.rfind(b"\n", len(held) - len(chunk)) + 1):
                yield offset, bytes(held[:cut]), ""
                offset += cut
                del held[:cut]
    except _Damaged as error:
        damage = str(error)
        del held[held.rfind(b"\n") + 1 :]
    if held or damage:
        yield offset, bytes(held), damage


def _read_document(file: SourceFile) -> Block:
    try:
        content = b"".join(_decompressed(file.path, file.compression)).removeprefix(_BYTE_ORDER_MARK)
    except _Damaged as error:
        return Block((), (), [Refused(0, None, str(error))])
    return block_of_document(0, content)
