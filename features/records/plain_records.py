"""Reading many plain records at once: most of any source, and all alike.

A short cut and nothing more. A record in its plain form (`features.records.plain_forms`), with nothing odd about it,
goes through here several times as fast as through `features.records.events`; any other is left for that. Both give the
same rows, which a test holds them to.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from features.privacy.date_shift import DAY
from features.privacy.pseudonyms import finish_pseudonym
from features.records.events import VISIT_CLASSES
from features.records.plain_forms import ELEMENTS, more_of
from features.records.quarantine import NOT_DECODED
from features.records.references import identifier_in
from features.records.resources import CodeableConcept, Coding, Hospitalization, Reference
from features.records.rows import CACHE_LIMIT, Deferred, Rows, Unreadable

_PLAIN_STATUSES = frozenset(
    "final amended corrected appended preliminary registered unknown completed active stopped finished in-progress "
    "partial arrived triaged onleave".split()
) | {None}
_UNVERIFIED = frozenset({"refuted", "entered-in-error"})
_PREFIXES = {"AllergyIntolerance": "ALLERGY//", "DiagnosticReport": "REPORT//", "CarePlan": "CAREPLAN//"}
_KNOWN_WHEN_RECORDED = frozenset({"Condition", "AllergyIntolerance"})  # not by their onset, which is told afterwards


_UNKNOWN = object()


class _NotPlain(Exception):
    """A record, or a part of one, that the short cut has no answer for."""


_LEAVE = (_NotPlain, Unreadable, Deferred, *NOT_DECODED)


def add_plain_records(records: Sequence[Struct], positions: Sequence[int], rows: Rows) -> list[int]:
    """Add the plain ones among `records` (plain forms) to `rows`; gives the numbers of the others."""
    left: list[int] = []
    for form in set(map(type, records)):
        numbers = [number for number, record in enumerate(records) if type(record) is form]
        if form.__name__ not in ELEMENTS:
            left += numbers
        elif form.__name__ == "Encounter":
            left += _add_visits(numbers, records, positions, rows)
        else:
            left += _add_single_events(numbers, records, positions, rows)
    return sorted(left)


def _add_single_events(  # noqa: PLR0912, PLR0915  # one loop on purpose: a call for each step would double its time
    numbers: list[int], records: Sequence, positions: Sequence[int], rows: Rows
) -> list[int]:
    """Add records that give one event each; gives the numbers of those left."""
    form = type(records[numbers[0]])
    kind = form.__name__
    pick, nothing = more_of(form)
    subjects, visits, concepts = rows.parts["subject"], rows.parts["visit"], rows.parts[kind]
    answers, verified = rows.parts["answer"], rows.parts["verified"]
    moments, measures, events, kept = rows.moments, rows.measures, rows.events, rows.records
    hasher, context = rows.hasher(kind), rows.context(kind, is_retired=False)
    is_result, is_plan, is_diagnosis = kind == "Observation", kind == "CarePlan", kind in _KNOWN_WHEN_RECORDED
    is_given = kind == "Immunization"  # when it was entered does not say when it was given
    concept_at = _last_concept if is_plan else _concept
    prefix = _PREFIXES.get(kind, "")
    left: list[int] = []
    for number in numbers:
        record = records[number]
        resource = record.id
        if (
            resource is None
            or record.subject is None
            or record.concept is None
            or record.status not in _PLAIN_STATUSES
            or (record.visit_before is not None and record.visit is not None)
            or pick(record) != nothing
        ):
            left.append(number)
            continue
        try:
            text = bytes(record.subject)
            subject_id, shift, seconds = subjects.get(text) or _subject(text, rows)
            reference = record.visit if record.visit is not None else record.visit_before
            encounter_id = None
            if reference is not None:
                text = bytes(reference)
                encounter_id = visits.get(text) or _visit(text, rows)
            text = bytes(record.concept)
            concept = concepts.get(text)
            if concept is None:
                concept = _remember(concepts, text, concept_at(text, prefix, rows))
            if record.verified is not None:
                _known(record.verified, verified, _verified, rows)
            value = None
            others: Sequence[tuple[int, float]] = ()
            if not is_result:
                measure = measures.get((concept, None, None))
                if measure is None:
                    measure = rows.measure(concept, None)
            elif record.panel:
                (measure, value), *others = _panel(record, concepts, rows)
            elif (quantity := record.quantity) is not None:
                value = quantity.value
                if value is None or quantity.comparator is not None:
                    raise _NotPlain
                unit = quantity.code or quantity.unit
                measure = measures.get((concept, unit, None))
                if measure is None:
                    measure = rows.measure(concept, unit)
            elif record.answer is not None:
                measure = rows.measure(concept, None, _known(record.answer, answers, _answer, rows))
            else:
                raise _NotPlain

            period = record.period
            happened = record.time if record.time is not None else record.time_before
            recorded = record.known if record.known is not None else record.known_before
            began = happened if happened is not None or period is None else period.start
            if began is None and not is_given:
                began = recorded
            told = recorded
            if told is None and not is_diagnosis:
                told = happened
                if told is None and period is not None:
                    told = period.end if period.end is not None and not is_plan else period.start
            time = known = None
            if began is not None:
                time, _, has_time = moments.get(began) or rows.moment(began)
                if not has_time:
                    time -= seconds
            if told is not None:
                _, known, has_time = moments.get(told) or rows.moment(told)
                if not has_time:
                    known -= seconds
            version_time, version = rows.version(record.meta, seconds) if record.meta is not None else (0, 0)
        except _LEAVE:
            left.append(number)
            continue
        events.append((len(kept), measure, time, known, value))
        for measure, value in others:
            events.append((len(kept), measure, time, known, value))
        kept.append(
            (
                finish_pseudonym(hasher, resource),
                subject_id,
                shift,
                context,
                positions[number],
                version_time,
                version,
                resource,
                encounter_id,
            )
        )
    return left


def _add_visits(numbers: list[int], records: Sequence, positions: Sequence[int], rows: Rows) -> list[int]:
    """Add encounters: start, types, priority and reasons at the start, end and disposition at the end."""
    pick, nothing = more_of(type(records[numbers[0]]))
    subjects, moments, events, kept = rows.parts["subject"], rows.moments, rows.events, rows.records
    classes, types, reasons = rows.parts["class"], rows.parts["types"], rows.parts["reasons"]
    priorities, stays, sites = rows.parts["priority"], rows.parts["stay"], rows.parts["site"]
    hasher, visit_days = rows.hasher("Encounter"), rows.facts.visit_days
    contexts: dict[int | None, int] = {}
    left: list[int] = []
    for number in numbers:
        record = records[number]
        resource, period = record.id, record.period
        if (
            resource is None
            or record.subject is None
            or period is None
            or period.start is None
            or record.status not in _PLAIN_STATUSES
            or (record.reasons_before is not None and record.reasons is not None)
            or not _is_plain_id(resource)
            or pick(record) != nothing
        ):
            left.append(number)
            continue
        try:
            text = bytes(record.subject)
            subject_id, shift, seconds = subjects.get(text) or _subject(text, rows)
            start_measure, end_measure = _known(record.visit_class, classes, _class, rows)
            at_start = _known(record.types, types, _types, rows)
            urgency = _known(record.priority, priorities, _priority, rows)
            why = record.reasons if record.reasons is not None else record.reasons_before
            because = _known(why, reasons, _reasons, rows)
            disposition = _known(record.stay, stays, _disposition, rows)
            site_id = _known(record.site, sites, _site, rows)
            context = contexts.get(site_id)
            if context is None:
                context = contexts[site_id] = rows.context("Encounter", is_retired=False, site_id=site_id)
            start, _, has_time = moments.get(period.start) or rows.moment(period.start)
            day = start // DAY
            if not has_time:
                start -= seconds
            end = None
            if period.end is not None:
                _, end, has_time = moments.get(period.end) or rows.moment(period.end)
                if not has_time:
                    end -= seconds
            version_time, version = rows.version(record.meta, seconds) if record.meta is not None else (0, 0)
        except _LEAVE:
            left.append(number)
            continue
        visit_days[day] = visit_days.get(day, 0) + 1
        row = len(kept)
        events.append((row, start_measure, start, start, None))
        for measure in (*at_start, *urgency, *because):
            events.append((row, measure, start, start, None))
        if end is not None:
            events.append((row, end_measure, end, end, None))
            if disposition is not None:
                events.append((row, disposition, end, end, None))
        record_id = finish_pseudonym(hasher, resource)
        kept.append(
            (record_id, subject_id, shift, context, positions[number], version_time, version, resource, record_id)
        )
    return left


# What the parts mean, each worked out once ------------------------------------------------------------------------


def _known(raw: msgspec.Raw | None, memory: dict, understand: Callable, rows: Rows):  # type: ignore[no-untyped-def]
    text = b"" if raw is None else bytes(raw)
    found = memory.get(text, _UNKNOWN)
    if found is _UNKNOWN:
        found = _remember(memory, text, understand(text, rows))
    return found


def _remember(memory: dict, text: bytes, meaning):  # type: ignore[no-untyped-def]
    if len(memory) > CACHE_LIMIT:
        memory.clear()
    memory[text] = meaning
    return meaning


def _subject(text: bytes, rows: Rows) -> tuple[int, int, int]:
    """subject_id, shift, and the seconds of the shift."""
    subject = rows.subject_of(_decoded(text, Reference))
    found = (subject.subject_id, subject.weeks + subject.seconds, subject.seconds)
    return _remember(rows.parts["subject"], text, found)


def _visit(text: bytes, rows: Rows) -> int:
    reference = _decoded(text, Reference).reference
    if reference is None or identifier_in(reference) is not None:
        raise _NotPlain
    return _remember(rows.parts["visit"], text, rows.pseudonym("Encounter", rows.place_of(reference)[1]))


def _concept(text: bytes, prefix: str, rows: Rows) -> int:
    concept = rows.concepts.of(_decoded(text, CodeableConcept), prefix)
    if concept is None:
        raise _NotPlain
    return concept


def _last_concept(text: bytes, prefix: str, rows: Rows) -> int:
    concepts = [rows.concepts.of(one, prefix) for one in _decoded(text, tuple[CodeableConcept, ...])]
    found = next((concept for concept in reversed(concepts) if concept is not None), None)
    if found is None:
        raise _NotPlain
    return found


def _panel(record: Any, concepts: dict, rows: Rows) -> list[tuple[int, float]]:
    """The measure and value of each component of a panel without a value of its own."""
    if record.quantity is not None or record.answer is not None:
        raise _NotPlain
    values = []
    for component in record.panel:
        quantity = component.quantity
        if quantity is None or quantity.value is None or quantity.comparator is not None or component.code is None:
            raise _NotPlain
        text = bytes(component.code)
        concept = concepts.get(text)
        if concept is None:
            concept = _remember(concepts, text, _concept(text, "", rows))
        if not (component.more_0 is component.more_1 is component.more_2 is component.more_3 is None):
            raise _NotPlain
        values.append((rows.measure(concept, quantity.code or quantity.unit), quantity.value))
    return values


def _answer(text: bytes, rows: Rows) -> str:
    return rows.concepts.codes[_concept(text, "", rows)]


def _verified(text: bytes, _rows: Rows) -> bool:
    if not text:
        return True
    status = _decoded(text, str | CodeableConcept)
    codes = {status} if isinstance(status, str) else {coding.code for coding in status.coding}
    if codes & _UNVERIFIED:
        raise _NotPlain
    return True


def _class(text: bytes, rows: Rows) -> tuple[int, int]:
    """The measures of a visit's start and end."""
    word = _decoded(text, Coding).code if text else None
    visit_class = VISIT_CLASSES.get(word or "", "OTHER")
    start, end = (rows.concepts.plain(f"ENCOUNTER//{visit_class}//{edge}") for edge in ("start", "end"))
    return rows.measure(start, None), rows.measure(end, None)


