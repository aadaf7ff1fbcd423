"""A canary in every place of diagnoses, values, reports and images that could name a person."""

from base64 import b64encode
from collections.abc import Iterator

from tests.features.privacy.canaries import Planted
from tests.features.privacy.planting import HERE, PERSON, everywhere, local, merged
from tests.fhir_resources import LOINC, SNOMED, Json, concept


def conditions(plant: Planted) -> Iterator[Json]:
    at = "Condition"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-1",
            **HERE,
            "code": {
                "coding": [{"system": SNOMED, "code": "38341003", "display": "Hypertension"}],
                "text": plant.word(f"{at} code text"),
            },
            "clinicalStatus": {"text": plant.word(f"{at} clinical status")},
            "verificationStatus": {"text": plant.word(f"{at} verification status")},
            "bodySite": [{"text": plant.word(f"{at} body site")}],
            "onsetDateTime": plant.moment(f"{at} onset", "1998-05-06T09:47:13+00:00"),
            "abatementDateTime": plant.moment(f"{at} abatement", "2001-11-26T09:47:13+00:00"),
            "recordedDate": plant.moment(f"{at} recorded", "1998-05-09T16:47:13+00:00"),
            "recorder": {"display": plant.word(f"{at} recorder")},
            "asserter": {"display": plant.word(f"{at} asserter")},
            "stage": [{"summary": {"text": plant.word(f"{at} stage")}}],
            "evidence": [{"detail": [{"display": plant.word(f"{at} evidence")}]}],
        },
    )
    yield {"resourceType": at, "id": "planted-2", **HERE, "code": {"coding": [local(plant, f"{at} local")]}}
    yield {"resourceType": at, "id": "planted-3", **HERE, "code": {"text": plant.word(f"{at} text alone")}}
    name = f"{plant.word(f'{at} code that is a name')} Smith"
    yield {"resourceType": at, "id": "planted-4", **HERE, "code": {"coding": [{"system": SNOMED, "code": name}]}}
    name = plant.word(f"{at} code that is one word")
    yield {"resourceType": at, "id": "planted-5", **HERE, "code": {"coding": [{"system": SNOMED, "code": name}]}}
    yield {
        "resourceType": at,
        "id": plant.word(f"{at} id"),
        **HERE,
        "code": concept(SNOMED, "15777000", "Prediabetes"),
        "onsetString": plant.word(f"{at} onset text"),
    }


def observations(plant: Planted) -> Iterator[Json]:
    at = "Observation"
    when = {
        "effectiveDateTime": plant.moment(f"{at} effective", "1998-05-07T10:47:13+00:00"),
        "issued": plant.moment(f"{at} issued", "1998-05-08T11:47:13.880+00:00"),
    }
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-weight",
            "status": "final",
            **HERE,
            **when,
            "code": {
                "coding": [{"system": LOINC, "code": "29463-7", "display": "Body Weight"}],
                "text": plant.word(f"{at} code text"),
            },
            "performer": [{"display": plant.word(f"{at} performer")}],
            "valueQuantity": {
                "value": float(plant.number(f"{at} fingerprint", "81.35499866729558")),
                "unit": "kg",
            },
            "interpretation": [{"text": plant.word(f"{at} interpretation")}],
            "method": {"text": plant.word(f"{at} method")},
            "specimen": {"display": plant.word(f"{at} specimen")},
            "device": {"display": plant.word(f"{at} device")},
            "referenceRange": [{"text": plant.word(f"{at} reference range")}],
        },
    )
    values: dict[str, Json] = {
        "text": {"valueString": plant.word(f"{at} text value")},
        "unit": {"valueQuantity": {"value": 5.5, "unit": plant.word(f"{at} unit")}},
        "unit-code": {"valueQuantity": {"value": 5.5, "code": plant.word(f"{at} unit code")}},
        "answer": {"valueCodeableConcept": {"coding": [local(plant, f"{at} answer")]}},
        "answer-text": {"valueCodeableConcept": {"text": plant.word(f"{at} answer text")}},
        "day": {"valueDateTime": plant.moment(f"{at} date value", "1987-06-03T12:47:13+00:00")},
        "absent": {"dataAbsentReason": {"text": plant.word(f"{at} absent")}},
    }
    for number, (name, value) in enumerate(values.items()):
        code = concept(LOINC, f"4548-{number}", f"Test {number}")
        yield {
            "resourceType": at,
            "id": f"planted-{name}",
            "status": "final",
            **HERE,
            **when,
            "code": code,
            **value,
        }
    yield {
        "resourceType": at,
        "id": "planted-panel",
        "status": "final",
        **HERE,
        **when,
        "code": concept(LOINC, "85354-9", "Blood Pressure"),
        "component": [
            {"code": concept(LOINC, "8480-6", "Systolic"), "valueString": plant.word(f"{at} component text")},
            {"code": {"coding": [local(plant, f"{at} component")]}, "valueInteger": 7},
        ],
    }


