"""A canary in every place of procedures, medicines, plans and devices that could name a person."""

from collections.abc import Iterator

from tests.features.privacy.canaries import Planted
from tests.features.privacy.planting import HERE, PERSON, everywhere, local, merged
from tests.fhir_resources import CVX, RXNORM, SNOMED, Json


def procedure(plant: Planted) -> Json:
    at = "Procedure"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "completed",
            **HERE,
            "code": {"coding": [{"system": SNOMED, "code": "73761001", "display": "Colonoscopy"}]},
            "performedPeriod": {
                "start": plant.moment(f"{at} start", "1999-02-10T10:47:13+00:00"),
                "end": plant.moment(f"{at} end", "1999-02-11T10:47:13+00:00"),
            },
            "performer": [{"actor": {"display": plant.word(f"{at} performer")}}],
            "location": {"display": plant.word(f"{at} location")},
            "reasonCode": [{"text": plant.word(f"{at} reason")}],
            "outcome": {"text": plant.word(f"{at} outcome")},
            "followUp": [{"text": plant.word(f"{at} follow-up")}],
            "complication": [{"text": plant.word(f"{at} complication")}],
            "usedReference": [{"display": plant.word(f"{at} used")}],
        },
    )


def medicines(plant: Planted) -> Iterator[Json]:
    medicine = {"coding": [{"system": RXNORM, "code": "314076", "display": "lisinopril 10 MG Oral Tablet"}]}
    at = "MedicationRequest"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "stopped",
            "intent": "order",
            **HERE,
            "contained": [
                {
                    "resourceType": "Medication",
                    "id": "inside",
                    "code": {**medicine, "text": plant.word(f"{at} contained medicine")},
                    "batch": {"lotNumber": plant.word(f"{at} contained lot")},
                }
            ],
            "medicationReference": {"reference": "#inside", "display": plant.word(f"{at} medicine display")},
            "authoredOn": plant.moment(f"{at} authored", "1998-05-08T15:47:13+00:00"),
            "requester": {"display": plant.word(f"{at} requester")},
            "reasonCode": [{"text": plant.word(f"{at} reason")}],
            "dosageInstruction": [
                {"text": plant.word(f"{at} dosage"), "patientInstruction": plant.word(f"{at} instruction")}
            ],
            "dispenseRequest": {
                "validityPeriod": {"end": plant.moment(f"{at} valid until", "2000-09-27T15:47:13+00:00")},
                "performer": {"display": plant.word(f"{at} pharmacy")},
            },
        },
    )
    yield {
        "resourceType": at,
        "id": "planted-local",
        "status": "active",
        "intent": "order",
        **HERE,
        "medicationCodeableConcept": {"coding": [local(plant, f"{at} local")]},
        "authoredOn": "1998-05-08T15:47:13+00:00",
    }
    here = {"subject": HERE["subject"], "context": HERE["encounter"]}
    at = "MedicationAdministration"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "completed",
            **here,
            "medicationReference": {
                "reference": "Medication/planted",
                "display": plant.word(f"{at} medicine display"),
            },
            "effectivePeriod": {"start": plant.moment(f"{at} start", "1998-05-07T20:47:13+00:00")},
            "performer": [{"actor": {"display": plant.word(f"{at} performer")}}],
            "dosage": {"text": plant.word(f"{at} dosage")},
        },
    )
    at = "MedicationStatement"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "active",
            **here,
            "medicationCodeableConcept": {**medicine, "text": plant.word(f"{at} medicine text")},
            "effectiveDateTime": plant.moment(f"{at} effective", "1997-03-12T20:47:13+00:00"),
            "dateAsserted": plant.moment(f"{at} asserted", "1998-05-06T20:47:13+00:00"),
            "informationSource": {"display": plant.word(f"{at} source")},
            "dosage": [{"text": plant.word(f"{at} dosage")}],
        },
    )
    at = "Medication"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "code": {**medicine, "text": plant.word(f"{at} text")},
            "manufacturer": {"display": plant.word(f"{at} manufacturer")},
            "batch": {
                "lotNumber": plant.word(f"{at} lot"),
                "expirationDate": plant.day(f"{at} expiry", "2002-12-05"),
            },
        },
    )


