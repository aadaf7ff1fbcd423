"""The whole reading: same records, same bytes; nothing lost; bad input told plainly, the last good state kept."""

import gzip
import hashlib
import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow.parquet as pq
import pytest

from features import buckets, publishing
from features import ingest as ingest_module
from features.errors import KeyFileError, SequelaError, SourceError
from features.home import Home
from features.ingest import events_of, ingest
from features.integrity import balance_records
from features.records.validation import judge_sample
from features.settings import RecordSettings, StudySettings
from features.sources.landed import Manifest, write_manifest
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
    """Every file of the dataset and the tables about it, by its bytes."""
    files = sorted([*(home.meds / "data").rglob("*.parquet"), *home.tables.glob("*.parquet")])
    return {str(path.relative_to(home.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
    monkeypatch.setattr("features.records.intake._FEW_BYTES", 0)
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
        ({"Location.ndjson": '{"resourceType":"Location","id":"p"}\n'}, "No Patient was found in 1 file. Add"),
        (
            {
                "Patient.ndjson": '{"resourceType":"Patient","id":"p"}\n',
                "Quillfeather.json": '{"resourceType":"Encounter","id',
                "notes.txt": "hello",
            },
            r"for 1 Patient record\. .* 1 record in 1 file could not be read: file_\w+ \(no\. 2 of 2 by path\): "
            r"1 x malformed JSON: ends too early\. 1 other file without",
        ),
        (
            {f"{number}.json": '{"resourceType":"Patient"' for number in range(5)},
            r"in 5 files\. .* 5 records in 5 files could not be read: .*\(no\. 3 of 5 by path\).*; and 2 more files\.$",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path, content, message):
    source = tmp_path / "source"
    source.mkdir()
    for name, text in content.items():
        (source / name).write_text(text)
    home = Home(tmp_path / "home")
    with pytest.raises(SourceError, match=message) as stopped:
        ingest(source, home, SETTINGS)
    assert "Quillfeather" not in str(stopped.value)
    assert not home.meds.exists()


@pytest.mark.parametrize(
    "manifest",
    [
        b"name,rows\nPatient.ndjson,7\n",
        b"",
        b"\xff\xfe{",
        b'{"kind": "\xff"}',
        b"[1, 2]",
        b'{"kind": "Deployment", "files": 5}',
        b'{"transactionTime": "2026-03-01T00:00:00Z", "output": []}',
    ],
)
def test_a_manifest_that_is_not_ours_is_nothing_to_us(records, tmp_path, manifest):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    (source / "manifest.json").write_bytes(manifest)
    result = ingest(source, Home(tmp_path / "home"), SETTINGS)
    plain = ingest(records, Home(tmp_path / "plain"), SETTINGS)
    assert (result.data_version, result.source_kind) == (plain.data_version, plain.source_kind)


def test_a_manifest_of_ours_that_is_cut_short_is_damage(records, tmp_path):
    """Else simulated people, say, would pass for real ones."""
    source = tmp_path / "source"
    shutil.copytree(records, source)
    write_manifest(source, Manifest("simulated", "a test", "2026-03-01T00:00:00Z", ()))
    whole = (source / "manifest.json").read_bytes()
    (source / "manifest.json").write_bytes(whole[:-10])
    with pytest.raises(SourceError, match="damaged"):
        ingest(source, Home(tmp_path / "home"), SETTINGS)


def test_what_is_not_utf8_and_what_is_nested_too_deeply_goes_to_the_quarantine(records, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    latin = '{"resourceType":"Condition","id":"x","recordedDate":"é"}\n'.encode("latin-1")
    deep = b'{"resourceType":"Condition","id":"x","zzz":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    bundle = b'{"resourceType":"Bundle","entry":[{"resource":' + latin[:-1] + b'},{"fullUrl":"\xe9"}]}\n'
    with (source / "Condition.ndjson").open("ab") as file:
        file.write(latin + deep + bundle)
    home = Home(tmp_path / "home")
    assert ingest(source, home, SETTINGS).records_quarantined == 3
    assert pl.read_parquet(home.tables / "quarantine.parquet").sort("offset")["reason"].to_list() == [
        "malformed text: not UTF-8",
        "malformed JSON: nested too deeply",
        "a bundle with malformed text: not UTF-8",
    ]
    assert judge_sample(source).judged


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


@pytest.mark.parametrize(
    ("module", "step"),
    [(buckets, "build_timelines"), (ingest_module, "data_profile"), (ingest_module, "write_metadata")],
)
def test_a_run_that_dies_half_way_leaves_the_last_state_and_no_litter(records, tmp_path, monkeypatch, module, step):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    home = Home(tmp_path / "home")
    ingest(source, home, SETTINGS)
    before = digest(home)
    (source / "Observation.ndjson").unlink()

    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    with pytest.raises(OSError, match="No space"):
        ingest(source, home, SETTINGS)
    assert digest(home) == before
    assert not (home.path / ".ingest").exists()


@pytest.mark.parametrize("killed_at", range(1, 18))
def test_a_kill_anywhere_in_the_publication_is_undone_by_the_next_run(records, tmp_path, monkeypatch, killed_at):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    home = Home(tmp_path / "home")
    first = ingest(source, home, SETTINGS)
    before = state(home)
    (source / "Observation.ndjson").unlink()
    moves = iter(range(1, 100))
    move = os.replace

    def killed(origin: Path, place: Path) -> None:
        if next(moves) == killed_at:
            raise KeyboardInterrupt
        move(origin, place)

    monkeypatch.setattr(publishing, "os", SimpleNamespace(replace=killed))
    with pytest.raises(KeyboardInterrupt):
        ingest(source, home, SETTINGS)
    monkeypatch.undo()
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(_copy_of_key(tmp_path)))
    shutil.copytree(records, source, dirs_exist_ok=True)
    publishing.heal(home, home.path / ".ingest")
    assert state(home) == before
    assert ingest(source, home, SETTINGS).data_version == first.data_version
    assert {path.name for path in home.path.iterdir()} == {"meds", "tables", "vault", ".lock"}


def state(home: Home) -> dict[str, str]:
    """Every file of the home but the lock, by its bytes."""
    files = sorted(path for path in home.path.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(home.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_runs_at_once_do_not_mix(records, tmp_path):
    home = Home(tmp_path)
    with publishing.alone_in(home), pytest.raises(SequelaError, match="Another run"):
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


def test_a_damaged_start_does_not_make_a_file_disappear(records, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(records, damaged)
    path = damaged / "Observation.ndjson"
    path.write_text("garbage\n" + path.read_text())
    packed = bytearray(gzip.compress((damaged / "Condition.ndjson").read_bytes()))
    packed[30] ^= 0xFF
    (damaged / "Condition.ndjson").unlink()
    (damaged / "Condition.ndjson.gz").write_bytes(packed)
    home = Home(tmp_path / "home")
    lenient = StudySettings(records=RecordSettings(quarantine_share_limit=1))
    result = ingest(damaged, home, lenient)
    whole = ingest(records, Home(tmp_path / "whole"), SETTINGS)
    quarantine = pl.read_parquet(home.tables / "quarantine.parquet").select("file", "offset", "reason").rows()
    assert ("Observation.ndjson", 0, "malformed JSON") in quarantine
    assert any(file == "Condition.ndjson.gz" and "compressed" in reason for file, _, reason in quarantine)
    lines = len((records / "Condition.ndjson").read_text().splitlines())
    assert result.records_used >= whole.records_used - lines


def test_the_quarantine_names_the_byte_of_records_refused_for_what_they_say(records, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(records, damaged)
    path = damaged / "Condition.ndjson"
    bad = b'{"resourceType":"Condition","id":"y"}'
    content = path.read_bytes().rstrip(b"\n") + b"\n\n" + bad + b"\n"
    path.write_bytes(content)
    patient = json.dumps({"resource": {"resourceType": "Patient", "id": "bundled"}})
    bundle = f'{{"resourceType": "Bundle", "entry": [{patient}, {{"resource": {bad.decode()}}}]}}'
    (damaged / "bundle.json").write_text(bundle)
    home = Home(tmp_path / "home")
    ingest(damaged, home, SETTINGS)
    rows = pl.read_parquet(home.tables / "quarantine.parquet").sort("file").select("offset", "reason").rows()
    assert rows == [(content.index(bad), "no subject"), (bundle.index(bad.decode()), "no subject")]


def test_nobody_who_is_capped_gives_the_shift_away(tmp_path):
    """Were all capped births one date moved by whole weeks, the warehouse alone would tell each person's weeks."""
    source = tmp_path / "source"
    source.mkdir()
    people = range(60)
    (source / "Patient.ndjson").write_text(
        "".join(f'{{"resourceType":"Patient","id":"p{n}","birthDate":"19{n % 20:02}-05-07"}}\n' for n in people)
    )
    period = '"period":{"start":"2020-06-01T10:00:00Z","end":"2020-06-01T11:00:00Z"}'
    (source / "Encounter.ndjson").write_text(
        "".join(
            f'{{"resourceType":"Encounter","id":"e{n}","subject":{{"reference":"Patient/p{n}"}},{period}}}\n'
            for n in people
        )
    )
    home = Home(tmp_path / "home")
    ingest(source, home, SETTINGS)
    births = events_of(home).filter(pl.col("code") == "MEDS_BIRTH").collect()
    visits = events_of(home).filter(pl.col("code").str.ends_with("//start")).collect()
    both = births.join(visits, on="subject_id", suffix="_visit")
    ages = (both["time_visit"] - both["time"]).dt.total_days() / 365.25
    assert ages.max() <= 90.1
    assert ages.n_unique() > 30
    limit = datetime(1930, 6, 1)
    whole_weeks = births.filter((pl.lit(limit) - pl.col("time")).dt.total_days() % 7 == 0)
    assert whole_weeks.height < 25  # one in seven by chance


def test_a_birth_is_capped_the_same_whether_and_when_the_person_died(tmp_path):
    """Else ages would tell the days left to live."""
    births = []
    for name, death in (("alive", ""), ("dead", ',"deceasedDateTime":"2012-02-03T04:05:06Z"')):
        source = tmp_path / name
        source.mkdir()
        (source / "Patient.ndjson").write_text(
            f'{{"resourceType":"Patient","id":"old","birthDate":"1920-05-07"{death}}}\n'
            '{"resourceType":"Patient","id":"other","birthDate":"1970-01-01"}\n'
        )
        (source / "Encounter.ndjson").write_text(
            '{"resourceType":"Encounter","id":"e","subject":{"reference":"Patient/other"},'
            '"period":{"start":"2020-06-01T10:00:00Z","end":"2020-06-01T11:00:00Z"}}\n'
        )
        home = Home(tmp_path / f"home-{name}")
        ingest(source, home, SETTINGS)
        events = events_of(home).filter(pl.col("code") == "MEDS_BIRTH").sort("subject_id").collect()
        births.append(events["time"].to_list())
    assert births[0] == births[1]


def test_one_test_patient_of_synthea_does_not_make_a_hospital_synthetic(records, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(records, mixed)
    with (mixed / "Patient.ndjson").open("a") as file:
        file.write(
            '{"resourceType":"Patient","id":"s","identifier":'
            '[{"system":"https://github.com/synthetichealth/synthea","value":"s"}]}\n'
        )
    assert ingest(mixed, Home(tmp_path / "home"), SETTINGS).source_kind == "fhir"


def test_a_wording_that_one_patient_alone_has_is_not_kept(records, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(records, source)
    patient = json.loads((records / "Patient.ndjson").read_text().splitlines()[0])["id"]
    with (source / "Condition.ndjson").open("a") as file:
        file.write(
            '{"resourceType":"Condition","id":"q","code":{"coding":[{"system":"http://snomed.info/sct","code":"123456",'
            f'"display":"Quillfeather"}}]}},"subject":{{"reference":"Patient/{patient}"}},'
            '"recordedDate":"2020-01-02T03:04:05Z"}\n'
        )
    home = Home(tmp_path / "home")
    ingest(source, home, SETTINGS)
    codes = pl.read_parquet(home.tables / "codes.parquet").filter(code="SNOMED//123456")
    assert codes["events"].to_list() == [1]
    assert codes["description"].to_list() == [None]