def allergy(plant: Planted) -> Json:
    at = "AllergyIntolerance"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "patient": {"reference": PERSON, "display": plant.word(f"{at} patient display")},
            "code": {
                "coding": [{"system": SNOMED, "code": "91935009", "display": "Allergy to peanut"}],
                "text": plant.word(f"{at} text"),
            },
            "recordedDate": plant.moment(f"{at} recorded", "1996-01-24T10:47:13+00:00"),
            "lastOccurrence": plant.moment(f"{at} last occurrence", "1995-12-29T10:47:13+00:00"),
            "asserter": {"display": plant.word(f"{at} asserter")},
            "reaction": [
                {
                    "description": plant.word(f"{at} reaction"),
                    "manifestation": [{"text": plant.word(f"{at} manifestation")}],
                    "onset": plant.moment(f"{at} reaction onset", "1995-12-28T10:47:13+00:00"),
                }
            ],
        },
    )


def report(plant: Planted) -> Json:
    at = "DiagnosticReport"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "final",
            **HERE,
            "code": {
                "coding": [{"system": LOINC, "code": "51990-0", "display": "Basic Metabolic Panel"}],
                "text": plant.word(f"{at} text"),
            },
            "effectiveDateTime": plant.moment(f"{at} effective", "1998-05-07T11:47:13+00:00"),
            "issued": plant.moment(f"{at} issued", "1998-05-12T11:47:13.100+00:00"),
            "performer": [{"display": plant.word(f"{at} performer")}],
            "resultsInterpreter": [{"display": plant.word(f"{at} interpreter")}],
            "result": [{"reference": "Observation/planted-weight", "display": plant.word(f"{at} result display")}],
            "media": [{"comment": plant.word(f"{at} media"), "link": {"reference": "Media/1"}}],
            "conclusion": plant.word(f"{at} conclusion"),
            "presentedForm": [
                {
                    "contentType": "text/plain",
                    "data": b64encode(f"Seen today: {plant.word(f'{at} attachment')}, aged 66.".encode()).decode(),
                }
            ],
        },
    )


def imaging(plant: Planted) -> Json:
    at = "ImagingStudy"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted",
            "status": "available",
            **HERE,
            "identifier": [
                {
                    "system": "urn:dicom:uid",
                    "value": f"urn:oid:1.2.840.{plant.number(f'{at} UID', '1559319198559')}",
                }
            ],
            "started": plant.moment(f"{at} started", "2000-10-18T10:47:13+00:00"),
            "referrer": {"display": plant.word(f"{at} referrer")},
            "interpreter": [{"display": plant.word(f"{at} interpreter")}],
            "description": plant.word(f"{at} description"),
            "series": [
                {
                    "uid": f"1.2.840.99.{plant.number(f'{at} series UID', '1559319198567')}",
                    "modality": {
                        "system": "http://dicom.nema.org/resources/ontology/DCM",
                        "code": "CT",
                        "display": "Computed Tomography",
                    },
                    "bodySite": {"system": "urn:local", "code": plant.word(f"{at} body site")},
                    "description": plant.word(f"{at} series description"),
                    "performer": [{"actor": {"display": plant.word(f"{at} performer")}}],
                    "started": plant.moment(f"{at} series started", "2000-10-19T10:47:13+00:00"),
                    "instance": [
                        {
                            "uid": f"1.2.840.99.{plant.number(f'{at} instance UID', '1559319198569')}",
                            "sopClass": {"system": "urn:ietf:rfc:3986", "code": "1.2.840.10008.5.1.4.1.1.1.1"},
                            "title": plant.word(f"{at} instance title"),
                        }
                    ],
                }
            ],
        },
    )
