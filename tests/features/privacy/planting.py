"""What can hold a canary in any resource, and where the planted person stands."""

from tests.features.privacy.canaries import Planted
from tests.fhir_resources import Json

PERSON = "Patient/planted-1"
VISIT = "Encounter/planted-visit"
HERE: Json = {"subject": {"reference": PERSON}, "encounter": {"reference": VISIT}}
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
FHIR = "http://hl7.org/fhir/StructureDefinition"


def everywhere(plant: Planted, kind: str) -> Json:
    """What may stand in any resource: narrative, meta, extensions, notes, identifiers, contained people."""
    return {
        "meta": {
            "source": f"urn:{plant.word(f'{kind}.meta.source')}",
            "tag": [{"system": "urn:tags", "code": plant.word(f"{kind}.meta.tag")}],
            "profile": [f"http://example.org/{plant.word(f'{kind}.meta.profile')}"],
            "lastUpdated": plant.moment(f"{kind}.meta.lastUpdated", _own_moment(plant)),
        },
        "text": {"status": "generated", "div": f"<div>{plant.word(f'{kind}.text')} <b>seed</b></div>"},
        "extension": [
            {"url": f"http://example.org/{plant.word(f'{kind}.extension.url')}", "valueString": "x"},
            {"url": f"{FHIR}/unknown", "valueString": plant.word(f"{kind}.extension.valueString")},
            {"url": f"{FHIR}/when", "valueDateTime": plant.moment(f"{kind}.extension", _own_moment(plant))},
        ],
        "contained": [
            {"resourceType": "Practitioner", "id": "who", "name": [{"family": plant.word(f"{kind}.contained")}]}
        ],
        "identifier": [{"system": "urn:numbers", "value": plant.word(f"{kind}.identifier")}],
        "note": [{"text": plant.word(f"{kind}.note"), "authorString": plant.word(f"{kind}.note.author")}],
    }


def merged(general: Json, special: Json) -> Json:
    """Both, with lists joined, so that nothing planted is lost."""
    both = general | special
    for name in general.keys() & special.keys():
        first, second = general[name], special[name]
        if isinstance(first, list) and isinstance(second, list):
            both[name] = first + second
    return both


def local(plant: Planted, place: str) -> Json:
    """A code of a house's own system, which may be anything."""
    return {
        "system": f"urn:{plant.word(f'{place} local system')}",
        "code": plant.word(f"{place} local code"),
        "display": plant.word(f"{place} local display"),
    }


def _own_moment(plant: Planted) -> str:
    """A moment that nothing else has."""
    number = len(plant.moments)
    return f"{1985 + number % 17}-{1 + number % 12:02}-{1 + number % 28:02}T13:47:13.{100 + number}+00:00"
