"""The allow-list: which elements of a record may be read, whose codes keep their wording, which answers pass.

The rules themselves are data, `rules.toml`; this file makes them bite.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec
from msgspec import Struct

from features.errors import SequelaError

_UNREADABLE = "~not on the allow-list~"


class Terminology(NamedTuple):
    """A public code system: our short name of it, and the form that its codes have."""

    name: str
    form: re.Pattern[str]


@dataclass(frozen=True)
class Rules:
    """What passes the door."""

    elements: dict[str, frozenset[str]]
    terminologies: dict[str, Terminology]
    answers: frozenset[str]
    death_records: frozenset[str]


@cache
def load_rules() -> Rules:
    """Read the allow-list that the package ships."""
    rules = tomllib.loads(files("features.privacy").joinpath("rules.toml").read_text())
    return Rules(
        elements={resource: frozenset(elements) for resource, elements in rules["elements"].items()},
        terminologies={
            system: Terminology(terminology["name"], re.compile(terminology["form"]))
            for system, terminology in rules["terminologies"].items()
        },
        answers=frozenset(rules["answers"]["allowed"]),
        death_records=frozenset(rules["death_records"]["codes"]),
    )


def only_allowed(struct: type[Struct], rules: Rules) -> type[Struct]:
    """A struct like `struct` that leaves unread what the allow-list does not name.

    Raises SequelaError when the list names an element that `struct` does not know, so that no rule is dead.
    """
    allowed = rules.elements.get(struct.__name__, frozenset())
    fields = msgspec.structs.fields(struct)
    if unknown := allowed - {field.encode_name for field in fields}:
        raise SequelaError(
            f"The allow-list names {sorted(unknown)} of {struct.__name__}, which features/records/resources.py "
            "does not read. Correct the name, or add the element there."
        )
    if all(field.encode_name in allowed for field in fields):
        return struct
    return msgspec.defstruct(
        struct.__name__,
        [(field.name, field.type, field.default) for field in fields],
        bases=(struct.__bases__[0],),
        rename={
            field.name: field.encode_name if field.encode_name in allowed else f"{_UNREADABLE} {field.name}"
            for field in fields
        },
        tag_field="resourceType",
        tag=struct.__name__,
        gc=False,
    )
