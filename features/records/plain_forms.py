"""What nearly every record of a type looks like: the plain form, in which the parts that repeat stay undecoded.

A record's subject, visit and codes are the same text again and again. In a plain form they stay text (`msgspec.Raw`),
so that each is understood once and then looked up. All forms share one set of names, whatever FHIR calls the elements
of each type; what a form has no name for is `more`, and a record that has some is none for the short cut.
"""

from functools import cache
from operator import attrgetter
from types import GenericAlias
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from features.privacy.rules import Rules, load_rules
from features.records.resources import Meta, Period, Quantity, known_types

_NAMES = tuple(
    "id meta status verified subject visit visit_before concept time time_before known known_before period quantity "
    "answer panel".split()
)
_OF_VISITS = tuple("id meta status subject period visit_class types priority reasons reasons_before stay site".split())

# Our name of an element -> FHIR's. What ends in `_before` is the STU3 spelling of the same.
_VISIT = {"subject": "subject", "visit": "encounter", "visit_before": "context"}
ELEMENTS: dict[str, dict[str, str]] = {
    "Encounter": {
        "status": "status",
        "subject": "subject",
        "period": "period",
        "visit_class": "class",
        "types": "type",
        "priority": "priority",
        "reasons": "reasonCode",
        "reasons_before": "reason",
        "stay": "hospitalization",
        "site": "serviceProvider",
    },
    "Condition": _VISIT
    | {
        "verified": "verificationStatus",
        "concept": "code",
        "time": "onsetDateTime",
        "known": "recordedDate",
        "known_before": "assertedDate",
    },
    "Observation": _VISIT
    | {
        "status": "status",
        "concept": "code",
        "time": "effectiveDateTime",
        "known": "issued",
        "quantity": "valueQuantity",
        "answer": "valueCodeableConcept",
        "panel": "component",
    },
    "Procedure": _VISIT
    | {"status": "status", "concept": "code", "time": "performedDateTime", "period": "performedPeriod"},
    "MedicationRequest": _VISIT | {"status": "status", "concept": "medicationCodeableConcept", "time": "authoredOn"},
    "Immunization": _VISIT
    | {
        "subject": "patient",
        "status": "status",
        "concept": "vaccineCode",
        "time": "occurrenceDateTime",
        "time_before": "date",
        "known": "recorded",
    },
    "AllergyIntolerance": {
        "subject": "patient",
        "visit": "encounter",
        "verified": "verificationStatus",
        "concept": "code",
        "time": "onsetDateTime",
        "known": "recordedDate",
        "known_before": "assertedDate",
    },
    "DiagnosticReport": _VISIT
    | {
        "status": "status",
        "concept": "code",
        "time": "effectiveDateTime",
        "period": "effectivePeriod",
        "known": "issued",
    },
    "CarePlan": _VISIT | {"status": "status", "concept": "category", "period": "period", "known": "created"},
}


class More(NamedTuple):
    """How to get at the elements of a form that make a record more than plain, and what they are in a plain one."""

    pick: attrgetter
    nothing: object


class Unread(Struct, gc=False):
    """A record whose plain form could not be read; reading it in full says why."""

    id: str | None = None


# A value of a panel; `more` are the other ways in which FHIR gives one. Raw has no null of its own, hence the defaults
# that its type does not allow.
_COMPONENT = msgspec.defstruct(
    "Component",
    [("code", Raw, None), ("quantity", Quantity | None, None), *((f"more_{number}", Raw, None) for number in range(4))],
    rename={
        "quantity": "valueQuantity",
        "more_0": "valueCodeableConcept",
        "more_1": "valueInteger",
        "more_2": "valueBoolean",
        "more_3": "valueString",
    },
    gc=False,
)
_TYPES: dict[str, object] = dict.fromkeys(
    ("id", "status", "time", "time_before", "known", "known_before"), str | None
) | {
    "meta": Meta | None,
    "period": Period | None,
    "quantity": Quantity | None,
    "panel": GenericAlias(tuple, (_COMPONENT, ...)),
}


@cache
def forms_decoder() -> msgspec.json.Decoder:
    """Reads any resource in its plain form; of types without one, and of bundles, nothing but the id."""
    rules = load_rules()
    bare = {"Bundle", *known_types()} - set(ELEMENTS)
    forms = [_form(kind, rules) for kind in ELEMENTS]
    forms += [
        msgspec.defstruct(kind, [("id", str | None, None)], tag_field="resourceType", tag=kind, gc=False)
        if kind in rules.elements
        else msgspec.defstruct(kind, [], tag_field="resourceType", tag=kind, gc=False)
        for kind in sorted(bare)
    ]
    union = forms[0]
    for form in forms[1:]:
        union = union | form  # type: ignore[assignment]
    return msgspec.json.Decoder(union)


def more_of(form: type[Struct]) -> More:
    """The elements of `form` that a plain record lacks."""
    names = [name for name in form.__struct_fields__ if name.startswith("more_")]
    if not names:
        return More(attrgetter("__class__"), form)
    return More(attrgetter(*names), None if len(names) == 1 else (None,) * len(names))


def _form(kind: str, rules: Rules) -> type[Struct]:
    """The plain form of a type, trimmed by the allow-list: an element that is not on it has a name nothing bears."""
    allowed = rules.elements.get(kind, frozenset())
    ours = {"id": "id", "meta": "meta"} | ELEMENTS[kind]
    more = sorted(allowed - set(ours.values()))
    names = _OF_VISITS if kind == "Encounter" else _NAMES
    fields = [(name, _TYPES.get(name, Raw), None) for name in names]
    fields += [(f"more_{number}", Raw, None) for number, _ in enumerate(more)]
    spelt = {name: ours[name] if ours.get(name) in allowed else f"~not read~ {name}" for name in names}
    spelt |= {f"more_{number}": element for number, element in enumerate(more)}
    return msgspec.defstruct(kind, fields, rename=spelt, tag_field="resourceType", tag=kind, gc=False)
