"""What a second reading does, case by case: what it leaves alone, what it makes anew, what it keeps of the past."""

import gzip
import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features import ingest as ingest_module
from features.errors import SourceError
from features.home import Home
from features.ingest import events_of, ingest
from features.privacy.keys import load_key
from features.privacy.pseudonyms import pseudonym
from features.privacy.vault import read_shifts, unseal, unseal_tables
from features.settings import ObservationSettings, RecordSettings, SplitSettings, StudySettings
from features.sources.landed import Manifest, write_manifest
from features.superseded import superseded_events
from features.tables import Superseded, checked
from tests.synthetic_records import write_records

SETTINGS = StudySettings()
WEIGHT = "LOINC//29463-7"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


@pytest.fixture(autouse=True)
def key_file(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, patients=25, seed=1)
    return folder


@pytest.fixture
def source(records, tmp_path) -> Path:
    """A copy of 25 patients' records, to be changed."""
    shutil.copytree(records, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def state(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.path.rglob("*")) if path.is_file()}


def an_export(folder: Path, *resources: dict, deleted: tuple[str, ...] = (), until: str | None = None) -> None:
    """Write an export: NDJSON, deletions, and a manifest."""
    folder.mkdir(parents=True)
    for resource in resources:
        with (folder / f"{resource['resourceType']}.ndjson").open("a") as file:
            file.write(json.dumps(resource) + "\n")
    if deleted:
        gone = [{"request": {"method": "DELETE", "url": url}} for url in deleted]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": gone}
        (folder / "deleted.ndjson").write_text(json.dumps(bundle) + "\n")
    write_manifest(folder, Manifest("fhir_server", "a test", "2021-01-01T00:00:00Z", (), covers_until=until))


def patient(name: str, birth: str = "1960-01-01") -> dict:
    return {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": birth}


def visit(name: str, of: str, start: str = "2020-06-01T10:00:00Z", end: str = "2020-06-01T11:00:00Z") -> dict:
    return {
        "resourceType": "Encounter",
        "id": name,
        "subject": {"reference": f"Patient/{of}"},
        "period": {"start": start, "end": end},
    }


def weight(name: str, of: str, kg: float, updated: str | None = None, issued: str = "2020-06-01T10:05:00Z") -> dict:
    return {
        "resourceType": "Observation",
        "id": name,
        "subject": {"reference": f"Patient/{of}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "effectiveDateTime": "2020-06-01T10:05:00Z",
        "issued": issued,
        "valueQuantity": {"value": kg, "unit": "kg", "code": "kg"},
    } | ({"meta": {"lastUpdated": updated}} if updated else {})


def subject(name: str) -> int:
    return pseudonym(load_key().pseudonyms, "Patient", name)


def weights(home: Home) -> dict[int, list[float]]:
    found = events_of(home).filter(pl.col("code") == WEIGHT).sort("numeric_value").collect()
    return dict(found.group_by("subject_id").agg("numeric_value").iter_rows())


def codes(home: Home) -> set[str]:
    return set(events_of(home).select("code").collect()["code"])


def moved(home: Home, name: str, moment: str) -> datetime:
    """A true moment as it stands in a patient's events."""
    shift = timedelta(microseconds=dict(read_shifts(home.vault, load_key()).iter_rows())[subject(name)])
    return (datetime.fromisoformat(moment) + shift).replace(second=0, microsecond=0)


# What says the same ------------------------------------------------------------------------------------------------


def touch(source: Path) -> None:
    for path in source.iterdir():
        path.write_bytes(path.read_bytes())


def rename(source: Path) -> None:
    for path in list(source.iterdir()):
        path.rename(source / f"again-{path.name}")


def split(source: Path) -> None:
    for path in list(source.iterdir()):
        lines = path.read_bytes().splitlines(keepends=True)
        for part in range(3):
            (source / f"{part}-{path.name}").write_bytes(b"".join(lines[part::3]))
        path.unlink()


def reverse(source: Path) -> None:
    for path in source.iterdir():
        reverse_lines(path)


def reverse_lines(path: Path) -> None:
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))


