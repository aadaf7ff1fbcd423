"""What a source takes back: its records, and all that is known of its patients."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from features.home import Home
from features.ingest import ingest
from features.privacy.keys import load_key
from features.privacy.pseudonyms import pseudonym
from features.privacy.vault import unseal_tables
from features.settings import StudySettings
from features.superseded import superseded_events
from tests.features.updates.small_exports import (
    an_export,
    everything_kept,
    moved,
    patient,
    subject,
    visit,
    weight,
    weights,
)

SETTINGS = StudySettings()


def test_a_deleted_record_is_taken_out_counted_and_kept_as_past(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", deleted=("Observation/w",), until="2020-07-01T12:34:56Z")
    result = ingest(place, home, SETTINGS)
    assert weights(home) == {}
    assert result.records_in == result.records_used + result.records_ignored == 3
    counts = pl.read_parquet(home.tables / "record_counts.parquet").filter(outcome="ignored")
    assert counts.select("resource_type", "reason", "records").rows() == [("Observation", "deleted at the source", 1)]
    profile = pl.read_parquet(home.tables / "data_profile.parquet").filter(finding="deletions")
    assert profile["count"].to_list() == [1]
    [(value, known, until)] = (
        superseded_events(home, load_key()).select("numeric_value", "known_time", "known_until").rows()
    )
    assert value == 70
    assert known == moved(home, "a", "2020-06-01T10:05:00")
    assert until == moved(home, "a", "2020-06-30T23:00:00")  # the last whole day before
    assert all(path.read_bytes().startswith(b"sequela vault") for path in (home.tables / "superseded").iterdir())
    an_export(place / "0003-since", weight("w", "a", 80))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [80]}


def test_a_deletion_of_what_the_same_export_brings_holds(tmp_path, home):
    an_export(
        tmp_path / "place" / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 7), deleted=("Observation/w",)
    )
    ingest(tmp_path / "place", home, SETTINGS)
    assert weights(home) == {}


def a_bundle(folder: Path, *entries: object) -> None:
    """Write an export that is one bundle."""
    an_export(folder)
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    (folder / "bundle.ndjson").write_text(json.dumps(bundle) + "\n")


def deletes(url: object, method: object = "DELETE", **other: object) -> dict:
    return {"request": {"method": method, "url": url}} | other


def counted(home: Home) -> dict[str, int]:
    """What of a bundle's entries was counted in the data profile."""
    profile = pl.read_parquet(home.tables / "data_profile.parquet").select("finding", "count")
    names = ("deletions", "deletions_not_understood", "entries_without_resource")
    return {name: count for name, count in profile.iter_rows() if name in names}


@pytest.mark.parametrize(
    "entry",
    [
        deletes("Observation/w"),
        deletes("https://fhir.example.org/r4/Observation/w"),
        deletes("Observation/w/_history/2"),
        deletes("Observation/w", "delete"),
        deletes("Observation/w", resource=None),
        deletes("Observation/w", resource=weight("w", "a", 70)),  # the last version, which is no more
        deletes("Observation/w", resource={"resourceType": "Observation", "id": "w"}),
    ],
)
def test_an_entry_that_deletes_is_no_living_record(tmp_path, home, entry):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    ingest(place, home, SETTINGS)
    a_bundle(place / "0002-since", entry)
    result = ingest(place, home, SETTINGS)
    assert weights(home) == {}
    assert (result.records_in, result.records_quarantined) == (3, 0)
    assert counted(home) == {"deletions": 1}


@pytest.mark.parametrize(
    ("entry", "finding"),
    [
        (deletes("Observation/w?x"), "deletions_not_understood"),
        (deletes("Observation?identifier=x|w"), "deletions_not_understood"),
        (deletes("observation/w"), "deletions_not_understood"),
        (deletes("Observation/"), "deletions_not_understood"),
        (deletes("urn:uuid:w"), "deletions_not_understood"),
        (deletes(5), "deletions_not_understood"),
        (deletes(None), "deletions_not_understood"),
        ({"request": {"method": "DELETE"}, "resource": weight("w", "a", 70)}, "deletions_not_understood"),
        (
            {"request": {"method": "DELETE"}, "fullUrl": "https://fhir.example.org/Observation/w"},
            "deletions_not_understood",
        ),
        ({"request": "DELETE Observation/w"}, "entries_without_resource"),
        ({"request": None}, "entries_without_resource"),
        (deletes("Observation/w", "GET"), "entries_without_resource"),
        ({}, "entries_without_resource"),
    ],
)
def test_an_entry_that_is_not_understood_is_counted_and_spares_the_others(tmp_path, home, entry, finding):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70), weight("w2", "a", 71))
    a_bundle(place / "0002-since", entry, deletes("Observation/w2"))
    result = ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [70]}
    assert result.records_quarantined == 0
    assert counted(home) == {"deletions": 1, finding: 1}


def test_a_transaction_that_creates_is_read(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"))
    a_bundle(place / "0002-since", deletes("Observation/w", "PUT", resource=weight("w", "a", 70)))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [70]}
    assert counted(home) == {}


def test_a_deleted_patient_leaves_no_trace_but_counts(tmp_path, home):
    place = tmp_path / "place"
    people = [
        one for name in ("a", "b") for one in (patient(name), visit(f"v-{name}", name), weight(f"w-{name}", name, 70))
    ]
    an_export(place / "0001-full", *people)
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", weight("w-a", "a", 75), weight("w-b", "b", 76))
    ingest(place, home, SETTINGS)
    assert superseded_events(home, load_key())["subject_id"].n_unique() == 2
    assert subject("a") in everything_kept(home)
    an_export(place / "0003-since", deleted=("Patient/a",))
    result = ingest(place, home, SETTINGS)
    assert result.subjects == 1
    kept = everything_kept(home)
    record_ids = {
        pseudonym(load_key().pseudonyms, kind, name) for kind, name in (("Encounter", "v-a"), ("Observation", "w-a"))
    }
    assert not kept & ({"a", "v-a", "w-a"} | record_ids)
    assert {"b", "v-b", "w-b", subject("b")} <= kept
    assert superseded_events(home, load_key())["subject_id"].to_list() == [subject("b")]
    assert result.records_in == result.records_used + result.records_ignored == 8
    # The deletion itself is remembered, by its pseudonym alone.
    assert unseal_tables(load_key(), home.vault / "ledger.vault")["deletions"]["record_id"].to_list() == [subject("a")]

    shutil.rmtree(place / "0003-since")  # the deletion was a mistake
    again = ingest(place, home, SETTINGS)
    assert again.subjects == 2
    assert weights(home) == {subject("a"): [75], subject("b"): [76]}
    assert {"a", "v-a", "w-a"} <= everything_kept(home)


def test_a_patient_who_is_gone_from_the_source_is_gone_from_the_past_too(tmp_path, home):
    place = tmp_path / "place"
    an_export(
        place / "0001-full", patient("a"), visit("v-a", "a"), patient("b"), visit("v-b", "b"), weight("w", "b", 70)
    )
    an_export(place / "0002-since", weight("w", "b", 71))
    ingest(place, home, SETTINGS)
    shutil.rmtree(place / "0002-since")
    ingest(place, home, SETTINGS)
    assert superseded_events(home, load_key())["subject_id"].to_list() == [subject("b")]
    shutil.rmtree(place / "0001-full")
    an_export(place / "0001-full", patient("a"), visit("v-a", "a"))
    result = ingest(place, home, SETTINGS)
    assert result.subjects == 1
    assert superseded_events(home, load_key()).is_empty()
    assert subject("b") not in everything_kept(home)
