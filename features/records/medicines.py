"""Medicines prescribed, given and stated, as events: by their own code, or through the Medication they refer to."""

from features.records import resources as fhir
from features.records.reasons import NO_CODE, NOT_DONE
from features.records.rows import Rows, Subject

NO_PERIOD = fhir.Period()
NOT_DONE_STATUSES = {"not-done", "cancelled", "not-taken", "refuted"}

# A mark of `features/timelines.py`, never an event: the medicine is named in a Medication resource.
MEDICATION = "_MEDICATION//"


def medication_request(record: fhir.MedicationRequest, _subject: Subject, rows: Rows) -> str | None:
    """A prescription on the day it was written; how it fared later (`status`) is not read."""
    return _medicine(record, rows, "", rows.earliest(record.authoredOn), rows.latest(record.authoredOn))


def medication_administration(record: fhir.MedicationAdministration, _subject: Subject, rows: Rows) -> str | None:
    """A dose given."""
    if record.status in NOT_DONE_STATUSES:
        return NOT_DONE
    period = record.effectivePeriod or NO_PERIOD
    return _medicine(
        record,
        rows,
        "//administered",
        rows.earliest(record.effectiveDateTime, period.start),
        rows.latest(record.effectiveDateTime, period.end, period.start),
    )


def medication_statement(record: fhir.MedicationStatement, _subject: Subject, rows: Rows) -> str | None:
    """A medicine the patient is said to take, known when it was said."""
    if record.status in NOT_DONE_STATUSES:
        return NOT_DONE
    period = record.effectivePeriod or NO_PERIOD
    return _medicine(
        record,
        rows,
        "//stated",
        rows.earliest(record.effectiveDateTime, period.start, record.dateAsserted),
        rows.latest(record.dateAsserted, record.effectiveDateTime, period.start),
    )


def _medicine(
    record: fhir.MedicationRequest | fhir.MedicationAdministration | fhir.MedicationStatement,
    rows: Rows,
    aspect: str,
    time: int | None,
    known: int | None,
) -> str | None:
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    concept = rows.concepts.of(record.medicationCodeableConcept)
    if concept is None and record.medicationReference is not None:
        reference = record.medicationReference.reference or ""
        if reference.startswith("#"):
            inside = (one.code for one in record.contained if one.id == reference[1:])
            concept = rows.concepts.of(next(inside, None))
        elif reference:
            concept = rows.concepts.plain(f"{MEDICATION}{rows.medication_id(reference)}")
    if concept is not None and aspect:
        concept = rows.concepts.plain(f"{rows.concepts.codes[concept]}{aspect}")
    return single(rows, concept, time, known)


def single(rows: Rows, concept: int | None, time: int | None, known: int | None) -> str | None:
    """Add the one event of a record; returns why there is none."""
    if concept is None:
        return NO_CODE
    rows.add(concept, time, known)
    return None
