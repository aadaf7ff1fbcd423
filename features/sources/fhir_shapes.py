"""FHIR resources written from their shapes: JSON as it is spelled, with places for what differs.

"$name"    a code that many resources share, as a CodeableConcept, or a word; $name.part, in any text: a part of it
<name>     what each resource has of its own, anywhere in a text; "<#name>" is JSON: a number, an object, a list
"name?"    an element that is left out where something in it is not given

Filling a text is some fifty times faster than making objects of every resource and writing them.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

Code = str | dict[str, str] | None  # a word; or system, code, display and whatever else a shape names
_CODE = re.compile(r"\$(\w+)(?:\.(\w+))?")
_PLACE = re.compile(r'"<#(\w+)>"|<#?(\w+)>')


class Shape:
    """One type of resource. codes, places: the names that stand in it."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self._name, self._shape = path.stem, msgspec.json.decode(text)
        self.codes = {code[1] for code in _CODE.finditer(text)}
        self.places = set(_places(text))

    def filled(self, codes: Mapping[str, Code], own: Mapping[str, Iterable[str]]) -> Iterator[str]:
        """The JSON of resources that share `codes`, one for each row of `own`.

        Raises KeyError when something is not given that the shape cannot do without.
        """
        made = _made(self._shape, codes, own.keys())
        if made is None:
            raise KeyError(f"The shape of {self._name} needs more than {sorted(codes)} and {sorted(own)}.")
        text = json_of(made).replace("%", "%%")
        pattern = _PLACE.sub("%s", text)
        return (pattern % row for row in zip(*(own[place] for place in _places(text)), strict=True))

    def lines(
        self, codes: Mapping[str, Sequence[Code]], chosen: Mapping[str, npt.NDArray], own: Mapping[str, npt.NDArray]
    ) -> list[str]:
        """The JSON of a row each of `chosen`, a place among the `codes` of that name (-1: none), and of `own` texts.

        A text that is None is not given.
        """
        absent = [_is_none(column) for column in own.values()]
        lines = np.full(len(next(iter(own.values()))), None, object)
        for rows in rows_alike([*chosen.values(), *absent]):
            picked = {name: [*codes[name], None][int(column[rows[0]])] for name, column in chosen.items()}
            given = {name: column[rows] for name, column in own.items() if column[rows[0]] is not None}
            lines[rows] = list(self.filled(picked, given))
        return lines.tolist()


def rows_alike(keys: Sequence[npt.NDArray]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows that agree in all keys (whole numbers from -1, or whether), group after group."""
    together = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        together = together * (int(key.max(initial=0)) + 2) + key + 1
    order = np.argsort(together, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(together[order])) + 1) if len(order) else []


def coded(system: str, code: str, display: str, *_: str) -> dict[str, str]:
    """A code in its parts."""
    return {"system": system, "code": code, "display": display}


def json_of(value: object) -> str:
    """JSON text."""
    return msgspec.json.encode(value).decode()


def _is_none(column: npt.NDArray) -> npt.NDArray[np.bool_]:
    return np.equal(column, None)  # type: ignore[call-overload]


def _places(text: str) -> list[str]:
    return [place[1] or place[2] for place in _PLACE.finditer(text)]


def _made(shape: object, codes: Mapping[str, Code], places: Collection[str]) -> object:
    """The shape with its codes in place; None where something is not given."""
    if isinstance(shape, dict):
        inner = {name: _made(part, codes, places) for name, part in shape.items()}
        inner = {name.removesuffix("?"): part for name, part in inner.items() if part is not None or name[-1] != "?"}
        return None if None in inner.values() else inner
    if isinstance(shape, list):
        parts = [_made(part, codes, places) for part in shape]
        return None if None in parts else parts
    return _text_made(shape, codes, places) if isinstance(shape, str) else shape


def _text_made(text: str, codes: Mapping[str, Code], places: Collection[str]) -> object:
    given = {name: code for name, code in codes.items() if code is not None}
    if any(code[1] not in given for code in _CODE.finditer(text)) or any(one not in places for one in _places(text)):
        return None
    whole = _CODE.fullmatch(text)
    if whole and not whole[2]:
        code = given[whole[1]]
        if isinstance(code, str):
            return code
        return {"coding": [{part: code[part] for part in ("system", "code", "display")}], "text": code["display"]}

    def part(found: re.Match[str]) -> str:
        code = given[found[1]]
        return code if isinstance(code, str) else code[found[2]]

    return _CODE.sub(part, text)
