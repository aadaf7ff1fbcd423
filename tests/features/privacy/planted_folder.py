"""A folder of records full of canaries: those that are read, those that are ignored, and those that are broken."""

import gzip
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import orjson

from tests.features.privacy.canaries import Planted
from tests.features.privacy.planted_findings import allergy, conditions, imaging, observations, report
from tests.features.privacy.planted_treatments import care_plan, device, immunization, medicines, procedure
from tests.features.privacy.planted_visits import encounter, organization, patient
from tests.features.privacy.planting import HERE, PERSON, everywhere, merged
from tests.fhir_resources import LOINC, SNOMED, Json, concept

IGNORED_TYPES = (
    "Practitioner PractitionerRole RelatedPerson Person Location CareTeam Goal Provenance Group Communication "
    "QuestionnaireResponse FamilyMemberHistory Coverage Consent Media Appointment ServiceRequest Specimen"
).split()


def write_planted(folder: Path) -> Planted:
    """Write the records below `folder`; returns what was planted.

    NDJSON by type, a bundle named after its patient, a zipped bundle cut short, broken lines, and files that
    are no FHIR at all.
    """
    plant = Planted()
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[bytes]] = {}
    for resource in [*_readable(plant), *_ignored(plant)]:
        lines.setdefault(str(resource["resourceType"]), []).append(orjson.dumps(resource))
    for kind, of_kind in lines.items():
        (folder / f"{kind}.ndjson").write_bytes(b"\n".join(of_kind) + b"\n")
    (folder / "Broken.ndjson").write_bytes(b"\n".join(_broken(plant)) + b"\n")

    named = folder / plant.word("folder named after a person")
    named.mkdir()
    bundle = orjson.dumps(_bundle(plant))
    (
        named / f"{plant.word('file named after a person')}_{plant.word('record number in a file name')}.json"
    ).write_bytes(bundle)
    cut = gzip.compress(_broken_bundle(plant), compresslevel=0, mtime=0)
    (named / f"{plant.word('broken file named after a person')}.json.gz").write_bytes(cut[: len(cut) * 2 // 3])
    (folder / f"{plant.word('name of a file that is no FHIR')}.txt").write_text(plant.word("a file that is no FHIR"))
    (folder / "export.log").write_text(f'{{"who": "{plant.word("a log of the export")}"}}\n')
    return plant


def _readable(plant: Planted) -> Iterator[Json]:
    yield patient(plant)
    yield organization(plant)
    yield encounter(plant)
    yield from conditions(plant)
    yield from observations(plant)
    yield procedure(plant)
    yield from medicines(plant)
    yield immunization(plant)
    yield allergy(plant)
    yield report(plant)
    yield care_plan(plant)
    yield imaging(plant)
    yield device(plant)


def _ignored(plant: Planted) -> Iterator[Json]:
    for kind in IGNORED_TYPES:
        special: Json = {
            "resourceType": kind,
            "id": f"planted-{kind.lower()}",
            "name": [{"family": plant.word(f"{kind} name")}],
            "description": plant.word(f"{kind} description"),
            "address": [{"line": [plant.word(f"{kind} street")]}],
            "patient": {"reference": PERSON, "display": plant.word(f"{kind} patient display")},
        }
        yield merged(everywhere(plant, kind), special)
    at = "DocumentReference"
    note = f"{plant.word(f'{at} note text')} is a 66 year-old woman. {plant.word(f'{at} signature')}"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-document",
            "status": "current",
            "author": [{"display": plant.word(f"{at} author")}],
            "date": plant.moment(f"{at} date", "1989-04-13T10:47:13+00:00"),
            "content": [{"attachment": {"data": b64encode(note.encode()).decode()}}],
        },
    )
    at = "Claim"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-claim",
            "patient": {"reference": PERSON, "display": plant.word(f"{at} patient display")},
            "billablePeriod": {"start": plant.moment(f"{at} billable", "1990-06-15T10:47:13+00:00")},
            "insurance": [{"coverage": {"display": plant.word(f"{at} insurer")}}],
        },
    )
    at = "ExplanationOfBenefit"
    yield merged(
        everywhere(plant, at),
        {
            "resourceType": at,
            "id": "planted-benefit",
            "patient": {"reference": PERSON},
            "created": plant.moment(f"{at} created", "1991-08-17T10:47:13+00:00"),
            "careTeam": [{"provider": {"display": plant.word(f"{at} care team")}}],
            "item": [
                {
                    "servicedPeriod": {
                        "start": plant.moment(f"{at} serviced from", "1989-10-15T06:47:13-04:00"),
                        "end": plant.moment(f"{at} serviced to", "1989-10-16T06:47:13-04:00"),
                    },
                    "locationAddress": {"line": [plant.word(f"{at} address")]},
                }
            ],
        },
    )


