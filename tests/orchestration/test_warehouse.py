"""The warehouse: documented, whole or not at all, silent about what would betray the date shifts."""

import subprocess
import sys

import duckdb
import polars as pl
import pytest

from features.errors import TableError
from orchestration.warehouse import PUBLISHED, open_warehouse, publish_warehouse
from tests.orchestration.small_home import SUBJECT, write_small_home


@pytest.fixture
def home(tmp_path):
    return write_small_home(tmp_path / "home")


def test_every_table_and_column_is_documented(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as warehouse:
        tables = warehouse.sql("SELECT table_name, comment FROM duckdb_tables()").fetchall()
        columns = warehouse.sql(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
    assert {name for name, _ in tables} == set(PUBLISHED)
    assert all(comment for _, comment in tables)
    assert not [row for row in columns if not row[2]]
    assert ("features", "age_years", "Age's years (a)") in columns


def test_values_arrive(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as warehouse:
        answer = warehouse.sql("SELECT subject_id, numeric_value FROM events WHERE code = 'LOINC//8480-6'").fetchall()
        assert warehouse.sql("SELECT count(*) FROM risk_scores").fetchall() == [(0,)]
    assert answer == [(SUBJECT, 131.0)]


def test_nothing_betrays_the_end_of_follow_up(home):
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as warehouse:
        days = dict(warehouse.sql("SELECT task, time_to_event_days FROM labels").fetchall())
        names = {
            name for (name,) in warehouse.sql("SELECT column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
        }
    assert days == {"acute_care": 12.5, "mortality": None}
    assert not names & {"shift_us", "covered_until", "calendar_year_start", "first_day", "last_day"}


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
    with open_warehouse(home.warehouse) as warehouse:
        assert warehouse.sql("SELECT count(*) FROM events").fetchall() == [(1,)]


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
    with open_warehouse(home.warehouse) as warehouse, pytest.raises(duckdb.Error):
        warehouse.sql(question)
