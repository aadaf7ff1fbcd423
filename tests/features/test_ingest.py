"""The whole reading: same records, same bytes; nothing lost; bad input told plainly, the last good state kept."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from features import ingest as ingest_module
from features.errors import KeyFileError, SequelaError, SourceError
from features.home import Home
from features.ingest import events_of, ingest
from features.integrity import balance_records
from features.settings import RecordSettings, StudySettings
from features.tables import Events, checked
from tests.synthetic_records import write_records

SETTINGS = StudySettings()


@pytest.fixture(autouse=True)
def key_file(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, patients=25, seed=1)
    return folder


def digest(home: Home) -> dict[str, str]:
    """Every file of the dataset by its bytes."""
    files = sorted((home.meds / "data").rglob("*.parquet"))
    return {str(path.relative_to(home.meds)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_records_give_the_same_bytes_whatever_the_processes_packing_or_order(records, tmp_path):
    one = Home(tmp_path / "one")
    first = ingest(records, one, SETTINGS, processes=1)
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for path in records.iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        (shuffled / f"{path.name}.gz").write_bytes(gzip.compress(b"".join(reversed(lines))))
    other = Home(tmp_path / "other")
    second = ingest(shuffled, other, SETTINGS, processes=2)
    assert digest(one) == digest(other)
    assert first.data_version == second.data_version
    assert first.events == second.events > 1_000


def test_several_processes_and_parts_give_the_same_bytes(records, tmp_path, monkeypatch):
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    ingest(records, one, SETTINGS, processes=1)
    monkeypatch.setattr(ingest_module, "_FEW_BYTES", 0)
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 10**12)
    monkeypatch.setattr("features.records.landing._LARGE_BYTES", {"plain": 0, "gzip": 0, "zstd": 0})
    monkeypatch.setattr("features.records.landing._BYTES_HELD", 10_000)
    ingest(records, two, SETTINGS, processes=2)
    assert digest(one) == digest(two)


def test_buckets_hold_each_subject_once(records, tmp_path, monkeypatch):
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 200_000)
    whole, parted = Home(tmp_path / "whole"), Home(tmp_path / "parted")
    parted_result = ingest(records, parted, SETTINGS, processes=1)
    monkeypatch.undo()
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(_copy_of_key(tmp_path)))
    whole_result = ingest(records, whole, SETTINGS, processes=1)
    assert len(digest(parted)) > 3
    assert parted_result.events == whole_result.events
    order = ["subject_id", "time", "known_time", "code", "record_id", "numeric_value"]
    assert events_of(parted).sort(order).collect().equals(events_of(whole).sort(order).collect())


def _copy_of_key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    return path


def test_the_dataset_keeps_meds_own_schema(records, tmp_path):
    import meds

    home = Home(tmp_path)
    ingest(records, home, SETTINGS)
    for path in (home.meds / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        meds.DataSchema.validate(table)
        assert table.schema.field("text_value").type == meds.DataSchema.schema().field("text_value").type
    meds.CodeMetadataSchema.validate(pq.read_table(home.meds / meds.code_metadata_filepath))
    meds.SubjectSplitSchema.validate(pq.read_table(home.meds / meds.subject_splits_filepath))
    description = json.loads((home.meds / meds.dataset_metadata_filepath).read_text())
    meds.DatasetMetadataSchema.validate(description)
    checked(events_of(home).collect().select(Events.column_names()), Events)


def test_timelines_are_in_order_and_known_never_before_they_happened(records, tmp_path):
    home = Home(tmp_path)
    ingest(records, home, SETTINGS)
    for path in (home.meds / "data").rglob("*.parquet"):
        events = pl.read_parquet(path)
        assert events.equals(events.sort("subject_id", "time", nulls_last=False, maintain_order=True))
        assert events.filter(pl.col("known_time") < pl.col("time")).is_empty()
        assert events.filter(pl.col("known_time").is_null() != pl.col("time").is_null()).is_empty()


def test_every_record_is_accounted_for(records, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(records, damaged)
    with (damaged / "Condition.ndjson").open("a") as file:
        file.write('{"resourceType":"Condition","id":"x"\n{"resourceType":"Condition","id":"y"}\n')
        file.write('{"resourceType":"Claim","id":"z"}\n')
    home = Home(tmp_path / "home")
    result = ingest(damaged, home, SETTINGS)
    lines = sum(len(path.read_text().splitlines()) for path in damaged.iterdir())
    assert result.records_in == lines
    assert result.records_quarantined == 2
    balance = balance_records(
        lines,
        events_of(home),
        pl.read_parquet(home.tables / "record_counts.parquet"),
        pl.scan_parquet(home.tables / "quarantine.parquet"),
    )
    assert balance.is_balanced
    reasons = pl.read_parquet(home.tables / "quarantine.parquet").sort("offset")["reason"].to_list()
    assert reasons == ["malformed JSON: ends too early", "no subject"]


def test_unchanged_records_are_not_read_again_and_changed_ones_are(records, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    home = Home(tmp_path / "home")
    first = ingest(source, home, SETTINGS)
    again = ingest(source, home, SETTINGS)
    assert again.resumed
    assert (again.data_version, again.events) == (first.data_version, first.events)
    (source / "Observation.ndjson").unlink()
    fewer = ingest(source, home, SETTINGS)
    assert not fewer.resumed
    assert fewer.events < first.events


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is empty"),
        ({"notes.txt": "hello"}, "No FHIR records"),
        ({"Patient.ndjson": '{"resourceType":"Patient","id":"p"}\n'}, "Add the clinical files"),
        ({"Location.ndjson": '{"resourceType":"Location","id":"p"}\n'}, "none of them a Patient"),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path, content, message):
    source = tmp_path / "source"
    source.mkdir()
    for name, text in content.items():
        (source / name).write_text(text)
    home = Home(tmp_path / "home")
    with pytest.raises(SourceError, match=message):
        ingest(source, home, SETTINGS)
    assert not home.meds.exists()


def test_a_file_with_too_many_bad_records_stops_the_run_and_keeps_the_last_state(records, tmp_path):
    home = Home(tmp_path / "home")
    ingest(records, home, SETTINGS)
    before = digest(home)
    damaged = tmp_path / "damaged"
    shutil.copytree(records, damaged)
    (damaged / "Quillfeather_Nora.ndjson").write_text('{"resourceType":"Observation"}\n' * 30)
    with pytest.raises(SourceError, match="quarantine_share_limit") as stopped:
        ingest(damaged, home, SETTINGS)
    assert "Quillfeather" not in str(stopped.value)
    assert digest(home) == before
    lenient = StudySettings(records=RecordSettings(quarantine_share_limit=1))
    assert ingest(damaged, home, lenient).records_quarantined == 30


def test_another_key_is_refused_and_nothing_changes(records, tmp_path, key_file):
    home = Home(tmp_path / "home")
    ingest(records, home, SETTINGS)
    before = digest(home)
    key_file.write_text("cd" * 32)
    with pytest.raises(KeyFileError, match="another key"):
        ingest(records, home, SETTINGS)
    assert digest(home) == before


@pytest.mark.parametrize("step", ["build_bucket", "data_profile", "_write_metadata"])
def test_a_run_that_dies_half_way_leaves_the_last_state_and_no_litter(records, tmp_path, monkeypatch, step):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    home = Home(tmp_path / "home")
    ingest(source, home, SETTINGS)
    before = digest(home)
    (source / "Observation.ndjson").unlink()

    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ingest_module, step, full)
    with pytest.raises(OSError, match="No space"):
        ingest(source, home, SETTINGS)
    assert digest(home) == before
    assert not (home.path / ".ingest").exists()


@pytest.mark.parametrize("moved", ["meds", "vault"])
def test_a_kill_between_two_moves_is_healed_by_the_next_run(records, tmp_path, moved):
    home = Home(tmp_path)
    first = ingest(records, home, SETTINGS)
    folder = home.path / moved
    folder.rename(folder.with_name(f".{moved}.old"))
    (home.path / ".ingest" / "rows").mkdir(parents=True)
    again = ingest(records, home, SETTINGS)
    assert again.data_version == first.data_version
    assert again.resumed
    assert not (home.path / ".ingest").exists()


def test_two_runs_at_once_do_not_mix(records, tmp_path):
    home = Home(tmp_path)
    with ingest_module._alone_in(home), pytest.raises(SequelaError, match="Another run"):
        ingest(records, home, SETTINGS)


def test_two_patients_with_one_pseudonym_stop_the_run(records, tmp_path, monkeypatch):
    monkeypatch.setattr("features.records.rows.pseudonym", lambda key, kind, identifier: 7)
    with pytest.raises(SequelaError, match="same pseudonym"):
        ingest(records, Home(tmp_path), SETTINGS, processes=1)


def test_splits_stay_when_patients_are_added(records, tmp_path):
    fewer = tmp_path / "fewer"
    write_records(fewer, patients=10, seed=1)
    small, large = Home(tmp_path / "small"), Home(tmp_path / "large")
    ingest(fewer, small, SETTINGS)
    ingest(records, large, SETTINGS)
    splits = [pl.read_parquet(home.tables / "subject_splits.parquet") for home in (small, large)]
    both = splits[0].join(splits[1], on="subject_id", suffix="_large")
    assert both.height == 10
    assert (both["split"] == both["split_large"]).all()
