"""What the analyst's page shows can be typed as it stands."""

import re
from datetime import date
from pathlib import Path

import duckdb
import pandas
import polars
import pytest

from features.dataset import STATE
from orchestration import commands
from orchestration.cli import main
from orchestration.warehouse import publish_warehouse
from tests.orchestration.small_home import SUBJECT, write_small_home

PAGE = (Path(__file__).parents[2] / "docs" / "questions.md").read_text()
FEATURES = ("age_years", "hba1c_last", "visits_emergency_1y", "visits_inpatient_1y")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A published home in the current folder, with the columns that the page names, and the files of past days."""
    monkeypatch.chdir(tmp_path)
    home = write_small_home(tmp_path / "sequela-home")
    table = polars.read_parquet(home.tables / "features.parquet").with_columns(
        polars.lit(7.5, polars.Float32).alias(name) for name in FEATURES[1:]
    )
    table.write_parquet(home.tables / "features.parquet")
    publish_warehouse(home)
    wide = table.drop("prediction_time").insert_column(0, polars.Series("as_of", [date(2019, 6, 30)]))
    for name in ("features-2019-06-30", "after"):
        wide.write_parquet(f"{name}.parquet")
    wide.with_columns(hba1c_last=polars.lit(6.0, polars.Float32)).write_parquet("before.parquet")
    wide.unpivot(index=["as_of", "subject_id"], variable_name="feature").write_parquet("june.parquet")
    assert main(["features", "--long", "--home", str(home.path)]) == 0
    return home


def test_every_line_reads_a_row(home):
    names = {"duckdb": duckdb, "pandas": pandas, "polars": polars}
    lines = [line for block in blocks("python") for line in block.splitlines()]
    assert len(lines) == 10
    for line in lines:
        if " = " in line.split("(")[0]:
            exec(line, names)
        else:
            read = eval(line, names)
            assert len(read) == (len(FEATURES) if "features_long" in line else 1)
            assert read["subject_id"][0] == SUBJECT


def test_every_question_is_answered(home):
    questions = blocks("sql")
    assert len(questions) == 6
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        for question in questions:
            warehouse.sql(question).fetchall()


def test_every_command_is_understood(monkeypatch):
    seen = []
    monkeypatch.setattr(commands, "features_table", seen.append)
    typed = [line.partition("#")[0].split()[1:] for block in blocks("sh") for line in block.splitlines()]
    assert typed
    for arguments in typed:
        assert main(arguments) == 0
    assert [options.out for options in seen if options.long] == [None, Path("june.parquet")]


def test_the_long_table_has_a_row_for_each_value(home):
    """Four columns of one patient; one of them empty."""
    file = home.tables / "features.parquet"
    polars.read_parquet(file).with_columns(hba1c_last=polars.lit(None, polars.Float32)).write_parquet(file)
    publish_warehouse(home)
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        rows = warehouse.sql("SELECT feature, value FROM features_long ORDER BY feature").fetchall()
        comments = warehouse.sql("SELECT comment FROM duckdb_columns() WHERE table_name = 'features_long'").fetchall()
    assert rows == [("age_years", 65.25), ("visits_emergency_1y", 7.5), ("visits_inpatient_1y", 7.5)]
    assert len([words for (words,) in comments if words]) == 4
    assert main(["features", "--long", "--home", str(home.path), "--out", "long.parquet"]) == 0
    assert polars.read_parquet("long.parquet").select("feature", "value").sort("feature").rows() == rows


def test_features_of_a_day_are_forgotten_when_records_were_read_since(home):
    """Somebody may have left with that reading."""
    day = home.tables / "features_as_of" / "2019-06-30.vault"
    day.parent.mkdir()
    day.touch()
    publish_warehouse(home)
    assert day.exists()
    read = home.meds / STATE
    read.parent.mkdir(parents=True)
    read.touch()
    publish_warehouse(home)
    assert not day.exists()
