"""Each odd record of `cases.py` becomes what its comment says; nothing is lost on the way."""

import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.errors import SourceError
from features.home import Home
from features.ingest import IngestResult, events_of, ingest
from features.privacy.keys import load_key
from features.privacy.pseudonyms import pseudonym
from features.privacy.vault import read_shifts
from features.settings import RecordSettings, StudySettings
from tests.features.records import cases

NAMES = [name for name, value in vars(cases).items() if name.isupper() and isinstance(value, list)]
HYPERTENSION = "SNOMED//38341003"
START, END = datetime(2015, 6, 1, 9), datetime(2015, 6, 3, 12)


def june(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2015, 6, day, hour, minute)


TAKEN, ISSUED = june(2, 8), june(2, 10)
RECORDED = (HYPERTENSION, None, None, None, TAKEN, TAKEN)

# case: events beyond birth, sex and the visit, as (code, value, unit, text, time, known_time)
EXPECTED: dict[str, list[tuple]] = {
    "CONDITION_WITHOUT_DATES": [(HYPERTENSION, None, None, None, START, END)],
    "CONDITION_WITHOUT_DATES_OR_VISIT": [],
    "CONDITION_WITH_ONSET_ALONE": [(HYPERTENSION, None, None, None, TAKEN, END)],
    "CONDITION_RECORDED_TOO_EARLY": [(HYPERTENSION, None, None, None, TAKEN, TAKEN)],
    "CONDITION_RECORDED_ON_A_DAY": [(HYPERTENSION, None, None, None, june(2, 0), june(2, 23, 59))],
    "RESULT_ISSUED_LATER": [("LOINC//4548-4", 6.1, "%", None, TAKEN, june(5, 10))],
    "CONDITION_THAT_ENDED": [RECORDED],
    "BEFORE_BIRTH": [],
    "MOVED_AWAY": [
        ("MOVED_AWAY", None, None, None, june(20, 8), june(20, 8)),
        (HYPERTENSION, None, None, None, june(20, 9), june(20, 9)),
    ],
    "MOVED_WITHIN_REACH": [],
    "MOVED_BUT_COMES": [],
    "MOVES_LATER": [
        ("ENCOUNTER//AMB//start", None, None, None, datetime(2015, 9, 1, 9), datetime(2015, 9, 1, 9)),
        ("ENCOUNTER//AMB//end", None, None, None, datetime(2015, 9, 1, 12), datetime(2015, 9, 1, 12)),
    ],
    "MOVES_NEVER": [],
    "ODD_ADDRESS": [],
    "AFTER_DEATH": [("MEDS_DEATH", None, None, None, june(10, 8), june(10, 8))],
    "DEATH_CERTIFICATE": [],
    "ABSURD_VISIT": [("ENCOUNTER//AMB//start", None, None, None, datetime(2002, 6, 1, 9), datetime(2002, 6, 1, 9))],
    "LONG_STAY": [
        ("ENCOUNTER//IMP//start", None, None, None, datetime(2014, 6, 1, 9), datetime(2014, 6, 1, 9)),
        ("ENCOUNTER//IMP//end", None, None, None, datetime(2014, 7, 11, 9), datetime(2014, 7, 11, 9)),
    ],
    "OLDER_VERSION": [("LOINC//4548-4", 7.1, "%", None, TAKEN, ISSUED)],
    "WITHDRAWN": [],
    "ENTERED_IN_ERROR": [],
    "REFUTED": [],
    "SAME_RECORD_TWICE": [RECORDED],
    "PANEL": [
        ("LOINC//8462-4", 82, "mm[Hg]", None, TAKEN, ISSUED),
        ("LOINC//8480-6", 128, "mm[Hg]", None, TAKEN, ISSUED),
    ],
    "COMPONENT_WITHOUT_VALUE": [("LOINC//8480-6", 128, "mm[Hg]", None, TAKEN, ISSUED)],
    "OTHER_UNIT": [("LOINC//8302-2", 180.3, "cm", None, TAKEN, ISSUED)],
    "WRONG_UNIT": [("LOINC//8302-2", 176, "cm", None, TAKEN, ISSUED)],
    "MISSING_UNIT": [("LOINC//4548-4", 6.1, "%", None, TAKEN, ISSUED)],
    "IMPLAUSIBLE": [("LOINC//4548-4", None, "%", None, TAKEN, ISSUED)],
    "MANY_DIGITS": [("LOINC//8302-2", 176.4, "cm", None, TAKEN, ISSUED)],
    "CODED_ANSWER": [("LOINC//72166-2", None, None, "SNOMED//266919005", TAKEN, ISSUED)],
    "BOOLEAN_ANSWER": [("LOINC//95419-8", None, None, "true", TAKEN, ISSUED)],
    "INTEGER_ANSWER": [("LOINC//44261-6", 14, None, None, TAKEN, ISSUED)],
    "LISTED_ANSWER": [("LOINC//71802-3", None, None, "Patient is homeless", TAKEN, ISSUED)],
    "FREE_TEXT": [],
    "NO_VALUE": [],
    "TWO_WORDINGS": [
        ("SNOMED//10509002", None, None, None, TAKEN, TAKEN),
        ("SNOMED//10509002", None, None, None, june(3, 8), june(3, 8)),
    ],
    "DIALECT_VISIT": [
        ("ENCOUNTER//AMB//start", None, None, None, datetime(2014, 6, 1, 9), datetime(2014, 6, 1, 9)),
        ("ENCOUNTER_REASON//SNOMED//444814009", None, None, None, datetime(2014, 6, 1, 9), datetime(2014, 6, 1, 9)),
        ("ENCOUNTER//AMB//end", None, None, None, datetime(2014, 6, 1, 9, 15), datetime(2014, 6, 1, 9, 15)),
    ],
    "DIALECT_CONDITION": [(HYPERTENSION, None, None, None, TAKEN, ISSUED)],
    "DIALECT_VACCINATION": [("CVX//140", None, None, None, TAKEN, TAKEN)],
    "REFERENCE_BY_URL": [RECORDED],
    "REFERENCE_TO_A_VERSION": [RECORDED],
    "REFERENCE_BY_URN": [RECORDED],
    "REFERENCE_BY_IDENTIFIER": [RECORDED],
    "REFERENCE_TO_NOBODY": [],
    "MEDICINE_INSIDE": [("RXNORM//314076", None, None, None, TAKEN, TAKEN)],
    "MEDICINE_BESIDE": [("RXNORM//860975", None, None, None, TAKEN, TAKEN)],
    "MEDICINE_MISSING": [],
}

