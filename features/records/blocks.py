"""From text to records: each in its plain form first, in full only where that does not do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from features.privacy.rules import load_rules, only_allowed
from features.records.plain_forms import Unread, forms_decoder
from features.records.quarantine import NOT_DECODED, reason_for, resource_type_in
from features.records.resources import RESOURCES, Resource, Struct, unused_types

_LINE = re.compile(rb"[^\n]+")
_HEAD_BYTES = 1 << 16


class Refused(NamedTuple):
    """A record that could not be read: where, of which type, why."""

    offset: int
    resource_type: str | None
    reason: str


@dataclass
class Block:
    """Records read together, in their plain forms, and the texts that could not be taken for records at all.

    `positions` tell the records of a stretch apart and rise with their place. `names` are the full URLs of their bundle
    that differ from `Type/id`. `text` is what they were read from, `start` the byte at which it starts; `texts` are
    the records one by one, worked out when first asked for. `deleted` are the urls that a bundle's entries delete,
    `empty` is the number of its entries that neither hold a resource nor delete one.
    """

    records: Sequence[msgspec.Struct]
    positions: Sequence[int]
    refused: Sequence[Refused] = ()
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    start: int = 0
    text: bytes = b""
    texts: Sequence[bytes] = ()
    deleted: Sequence[str] = ()
    empty: int = 0

    def text_of(self, number: int) -> bytes:
        """The text of a record."""
        if not self.texts:
            self.texts = [line for line in self.text.split(b"\n") if line.strip()]
        return self.texts[number]

    def whole(self, number: int) -> Resource:
        """A record in full. Raises msgspec's errors when it cannot be read."""
        resource: Resource = full_decoder().decode(self.text_of(number))
        if getattr(resource, "id", "") is None:
            resource.id = self.records[number].id  # type: ignore[attr-defined]  # from the full URL
        return resource

    def refusal(self, number: int, problem: Exception) -> Refused:
        """Why a record is refused, and at which byte of the file it starts."""
        text = self.text_of(number)
        if isinstance(problem, NOT_DECODED):
            return Refused(self._byte_of(number), resource_type_in(text), reason_for(problem, text))
        return Refused(self._byte_of(number), type(self.records[number]).__name__, str(problem))

    def _byte_of(self, number: int) -> int:
        # Records lie in their order, so each is found after the one before it, even beside a twin.
        reached = 0
        for earlier in range(number + 1):
            text = self.text_of(earlier)
            found = self.text.find(text, reached)
            reached = found + len(text)
        return self.start + found


class Entry(msgspec.Struct):
    """An entry of a bundle, its resource as it stands."""

    fullUrl: str | None = None
    resource: msgspec.Raw = msgspec.Raw()
    request: msgspec.Raw = msgspec.Raw()


class Request(msgspec.Struct):
    """What an entry asks a server to do, whatever stands there."""

    method: object = None
    url: object = None


class RawBundle(msgspec.Struct):
    """A bundle with its resources unread."""

    entry: tuple[Entry, ...] = ()


@cache
def full_decoder() -> msgspec.json.Decoder:
    """Reads any resource in full; elements that the allow-list does not name stay unread."""
    rules = load_rules()
    unused = [
        msgspec.defstruct(name, [], bases=(Struct,), tag_field="resourceType", tag=name, gc=False)
        for name in sorted(unused_types())
    ]
    return msgspec.json.Decoder(reduce(or_, (*(only_allowed(resource, rules) for resource in RESOURCES), *unused)))


def blocks_of_lines(offset: int, text: bytes, damage: str) -> Iterator[Block]:
    """The records of whole lines that start at byte `offset`; `damage` says why nothing follows them."""
    if damage:
        yield Block((), (), [Refused(offset + len(text), None, damage)])
    try:
        records = forms_decoder().decode_lines(text)
    except NOT_DECODED:
        records = None
    if records is None or any(type(record).__name__ == "Bundle" for record in records):
        for found in _LINE.finditer(text):
            if found.group().strip():
                yield block_of_document(offset + found.start(), found.group())
    else:
        yield Block(records, range(offset, offset + len(records)), start=offset, text=text)


def block_of_document(offset: int, text: bytes) -> Block:
    """The records of one JSON document: of a bundle its entries, else itself."""
    record = _plain_form(text)
    if type(record).__name__ != "Bundle" and not (isinstance(record, Unread) and _is_bundle(text)):
        return Block((record,), (offset,), start=offset, text=text, texts=(text,))
    try:
        bundle = msgspec.json.decode(text, type=RawBundle)
    except NOT_DECODED as error:
        return Block((), (), [Refused(offset, None, "a bundle with " + reason_for(error, text))])
    names: dict[str, str] = {}
    records, texts, deleted, empty = [], [], [], 0
    for entry in bundle.entry:
        raw, url = bytes(entry.resource), _deleted_by(bytes(entry.request))
        if url is not None:  # a resource beside it is what is no more
            deleted.append(url)
        elif not raw or raw == b"null":
            empty += 1
        else:
            record = _plain_form(raw)
            _name(entry.fullUrl, record, names)
            records.append(record)
            texts.append(raw)
    return Block(records, range(offset, offset + len(records)), (), names, offset, text, texts, deleted, empty)


def _deleted_by(request: bytes) -> str | None:
    """The url that a bundle's entry deletes, empty when it names none; null for an entry that does something else."""
    if b"delete" not in request.lower():  # as almost all
        return None
    try:
        asked = msgspec.json.decode(request, type=Request)
    except NOT_DECODED:
        return None
    if str(asked.method).upper() != "DELETE":
        return None
    return asked.url if isinstance(asked.url, str) else ""


def _plain_form(text: bytes) -> msgspec.Struct:
    try:
        return forms_decoder().decode(text)
    except NOT_DECODED:
        return Unread()


def _is_bundle(text: bytes) -> bool:
    """Whether a document says that it is a Bundle, before any entry."""
    return b'"Bundle"' in text[:_HEAD_BYTES].split(b'"entry"', 1)[0]


def _name(full_url: str | None, record: msgspec.Struct, names: dict[str, str]) -> None:
    """Note a full URL that is not the resource's id; a resource without an id takes it from there."""
    if full_url is None or not full_url.startswith("urn:") or not hasattr(record, "id"):
        return
    last = full_url.split(":", 2)[-1]
    if record.id is None:
        record.id = last
    elif last != record.id:
        names[full_url] = f"{type(record).__name__}/{record.id}"
