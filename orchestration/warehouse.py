"""The warehouse: one DuckDB file for analysts, built beside the old one and renamed over it.

It holds copies, so that readers with an open connection keep what they have, and a query needs no other file.
What would betray the date shifts stays out: observation periods, the study's true days, and the time at which a
censored label's follow-up ends.
"""

import inspect
import shutil
from pathlib import Path

import dataframely as dy
import duckdb
import polars as pl

from features import tables
from features.errors import TableError
from features.home import Home
from orchestration.beside import beside

# In the order in which an analyst meets them.
PUBLISHED: dict[str, type[dy.Schema]] = {
    "events": tables.Events,
    "codes": tables.Codes,
    "labels": tables.Labels,
    "features": tables.FeatureKeys,
    "feature_definitions": tables.FeatureDefinitions,
    "predictions": tables.Predictions,
    "evaluations": tables.Evaluations,
    "skipped_tasks": tables.SkippedTasks,
    "risk_scores": tables.RiskScores,
    "quarantine": tables.Quarantine,
    "data_profile": tables.DataProfile,
    "record_counts": tables.RecordCounts,
}
_CENSORED_TIME = "CASE WHEN state <> 'censored' THEN time_to_event_days END AS time_to_event_days"
_CENSORED_NOTE = " Null for censored rows: where their follow-up ends would betray the date shift."
_MEMORY_LIMIT = "2GB"


def publish_warehouse(home: Home) -> None:
    """Build the warehouse from the tables of `home` and put it in the place of the last one.

    Raises TableError when a table has not been made yet. The last good warehouse stays until the new one is whole.
    """
    building = beside(home.warehouse)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    file = building / "warehouse.duckdb"
    try:
        with duckdb.connect(str(file), config={"memory_limit": _MEMORY_LIMIT}) as connection:
            connection.execute(f"SET temp_directory = {_text(str(building / 'spill'))}")
            connection.execute("SET preserve_insertion_order = true")
            for name in PUBLISHED:
                _copy(connection, name, home)
                _document(connection, name, home)
            connection.execute("CHECKPOINT")  # closing would checkpoint too, but keep a full disk to itself
        file.replace(home.warehouse)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def open_warehouse(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection that reaches no other file and no network, and cannot be talked out of it."""
    connection = duckdb.connect(str(path), read_only=True, config={"autoinstall_known_extensions": "false"})
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _copy(connection: duckdb.DuckDBPyConnection, name: str, home: Home) -> None:
    files = _files(name, home)
    if not files:
        connection.register("nothing", tables.empty(PUBLISHED[name]).to_arrow())
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM nothing")
        connection.unregister("nothing")
        return
    columns = [f'"{column}"' for column in PUBLISHED[name].column_names()]
    if name == "labels":
        columns[columns.index('"time_to_event_days"')] = _CENSORED_TIME
    chosen = "*" if name == "features" else ", ".join(columns)
    listed = ", ".join(_text(str(file)) for file in files)
    connection.execute(
        f"CREATE TABLE {name} AS SELECT {chosen} FROM read_parquet([{listed}], hive_partitioning = false)"
    )


def _files(name: str, home: Home) -> list[Path]:
    if name == "events":
        return sorted((home.meds / "data").glob("*/*.parquet"))
    if name == "risk_scores":  # a file for each day scored so far, perhaps none
        return sorted((home.tables / "risk_scores").glob("????-??-??.parquet"))
    file = home.tables / f"{name}.parquet"
    if not file.exists():
        raise TableError(f"The table {name} has not been made yet. Run `sequela run` first.")
    return [file]


def _document(connection: duckdb.DuckDBPyConnection, name: str, home: Home) -> None:
    contract = PUBLISHED[name]
    connection.execute(f"COMMENT ON TABLE {name} IS {_text(inspect.getdoc(contract) or '')}")
    comments = {column: of.description or "" for column, of in contract.columns().items()}
    if name == "labels":
        comments["time_to_event_days"] += _CENSORED_NOTE
    if name == "features":
        definitions = pl.read_parquet(home.tables / "feature_definitions.parquet")
        comments |= dict(definitions.select("feature", _words_with_unit()).iter_rows())
    for column, words in comments.items():
        connection.execute(f'COMMENT ON COLUMN {name}."{column}" IS {_text(words)}')


def _words_with_unit() -> pl.Expr:
    unit = pl.format(" ({})", pl.col("unit")).fill_null("")
    return pl.col("description") + unit


def _text(words: str) -> str:
    """`words` as an SQL string."""
    return "'" + words.replace("'", "''") + "'"