IGNORED = {
    "no date, and no visit to take one from": 1,
    "before birth": 1,
    "after death": 1,
    "records a death after the fact": 1,
    "older version or copy of another record": 3,  # OLDER_VERSION, WITHDRAWN, SAME_RECORD_TWICE
    "entered in error": 2,
    "not done": 1,
    "free text": 1,
    "no value": 1,
    "its patient is not among the records": 1,
    "refers to a medicine that is not among the records": 1,
    "names a medicine; its code is on the records that refer to it": 1,
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "key").write_text("3d" * 32)
    (folder / "key").chmod(0o600)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        yield folder


@pytest.fixture(scope="module")
def ingested(environment: Path) -> tuple[Home, IngestResult]:
    source = environment / "source"
    source.mkdir()
    lines = []
    for name in NAMES:
        for line in (cases.PATIENTS.get(name, cases.PATIENT), cases.VISIT, *getattr(cases, name)):
            lines.append(line.replace("{case}", name.replace("_", "-")))
    (source / "cases.ndjson").write_text("\n".join(lines) + "\n")
    (source / "quarantined.ndjson").write_text("\n".join(line for line, *_ in cases.QUARANTINED.values()) + "\n")
    zipped = gzip.compress((cases.PATIENT.replace("{case}", "zipped").encode() + b"\n") * 1000, 0, mtime=0)
    (source / "zipped.ndjson.gz").write_bytes(zipped[: len(zipped) // 2])
    home = Home(environment / "home")
    return home, ingest(source, home, StudySettings())


def true_events(home: Home, patient: str) -> list[tuple]:
    """A patient's events with dates moved back, without birth, sex and the visit that every case has."""
    subject = pseudonym(load_key().pseudonyms, "Patient", patient)
    visit = pseudonym(load_key().pseudonyms, "Encounter", f"{patient}-visit")
    shift = dict(read_shifts(home.vault, load_key()).iter_rows())[subject]
    seconds = shift % (7 * 86_400_000_000)
    weeks = shift - seconds if seconds < 3.5 * 86_400_000_000 else shift - seconds + 7 * 86_400_000_000
    rows = (
        events_of(home)
        .filter(pl.col("subject_id") == subject, pl.col("time").is_not_null(), pl.col("code") != "MEDS_BIRTH")
        .filter(pl.col("record_id") != visit)
        .select("code", "numeric_value", "unit", "text_value", "time", "known_time", "record_id")
        .collect()
    )
    found = []
    for code, number, unit, text, *times, _ in rows.iter_rows():
        # Dates without a time of day moved by whole weeks; the others also by seconds, then cut to the minute.
        found.append((code, number, unit, text, *(_moved_back(time, shift, weeks) for time in times)))
    return sorted(found, key=lambda event: (event[4], event[0].endswith("end"), event[0]))


def _moved_back(time: datetime, shift: int, weeks: int) -> datetime:
    day = time - timedelta(microseconds=weeks)
    if (day.hour, day.minute) in ((0, 0), (23, 59)):
        return day
    moved = time - timedelta(microseconds=shift)
    return moved if moved.second == 0 else moved.replace(second=0) + timedelta(minutes=1)


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, ingested: tuple[Home, IngestResult]) -> None:
    if name == "LOCAL_CODE":
        ((code, *rest),) = true_events(ingested[0], "LOCAL-CODE")
        assert code.startswith("LOCAL_")
        assert "HT7" not in code
        assert rest == [None, None, None, TAKEN, TAKEN]
        return
    found = true_events(ingested[0], name.replace("_", "-"))
    expected = [(code, value and pytest.approx(value, rel=1e-5), *rest) for code, value, *rest in EXPECTED[name]]
    assert found == expected


def test_every_record_is_accounted_for(ingested: tuple[Home, IngestResult]) -> None:
    home, result = ingested
    counts = pl.read_parquet(home.tables / "record_counts.parquet")
    assert result.records_in == result.records_used + result.records_ignored + result.records_quarantined
    assert counts["records"].sum() == result.records_in
    records = sum(2 + len(getattr(cases, name)) for name in NAMES)
    assert result.records_quarantined == len(cases.QUARANTINED) + 1  # and the zipped file's end
    zipped = result.records_in - records - len(cases.QUARANTINED) - 1  # lines of the zipped file that could be read
    assert 0 < zipped < 1000
    ignored = counts.filter(pl.col("outcome") == "ignored").group_by("reason").agg(pl.col("records").sum())
    expected = dict(IGNORED)
    expected["older version or copy of another record"] += zipped - 1  # the same patient on every line
    assert dict(ignored.iter_rows()) == expected


def test_the_quarantine_says_where_and_why(ingested: tuple[Home, IngestResult]) -> None:
    table = pl.read_parquet(ingested[0].tables / "quarantine.parquet")
    offset = 0
    for line, resource_type, words in cases.QUARANTINED.values():
        found = table.filter(pl.col("offset") == offset, pl.col("reason").str.starts_with(words))
        assert found["resource_type"].to_list() == [resource_type], words
        offset += len(line.encode()) + 1
    assert "compressed file ends too early" in table["reason"].to_list()


def test_the_profile_counts_what_was_odd(ingested: tuple[Home, IngestResult]) -> None:
    profile = pl.read_parquet(ingested[0].tables / "data_profile.parquet")
    counts = dict(profile.select("finding", "count").iter_rows())
    assert counts["components_without_value"] == 1
    assert counts["values_without_unit"] == 2  # MISSING_UNIT, and the value of COMPONENT_WITHOUT_VALUE
    assert counts["values_under_wrong_unit"] == 1
    assert counts["values_implausible"] == 1
    assert counts["visits_of_absurd_length"] == 1
    assert counts["known_before_it_happened"] == 1
    assert counts["codes_with_several_wordings"] == 1
    assert counts["dates_taken_from_visit"] == 1  # CONDITION_WITHOUT_DATES


def test_a_bad_entry_costs_a_bundle_that_entry_alone(environment: Path) -> None:
    source = environment / "bundle"
    source.mkdir()
    good = [line.replace("{case}", "bundled") for line in (cases.PATIENT, cases.VISIT, *cases.CONDITION_THAT_ENDED)]
    entries = [*good[:2], '{"resourceType":"Patient","id":"bad","birthDate":1950}', *good[2:]]
    joined = ",".join(f'{{"resource":{entry}}}' for entry in entries)
    (source / "bundle.json").write_text(f'{{"resourceType":"Bundle","type":"batch","entry":[{joined}]}}')
    result = ingest(source, Home(environment / "bundle-home"), StudySettings())
    assert (result.records_in, result.records_used, result.records_quarantined) == (4, 3, 1)


def test_a_file_with_too_much_that_is_unreadable_stops_the_run(environment: Path) -> None:
    source = environment / "bad"
    source.mkdir()
    good = [line.replace("{case}", "good") for line in (cases.PATIENT, cases.VISIT)]
    (source / "records.ndjson").write_text("\n".join(good + ['{"resourceType":"Patient","id":'] * 5) + "\n")
    home = Home(environment / "bad-home")
    strict = StudySettings(records=RecordSettings(quarantine_records_allowed=4, quarantine_share_limit=0.5))
    with pytest.raises(SourceError, match=r"5 of the 7 records .* cannot be read .*quarantine_share_limit"):
        ingest(source, home, strict)
    assert not home.meds.exists()
    allowed = StudySettings(records=RecordSettings(quarantine_records_allowed=5))
    assert ingest(source, home, allowed).records_quarantined == 5
