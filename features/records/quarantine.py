"""Why a record was refused, in words that never repeat its content."""

import re

import msgspec
import orjson

from features.records.resources import known_types

# What decoding raises: msgspec lets Python's own through for text that is not UTF-8, and for what is nested too deeply.
NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_RESOURCE_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,60})"')
_PLACE = re.compile(r"at `([$.\w\[\]…]+)`")


def resource_type_in(raw: bytes) -> str | None:
    """The FHIR type that a damaged record seems to have; null when it is none that FHIR R4 knows."""
    found = _RESOURCE_TYPE.search(raw)
    name = found.group(1).decode() if found else None
    return name if name in known_types() else None


def reason_for(error: Exception, raw: bytes) -> str:
    """What msgspec found wrong (NOT_DECODED), with what fhir.resources says of the same record."""
    if isinstance(error, UnicodeDecodeError):
        return "malformed text: not UTF-8"
    if isinstance(error, RecursionError):
        return "malformed JSON: nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        text = str(error)
        if "resourceType" in text:
            return "no resource type" if b'"resourceType"' not in raw else "unknown resource type"
        expected = text.split(", got", maxsplit=1)[0] if text.startswith("Expected") else "invalid value"
        place = _PLACE.search(text)
        return "wrong type of value: " + expected + (f" at {place.group(1)}" if place else "") + _judged(raw)
    if "truncated" in str(error):
        return "malformed JSON: ends too early"
    return "malformed JSON"


def _judged(raw: bytes) -> str:
    """What fhir.resources finds against R4, as places and kinds of error; empty when it has no objection."""
    broken = broken_r4_rules(raw)
    return f" (R4: {', '.join(broken[:3])})" if broken else ""


def broken_r4_rules(raw: bytes) -> list[str]:
    """Where a record breaks R4 by the judgement of fhir.resources (R4B), as `element: kind of error`."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    kind = resource_type_in(raw)
    if kind is None:
        return ["resourceType: unknown"]
    try:
        get_fhir_model_class(kind).model_validate(orjson.loads(raw))
    except ValidationError as error:
        # The place of an unexpected element is its name in the record, so its content: only the kind is told.
        return [
            "unexpected element"
            if found["type"] == "extra_forbidden"
            else f"{'.'.join(map(str, found['loc']))}: {found['type']}"
            for found in error.errors(include_input=False, include_context=False, include_url=False)
        ]
    except (orjson.JSONDecodeError, ValueError):
        return ["not readable"]
    return []
