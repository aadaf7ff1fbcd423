"""Resources are written as their shape is spelled, and what is not given is left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.sources.fhir_bundles import bundled
from features.sources.fhir_shapes import Shape, coded, rows_alike

ILLNESS = coded("http://snomed.info/sct", "44054006", "Diabetes 100 % “type 2”")
SHAPE = {
    "resourceType": "Observation",
    "id": "<id>",
    "status": "$status",
    "code": "$code",
    "note?": [{"text": "Seen at <time>Z in $site.display"}],
    "period": {"start": "<time>Z", "end?": "<end>Z"},
    "valueQuantity?": {"value": "<#value>", "unit": "%"},
    "active": True,
}


@pytest.fixture
def shape(tmp_path: Path) -> Shape:
    return _shape(tmp_path, "Observation", SHAPE)


def _shape(folder: Path, name: str, shape: object) -> Shape:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(shape), encoding="utf-8")
    return Shape(path)


def test_codes_and_values_come_into_their_places(shape: Shape) -> None:
    codes = {"status": "final", "code": ILLNESS, "site": coded("", "1", "Harbour")}
    own = {"id": ["a", "b"], "time": ["10:00", "11:00"], "end": ["10:30", "11:30"], "value": ["1.50", "2"]}
    one, other = (json.loads(line) for line in shape.filled(codes, own))
    coding = {"system": "http://snomed.info/sct", "code": "44054006", "display": "Diabetes 100 % “type 2”"}
    assert one == {
        "resourceType": "Observation",
        "id": "a",
        "status": "final",
        "code": {"coding": [coding], "text": "Diabetes 100 % “type 2”"},
        "note": [{"text": "Seen at 10:00Z in Harbour"}],
        "period": {"start": "10:00Z", "end": "10:30Z"},
        "valueQuantity": {"value": 1.5, "unit": "%"},
        "active": True,
    }
    assert (other["id"], other["valueQuantity"]["value"]) == ("b", 2)


def test_a_number_keeps_its_decimals(shape: Shape) -> None:
    codes = {"status": "final", "code": ILLNESS}
    (line,) = shape.filled(codes, {"id": ["a"], "time": ["10:00"], "value": ["1.50"]})
    assert '"value":1.50,' in line


def test_what_is_not_given_is_left_out_where_it_may(shape: Shape) -> None:
    (line,) = shape.filled({"status": "final", "code": ILLNESS, "site": None}, {"id": ["a"], "time": ["10:00"]})
    resource = json.loads(line)
    assert resource.keys() == {"resourceType", "id", "status", "code", "period", "active"}
    assert resource["period"] == {"start": "10:00Z"}


def test_what_must_be_there_is_asked_for(shape: Shape) -> None:
    with pytest.raises(KeyError, match="Observation"):
        shape.filled({"status": "final"}, {"id": ["a"], "time": ["10:00"]})
    with pytest.raises(KeyError, match="Observation"):
        shape.filled({"status": "final", "code": ILLNESS}, {"id": ["a"]})


def test_rows_choose_their_codes_and_leave_out_what_they_lack(shape: Shape) -> None:
    codes = {"status": ["preliminary", "final"], "code": [ILLNESS], "site": [coded("", "1", "Harbour")]}
    chosen = {"status": np.array([1, 0, 1]), "code": np.array([0, 0, 0]), "site": np.array([-1, 0, -1])}
    own = {
        "id": np.array(["a", "b", "c"], object),
        "time": np.array(["1", "2", "3"], object),
        "value": np.array([None, "5", "6"], object),
    }
    resources = [json.loads(line) for line in shape.lines(codes, chosen, own)]
    assert [one["id"] for one in resources] == ["a", "b", "c"]
    assert [one["status"] for one in resources] == ["final", "preliminary", "final"]
    assert ["note" in one for one in resources] == [False, True, False]
    assert [one.get("valueQuantity", {}).get("value") for one in resources] == [None, 5, 6]


def test_rows_alike() -> None:
    groups = rows_alike([np.array([2, -1, 2, 0]), np.array([True, False, True, False])])
    assert sorted(group.tolist() for group in groups) == [[0, 2], [1], [3]]
    assert list(rows_alike([np.array([], np.int64)])) == []


def test_a_bundle_holds_what_its_resources_refer_to(tmp_path: Path) -> None:
    bundle = _shape(tmp_path, "Bundle", {"resourceType": "Bundle", "type": "transaction", "entry": "<#entries>"})
    request = {"method": "POST", "url": "<kind>", "ifNoneExist?": "identifier=x|<identifier>"}
    entry = _shape(tmp_path, "Entry", {"fullUrl": "urn:uuid:<id>", "resource": "<#resource>", "request": request})
    visit = '{"id":"e1","subject":{"reference":"Patient/p1"},"at":{"reference":"Organization/o2"}}'
    own = {"Patient": [(0, '{"resourceType":"Patient","id":"p1"}'), (1, '{"id":"p2"}')], "Encounter": [(0, visit)]}
    shared = [("Organization", '{"id":"o1"}'), ("Organization", '{"id":"o2"}')]
    made = {owner: json.loads(text)["entry"] for owner, text in bundled(own, shared, bundle, entry)}
    assert [one["fullUrl"] for one in made[0]] == ["urn:uuid:p1", "urn:uuid:e1", "urn:uuid:o2"]
    assert [one["request"].get("ifNoneExist") for one in made[0]] == [None, None, "identifier=x|o2"]
    assert made[0][1]["resource"]["subject"] == {"reference": "urn:uuid:p1"}
    assert made[0][1]["resource"]["at"] == {"reference": "urn:uuid:o2"}
    assert [one["fullUrl"] for one in made[1]] == ["urn:uuid:p2"]
