"""Where versions do not tell which is newer, their places do: a second reading must mind them as a first does."""

import json

import pytest

from features import ingest as ingest_module
from features.ingest import ingest
from features.settings import StudySettings
from tests.features.updates.small_exports import (
    an_export,
    codes,
    patient,
    reverse_lines,
    subject,
    visit,
    weight,
    weights,
)

SETTINGS = StudySettings()


def test_a_later_export_wins_where_versions_do_not_tell(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    an_export(place / "0002-since", weight("w", "a", 71))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [71]}
    an_export(place / "0003-since", weight("w", "a", 72))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [72]}


def test_files_that_change_places_may_change_which_version_holds(tmp_path, home):
    """The same texts under other names, so nothing is read; but of versions that do not tell, the last one holds."""
    place = tmp_path / "place"
    an_export(place, patient("a"), visit("v", "a"))
    for name, kg in (("first", 70), ("second", 71)):
        (place / f"{name}.ndjson").write_text(json.dumps(weight("w", "a", kg)) + "\n")
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [71]}
    (place / "first.ndjson").rename(place / "third.ndjson")
    result = ingest(place, home, SETTINGS)
    assert (result.resumed, result.subjects_rebuilt) == (False, 1)
    assert weights(home) == {subject("a"): [70]}


def test_lines_that_change_places_may_change_which_version_holds(tmp_path, home):
    """They say the same in another order, which says something where versions do not tell."""
    place = tmp_path / "place"
    an_export(place, patient("a"), visit("v", "a"), weight("w", "a", 70), weight("w", "a", 71))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [71]}
    reverse_lines(place / "Observation.ndjson")
    assert not ingest(place, home, SETTINGS).resumed
    assert weights(home) == {subject("a"): [70]}


MEDICATION = {"resourceType": "Medication", "id": "m"}
GIVEN = {
    "resourceType": "MedicationRequest",
    "id": "r",
    "subject": {"reference": "Patient/a"},
    "authoredOn": "2020-06-01T10:05:00Z",
    "medicationReference": {"reference": "Medication/m"},
}


def is_called(name: str) -> dict:
    return MEDICATION | {"code": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": name}]}}


def test_lines_that_change_places_may_change_what_a_medication_is(tmp_path, home):
    place = tmp_path / "place"
    an_export(place, patient("a"), visit("v", "a"), GIVEN, is_called("1"), is_called("2"))
    ingest(place, home, SETTINGS)
    assert codes(home) >= {"RXNORM//2"}
    reverse_lines(place / "Medication.ndjson")
    assert not ingest(place, home, SETTINGS).resumed
    assert codes(home) >= {"RXNORM//1"}


def test_files_that_change_places_may_change_what_a_medication_is(tmp_path, home):
    place = tmp_path / "place"
    an_export(place, patient("a"), visit("v", "a"), GIVEN)
    for name, code in (("first", "1"), ("second", "2")):
        (place / f"{name}.ndjson").write_text(json.dumps(is_called(code)) + "\n")
    ingest(place, home, SETTINGS)
    assert codes(home) >= {"RXNORM//2"}
    (place / "first.ndjson").rename(place / "third.ndjson")
    assert not ingest(place, home, SETTINGS).resumed
    assert codes(home) >= {"RXNORM//1"}


def test_a_medication_that_is_told_twice_alike_is_the_same_in_any_order(tmp_path, home):
    place = tmp_path / "place"
    an_export(place, patient("a"), visit("v", "a"), GIVEN, is_called("1"), is_called("1"))
    ingest(place, home, SETTINGS)
    (place / "Medication.ndjson").rename(place / "A.ndjson")
    assert ingest(place, home, SETTINGS).resumed


@pytest.mark.parametrize("bucket_bytes", [60_000_000, 100])  # the two lie in one bucket; in many
@pytest.mark.parametrize("versions", [(None, None), ("2020-06-02T00:00:00Z", "2020-06-02T00:00:00Z")])
def test_files_that_change_places_may_change_whose_a_record_is(tmp_path, home, monkeypatch, bucket_bytes, versions):
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", bucket_bytes)
    place = tmp_path / "place"
    an_export(place, *(one for name in "abcd" for one in (patient(name), visit(f"v-{name}", name))))
    for name, of, updated in zip(("first", "second"), "ab", versions, strict=True):
        (place / f"{name}.ndjson").write_text(json.dumps(weight("w", of, 70, updated)) + "\n")
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("b"): [70]}
    (place / "first.ndjson").rename(place / "third.ndjson")
    assert not ingest(place, home, SETTINGS).resumed
    assert weights(home) == {subject("a"): [70]}


def test_a_record_whose_versions_tell_whose_it_is_is_so_in_any_order(tmp_path, home, monkeypatch):
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 100)
    place = tmp_path / "place"
    an_export(place, *(one for name in "abcd" for one in (patient(name), visit(f"v-{name}", name))))
    for name, of, day in (("first", "a", 2), ("second", "b", 3)):
        (place / f"{name}.ndjson").write_text(json.dumps(weight("w", of, 70, f"2020-06-0{day}T00:00:00Z")) + "\n")
    ingest(place, home, SETTINGS)
    (place / "first.ndjson").rename(place / "third.ndjson")
    assert ingest(place, home, SETTINGS).resumed
    assert weights(home) == {subject("b"): [70]}


def test_a_deletion_that_changes_places_may_spare_what_comes_after_it(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"))
    an_export(place / "0002-since", weight("w", "a", 70))
    an_export(place / "0003-since", deleted=("Observation/w", "Patient/a"))
    an_export(place / "0004-since", patient("b"), visit("v-b", "b"))
    assert ingest(place, home, SETTINGS).subjects == 1
    (place / "0003-since").rename(place / "0000-since")
    assert ingest(place, home, SETTINGS).subjects == 2
    assert weights(home) == {subject("a"): [70]}
