"""Real Synthea exports, where they lie beside the repository: every record counted, by the exports' own tables."""

import re
from pathlib import Path

import polars as pl
import pytest

from features.home import Home
from features.ingest import events_of, ingest
from features.integrity import balance_records, count_events_after_death, count_known_before_time
from features.settings import StudySettings

DATA = Path(__file__).parents[3] / "shared" / "data"

# Folder, patients, and where its own table of counts stands: `| type | lines |` in a README, or none.
EXPORTS = {
    "synthea-r4/ndjson": 434,
    "synthea-r4-b/ndjson": 789,
    "synthea-r4/bundles": 60,
    "synthea-bulk-10": 13,
}

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the Synthea exports are not beside this repository")


@pytest.fixture(scope="module", params=EXPORTS)
def read(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthea")
    key = folder / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(key))
        home = Home(folder / "home")
        result = ingest(DATA / request.param, home, StudySettings())
    return request.param, home, result


def test_every_patient_and_record_is_there(read):
    name, home, result = read
    assert result.subjects == EXPORTS[name]
    assert result.source_kind == "synthea"
    assert result.records_quarantined == 0
    counts = pl.read_parquet(home.tables / "record_counts.parquet")
    balance = balance_records(
        result.records_in, events_of(home), counts, pl.scan_parquet(home.tables / "quarantine.parquet")
    )
    assert balance.is_balanced


def test_counts_by_type_are_those_of_the_export(read):
    name, home, result = read
    if not name.endswith("ndjson"):
        pytest.skip("only the NDJSON exports come with a table of counts")
    table = (DATA / name).parent.joinpath("README.md").read_text()
    stated = {kind: int(lines.replace(",", "")) for kind, lines in re.findall(r"^\| (\w+) \| ([\d,]+) \|", table, re.M)}
    counts = pl.read_parquet(home.tables / "record_counts.parquet")
    found = dict(counts.group_by("resource_type").agg(pl.col("records").sum()).iter_rows())
    assert found == stated
    assert result.records_in == sum(stated.values())


def test_nothing_happens_after_death_or_is_known_before_it_happens(read):
    _, home, _ = read
    assert count_events_after_death(events_of(home)) == 0
    assert count_known_before_time(events_of(home)) == 0


def test_what_was_learnt_later_is_no_event(read):
    """No code of an abatement, a status or a stopped prescription; and nothing that records a death but the death."""
    _, home, _ = read
    codes = set(pl.read_parquet(home.tables / "codes.parquet")["code"])
    assert not {code for code in codes if re.search("abate|resolved|stopped|active|69409-1|69453-9|308646001", code)}