def immunization(plant: Planted) -> Json:
    at = "Immunization"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "completed",
            "patient": {"reference": PERSON, "display": plant.word(f"{at} patient display")},
            "encounter": HERE["encounter"],
            "vaccineCode": {
                "coding": [{"system": CVX, "code": "140", "display": "Influenza"}],
                "text": plant.word(f"{at} vaccine text"),
            },
            "occurrenceDateTime": plant.moment(f"{at} occurrence", "1999-10-20T10:47:13+00:00"),
            "recorded": plant.moment(f"{at} recorded", "1999-10-21T10:47:13+00:00"),
            "location": {"display": plant.word(f"{at} location")},
            "manufacturer": {"display": plant.word(f"{at} manufacturer")},
            "lotNumber": plant.word(f"{at} lot"),
            "expirationDate": plant.day(f"{at} expiry", "2001-04-19"),
            "site": {"text": plant.word(f"{at} site")},
            "performer": [{"actor": {"display": plant.word(f"{at} performer")}}],
            "education": [{"reference": f"http://example.org/{plant.word(f'{at} education')}"}],
        },
    )


def care_plan(plant: Planted) -> Json:
    at = "CarePlan"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "active",
            "intent": "order",
            **HERE,
            "category": [
                {
                    "coding": [{"system": SNOMED, "code": "698360004", "display": "Diabetes self management plan"}],
                    "text": plant.word(f"{at} category text"),
                }
            ],
            "title": plant.word(f"{at} title"),
            "description": plant.word(f"{at} description"),
            "period": {
                "start": plant.moment(f"{at} start", "1998-05-09T11:47:13+00:00"),
                "end": plant.moment(f"{at} end", "2000-02-02T11:47:13+00:00"),
            },
            "author": {"display": plant.word(f"{at} author")},
            "contributor": [{"display": plant.word(f"{at} contributor")}],
            "goal": [{"display": plant.word(f"{at} goal")}],
            "activity": [
                {
                    "progress": [{"text": plant.word(f"{at} progress")}],
                    "detail": {
                        "status": "completed",
                        "description": plant.word(f"{at} activity"),
                        "location": {"display": plant.word(f"{at} activity location")},
                        "scheduledPeriod": {"start": plant.moment(f"{at} scheduled", "1998-06-23T11:47:13+00:00")},
                    },
                }
            ],
        },
    )


def device(plant: Planted) -> Json:
    at = "Device"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "patient": {"reference": PERSON, "display": plant.word(f"{at} patient display")},
            "type": {
                "coding": [{"system": SNOMED, "code": "14106009", "display": "Cardiac pacemaker, device"}],
                "text": plant.word(f"{at} type text"),
            },
            "udiCarrier": [
                {
                    "deviceIdentifier": plant.number(f"{at} UDI", "96702913868313"),
                    "carrierHRF": f"(01){plant.number(f'{at} UDI carrier', '96702913868314')}(21)9866037",
                }
            ],
            "distinctIdentifier": plant.word(f"{at} distinct identifier"),
            "manufactureDate": plant.day(f"{at} made on", "1994-07-14"),
            "expirationDate": plant.day(f"{at} expiry", "2003-01-15"),
            "lotNumber": plant.number(f"{at} lot", "528662860311789"),
            "serialNumber": plant.number(f"{at} serial", "98660371"),
            "deviceName": [{"name": plant.word(f"{at} name"), "type": "user-friendly-name"}],
            "manufacturer": plant.word(f"{at} manufacturer"),
            "owner": {"display": plant.word(f"{at} owner")},
            "location": {"display": plant.word(f"{at} location")},
            "url": f"http://example.org/{plant.word(f'{at} url')}",
            "contact": [{"value": plant.word(f"{at} contact")}],
        },
    )
