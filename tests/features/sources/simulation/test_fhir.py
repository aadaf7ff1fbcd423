"""What is written is FHIR R4: by fhir.resources, and by the official invariants and bindings that it does not check."""

import re
from collections.abc import Iterator
from datetime import datetime

import msgspec
import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel

from features.sources.fhir_bundles import bundled
from features.sources.simulation.world import World
from features.sources.simulation.writing import KINDS, SHAPES, shared_resources
from tests.features.sources.simulation.conftest import Block, Json

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
TAG = {"system": "urn:sequela:simulation", "code": "simulated"}
_OWN = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[^\"]*|Simulated-\w+|\d{4}-\d\d-\d\d")


@pytest.fixture(scope="module")
def shared(world: World) -> list[Json]:
    return [msgspec.json.decode(line) for _, line in shared_resources(world)]


@pytest.fixture(scope="module")
def sample(resources: dict[str, list[Json]], shared: list[Json]) -> list[Json]:
    """One of every kind of resource that differs by more than ids, times and numbers: every code at least once."""
    seen: dict[str, Json] = {}
    for resource in [*shared, *(one for of in resources.values() for one in of)]:
        if resource["resourceType"] == "Observation":
            alike = f"{resource['code']}{resource.get('valueCodeableConcept')}{resource.keys()}"
        else:
            alike = re.sub(_OWN, "", msgspec.json.encode(resource).decode())
        seen.setdefault(alike, resource)
    assert {one["resourceType"] for one in seen.values()} == {*KINDS, "Organization", "Practitioner"}
    assert len(seen) > 300
    return list(seen.values())


@pytest.fixture(scope="module")
def bundles(block: Block, world: World) -> list[Json]:
    some = {kind: [(person, line) for person, line in of if person < 4] for kind, of in block.texts.items()}
    texts = bundled(some, shared_resources(world), SHAPES["Bundle"], SHAPES["Entry"])
    return [msgspec.json.decode(text) for _, text in texts]


