"""A canary in every place of Patient, Organization and Encounter that could name a person.

All true dates lie in 1985-2003, where no shifted date of another person lands.
"""

from tests.features.privacy.canaries import Planted
from tests.features.privacy.planting import FHIR, PERSON, US_CORE, everywhere, local, merged
from tests.fhir_resources import SNOMED, Json


def patient(plant: Planted) -> Json:
    at = "Patient"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-1",
            "extension": [
                {
                    "url": f"{US_CORE}/us-core-race",
                    "extension": [
                        {
                            "url": "ombCategory",
                            "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"},
                        },
                        {"url": "text", "valueString": plant.word(f"{at} race text")},
                    ],
                },
                {
                    "url": f"{FHIR}/patient-mothersMaidenName",
                    "valueString": plant.word(f"{at} mother's maiden name"),
                },
                {
                    "url": f"{FHIR}/patient-birthPlace",
                    "valueAddress": {
                        "city": plant.word(f"{at} birth place"),
                        "state": plant.word(f"{at} birth state"),
                    },
                },
                {
                    "url": "http://example.org/seed",
                    "valueString": f"Person seed: {plant.number(f'{at} seed', '8766734163625651911')}",
                },
                {
                    "url": "http://synthetichealth.github.io/synthea/disability-adjusted-life-years",
                    "valueDecimal": float(plant.number(f"{at} DALY", "3.8227768159088433")),
                },
                {
                    "url": "http://synthetichealth.github.io/synthea/quality-adjusted-life-years",
                    "valueDecimal": float(plant.number(f"{at} QALY", "57.17722318409116")),
                },
            ],
            "identifier": [
                {"system": "https://records.example.org", "value": plant.word(f"{at} record number")},
                {
                    "type": {"text": plant.word(f"{at} identifier type")},
                    "value": plant.number(f"{at} SSN", "908-17-2634"),
                },
                {
                    "system": "urn:oid:2.16.840.1.113883.4.3.25",
                    "value": plant.number(f"{at} licence", "S90817261"),
                },
                {
                    "system": "urn:passport",
                    "value": plant.number(f"{at} passport", "X90817262X"),
                    "period": {"start": plant.day(f"{at} passport since", "1985-02-21")},
                    "assigner": {"display": plant.word(f"{at} passport assigner")},
                },
            ],
            "name": [
                {
                    "use": "official",
                    "family": plant.word(f"{at} family name"),
                    "given": [plant.word(f"{at} given name"), plant.word(f"{at} second name")],
                    "text": plant.word(f"{at} name as text"),
                    "period": {"start": plant.day(f"{at} married on", "1986-05-17")},
                },
                {"use": "maiden", "family": plant.word(f"{at} maiden name")},
                {"use": "nickname", "given": [plant.word(f"{at} nickname") + " Ünïcødé"]},
            ],
            "telecom": [
                {"system": "phone", "value": plant.number(f"{at} phone", "555-908-1763")},
                {"system": "email", "value": f"{plant.word(f'{at} e-mail')}@example.org"},
            ],
            "gender": plant.word(f"{at} gender"),
            "birthDate": plant.day(f"{at} birth", "1931-10-09"),
            "deceasedDateTime": plant.moment(f"{at} death", "2003-07-22T04:47:13-05:00"),
            "address": [
                {
                    "extension": [
                        {
                            "url": f"{FHIR}/geolocation",
                            "extension": [
                                {
                                    "url": "latitude",
                                    "valueDecimal": float(plant.number(f"{at} latitude", "42.534202")),
                                },
                                {
                                    "url": "longitude",
                                    "valueDecimal": float(plant.number(f"{at} longitude", "-70.969734")),
                                },
                            ],
                        }
                    ],
                    "line": [plant.word(f"{at} street"), plant.word(f"{at} flat")],
                    "city": plant.word(f"{at} city"),
                    "district": plant.word(f"{at} district"),
                    "postalCode": plant.number(f"{at} zip", "01940-9081"),
                    "period": {"start": plant.day(f"{at} moved in on", "1992-08-31")},
                }
            ],
            "maritalStatus": {"text": plant.word(f"{at} marital status")},
            "photo": [{"title": plant.word(f"{at} photo title"), "data": plant.word(f"{at} photo")}],
            "contact": [
                {
                    "name": {"family": plant.word(f"{at} contact name")},
                    "telecom": [{"value": plant.number(f"{at} contact phone", "555-908-1764")}],
                    "address": {"city": plant.word(f"{at} contact city")},
                }
            ],
            "communication": [{"language": {"text": plant.word(f"{at} language")}}],
            "generalPractitioner": [{"display": plant.word(f"{at} general practitioner")}],
            "managingOrganization": {"display": plant.word(f"{at} managing organization")},
            "link": [{"other": {"reference": "Patient/x", "display": plant.word(f"{at} link")}, "type": "seealso"}],
        },
    )


def organization(plant: Planted) -> Json:
    at = "Organization"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-site",
            "name": plant.word(f"{at} name"),
            "alias": [plant.word(f"{at} alias")],
            "type": [{"text": plant.word(f"{at} type")}],
            "telecom": [{"system": "phone", "value": plant.number(f"{at} phone", "413-908-1761")}],
            "address": [{"line": [plant.word(f"{at} street")], "city": plant.word(f"{at} city")}],
            "contact": [{"name": {"family": plant.word(f"{at} contact")}}],
        },
    )


def encounter(plant: Planted) -> Json:
    at = "Encounter"
    return merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-visit",
            "status": "finished",
            "class": {
                "system": "urn:local",
                "code": plant.word(f"{at} class"),
                "display": plant.word(f"{at} class words"),
            },
            "type": [
                {
                    "coding": [{"system": SNOMED, "code": "185349003", "display": "Encounter for check up"}],
                    "text": plant.word(f"{at} type text"),
                }
            ],
            "priority": {"text": plant.word(f"{at} priority")},
            "subject": {"reference": PERSON, "display": plant.word(f"{at} subject display")},
            "participant": [
                {
                    "individual": {"reference": "Practitioner/1", "display": plant.word(f"{at} participant")},
                    "period": {"start": plant.moment(f"{at} participant since", "1998-05-04T09:47:13+00:00")},
                }
            ],
            "period": {
                "start": plant.moment(f"{at} start", "1998-05-06T09:47:13+00:00"),
                "end": plant.moment(f"{at} end", "1998-05-09T16:47:13+00:00"),
            },
            "reasonCode": [{"coding": [local(plant, f"{at} reason")], "text": plant.word(f"{at} reason text")}],
            "diagnosis": [
                {
                    "condition": {
                        "reference": "Condition/planted-1",
                        "display": plant.word(f"{at} diagnosis display"),
                    }
                }
            ],
            "hospitalization": {
                "origin": {"display": plant.word(f"{at} origin")},
                "destination": {"display": plant.word(f"{at} destination")},
                "dischargeDisposition": {
                    "coding": [local(plant, f"{at} discharge")],
                    "text": plant.word(f"{at} discharge text"),
                },
                "preAdmissionIdentifier": {"value": plant.word(f"{at} pre-admission number")},
            },
            "location": [{"location": {"reference": "Location/1", "display": plant.word(f"{at} location")}}],
            "serviceProvider": {"reference": "Organization/planted-site", "display": plant.word(f"{at} provider")},
        },
    )