def pack(source: Path) -> None:
    for path in list(source.iterdir()):
        (source / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("again", [touch, rename, split, reverse, pack])
def test_records_that_say_the_same_are_not_parsed_and_nothing_is_written(source, home, monkeypatch, again):
    first = ingest(source, home, SETTINGS, processes=1)
    before = state(home)
    again(source)
    monkeypatch.setattr("features.records.intake.land", lambda *_: pytest.fail("parsed"))
    second = ingest(source, home, SETTINGS, processes=1)
    assert second.resumed
    assert second.subjects_rebuilt == 0
    assert (second.data_version, second.events) == (first.data_version, first.events)
    assert state(home) == before


def test_a_quarantined_record_in_another_place_is_told_in_its_new_place(source, home):
    with (source / "Condition.ndjson").open("a") as file:
        file.write('{"resourceType":"Condition","id":"y"}\n')
    first = ingest(source, home, SETTINGS)
    rename(source)
    second = ingest(source, home, SETTINGS)
    assert (second.resumed, second.subjects_rebuilt, second.data_version) == (False, 0, first.data_version)
    assert pl.read_parquet(home.tables / "quarantine.parquet")["file"].to_list() != ["Condition.ndjson"]


# What does not ------------------------------------------------------------------------------------------------------


def test_only_new_files_are_parsed_and_only_their_patients_made_anew(tmp_path, home, monkeypatch):
    place = tmp_path / "place"
    people = [f"p{number}" for number in range(30)]
    an_export(place / "0001-full", *(one for name in people for one in (patient(name), visit(f"v-{name}", name))))
    first = ingest(place, home, SETTINGS)
    assert first.subjects_rebuilt == first.subjects == 30
    shards = {path: path.stat().st_ino for path in (home.meds / "data").rglob("*.parquet")}
    an_export(place / "0002-since", weight("w1", "p7", 70), weight("w2", "p7", 71))
    read = []
    land = ingest_module.Intake.read.__globals__["land"]
    monkeypatch.setattr(
        "features.records.intake.land",
        lambda task, *rest: (read.extend(f.name for f in task.files), land(task, *rest))[1],
    )
    second = ingest(place, home, SETTINGS, processes=1)
    assert read == ["0002-since/Observation.ndjson"]
    assert second.subjects_rebuilt == 1
    assert second.events == first.events + 2
    assert weights(home) == {subject("p7"): [70, 71]}
    taken_over = [path for path, inode in shards.items() if path.stat().st_ino == inode]
    assert len(taken_over) == len(shards) - 1


def test_a_whole_export_made_again_in_another_order_touches_only_who_changed(source, home):
    """Nothing lies where it lay, so all is read, and compared."""
    ingest(source, home, SETTINGS)
    reverse(source)
    path = source / "Observation.ndjson"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[0]) | {"status": "entered-in-error"}
    path.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    result = ingest(source, home, SETTINGS)
    assert not result.resumed
    assert result.subjects_rebuilt == 1


def test_one_line_more_in_a_large_file_does_not_have_all_of_it_parsed(source, home, monkeypatch):
    monkeypatch.setattr("features.records.reading.LEAST_BYTES", 20_000)
    ingest(source, home, SETTINGS, processes=1)
    path = source / "Observation.ndjson"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:700], lines[700].replace("final", "cancelled"), *lines[701:]]))
    parsed = []
    read_block = ingest_module.Intake.read.__globals__["land"].__globals__["_read_block"]
    monkeypatch.setattr(
        "features.records.landing._read_block",
        lambda block, rows: (parsed.append(len(block.records)), read_block(block, rows))[1],
    )
    assert ingest(source, home, SETTINGS, processes=1).subjects_rebuilt == 1
    assert 0 < sum(parsed) < len(lines) / 10


