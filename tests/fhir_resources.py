"""How is a FHIR R4 resource spelled? Plain dictionaries, one small function for each type that tests write."""

import random
from datetime import date, datetime
from uuid import UUID

SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CVX = "http://hl7.org/fhir/sid/cvx"
UCUM = "http://unitsofmeasure.org"
SYNTHEA = "https://github.com/synthetichealth/synthea"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

SITES = ("Willow Street Clinic", "Harbour Hospital", "North Hill Practice")

Json = dict[str, object]


def patient(
    draw: random.Random,
    patient_id: str,
    *,
    number: int,
    is_female: bool,
    birth: date,
    death: datetime | None,
    as_synthea: bool,
) -> Json:
    category = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": draw.choice(["2106-3", "2054-5", "2028-9"])}
    resource: Json = {
        "resourceType": "Patient",
        "id": patient_id,
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
                "extension": [
                    {"url": "ombCategory", "valueCoding": category},
                    {"url": "text", "valueString": "Race"},
                ],
            }
        ],
        "identifier": [{"system": SYNTHEA if as_synthea else "https://records.example.org/mrn", "value": patient_id}],
        "name": [{"use": "official", "family": f"Testperson{number}", "given": [f"Number{number}"]}],
        "gender": "female" if is_female else "male",
        "birthDate": birth.isoformat(),
    }
    return resource | ({"deceasedDateTime": text(death)} if death else {})


def site(number: int) -> Json:
    return {"resourceType": "Organization", "id": f"site-{number}", "active": True, "name": SITES[number]}


def encounter(
    draw: random.Random, patient_id: str, *, start: datetime, end: datetime, kind: str, reason: tuple[str, str]
) -> Json:
    return {
        "resourceType": "Encounter",
        "id": new_id(draw),
        "status": "finished",
        "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": kind},
        "type": [concept(SNOMED, *reason)],
        "subject": {"reference": f"Patient/{patient_id}"},
        "period": {"start": text(start), "end": text(end)},
        "serviceProvider": {"reference": f"Organization/site-{int(patient_id[0], 16) % len(SITES)}"},
    }


def condition(
    draw: random.Random,
    patient_id: str,
    visit_id: str,
    *,
    code: tuple[str, str],
    onset: datetime,
    recorded: datetime,
) -> Json:
    return linked(draw, "Condition", patient_id, visit_id) | {
        "clinicalStatus": {"coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "active"}]},
        "verificationStatus": {"coding": [{"system": f"{TERMINOLOGY}/condition-ver-status", "code": "confirmed"}]},
        "code": concept(SNOMED, *code),
        "onsetDateTime": text(onset),
        "recordedDate": text(recorded),
    }


def observation(draw: random.Random, patient_id: str, visit_id: str, *, at: datetime, code: str, display: str) -> Json:
    return linked(draw, "Observation", patient_id, visit_id) | {
        "status": "final",
        "code": concept(LOINC, code, display),
        "effectiveDateTime": text(at),
        "issued": text(at),
    }


def linked(draw: random.Random, resource_type: str, patient_id: str, visit_id: str) -> Json:
    return {
        "resourceType": resource_type,
        "id": new_id(draw),
        "subject": {"reference": f"Patient/{patient_id}"},
        "encounter": {"reference": f"Encounter/{visit_id}"},
    }


def concept(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def new_id(draw: random.Random) -> str:
    return str(UUID(int=draw.getrandbits(128), version=4))


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
