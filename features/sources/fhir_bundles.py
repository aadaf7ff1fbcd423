"""All about one patient as one Bundle: a transaction whose resources refer to each other by urn:uuid."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from features.sources.fhir_shapes import Shape

_ID = re.compile(r'"id":"([^"]+)"')
_REFERENCE = re.compile(r'"reference":"[A-Za-z]+/([^"]+)"')

Resource = tuple[str, str]  # type, JSON


def bundled(
    resources: Mapping[str, Iterable[tuple[int, str]]], shared: Iterable[Resource], bundle: Shape, entry: Shape
) -> Iterator[tuple[int, str]]:
    """Each owner's number and Bundle, of the owners and JSON of `resources` by type, whose ids are UUIDs.

    Of the `shared` resources each Bundle holds those that are referred to, to be created where there is none with that
    identifier, which is their id. `bundle` has the place entries; `entry` the places id, resource, kind, and identifier
    in what can be left out.
    """
    common = {_id(line): (kind, line) for kind, line in shared}
    by_owner = defaultdict[int, list[Resource]](list)
    for kind, lines in resources.items():
        for owner, line in lines:
            by_owner[owner].append((kind, line))
    for owner, own in by_owner.items():
        named = {identity for _, line in own for identity in _REFERENCE.findall(line)}
        also = [common[identity] for identity in sorted(named & common.keys())]
        entries = [*_entries(entry, own), *_entries(entry, also, {"identifier": [_id(line) for _, line in also]})]
        yield owner, next(bundle.filled({}, {"entries": [f"[{','.join(entries)}]"]}))


def _entries(entry: Shape, resources: list[Resource], more: Mapping[str, list[str]] | None = None) -> Iterator[str]:
    lines = [_REFERENCE.sub(r'"reference":"urn:uuid:\1"', line) for _, line in resources]
    own = {"id": [_id(line) for line in lines], "resource": lines, "kind": [kind for kind, _ in resources]}
    return entry.filled({}, {**own, **(more or {})})


def _id(line: str) -> str:
    found = _ID.search(line)
    return found[1] if found else ""
