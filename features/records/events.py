"""What each FHIR resource says, as events: one small function a resource type.

Each reads one resource, adds its events to `Rows`, and returns why the record gives none (null when it gave some).
The two times follow one rule: `time` is when it happened, `known_time` when it stood in the record. A date that
is missing stays null here and is taken from the visit in `features/timelines.py`.
"""

from collections.abc import Callable

import msgspec

from features.meds_codes import BIRTH, DEATH, MOVED
from features.records import resources as fhir
from features.records.medicines import (
    NO_PERIOD,
    NOT_DONE_STATUSES,
    medication_administration,
    medication_request,
    medication_statement,
    single,
)
from features.records.reasons import (
    FREE_TEXT,
    NAMES_MEDICINE,
    NAMES_SITE,
    NO_CODE,
    NO_DATE,
    NO_VALUE,
    NOT_DONE,
)
from features.records.rows import Rows, Subject, Unreadable

_IN_ERROR = "entered-in-error"
_SEXES = {"male", "female", "other", "unknown"}
_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
_ETHNICITY = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity"
_SYNTHEA = "https://github.com/synthetichealth/synthea"
_DISCHARGE_DIAGNOSIS = "DD"

# The dialect's words, and v3-ActCode's finer classes, as the classes that tasks and features count.
VISIT_CLASSES = {
    "AMB": "AMB",
    "ambulatory": "AMB",
    "outpatient": "AMB",
    "WELLNESS": "AMB",
    "wellness": "AMB",
    "URGENTCARE": "AMB",
    "urgentcare": "AMB",
    "EMER": "EMER",
    "emergency": "EMER",
    "EMERGENCY": "EMER",
    "IMP": "IMP",
    "ACUTE": "IMP",
    "NONAC": "IMP",
    "inpatient": "IMP",
    "INPATIENT": "IMP",
    "OBSENC": "OBSENC",
    "SS": "OBSENC",
    "HH": "HH",
    "home": "HH",
    "VR": "VR",
    "virtual": "VR",
}

# Marks of `features/timelines.py`, never events: which conditions are discharge diagnoses.
DISCHARGE_DIAGNOSIS = "_DISCHARGE_DIAGNOSIS//"


def patient(record: fhir.Patient, subject: Subject, rows: Rows) -> None:
    """Birth, death, moving away, sex, and race and ethnicity for fairness checks; the last three have no time.

    Somebody has moved away when all addresses have ended, at the last of those ends.
    """
    born = rows.earliest(record.birthDate)
    died = rows.latest(record.deceasedDateTime)
    if born is not None:
        rows.add(rows.concepts.plain(BIRTH), born, born)
    else:
        rows.note("patients_without_birth_date")
    if died is not None:
        rows.add(rows.concepts.plain(DEATH), died, died)
    elif record.deceasedBoolean:
        rows.note("deaths_without_date")
    if (moved := _moved_away(record, rows)) is not None:
        rows.add(rows.concepts.plain(MOVED), moved, moved)
    rows.add(rows.concepts.plain(f"SEX//{record.gender if record.gender in _SEXES else 'unknown'}"), None, None)
    for extension in record.extension:
        if extension.url in (_RACE, _ETHNICITY):
            prefix = "RACE" if extension.url == _RACE else "ETHNICITY"
            for group in extension.extension:
                if group.url == "ombCategory" and group.valueCoding is not None:
                    rows.add(rows.concepts.coding(group.valueCoding, f"{prefix}//"), None, None)
    if any(identifier.system == _SYNTHEA for identifier in record.identifier):
        rows.note("patients_made_by_synthea")
    for identifier in record.identifier:
        if identifier.value is not None:
            rows.name_patient(f"{identifier.system or ''}|{identifier.value}", subject.subject_id)


def _moved_away(record: fhir.Patient, rows: Rows) -> int | None:
    """The end of the last address, when all have ended."""
    try:
        addresses = msgspec.json.decode(record.address, type=tuple[fhir.Address, ...])
        ends = [rows.latest(one.period.end) if one.period is not None else None for one in addresses]
    except (msgspec.DecodeError, Unreadable):
        rows.note("addresses_not_understood")
        return None
    return max((end for end in ends if end is not None), default=None) if None not in ends else None


