"""Resources are written from their shapes (shapes/*.json): FHIR R4 as it is spelled, with places for what differs.

"$name"    a code that many resources share, as a CodeableConcept; or a word. $name.part, anywhere in a text: a part of it
<name>     what each resource has of its own, anywhere in a text; "<#name>" is JSON: a number, an object, a list
"name?"    an element that is left out where something in it is not given

Filling a text is some fifty times faster than making objects. That the result is valid R4 is held by tests.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec

SHAPES = Path(__file__).parent / "shapes"
_CODE = re.compile(r"\$(\w+)(?:\.(\w+))?")
_PLACE = re.compile(r'"<#(\w+)>"|<#?(\w+)>')

Code = str | dict[str, str] | None  # a word; or system, code, display and whatever else the shape names


@cache
def names_in(kind: str) -> tuple[set[str], set[str]]:
    """The names of the codes, and of the places of one's own, in the shape of a type."""
    text = (SHAPES / f"{kind}.json").read_text()
    return {code[1] for code in _CODE.finditer(text)}, {place[1] or place[2] for place in _PLACE.finditer(text)}


@cache
def shape_codes() -> dict[str, dict]:
    """shapes/codes.toml."""
    return tomllib.loads((SHAPES / "codes.toml").read_text())


def written(kind: str, codes: Mapping[str, Code], own: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The JSON of resources that share `codes`, one for each row of `own`.

    Raises KeyError when something is not given that the shape cannot do without.
    """
    made = _made(_shape(kind), codes, own.keys())
    if made is None:
        raise KeyError(f"The shape of {kind} needs more than {sorted(codes)} and {sorted(own)}.")
    text = json_of(made).replace("%", "%%")
    places = [place[1] or place[2] for place in _PLACE.finditer(text)]
    pattern = _PLACE.sub("%s", text)
    return (pattern % row for row in zip(*(own[place] for place in places), strict=True))


def coded(system: str, code: str, display: str, *_: str) -> dict[str, str]:
    """A code in its parts."""
    return {"system": system, "code": code, "display": display}


def json_of(value: object) -> str:
    """JSON text."""
    return msgspec.json.encode(value).decode()


@cache
def _shape(kind: str) -> dict:
    return msgspec.json.decode((SHAPES / f"{kind}.json").read_bytes())


def _made(shape: object, codes: Mapping[str, Code], places: Collection[str]) -> object:
    """The shape with its codes in place; None where something is not given."""
    if isinstance(shape, dict):
        inner = {name: _made(part, codes, places) for name, part in shape.items()}
        inner = {name.removesuffix("?"): part for name, part in inner.items() if part is not None or name[-1] != "?"}
        return None if None in inner.values() else inner
    if isinstance(shape, list):
        parts = [_made(part, codes, places) for part in shape]
        return None if None in parts else parts
    return _filled(shape, codes, places) if isinstance(shape, str) else shape


def _filled(text: str, codes: Mapping[str, Code], places: Collection[str]) -> object:
    if any(codes.get(code[1]) is None for code in _CODE.finditer(text)):
        return None
    if any((place[1] or place[2]) not in places for place in _PLACE.finditer(text)):
        return None
    whole = _CODE.fullmatch(text)
    if whole and not whole[2]:
        code = codes[whole[1]]
        if isinstance(code, str):
            return code
        return {"coding": [{part: code[part] for part in ("system", "code", "display")}], "text": code["display"]}
    return _CODE.sub(lambda part: codes[part[1]][part[2]], text)