def test_a_record_that_moves_to_another_patient_leaves_the_first(tmp_path, home, monkeypatch):
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 50)  # so that the two lie in different buckets
    place = tmp_path / "place"
    people = [one for name in ("a", "b", "c", "d") for one in (patient(name), visit(f"v-{name}", name))]
    an_export(place / "0001-full", *people, weight("w", "a", 70, "2020-06-02T00:00:00Z"))
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", weight("w", "b", 70, "2020-06-03T00:00:00Z"), until="2020-07-01T00:00:00Z")
    result = ingest(place, home, SETTINGS)
    assert weights(home) == {subject("b"): [70]}
    assert result.subjects_rebuilt == 2
    ended = superseded_events(home, load_key())
    assert ended.select("subject_id", "known_until").rows() == [(subject("a"), moved(home, "a", "2020-06-03T00:00:00"))]
    counts = pl.read_parquet(home.tables / "record_counts.parquet").filter(resource_type="Observation")
    assert counts.select("outcome", "records").sort("outcome").rows() == [("ignored", 1), ("used", 1)]


def test_a_later_export_wins_where_versions_do_not_tell(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    an_export(place / "0002-since", weight("w", "a", 71))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [71]}
    an_export(place / "0003-since", weight("w", "a", 72))
    ingest(place, home, SETTINGS)
    assert weights(home) == {subject("a"): [72]}


def test_records_that_name_their_patient_by_an_identifier_follow_it(tmp_path, home):
    """Each file asks by itself who is meant, so each is read again when the answer changes."""
    place = tmp_path / "place"
    about = {"reference": "Patient?identifier=mrn|7"}
    named = [weight(name, "nobody", kg) | {"subject": about} for name, kg in (("w1", 70), ("w2", 71))]
    an_export(place / "0001-full", patient("a"), visit("v", "a"), named[0])
    an_export(place / "0002-since", named[1])
    assert ingest(place, home, SETTINGS).records_quarantined == 2
    an_export(place / "0003-since", patient("b") | {"identifier": [{"system": "mrn", "value": "7"}]})
    assert ingest(place, home, SETTINGS).records_quarantined == 0
    assert weights(home) == {subject("b"): [70, 71]}
    an_export(place / "0004-since", deleted=("Patient/b",))
    assert ingest(place, home, SETTINGS).records_quarantined == 2
    assert weights(home) == {}


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
    return MEDICATION | {"code": {"coding": [{"system": RXNORM, "code": name}]}}


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


def test_a_patient_of_whom_nothing_could_be_read_is_known_all_the_same(tmp_path, home):
    """As when all is read at once: the id is there, so the events have somebody."""
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("b"), visit("v-b", "b"), weight("w", "a", 70))
    assert ingest(place, home, SETTINGS).subjects == 1
    an_export(place / "0002-since", patient("a", birth="never"))
    fresh = Home(tmp_path / "fresh")
    results = [ingest(place, one, SETTINGS) for one in (home, fresh)]
    assert results[0].subjects == results[1].subjects == 2
    assert weights(home) == weights(fresh) == {subject("a"): [70]}


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


def test_a_setting_that_everybody_depends_on_makes_all_anew_without_reading(source, home, monkeypatch):
    first = ingest(source, home, SETTINGS)
    monkeypatch.setattr("features.records.intake.land", lambda *_: pytest.fail("parsed"))
    fewer = StudySettings(splits=SplitSettings(train=0.2, tuning=0.2, held_out=0.6))
    second = ingest(source, home, fewer, processes=1)
    assert second.subjects_rebuilt == first.subjects
    fresh = Home(home.path.with_name("fresh"))
    monkeypatch.undo()
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(_copy_of_key(home)))
    assert ingest(source, fresh, fewer).data_version == second.data_version
    assert superseded_events(home, load_key()).is_empty()  # the records said nothing new


def _copy_of_key(home: Home) -> Path:
    path = home.path.with_name("key")
    path.write_text("ab" * 32)
    path.chmod(0o600)
    return path


