"""What a FHIR server says went wrong: how grave and of which kind, never the words, which may name a patient."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import httpx
import msgspec

_CODE = re.compile(r"[a-z][a-z-]{0,40}")
_LONGEST_DIAGNOSTICS = 300


class _Text(msgspec.Struct):
    text: str | None = None


class _Issue(msgspec.Struct):
    severity: str = ""
    code: str = ""
    diagnostics: str | None = None
    details: _Text | None = None


class _Outcome(msgspec.Struct):
    resourceType: str
    issue: list[_Issue] = []


def tally(lines: Iterable[bytes]) -> Counter[str]:
    """How many issues of each severity and kind the OperationOutcomes of an NDJSON file hold: "error/processing"."""
    found: Counter[str] = Counter()
    for line in lines:
        if line.strip():
            outcome = _decoded(line)
            if outcome is None:
                found["unreadable"] += 1
            else:
                found.update(_kind(issue) for issue in outcome.issue)
    return found


def is_grave(found: Iterable[str]) -> bool:
    """Whether records may be missing: some kind of issue is more than a warning or a word of information."""
    return any(not kind.startswith(("warning/", "information/")) for kind in found)


def in_words(found: Mapping[str, int]) -> str:
    """A tally as text: "error/processing: 3, warning/incomplete: 1"."""
    return ", ".join(f"{kind}: {count:,}" for kind, count in sorted(found.items()))


def kinds_in(words: str) -> list[str]:
    """The kinds of issue in such a text, without their numbers, which can be so small that they point at somebody."""
    return [one.rpartition(": ")[0] for one in words.split(", ") if one]


def is_outcome(response: httpx.Response) -> bool:
    """Whether a FHIR server itself says what went wrong, and not something between it and us."""
    return response.is_stream_consumed and _decoded(response.content) is not None


def issues_of(response: httpx.Response) -> str:
    """The kinds of issue in a refusal, " (error/invalid)"; empty when it names none."""
    outcome = _decoded(response.content) if response.is_stream_consumed else None
    kinds = sorted({_kind(issue) for issue in outcome.issue}) if outcome else []
    return f" ({', '.join(kinds)})" if kinds else ""


def diagnostics_of(response: httpx.Response) -> str:
    """The server's words. Only for the refusal of a kick-off: they speak of the request, as no record was read yet."""
    outcome = _decoded(response.content)
    words = (
        [issue.diagnostics or (issue.details.text if issue.details else None) for issue in outcome.issue]
        if outcome
        else []
    )
    said = "; ".join(" ".join(text.split()) for text in words if text)
    return f' It says: "{said[:_LONGEST_DIAGNOSTICS]}".' if said else ""


def _decoded(text: bytes) -> _Outcome | None:
    try:
        outcome = msgspec.json.decode(text, type=_Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return outcome if outcome.resourceType == "OperationOutcome" else None


def _kind(issue: _Issue) -> str:
    severity, code = (text if _CODE.fullmatch(text) else "unknown" for text in (issue.severity, issue.code))
    return f"{severity}/{code}"
