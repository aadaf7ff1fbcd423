"""What a second reading does, case by case: what it leaves alone, and what it makes anew."""

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from features import ingest as ingest_module
from features.errors import SourceError
from features.home import Home
from features.ingest import ingest
from features.privacy.keys import load_key
from features.settings import RecordSettings, SplitSettings, StudySettings
from features.superseded import superseded_events
from tests.features.updates.small_exports import (
    an_export,
    moved,
    patient,
    reverse_lines,
    subject,
    visit,
    weight,
    weights,
)

SETTINGS = StudySettings()


def state(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.path.rglob("*")) if path.is_file()}


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