def test_a_limit_alone_changes_nothing_but_may_stop(source, home):
    with (source / "Condition.ndjson").open("a") as file:
        file.write('{"resourceType":"Condition","id":"y"}\n')
    first = ingest(source, home, SETTINGS)
    strict = StudySettings(records=RecordSettings(quarantine_share_limit=0, quarantine_records_allowed=0))
    with pytest.raises(SourceError, match="quarantine_share_limit"):
        ingest(source, home, strict)
    lenient = StudySettings(records=RecordSettings(quarantine_share_limit=1))
    second = ingest(source, home, lenient)
    assert (second.subjects_rebuilt, second.data_version) == (0, first.data_version)


def test_other_rules_have_everything_read_anew_and_the_past_forgotten(tmp_path, home, monkeypatch):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", weight("w", "a", 71))
    ingest(place, home, SETTINGS)
    assert superseded_events(home, load_key()).height == 1
    monkeypatch.setattr(ingest_module, "VERSION", "another")
    result = ingest(place, home, SETTINGS)
    assert (result.resumed, result.subjects_rebuilt) == (False, 1)
    assert superseded_events(home, load_key()).is_empty()


def test_buckets_are_divided_when_the_source_has_outgrown_them(tmp_path, home, monkeypatch):
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 20_000)
    place = tmp_path / "place"
    people = [[patient(f"p{n}"), visit(f"v{n}", f"p{n}"), weight(f"w{n}", f"p{n}", 70)] for n in range(400)]
    an_export(place / "0001-full", *(one for person in people[:30] for one in person))
    ingest(place, home, SETTINGS)
    assert len(list(home.vault.glob("records-*.vault"))) == 1
    an_export(place / "0002-since", *(one for person in people[30:] for one in person), weight("w3", "p3", 75))
    second = ingest(place, home, SETTINGS)
    assert len(list(home.vault.glob("records-*.vault"))) == 4
    assert second.subjects_rebuilt == 371  # 370 new ones, and p3
    assert weights(home) == {subject(f"p{n}"): [75 if n == 3 else 70] for n in range(400)}
    assert superseded_events(home, load_key())["subject_id"].to_list() == [subject("p3")]
    an_export(place / "0003-since", weight("w4", "p4", 80))
    assert ingest(place, home, SETTINGS).subjects_rebuilt == 1
    assert superseded_events(home, load_key()).height == 2


@pytest.mark.parametrize(
    "gone", ["meds", "meds/data/train/0.parquet", "vault/events-00000.vault", "vault/ledger.vault"]
)
def test_a_home_of_which_something_is_gone_is_made_anew(source, home, gone):
    first = ingest(source, home, SETTINGS)
    path = home.path / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    (source / "Organization.ndjson").write_text((source / "Organization.ndjson").read_text() + "\n")
    second = ingest(source, home, SETTINGS)
    assert (second.subjects_rebuilt, second.data_version) == (first.subjects, first.data_version)


# What is deleted ----------------------------------------------------------------------------------------------------


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
    assert until == moved(home, "a", "2020-07-01T12:34:56")
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


def everything_kept(home: Home) -> set:
    """Every value of every table that a home holds but the deletions themselves, the sealed ones opened."""
    values: set = set()
    for path in home.path.rglob("*"):
        if path.suffix == ".parquet":
            tables = [pl.read_parquet(path)]
        elif path.suffix == ".vault" and path.name.startswith(("records-", "events-", "ledger")):
            tables = [table for name, table in unseal_tables(load_key(), path).items() if name != "deletions"]
        elif path.suffix == ".vault":
            tables = [unseal(load_key(), path)]
        else:
            continue
        for table in tables:
            for column in table.get_columns():
                values |= set(column.to_list()) if not column.dtype.is_nested() else set()
    return values


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


# What was ----------------------------------------------------------------------------------------------------------