def _broken(plant: Planted) -> Iterator[bytes]:
    """Lines that end in the quarantine, each with a canary where an error message might quote it."""

    def line(resource: Json) -> bytes:
        return orjson.dumps(resource)

    yield b'{"resourceType":"Condition","id":"broken-1","code":{"text":"' + plant.word("a cut line").encode()
    yield plant.word("a line that is no JSON").encode() + b" says hello"
    yield b'{"resourceType":"Condition","note":"' + plant.word("a line in no encoding").encode() + b'\xff\xfe"}'
    yield line({"resourceType": plant.word("an unknown resource type"), "id": "broken-2"})
    yield line({"resourceType": {"is": plant.word("a resource type that is an object")}})
    yield line({"id": "broken-3", "name": plant.word("a record without a type")})
    yield line({plant.word("an unknown key"): 1, "resourceType": "Observation", "id": "broken-4"})
    yield line({"resourceType": "Patient", "id": "broken-5", "birthDate": {"of": plant.word("a birth date object")}})
    yield line({"resourceType": "Patient", "id": "broken-6", "birthDate": plant.word("a birth date in words")})
    yield line({"resourceType": "Patient", "id": "broken-7", "gender": [plant.word("a list of genders")]})
    yield line({"resourceType": "Patient", "name": [{"family": plant.word("a patient without id")}]})
    yield line(
        {
            "resourceType": "Observation",
            "id": "broken-8",
            "status": "final",
            **HERE,
            "code": concept(LOINC, "2339-0", "Glucose"),
            "effectiveDateTime": "1998-05-07T10:47:13+00:00",
            "valueQuantity": {"value": plant.word("a quantity in words"), "unit": "mg/dL"},
        }
    )
    yield line(
        {
            "resourceType": "Condition",
            "id": "broken-9",
            **HERE,
            "code": concept(SNOMED, "38341003", "Hypertension"),
            "onsetDateTime": f"yesterday, says {plant.word('an onset in words')}",
        }
    )
    yield line(
        {
            "resourceType": "Condition",
            "id": "broken-10",
            "subject": {"display": plant.word("a subject by name alone")},
            "code": concept(SNOMED, "38341003", "Hypertension"),
        }
    )
    yield line(
        {
            "resourceType": "Condition",
            "id": "broken-11",
            "subject": {"reference": f"Patient?identifier=urn:mrn|{plant.word('a subject by identifier')}"},
            "code": concept(SNOMED, "38341003", "Hypertension"),
        }
    )
    yield line(
        {
            "resourceType": "Condition",
            "id": "broken-12",
            "subject": {"reference": f"Group/{plant.word('a subject that is a group')}"},
            "code": concept(SNOMED, "38341003", "Hypertension"),
        }
    )
    yield line({"resourceType": "Encounter", "id": [plant.word("an id in a list")], **HERE})
    yield line({"resourceType": "Bundle", "type": "batch", "entry": plant.word("a bundle whose entry is a word")})
    yield line([plant.word("a list in place of a record")])  # type: ignore[arg-type]


def _bundle(plant: Planted) -> Json:
    who = plant.word("id of a bundle's patient")
    return {
        "resourceType": "Bundle",
        "id": plant.word("Bundle.id"),
        "type": "transaction",
        "identifier": {"value": plant.word("Bundle.identifier")},
        "link": [{"relation": "self", "url": f"http://example.org/{plant.word('Bundle.link')}"}],
        "entry": [
            {
                "fullUrl": f"urn:uuid:{who}",
                "resource": {
                    "resourceType": "Patient",
                    "id": who,
                    "name": [{"family": plant.word("name in a bundle")}],
                    "birthDate": plant.day("birth in a bundle", "1947-04-25"),
                },
                "request": {"method": "PUT", "url": f"Patient/{who}", "ifNoneExist": plant.word("ifNoneExist")},
            },
            {
                "fullUrl": "urn:uuid:7f2c1a52-2f3e-4f0e-9a60-000000000001",
                "resource": {
                    "resourceType": "Encounter",
                    "id": "7f2c1a52-2f3e-4f0e-9a60-000000000001",
                    "status": "finished",
                    "class": {"code": "AMB"},
                    "subject": {"reference": f"urn:uuid:{who}", "display": plant.word("subject in a bundle")},
                    "period": {
                        "start": plant.moment("visit in a bundle", "1993-11-18T08:47:13+00:00"),
                        "end": plant.moment("visit's end in a bundle", "1993-11-18T09:47:13+00:00"),
                    },
                },
            },
            {"resource": {"resourceType": "Condition", "code": {"text": plant.word("broken entry")}}},
            {"resource": {"resourceType": plant.word("unknown type in a bundle")}},
            {"resource": plant.word("entry that is a word")},
        ],
    }


def _broken_bundle(plant: Planted) -> bytes:
    names = [plant.word(f"cut file {number}") for number in range(6)] + ["behind the cut"] * 6
    entries: list[Json] = [
        {"resource": {"resourceType": "Patient", "id": f"cut-{number}", "name": [{"text": name}]}}
        for number, name in enumerate(names)
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
