"""Do the records that are read keep to FHIR R4? A sample, judged by fhir.resources; reading does not depend on it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from features.records.blocks import RawBundle
from features.records.quarantine import NOT_DECODED, broken_r4_rules, resource_type_in
from features.records.reading import SourceFile, find_files, raw_text

_RECORDS_OF_A_FILE = 5
_MOST_RECORDS = 300


@dataclass(frozen=True)
class R4Sample:
    """How many records were judged, how many broke R4, and the rules broken most, with how often."""

    judged: int
    broken: int
    rules: tuple[tuple[str, int], ...]


def judge_sample(source: Path) -> R4Sample:
    """Judge the first records of each file below `source`. Raises SourceError when there is no such folder."""
    rules: Counter[str] = Counter()
    judged = broken = 0
    records = (raw for file in find_files(source)[0] for raw in islice(_raw_records(file), _RECORDS_OF_A_FILE))
    for raw in islice(records, _MOST_RECORDS):
        found = broken_r4_rules(raw)
        judged += 1
        broken += bool(found)
        rules.update({f"{resource_type_in(raw)}.{rule}" for rule in found})
    return R4Sample(judged, broken, tuple(rules.most_common(5)))


def _raw_records(file: SourceFile) -> Iterator[bytes]:
    """The records of a file as they stand; what is not JSON is passed over, the quarantine has it."""
    if file.shape == "document":
        yield from _entries(b"".join(raw_text(file)))
        return
    held = b""
    for piece in raw_text(file):
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            yield from _entries(line)
    yield from _entries(held)


def _entries(text: bytes) -> Iterator[bytes]:
    try:
        kind = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("resourceType")
        if kind is None or bytes(kind) != b'"Bundle"':
            yield from [text] if kind is not None else []
            return
        for entry in msgspec.json.decode(text, type=RawBundle).entry:
            if raw := bytes(entry.resource):
                yield raw
    except NOT_DECODED:
        return