def every(value: object) -> Iterator[Json]:
    """All objects inside a resource."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from every(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner)


def outside_bindings(model: BaseModel) -> Iterator[str]:
    """The elements whose value is none of those that R4 requires."""
    for name, field in type(model).model_fields.items():
        value, extra = getattr(model, name), field.json_schema_extra
        allowed = extra.get("enum_values") if isinstance(extra, dict) else None
        if allowed and value is not None and value not in allowed and "+" not in allowed[:-1]:
            yield f"{type(model).__name__}.{name} = {value}"
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, BaseModel):
                yield from outside_bindings(inner)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_every_resource_is_r4_within_its_required_bindings(sample: list[Json]) -> None:
    for resource in sample:
        model = get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        assert list(outside_bindings(model)) == []


def test_a_value_outside_its_binding_would_be_found(sample: list[Json]) -> None:
    wrong = next(one for one in sample if one["resourceType"] == "Encounter") | {"status": "done"}
    model = get_fhir_model_class("Encounter").model_validate(wrong)
    assert list(outside_bindings(model)) == ["Encounter.status = done"]


def test_general_invariants(resources: dict[str, list[Json]], sample: list[Json]) -> None:
    for resource in sample:
        assert "contained" not in resource  # dom-2 to dom-5, ref-1
        for one in every(resource):
            assert one != {}  # ele-1
            assert None not in one.values()
            assert "" not in one.values()
            if "url" in one and "Extension" not in one:
                assert ("extension" in one) != any(name.startswith("value") for name in one)  # ext-1
            if "code" in one and "value" in one:
                assert "system" in one  # qty-3
    for encounter in resources["Encounter"]:
        period = encounter["period"]
        assert "end" not in period or moment(period["start"]) <= moment(period["end"])  # per-1
    for procedure in resources["Procedure"]:
        assert moment(procedure["performedPeriod"]["start"]) <= moment(procedure["performedPeriod"]["end"])
    for patient in resources["Patient"]:
        assert patient["text"]["div"].startswith('<div xmlns="http://www.w3.org/1999/xhtml">')  # txt-1, txt-2
        assert patient["name"][0]["family"]  # us-core-8


def test_invariants_of_conditions(resources: dict[str, list[Json]]) -> None:
    for one in resources["Condition"]:
        status = one["clinicalStatus"]["coding"][0]["code"]
        assert one["verificationStatus"]["coding"][0]["code"] == "confirmed"  # con-3, con-5: so there is a status
        assert ("abatementDateTime" in one) == (status in ("inactive", "resolved", "remission"))  # con-4
    assert {one["clinicalStatus"]["coding"][0]["code"] for one in resources["Condition"]} == {"active", "resolved"}


def test_invariants_of_observations(resources: dict[str, list[Json]]) -> None:
    for one in resources["Observation"]:
        values = [name for name in one if name.startswith("value")]
        assert len(values) + ("component" in one) == 1  # vs-2; obs-6: no dataAbsentReason beside a value
        assert "dataAbsentReason" not in one
        code = one["code"]["coding"][0]["code"]
        for component in one.get("component", []):
            assert "valueQuantity" in component  # vs-3
            assert component["code"]["coding"][0]["code"] != code  # obs-7
        assert "referenceRange" not in one  # obs-3
        for quantity in [one.get("valueQuantity"), *(part["valueQuantity"] for part in one.get("component", []))]:
            assert quantity is None or quantity["system"] == "http://unitsofmeasure.org"


def test_references_lead_to_what_is_there(resources: dict[str, list[Json]], shared: list[Json]) -> None:
    everything = [*shared, *(one for of in resources.values() for one in of)]
    there = {f"{one['resourceType']}/{one['id']}" for one in everything}
    assert len(there) == len(everything)
    for resource in everything:
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", resource["id"])
        about = resource.get("subject", resource.get("patient", {})).get("reference")
        for one in every(resource):
            assert one.get("reference", about) is None or one.get("reference", about) in there
    of_patient = {f"{one['resourceType']}/{one['id']}": one.get("subject") for one in everything}
    for one in everything:
        if "encounter" in one:  # it is the same person's
            assert of_patient[one["encounter"]["reference"]] == one.get("subject", one.get("patient"))


def test_everything_says_what_it_is(sample: list[Json], bundles: list[Json], block: Block, world: World) -> None:
    for resource in [*sample, *bundles]:
        assert TAG in resource["meta"]["tag"]
    for resource in sample:
        assert all(profile.startswith(US_CORE) for profile in resource["meta"]["profile"])
    texts = [line for of in block.texts.values() for _, line in of] + [line for _, line in shared_resources(world)]
    assert not any("synthea" in text.lower() for text in texts)


def test_us_core_race_and_ethnicity(resources: dict[str, list[Json]]) -> None:
    texts = set()
    for patient in resources["Patient"]:
        extensions = {one["url"].removeprefix(US_CORE): one for one in patient["extension"]}
        assert set(extensions) == {"race", "ethnicity", "birthsex"}
        for name in ("race", "ethnicity"):
            category, text = extensions[name]["extension"]
            assert category["valueCoding"]["system"] == "urn:oid:2.16.840.1.113883.6.238"
            assert category["valueCoding"]["display"] == text["valueString"]
            texts.add(text["valueString"])
        assert {"M": "male", "F": "female"}[extensions["birthsex"]["valueCode"]] == patient["gender"]
    assert {"White", "Asian", "Hispanic or Latino", "Not Hispanic or Latino"} <= texts


def test_stays_say_how_they_began_and_ended(resources: dict[str, list[Json]]) -> None:
    for one in resources["Encounter"]:
        is_stay, is_over = one["class"]["code"] == "IMP", one["status"] == "finished"
        assert ("hospitalization" in one) == (is_stay and is_over)
        assert ("end" in one["period"]) == is_over
        assert ("priority" in one) == is_stay
        assert "serviceProvider" in one
    stays = [one for one in resources["Encounter"] if one["class"]["code"] == "IMP"]
    codes = {
        one["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] for one in stays if "end" in one["period"]
    }
    assert codes == {"01", "03", "06", "20"}
    assert any("diagnosis" in one for one in stays)
    assert all("reasonCode" in one for one in stays)


def test_bundles_are_transactions_that_stand_by_themselves(bundles: list[Json], block: Block) -> None:
    assert len(bundles) == 4
    for number, bundle in enumerate(bundles):
        get_fhir_model_class("Bundle").model_validate(bundle)
        assert bundle["type"] == "transaction"
        urls = [entry["fullUrl"] for entry in bundle["entry"]]
        assert len(set(urls)) == len(urls)  # bdl-7
        for entry in bundle["entry"]:
            resource, request = entry["resource"], entry["request"]  # bdl-3
            assert entry["fullUrl"] == f"urn:uuid:{resource['id']}"
            assert request["method"] == "POST"
            assert request["url"] == resource["resourceType"]
            is_shared = resource["resourceType"] in ("Organization", "Practitioner")
            wanted = f"identifier=urn:sequela:simulation|{resource['id']}" if is_shared else None
            assert request.get("ifNoneExist") == wanted
            assert not is_shared or resource["identifier"][0]["value"] == resource["id"]
            for one in every(resource):
                assert one.get("reference", urls[0]) in urls
        own = sum(person == number for of in block.texts.values() for person, _ in of)
        named = {one["reference"] for entry in bundle["entry"] for one in every(entry) if "reference" in one}
        common = [one for one in bundle["entry"] if "ifNoneExist" in one["request"]]
        assert len(bundle["entry"]) == own + len(common)
        assert all(one["fullUrl"] in named for one in common)