def _types(text: bytes, rows: Rows) -> list[int]:
    return _measures(text, "ENCOUNTER_TYPE//", rows)


def _priority(text: bytes, rows: Rows) -> list[int]:
    concept = rows.concepts.of(_decoded(text, CodeableConcept) if text else None, "ENCOUNTER_PRIORITY//")
    return [] if concept is None else [rows.measure(concept, None)]


def _reasons(text: bytes, rows: Rows) -> list[int]:
    return _measures(text, "ENCOUNTER_REASON//", rows)


def _measures(text: bytes, prefix: str, rows: Rows) -> list[int]:
    concepts = [rows.concepts.of(one, prefix) for one in _decoded(text, tuple[CodeableConcept, ...])] if text else []
    return [rows.measure(concept, None) for concept in concepts if concept is not None]


def _disposition(text: bytes, rows: Rows) -> int | None:
    how = _decoded(text, Hospitalization).dischargeDisposition if text else None
    concept = rows.concepts.of(how, "DISCHARGE//")
    return None if concept is None else rows.measure(concept, None)


def _site(text: bytes, rows: Rows) -> int | None:
    return rows.site_of(_decoded(text, Reference)) if text else None


def _decoded(text: bytes, part: Any) -> Any:
    return msgspec.json.decode(text, type=part)


def _is_plain_id(resource: str) -> bool:
    return not (":" in resource or "/" in resource or "?" in resource)