def encounter(record: fhir.Encounter, _subject: Subject, rows: Rows) -> str | None:
    """Start and end by class, type, priority and reason at the start, discharge disposition at the end."""
    if record.status in ("planned", "cancelled"):
        return NOT_DONE
    rows.at_visit(rows.visit(record.id or ""), rows.site_of(record.serviceProvider))
    period = record.period or NO_PERIOD
    start, end = rows.earliest(period.start), rows.latest(period.end)
    if start is None:
        return NO_DATE
    rows.saw_visit(period.start)
    word = record.class_.code if record.class_ is not None else None
    visit_class = VISIT_CLASSES.get(word or "", "OTHER")
    rows.add(rows.concepts.plain(f"ENCOUNTER//{visit_class}//start"), start, start)
    for kind in record.type:
        if (concept := rows.concepts.of(kind, "ENCOUNTER_TYPE//")) is not None:
            rows.add(concept, start, start)
    if (urgency := rows.concepts.of(record.priority, "ENCOUNTER_PRIORITY//")) is not None:
        rows.add(urgency, start, start)
    for reason in record.reasonCode or record.reason:
        if (concept := rows.concepts.of(reason, "ENCOUNTER_REASON//")) is not None:
            rows.add(concept, start, start)
    if end is None:
        return None
    rows.add(rows.concepts.plain(f"ENCOUNTER//{visit_class}//end"), end, end)
    if record.hospitalization is not None:
        disposition = rows.concepts.of(record.hospitalization.dischargeDisposition, "DISCHARGE//")
        if disposition is not None:
            rows.add(disposition, end, end)
    for diagnosis in record.diagnosis:
        condition_id = rows.condition_of(diagnosis.condition)
        if condition_id is not None and _has_code(diagnosis.use, _DISCHARGE_DIAGNOSIS):
            rows.add(rows.concepts.plain(f"{DISCHARGE_DIAGNOSIS}{condition_id}"), start, end)
    return None


def condition(record: fhir.Condition, _subject: Subject, rows: Rows) -> str | None:
    """A diagnosis at its onset, known when recorded; when it ended was learnt later and is not read."""
    if _has_code(record.verificationStatus, "refuted"):
        return NOT_DONE
    onset = record.onsetPeriod.start if record.onsetPeriod is not None else None
    recorded = record.recordedDate or record.assertedDate
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    return single(
        rows,
        rows.concepts.of(record.code),
        rows.earliest(record.onsetDateTime, onset, recorded),
        rows.latest(recorded),
    )


def observation(record: fhir.Observation, _subject: Subject, rows: Rows) -> str | None:
    """A value or coded answer under its code; a panel's values under theirs. Known when issued."""
    if record.status == "cancelled":
        return NOT_DONE
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    period = record.effectivePeriod or NO_PERIOD
    time = rows.earliest(record.effectiveDateTime, record.effectiveInstant, period.start, record.issued)
    known = rows.latest(record.issued, period.end, record.effectiveDateTime, record.effectiveInstant, period.start)
    missing = _value(record, time, known, rows)
    if not record.component:
        return missing
    given = missing is None
    for component in record.component:
        lack = _value(component, time, known, rows)
        given = given or lack is None
        if lack == NO_VALUE:
            rows.note("components_without_value")
        missing = lack or missing
    return None if given else missing


def _value(record: fhir.Observation | fhir.Component, time: int | None, known: int | None, rows: Rows) -> str | None:
    concept = rows.concepts.of(record.code)
    if concept is None:
        return NO_CODE
    quantity = record.valueQuantity
    if quantity is not None and quantity.value is not None:
        if quantity.comparator is not None:
            rows.note("values_with_comparator")
        rows.add(concept, time, known, quantity.value, quantity.code or quantity.unit)
    elif record.valueCodeableConcept is not None:
        answer = rows.concepts.of(record.valueCodeableConcept)
        if answer is None:
            return NO_CODE
        rows.add(concept, time, known, text=rows.concepts.codes[answer])
    elif record.valueInteger is not None:
        rows.add(concept, time, known, float(record.valueInteger))
    elif record.valueBoolean is not None:
        rows.add(concept, time, known, text="true" if record.valueBoolean else "false")
    elif record.valueString is not None:
        if record.valueString not in rows.rules.answers:
            return FREE_TEXT
        rows.add(concept, time, known, text=record.valueString)
    else:
        return NO_VALUE
    return None


def procedure(record: fhir.Procedure, _subject: Subject, rows: Rows) -> str | None:
    """Something done, from its start, known at its end."""
    if record.status in NOT_DONE_STATUSES:
        return NOT_DONE
    period = record.performedPeriod or NO_PERIOD
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    return single(
        rows,
        rows.concepts.of(record.code),
        rows.earliest(record.performedDateTime, period.start),
        rows.latest(record.performedDateTime, period.end, period.start),
    )


def immunization(record: fhir.Immunization, _subject: Subject, rows: Rows) -> str | None:
    """A vaccination."""
    if record.status in NOT_DONE_STATUSES:
        return NOT_DONE
    given = record.occurrenceDateTime or record.date
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    return single(rows, rows.concepts.of(record.vaccineCode), rows.earliest(given), rows.latest(record.recorded, given))


def allergy_intolerance(record: fhir.AllergyIntolerance, _subject: Subject, rows: Rows) -> str | None:
    """An allergy, known when recorded."""
    if _has_code(record.verificationStatus, "refuted"):
        return NOT_DONE
    recorded = record.recordedDate or record.assertedDate
    rows.at_visit(rows.visit_of(record.encounter))
    return single(
        rows,
        rows.concepts.of(record.code, "ALLERGY//"),
        rows.earliest(record.onsetDateTime, recorded),
        rows.latest(recorded),
    )