def test_a_past_day_can_be_seen_as_it_was_seen_then(tmp_path, home):
    """70 kg until 3 June 08:00, when 71 kg was issued; then until the export of 1 July, which deletes it."""
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70, "2020-06-02T00:00:00Z"))
    ingest(place, home, SETTINGS)
    corrected = weight("w", "a", 71, "2020-06-03T08:00:00Z", issued="2020-06-03T08:00:00Z")
    an_export(place / "0002-since", corrected, until="2020-06-10T00:00:00Z")
    ingest(place, home, SETTINGS)
    an_export(place / "0003-since", deleted=("Observation/w",), until="2020-07-01T00:00:00Z")
    ingest(place, home, SETTINGS)
    ended = checked(superseded_events(home, load_key()), Superseded)

    def seen(moment: str) -> list[float]:
        day = moved(home, "a", moment)
        now = events_of(home).filter(pl.col("known_time") <= day).collect()
        then = ended.filter(pl.col("known_time") <= day, day < pl.col("known_until"))
        both = pl.concat([now.select(events_of(home).collect_schema().names()), then.select(now.columns)])
        return both.filter(pl.col("code") == WEIGHT)["numeric_value"].to_list()

    assert seen("2020-06-01T10:00:00") == []
    assert seen("2020-06-03T07:50:00") == [70]
    assert seen("2020-06-03T08:10:00") == [71]
    assert seen("2020-06-30T23:00:00") == [71]
    assert seen("2020-07-01T01:00:00") == []


@pytest.mark.parametrize(
    ("updated", "covered", "until"),
    [
        ("2020-06-05T10:00:00Z", "2020-06-10T00:00:00Z", "2020-06-05T10:00:00"),  # the version says when
        (None, "2020-06-10T00:00:00Z", "2020-06-10T00:00:00"),  # else the export does
        (None, None, "2020-06-02T00:00:00"),  # else the last day of the source, that of the last visit, is over
        ("2020-01-01T00:00:00Z", None, "2020-06-01T10:05:00"),  # never before it was known at all
    ],
)
def test_until_when_an_event_held(tmp_path, home, updated, covered, until):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", weight("w", "a", 71, updated), until=covered)
    ingest(place, home, SETTINGS)
    [(value, found)] = superseded_events(home, load_key()).select("numeric_value", "known_until").rows()
    assert value == 70
    assert found == moved(home, "a", until)


def test_what_another_record_changes_ends_with_the_export_that_brought_it(tmp_path, home):
    """A death that is told later takes out what was dated after it, though its record is the same."""
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70), until="2020-06-09T00:00:00Z")
    ingest(place, home, SETTINGS)
    dead = patient("a") | {"deceasedDateTime": "2020-05-01T00:00:00Z", "meta": {"lastUpdated": "2020-06-11T00:00:00Z"}}
    an_export(place / "0002-since", dead, visit("v2", "a", "2020-04-01", "2020-04-01"), until="2020-06-12T00:00:00Z")
    ingest(place, home, SETTINGS)
    ended = superseded_events(home, load_key())
    assert set(ended["code"]) == {WEIGHT, "ENCOUNTER//OTHER//start", "ENCOUNTER//OTHER//end"}
    assert set(ended["known_until"]) == {moved(home, "a", "2020-06-12T00:00:00")}


def test_the_same_fact_told_by_another_record_did_not_end(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w1", "a", 70), weight("w2", "a", 70))
    ingest(place, home, SETTINGS)
    for number, name in enumerate(("w1", "w2"), 2):
        an_export(place / f"000{number}-since", deleted=(f"Observation/{name}",))
        ingest(place, home, SETTINGS)
        assert superseded_events(home, load_key()).height == (0 if name == "w1" else 1)


def test_births_that_move_up_as_time_passes_leave_no_past(tmp_path, home):
    """Else the years that are hidden now would stand in the past."""
    source = tmp_path / "source"
    an_export(source, patient("old", "1931-03-01"), visit("v", "old", "1931-06-01", "1931-06-01"), visit("v2", "old"))
    settings = [StudySettings(observation=ObservationSettings(data_end=end)) for end in ("2020-12-31", "2024-12-31")]
    ingest(source, home, settings[0])
    births = events_of(home).filter(pl.col("code") == "MEDS_BIRTH").collect()["time"]
    result = ingest(source, home, settings[1])
    assert result.subjects_rebuilt == 1
    assert births[0] < events_of(home).filter(pl.col("code") == "MEDS_BIRTH").collect()["time"][0]
    assert superseded_events(home, load_key()).is_empty()
