"""Whatever happens to a source, reading what is new gives what reading everything at once gives."""

import random
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features import ingest as ingest_module
from features.errors import SourceError
from features.home import Home
from features.ingest import IngestResult, events_of, ingest
from features.privacy.keys import load_key
from features.privacy.vault import unseal, unseal_tables
from features.settings import RecordSettings, StudySettings
from tests.features.growing_source import GrowingSource

SETTINGS = StudySettings(records=RecordSettings(quarantine_share_limit=1))
STEPS = (
    *("add_export", "add_export", "add_export", "drop_lines", "drop_export", "swap", "delete_patient", "restore"),
    *("reorder", "reorder", "rename", "rename", "split", "touch"),
)
TABLES = ("quarantine", "record_counts", "data_profile", "codes", "subject_splits")


@pytest.fixture(autouse=True)
def small_pieces(tmp_path_factory, monkeypatch):
    """A key, and limits so small that a few patients fill several buckets and stretches."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))
    monkeypatch.setitem(ingest_module._BUCKET_BYTES, "plain", 4_000)
    monkeypatch.setattr("features.records.reading.LEAST_BYTES", 400)
    monkeypatch.setattr("features.records.reading._LINES_TO_AN_END", 2)


def assert_same(home: Home, result: IngestResult, fresh: Home, expected: IngestResult) -> None:
    """The dataset, the tables and the vault are those of a reading from scratch."""
    assert_frame_equal(*(events_of(one).collect().sort(pl.all()) for one in (home, fresh)))
    for name in TABLES:
        ours, theirs = (pl.read_parquet(one.tables / f"{name}.parquet") for one in (home, fresh))
        if result.resumed and name == "data_profile":  # nothing was written, though the files may be other ones
            ours, theirs = (table.filter(pl.col("unit") != "files") for table in (ours, theirs))
        assert_frame_equal(ours, theirs)
    key = load_key()
    assert_frame_equal(*(unseal(key, one.vault / "patients.vault") for one in (home, fresh)))
    assert ways_back(home) == ways_back(fresh)
    for name in ("subjects", "events", "records_in", "records_used", "records_ignored", "records_quarantined"):
        assert getattr(result, name) == getattr(expected, name)


def ways_back(home: Home) -> set[tuple]:
    key = load_key()
    tables = [unseal_tables(key, path)["records"] for path in home.vault.glob("records-*.vault")]
    return set(pl.concat(tables).select("record_id", "kind", "resource").rows())


@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=5))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_reading_what_is_new_gives_what_reading_everything_gives(seed, steps):
    with tempfile.TemporaryDirectory() as folder:
        source = GrowingSource(Path(folder) / "source", random.Random(seed))
        home = Home(Path(folder) / "home")
        source.write()
        ingest(source.folder, home, SETTINGS, processes=1)
        for number, step in enumerate(steps):
            getattr(source, step)()
            source.write()
            fresh = Home(Path(folder) / f"fresh-{number}")
            try:
                expected = ingest(source.folder, fresh, SETTINGS, processes=1)
            except SourceError:  # what is left holds no patient: refused alike, and the last good state stands
                with pytest.raises(SourceError):
                    ingest(source.folder, home, SETTINGS, processes=1)
                return
            assert_same(home, ingest(source.folder, home, SETTINGS, processes=1), fresh, expected)
