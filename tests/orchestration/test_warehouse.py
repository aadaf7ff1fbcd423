"""The warehouse: documented, whole or not at all, silent about what would betray the date shifts."""

import os
import subprocess
import sys
from datetime import date

import dagster as dg
import duckdb
import polars as pl
import pytest

from features import result_tables, tables
from features.dataset import STATE
from features.errors import TableError
from orchestration.defs.scoring import risk_scores, warehouse
from orchestration.resources import Study
from orchestration.warehouse import PUBLISHED, open_warehouse, publish_warehouse
from tests.orchestration.small_home import SEEN, SUBJECT, write_scores, write_small_home


@pytest.fixture
def home(tmp_path):
    return write_small_home(tmp_path / "home")


def test_every_table_and_column_is_documented(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as connection:
        tables = connection.sql("SELECT table_name, comment FROM duckdb_tables()").fetchall()
        columns = connection.sql(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
    assert {name for name, _ in tables} == set(PUBLISHED)
    assert all(comment for _, comment in tables)
    assert not [row for row in columns if not row[2]]
    assert ("features", "age_years", "Age's years (a)") in columns


def test_values_arrive(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as connection:
        answer = connection.sql("SELECT subject_id, numeric_value FROM events WHERE code = 'LOINC//8480-6'").fetchall()
        assert connection.sql("SELECT count(*) FROM risk_scores").fetchall() == [(0,)]
    assert answer == [(SUBJECT, 131.0)]


def test_no_column_betrays_the_date_shifts(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as connection:
        names = {
            name for (name,) in connection.sql("SELECT column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
        }
    assert not names & {"shift_us", "covered_until", "calendar_year_start", "first_day", "last_day"}


def test_the_source_is_named_and_the_truth_of_other_predictions_is_not_shown(home):
    row = {"source": "a simulated population", "source_kind": "simulated", "is_windowed": False, "covers_until": None}
    row |= {"data_version": "d", "subjects": 1, "events": 3, "records": 3}
    pl.DataFrame([row], schema=tables.empty(tables.Dataset).schema).write_parquet(home.tables / "dataset.parquet")
    risk = {"subject_id": SUBJECT, "prediction_time": SEEN, "task": "mortality", "horizon_days": 365, "risk": 0.25}
    risk |= {"treatment": "as usual", "standard_error": 0.04, "drawn": False}
    truth, judged = home.tables / "true_risks.parquet", home.tables / "predictions.parquet"
    pl.DataFrame([risk], schema=tables.empty(result_tables.TrueRisks).schema).write_parquet(truth)
    for seconds_after, shown in ((60, [(0.25,)]), (-60, [])):
        os.utime(truth, (0, judged.stat().st_mtime + seconds_after))
        publish_warehouse(home)
        with open_warehouse(home.warehouse) as connection:
            assert connection.sql("SELECT source FROM dataset").fetchall() == [("a simulated population",)]
            assert connection.sql("SELECT risk FROM true_risks").fetchall() == shown


def test_a_table_of_another_version_is_named(home):
    file = home.tables / "dataset.parquet"
    pl.read_parquet(file).drop("source").write_parquet(file)
    with pytest.raises(TableError, match="dataset was made by another version"):
        publish_warehouse(home)


@pytest.mark.parametrize("missing", ["feature_sources", "a column of dataset"])
def test_a_home_of_another_version_is_told_before_anybody_is_scored(home, missing):
    file = home.tables / "dataset.parquet"
    if missing == "feature_sources":
        (home.tables / "feature_sources.parquet").unlink()
    else:
        pl.read_parquet(file).drop("source").write_parquet(file)
    days, nothing = pl.scan_parquet(home.tables / "study_days.parquet"), pl.LazyFrame()
    with pytest.raises(TableError, match=r"feature_sources has not been made|dataset was made by another version"):
        risk_scores(
            dg.build_asset_context(partition_key="2021-04-01"),
            Study(home_folder=str(home.path)),
            dataset=nothing,
            study_days=days,
            observation_periods=nothing,
            codes=nothing,
        )


def test_who_is_no_longer_a_patient_is_not_published(home):
    """Patient 7 was there when the labels were made and on two days that were scored; the last reading had only 42."""
    gone = 7
    both = write_scores(home, date(2021, 3, 1), [SUBJECT, gone])
    only_gone = write_scores(home, date(2021, 3, 2), [gone])
    nobody_eligible = write_scores(home, date(2021, 3, 3), [])
    for name in ("labels", "features"):
        file = home.tables / f"{name}.parquet"
        table = pl.read_parquet(file)
        pl.concat([table, table.with_columns(subject_id=pl.lit(gone, pl.Int64))]).write_parquet(file)
    assert publish_warehouse(home) == 0
    with open_warehouse(home.warehouse) as connection:
        for name in ("risk_scores", "labels", "features"):
            assert connection.sql(f"SELECT DISTINCT subject_id FROM {name}").fetchall() == [(SUBJECT,)]
        assert connection.sql("SELECT DISTINCT as_of FROM risk_scores").fetchall() == [(date(2021, 3, 1),)]
    assert pl.read_parquet(both)["subject_id"].to_list() == [SUBJECT]
    assert not only_gone.exists()
    assert nobody_eligible.exists()


def test_nothing_is_published_about_people_without_a_timeline(home):
    """Splits and timelines that disagree are a fault: the last warehouse stays."""
    publish_warehouse(home)
    before = home.warehouse.read_bytes()
    splits = pl.DataFrame({"subject_id": [SUBJECT, 8, 9], "split": ["train"] * 3})
    splits.write_parquet(home.tables / "subject_splits.parquet")
    write_scores(home, date(2021, 3, 1), [SUBJECT, 8])
    assert publish_warehouse(home) == 1
    assert home.warehouse.read_bytes() == before
    with pytest.raises(dg.DagsterError, match="blocking"):
        dg.materialize([warehouse], resources={"study": Study(home_folder=str(home.path))})


def test_a_reader_keeps_its_warehouse_while_the_next_is_published(home):
    """The reader is another process, as an analyst's is."""
    publish_warehouse(home)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "count = lambda: print(c.sql('SELECT count(*) FROM events').fetchone()[0], flush=True)\n"
        "count(); sys.stdin.readline(); count()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home.warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "3\n"
        shard = home.meds / "data" / "train" / "0.parquet"
        pl.read_parquet(shard).head(1).write_parquet(shard)
        publish_warehouse(home)
        answer, _ = reader.communicate("go on\n")
    assert answer == "3\n"
    with open_warehouse(home.warehouse) as connection:
        assert connection.sql("SELECT count(*) FROM events").fetchall() == [(1,)]


def test_a_failed_publication_leaves_the_last_warehouse(home):
    publish_warehouse(home)
    before = home.warehouse.read_bytes()
    (home.tables / "labels.parquet").unlink()
    with pytest.raises(TableError, match="labels"):
        publish_warehouse(home)
    assert home.warehouse.read_bytes() == before
    assert not list(home.path.glob(".*building*"))


@pytest.mark.parametrize(
    "question",
    [
        "SELECT * FROM read_csv('/etc/hostname')",
        "SET enable_external_access = true",
        "CREATE TABLE mine (i INT)",
        "COPY events TO 'events.csv'",
    ],
)
def test_a_question_reaches_nothing_else(home, question):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as connection, pytest.raises(duckdb.Error):
        connection.sql(question)


def test_files_made_before_the_last_reading_go(tmp_path):
    home = write_small_home(tmp_path / "home")
    made = [home.tables / "features_as_of" / "2020-01-01.vault", home.meds_labels / "mortality" / "365d.parquet"]
    newer = home.meds_labels / "mortality" / "730d.parquet"
    state = home.meds / STATE
    for file, second in ((made[0], 1), (made[1], 1), (state, 2), (newer, 3)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        os.utime(file, (second, second))
    publish_warehouse(home)
    assert [file.exists() for file in (*made, newer)] == [False, False, True]