def diagnostic_report(record: fhir.DiagnosticReport, _subject: Subject, rows: Rows) -> str | None:
    """That a report was made; its text is never read, its values come as Observations."""
    if record.status == "cancelled":
        return NOT_DONE
    period = record.effectivePeriod or NO_PERIOD
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    return single(
        rows,
        rows.concepts.of(record.code, "REPORT//"),
        rows.earliest(record.effectiveDateTime, period.start, record.issued),
        rows.latest(record.issued, record.effectiveDateTime, period.end, period.start),
    )


def care_plan(record: fhir.CarePlan, _subject: Subject, rows: Rows) -> str | None:
    """The start of a plan of care, by its most specific category."""
    started = record.period.start if record.period is not None else None
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    concepts = [rows.concepts.of(category, "CAREPLAN//") for category in record.category]
    return single(
        rows,
        next((concept for concept in reversed(concepts) if concept is not None), None),
        rows.earliest(started, record.created),
        rows.latest(record.created, started),
    )


def imaging_study(record: fhir.ImagingStudy, _subject: Subject, rows: Rows) -> str | None:
    """That images were made, by modality."""
    rows.at_visit(rows.visit_of(record.encounter, record.context))
    time, known = rows.earliest(record.started), rows.latest(record.started)
    concepts = {
        rows.concepts.coding(series.modality, "IMAGING//")
        for series in record.series
        if series.modality is not None and series.modality.code is not None
    }
    for concept in sorted(concepts):
        rows.add(concept, time, known)
    return None if concepts else NO_CODE


def device(record: fhir.Device, _subject: Subject, rows: Rows) -> str | None:
    """A device, from the moment its entry was last written: R4 does not say since when the patient has it."""
    updated = record.meta.lastUpdated if record.meta is not None else None
    if updated is None:
        return NO_DATE
    return single(rows, rows.concepts.of(record.type, "DEVICE//"), rows.earliest(updated), rows.latest(updated))


def _has_code(concept: str | fhir.CodeableConcept | None, code: str) -> bool:
    if concept is None or isinstance(concept, str):
        return concept == code
    return any(coding.code == code for coding in concept.coding)


Reader = Callable[..., str | None]

READERS: dict[str, Reader] = {
    "Patient": patient,
    "Encounter": encounter,
    "Condition": condition,
    "Observation": observation,
    "Procedure": procedure,
    "MedicationRequest": medication_request,
    "MedicationAdministration": medication_administration,
    "MedicationStatement": medication_statement,
    "Immunization": immunization,
    "AllergyIntolerance": allergy_intolerance,
    "DiagnosticReport": diagnostic_report,
    "CarePlan": care_plan,
    "ImagingStudy": imaging_study,
    "Device": device,
}


# Where a resource names its patient, and where it says that it was entered in error.
_SUBJECT = dict.fromkeys(READERS, "subject") | dict.fromkeys(
    ("Immunization", "AllergyIntolerance", "Device"), "patient"
)
_VERIFIED = {"Condition", "AllergyIntolerance"}


def read_record(record: fhir.Resource, position: int, rows: Rows) -> str | None:
    """Add what `record` says to `rows`; returns why it gives no event, null when it gives some.

    Raises Unreadable when it cannot be understood, Deferred when its patient is not known yet.
    """
    kind = type(record).__name__
    resource = record.id
    if resource is None:
        raise Unreadable("no id")
    reader = READERS.get(kind)
    if reader is None:
        return _name(record, kind, resource, position, rows)
    subject = rows.new_patient(resource) if kind == "Patient" else rows.subject_of(subject_reference(record, kind))
    rows.begin(rows.pseudonym(kind, resource), subject)
    before = rows.count()
    try:
        if _is_in_error(record, kind):
            rows.finish(kind, resource, position, record.meta, is_retired=True)
            return None
        reason = reader(record, subject, rows)
    except Unreadable:
        rows.cut_back(before)
        raise
    if reason is None:
        rows.finish(kind, resource, position, record.meta, is_retired=False)
    else:
        rows.cut_back(before)
    return reason


def subject_reference(record: fhir.Resource, kind: str) -> fhir.Reference | None:
    """The reference to the patient a record is about; null for the kinds that have none."""
    if kind not in _SUBJECT:
        return None
    found: fhir.Reference | None = getattr(record, _SUBJECT[kind], None)
    if found is None and kind == "ImagingStudy":
        found = getattr(record, "patient", None)
    return found


def _is_in_error(record: fhir.Resource, kind: str) -> bool:
    if kind in _VERIFIED:
        return _has_code(record.verificationStatus, _IN_ERROR)  # type: ignore[attr-defined]
    return kind != "Patient" and record.status == _IN_ERROR  # type: ignore[attr-defined]


def _name(record: fhir.Resource, kind: str, resource: str, position: int, rows: Rows) -> str:
    """Note what an organisation or a medicine is called, for the records that refer to it."""
    if kind == "Organization":
        for identifier in record.identifier:  # type: ignore[attr-defined]
            rows.name_site(f"{identifier.system or ''}|{identifier.value}", resource)
        return NAMES_SITE
    rows.name_medication(resource, rows.concepts.of(record.code), position, record.meta)  # type: ignore[attr-defined]
    return NAMES_MEDICINE
