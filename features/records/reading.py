"""From files to typed resources: bundles of any kind and NDJSON, plain, gzip or zstd, told apart by content."""

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from types import GenericAlias, MappingProxyType
from typing import Literal, NamedTuple

import msgspec
import zstandard
from isal import isal_zlib

from features.errors import SourceError
from features.privacy.rules import load_rules, only_allowed
from features.records.quarantine import reason_for, resource_type_in
from features.records.resources import RESOURCES, Resource, Struct, unused_types

BLOCK_BYTES = 300_000  # decompressed; few enough that a block's records stay in the processor's cache
_CHUNK_BYTES = 1 << 15
_SNIFF_BYTES = 1 << 16
_LINE = re.compile(rb"[^\n]+")
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


class Refused(NamedTuple):
    """A record that could not be read: where, of which type, why."""

    offset: int
    resource_type: str | None
    reason: str


class Block(NamedTuple):
    """Records read together, their positions, and the refused ones.

    Positions tell records of a file apart and rise with their place; `byte_of` gives the byte itself. `names` are the
    full URLs of their bundle that differ from `Type/id`. `text` is what they were read from, `start` where it starts.
    """

    resources: Sequence[Struct]
    positions: Sequence[int]
    refused: Sequence[Refused] = ()
    names: Mapping[str, str] = MappingProxyType({})
    start: int = 0
    text: bytes = b""

    def byte_of(self, position: int) -> int:
        """The byte in the file at which the record at `position` starts. Slow: for the few that are refused."""
        if not self.text or not isinstance(self.positions, range):
            return position
        number = position - self.positions.start
        if _is_bundle(self.text):
            entries = msgspec.json.decode(self.text, type=RawBundle).entry
            raw = [bytes(entry.resource) for entry in entries if bytes(entry.resource)]
            reached = 0
            for resource in raw[: number + 1]:
                found = self.text.find(resource, reached)
                reached = found + 1
            return self.start + found
        starts = [found.start() for found in _LINE.finditer(self.text) if found.group().strip()]
        return self.start + starts[number]


class Entry(Struct):
    """An entry of a bundle as it stands, for bundles with a record that cannot be read."""

    fullUrl: str | None = None
    resource: msgspec.Raw = msgspec.Raw()


class RawBundle(Struct):
    """A bundle with its resources unread."""

    entry: tuple[Entry, ...] = ()


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
    for path in paths:
        kind = _sniff(path)
        if kind is not None:
            compression, shape = kind
            name = path.relative_to(base).as_posix()
            found.append(SourceFile(path, name, len(found), path.stat().st_size, compression, shape))
    return found, len(paths) - len(found)


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
            yield len(text), _decode_lines(offset, text, damage)


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
    return _decode_one(0, content)


@cache
def _decoder() -> msgspec.json.Decoder:
    """Reads any resource or bundle; elements that the allow-list does not name stay unread."""
    rules = load_rules()
    unused = [
        msgspec.defstruct(name, [], bases=(Struct,), tag_field="resourceType", tag=name, gc=False)
        for name in sorted(unused_types())
    ]
    resources = tuple(only_allowed(resource, rules) for resource in RESOURCES)
    any_resource = reduce(or_, (*resources, *unused))
    entry = msgspec.defstruct(
        "BundleEntry", [("fullUrl", str | None, None), ("resource", any_resource | None, None)], gc=False
    )
    bundle = msgspec.defstruct(
        "Bundle",
        [("entry", GenericAlias(tuple, (entry, ...)), ())],
        tag_field="resourceType",
        tag="Bundle",
        gc=False,
    )
    return msgspec.json.Decoder(any_resource | bundle)


def _decode_lines(offset: int, text: bytes, damage: str) -> Iterator[Block]:
    if damage:
        yield Block((), (), [Refused(offset + len(text), None, damage)])
    try:
        resources = _decoder().decode_lines(text)
    except msgspec.MsgspecError:
        for line in text.split(b"\n"):
            if line.strip():
                yield _decode_one(offset, line)
            offset += len(line) + 1
        return
    if any(type(resource).__name__ == "Bundle" for resource in resources):
        # Bundles, one a line: each is read again by itself, for the byte at which it starts.
        for found in _LINE.finditer(text):
            if found.group().strip():
                yield _decode_one(offset + found.start(), found.group())
    else:
        yield Block(resources, range(offset, offset + len(resources)), start=offset, text=text)


def _decode_one(offset: int, text: bytes) -> Block:
    """The records in one JSON document; of a bundle with a bad record, all the others."""
    try:
        return _unwrapped(offset, _decoder().decode(text))._replace(start=offset, text=text)
    except msgspec.MsgspecError as error:
        if not _is_bundle(text):
            return Block((), (), [Refused(offset, resource_type_in(text), reason_for(error, text))])
        try:
            bundle = msgspec.json.decode(text, type=RawBundle)
        except msgspec.MsgspecError:
            return Block((), (), [Refused(offset, None, "a bundle with " + reason_for(error, text))])
        return _decode_entries(offset, text, bundle)


def _is_bundle(text: bytes) -> bool:
    """Whether a document says that it is a Bundle, before any entry."""
    return b'"Bundle"' in text[:_SNIFF_BYTES].split(b'"entry"', 1)[0]


def _decode_entries(offset: int, text: bytes, bundle: RawBundle) -> Block:
    resources, positions, refused = [], [], []
    names: dict[str, str] = {}
    reached = 0
    for entry in bundle.entry:
        raw = bytes(entry.resource)
        if not raw:
            continue
        reached = max(text.find(raw, reached), reached)
        try:
            resource = _decoder().decode(raw)
        except msgspec.MsgspecError as error:
            refused.append(Refused(offset + reached, resource_type_in(raw), reason_for(error, raw)))
        else:
            _name(entry.fullUrl, resource, names)
            resources.append(resource)
            positions.append(offset + reached)
    return Block(resources, positions, refused, names)


def _unwrapped(offset: int, resource: Struct) -> Block:
    if type(resource).__name__ != "Bundle":
        return Block((resource,), (offset,))
    names: dict[str, str] = {}
    entries = [entry for entry in resource.entry if entry.resource is not None]  # type: ignore[attr-defined]
    for entry in entries:
        _name(entry.fullUrl, entry.resource, names)
    resources = [entry.resource for entry in entries]
    return Block(resources, range(offset, offset + len(resources)), (), names)


def _name(full_url: str | None, resource: Struct, names: dict[str, str]) -> None:
    """Note a full URL that is not the resource's id; a resource without an id takes it from there."""
    if full_url is None or not full_url.startswith("urn:") or not isinstance(resource, Resource):
        return
    last = full_url.split(":", 2)[-1]
    if resource.id is None:
        resource.id = last
    elif last != resource.id:
        names[full_url] = f"{type(resource).__name__}/{resource.id}"
