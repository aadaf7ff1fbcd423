"""The parts of FHIR R4 that are read, as typed structs; whatever is not named here is skipped unread.

The STU3-like spellings that older servers still export (`context`, `assertedDate`, `reason`, `date`, plain-string
statuses) stand beside the R4 ones. Which elements may be read at all is decided in `features/privacy/rules.toml`.
"""

from functools import cache
from importlib.resources import files

import msgspec


class Struct(msgspec.Struct, gc=False):
    """A part of a resource; gc=False because none refers back to itself, which makes reading much faster."""


class Reference(Struct):
    """Where another resource lies; its display is never read."""

    reference: str | None = None


class Coding(Struct):
    """A code of a terminology."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(Struct):
    """One meaning in one or more codes; its free text is never read."""

    coding: tuple[Coding, ...] = ()


class Quantity(Struct):
    """A number and its unit (`code` is UCUM, `unit` as written)."""

    value: float | None = None
    unit: str | None = None
    code: str | None = None
    comparator: str | None = None


class Period(Struct):
    """From when to when."""

    start: str | None = None
    end: str | None = None


class Meta(Struct):
    """Which version of a resource this is."""

    versionId: str | None = None
    lastUpdated: str | None = None


class Identifier(Struct):
    """A business identifier; read only to resolve conditional references."""

    system: str | None = None
    value: str | None = None


class GroupExtension(Struct):
    """The coded part of a US Core race or ethnicity."""

    url: str | None = None
    valueCoding: Coding | None = None


class Extension(Struct):
    """An extension of Patient; only US Core race and ethnicity are used."""

    url: str | None = None
    extension: tuple[GroupExtension, ...] = ()


class Diagnosis(Struct):
    """A condition of a visit and its role (DD: discharge diagnosis)."""

    condition: Reference | None = None
    use: CodeableConcept | None = None


class Hospitalization(Struct):
    """How a stay ended."""

    dischargeDisposition: CodeableConcept | None = None


class Component(Struct):
    """One value of a panel."""

    code: CodeableConcept | None = None
    valueQuantity: Quantity | None = None
    valueCodeableConcept: CodeableConcept | None = None
    valueInteger: int | None = None
    valueBoolean: bool | None = None
    valueString: str | None = None


class Series(Struct):
    """One series of an imaging study."""

    modality: Coding | None = None


class Resource(Struct, tag_field="resourceType"):
    """What every resource has."""

    id: str | None = None
    meta: Meta | None = None


class Address(Struct):
    """When somebody lived somewhere; where is never understood."""

    period: Period | None = None


class Patient(Resource, tag=True):
    """A person."""

    identifier: tuple[Identifier, ...] = ()
    gender: str | None = None
    birthDate: str | None = None
    deceasedDateTime: str | None = None
    deceasedBoolean: bool | None = None
    address: msgspec.Raw = msgspec.Raw(b"[]")  # tuple[Address, ...]; an odd one shall not cost the person
    extension: tuple[Extension, ...] = ()


class Encounter(Resource, tag=True):
    """A visit or stay."""

    status: str | None = None
    class_: Coding | None = msgspec.field(default=None, name="class")
    type: tuple[CodeableConcept, ...] = ()
    priority: CodeableConcept | None = None
    subject: Reference | None = None
    period: Period | None = None
    reasonCode: tuple[CodeableConcept, ...] = ()
    reason: tuple[CodeableConcept, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()
    hospitalization: Hospitalization | None = None
    serviceProvider: Reference | None = None


class Condition(Resource, tag=True):
    """A diagnosis, problem or finding."""

    verificationStatus: str | CodeableConcept | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    onsetDateTime: str | None = None
    onsetPeriod: Period | None = None
    recordedDate: str | None = None
    assertedDate: str | None = None


class Observation(Resource, tag=True):
    """A measurement or answer."""

    status: str | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    effectiveInstant: str | None = None
    issued: str | None = None
    valueQuantity: Quantity | None = None
    valueCodeableConcept: CodeableConcept | None = None
    valueInteger: int | None = None
    valueBoolean: bool | None = None
    valueString: str | None = None
    component: tuple[Component, ...] = ()


class Procedure(Resource, tag=True):
    """Something done."""

    status: str | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    performedDateTime: str | None = None
    performedPeriod: Period | None = None


class Contained(Struct):
    """A medicine carried inside the record that refers to it as `#id`."""

    id: str | None = None
    code: CodeableConcept | None = None


class _Medicine(Resource):
    status: str | None = None
    contained: tuple[Contained, ...] = ()
    medicationCodeableConcept: CodeableConcept | None = None
    medicationReference: Reference | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None


class MedicationRequest(_Medicine, tag=True):
    """A prescription."""

    authoredOn: str | None = None


class MedicationAdministration(_Medicine, tag=True):
    """A dose given."""

    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None


class MedicationStatement(_Medicine, tag=True):
    """A medicine the patient is said to take."""

    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    dateAsserted: str | None = None


class Medication(Resource, tag=True):
    """A medicine that others refer to."""

    code: CodeableConcept | None = None


class Immunization(Resource, tag=True):
    """A vaccination."""

    status: str | None = None
    vaccineCode: CodeableConcept | None = None
    patient: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    occurrenceDateTime: str | None = None
    date: str | None = None
    recorded: str | None = None


class AllergyIntolerance(Resource, tag=True):
    """An allergy."""

    verificationStatus: str | CodeableConcept | None = None
    code: CodeableConcept | None = None
    patient: Reference | None = None
    encounter: Reference | None = None
    onsetDateTime: str | None = None
    recordedDate: str | None = None
    assertedDate: str | None = None


class DiagnosticReport(Resource, tag=True):
    """A report on results."""

    status: str | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    issued: str | None = None


class CarePlan(Resource, tag=True):
    """A plan of care; its end is not read, because it was learnt later."""

    status: str | None = None
    category: tuple[CodeableConcept, ...] = ()
    subject: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    period: Period | None = None
    created: str | None = None


class ImagingStudy(Resource, tag=True):
    """That images were made, and of which kind; never the images."""

    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    encounter: Reference | None = None
    context: Reference | None = None
    started: str | None = None
    series: tuple[Series, ...] = ()


class Device(Resource, tag=True):
    """A device of a patient."""

    status: str | None = None
    type: CodeableConcept | None = None
    patient: Reference | None = None


class Organization(Resource, tag=True):
    """A site."""

    identifier: tuple[Identifier, ...] = ()


RESOURCES: tuple[type[Resource], ...] = (
    Patient,
    Encounter,
    Condition,
    Observation,
    Procedure,
    MedicationRequest,
    MedicationAdministration,
    MedicationStatement,
    Medication,
    Immunization,
    AllergyIntolerance,
    DiagnosticReport,
    CarePlan,
    ImagingStudy,
    Device,
    Organization,
)


@cache
def unused_types() -> frozenset[str]:
    """Every other resource type of R4 (4.0.1): known, and deliberately not used. Types in neither are unknown."""
    return frozenset(files("features.records").joinpath("unused_types.txt").read_text().split())


@cache
def known_types() -> frozenset[str]:
    """Every resource type of R4 but Bundle, used or not."""
    return unused_types() | {resource.__name__ for resource in RESOURCES}
