"""The warehouse: one DuckDB file for analysts, built beside the old one and renamed over it.

It holds copies, so that readers with an open connection keep what they have, and a query needs no other file.
Observation periods and the study's true days stay out, since beside the moved dates they would betray the shifts.
Whoever is no longer among the patients is not published either, even where an older table still has rows: scores of
earlier days, or labels from before the last reading.
"""

import inspect
import shutil
from pathlib import Path

import dataframely as dy
import duckdb
import polars as pl

from features import result_tables, tables
from features.dataset import STATE
from features.errors import TableError
from features.home import Home
from orchestration.beside import beside

# In the order in which an analyst meets them.
PUBLISHED: dict[str, type[dy.Schema]] = {
    "dataset": tables.Dataset,
    "events": tables.Events,
    "codes": tables.Codes,
    "labels": tables.Labels,
    "features": tables.FeatureKeys,
    "feature_definitions": tables.FeatureDefinitions,
    "feature_sources": tables.FeatureSources,
    "cohort_counts": tables.CohortCounts,
    "clinical_scores": tables.ClinicalScores,
    "predictions": result_tables.Predictions,
    "evaluations": result_tables.Evaluations,
    "league": result_tables.League,
    "audits": result_tables.Audits,
    "skipped_tasks": result_tables.SkippedTasks,
    "risk_scores": result_tables.RiskScores,
    "quarantine": tables.Quarantine,
    "data_profile": tables.DataProfile,
    "record_counts": tables.RecordCounts,
    "true_risks": result_tables.TrueRisks,
    "oracle": result_tables.Oracle,
    "trajectories": result_tables.Trajectories,
    "trajectory_measures": result_tables.TrajectoryMeasures,
    "trajectory_evaluations": result_tables.TrajectoryEvaluations,
    "trajectory_importance": result_tables.TrajectoryImportance,
}
_WITHHELD = {"dataset": {"covers_until"}}  # columns
_OF_THE_TRUTH = ("true_risks", "oracle")  # empty unless simulated for the predictions that stand
# Empty unless made of the records as last read (`sequela trajectories`).
_OF_COURSES = ("trajectories", "trajectory_measures", "trajectory_evaluations", "trajectory_importance")
# Tables with rows about patients that may be older than the last reading; events never are.
_OF_PATIENTS = [
    name for name, contract in PUBLISHED.items() if name != "events" and "subject_id" in contract.column_names()
]
_MEMORY_LIMIT = "2GB"


def require_publishable(home: Home) -> None:
    """Raise TableError unless the tables are there that a warehouse needs, whatever day is to be scored."""
    for name in PUBLISHED:
        for file in _files(name, home)[:1]:
            wanted = {"subject_id", "prediction_time"} if name == "features" else set(_columns(name))
            if not wanted <= set(pl.read_parquet_schema(file)):
                raise _of_another_version(name)


def publish_warehouse(home: Home) -> int:
    """Build the warehouse from the tables of `home` and put it in the place of the last one.

    Scores of patients who left are deleted from `tables/risk_scores` too: no later step would write them anew.
    Returns how many subjects of the new warehouse are not in the timelines; unless 0, nothing is published.
    Raises TableError when a table has not been made yet. The last good warehouse stays until the new one is whole.
    """
    _forget_scores_of_others(home)
    _forget_what_was_made_before_the_reading(home)
    building = beside(home.warehouse)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    file = building / "warehouse.duckdb"
    try:
        with duckdb.connect(str(file), config={"memory_limit": _MEMORY_LIMIT}) as connection:
            connection.execute(f"SET temp_directory = {_text(str(building / 'spill'))}")
            connection.execute("SET preserve_insertion_order = true")
            for name in PUBLISHED:
                try:
                    _copy(connection, name, home)
                except duckdb.BinderException:
                    raise _of_another_version(name) from None
                _document(connection, name, home)
            _add_long_view(connection)
            strangers = _count_strangers(connection)
            connection.execute("CHECKPOINT")  # closing would checkpoint too, but keep a full disk to itself
        if strangers == 0:
            file.replace(home.warehouse)
        return strangers
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
    chosen = "*" if name == "features" else ", ".join(f'"{column}"' for column in _columns(name))
    patients_only = f"WHERE subject_id IN (SELECT subject_id FROM {_read(_splits(home))})"
    connection.execute(
        f"CREATE TABLE {name} AS SELECT {chosen} FROM {_read(*files)} {patients_only if name in _OF_PATIENTS else ''}"
    )


def _of_another_version(name: str) -> TableError:
    return TableError(f"The table {name} was made by another version of Sequela. Run `sequela run` again.")


def _columns(name: str) -> list[str]:
    return [column for column in PUBLISHED[name].column_names() if column not in _WITHHELD.get(name, ())]


def _forget_scores_of_others(home: Home) -> None:
    """Delete rows of patients who are no longer there from the scores of each day, and days that this empties."""
    patients = pl.read_parquet(_splits(home))["subject_id"].implode()
    for day in _files("risk_scores", home):
        scores = pl.read_parquet(day)
        still_there = scores.filter(pl.col("subject_id").is_in(patients))
        if still_there.height == scores.height:
            continue
        if still_there.is_empty():
            day.unlink()
            continue
        building = beside(day)
        still_there.write_parquet(building, compression="zstd")
        building.replace(day)


def _forget_what_was_made_before_the_reading(home: Home) -> None:
    """Delete what was made of the last reading's patients, some of whom may have left; it can be made again exactly."""
    read = _time_of_reading(home)
    for made in (*(home.tables / "features_as_of").glob("*.vault"), *home.meds_labels.rglob("*.parquet")):
        if made.stat().st_mtime < read:
            made.unlink()


def _time_of_reading(home: Home) -> float:
    """When the records were last read, as a file's time; 0 when that is not known."""
    return (home.meds / STATE).stat().st_mtime if (home.meds / STATE).exists() else 0


def _count_strangers(connection: duckdb.DuckDBPyConnection) -> int:
    """Subjects in any table of the new warehouse who have no event in it."""
    everybody = " UNION ".join(f"SELECT subject_id FROM {name}" for name in _OF_PATIENTS)
    with_events = "SELECT DISTINCT subject_id FROM events"
    found = connection.execute(f"SELECT count(*) FROM ({everybody}) ANTI JOIN ({with_events}) USING (subject_id)")
    row = found.fetchone()
    return int(row[0]) if row else 0


def _splits(home: Home) -> Path:
    return _files("subject_splits", home)[0]


def _read(*files: Path) -> str:
    listed = ", ".join(_text(str(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def _files(name: str, home: Home) -> list[Path]:
    if name == "events":
        return sorted((home.meds / "data").glob("*/*.parquet"))
    if name == "risk_scores":  # a file for each day scored so far, perhaps none
        return sorted((home.tables / "risk_scores").glob("????-??-??.parquet"))
    file, judged = (home.tables / f"{one}.parquet" for one in (name, "predictions"))
    if name in _OF_THE_TRUTH and not (file.exists() and file.stat().st_mtime >= judged.stat().st_mtime):
        return []
    if name in _OF_COURSES and not (file.exists() and file.stat().st_mtime >= _time_of_reading(home)):
        return []
    if not file.exists():
        raise TableError(f"The table {name} has not been made yet. Run `sequela run` first.")
    return [file]


def _document(connection: duckdb.DuckDBPyConnection, name: str, home: Home) -> None:
    contract = PUBLISHED[name]
    connection.execute(f"COMMENT ON TABLE {name} IS {_text(inspect.getdoc(contract) or '')}")
    comments = {column: contract.columns()[column].description or "" for column in _columns(name)}
    if name == "features":
        definitions = pl.read_parquet(home.tables / "feature_definitions.parquet")
        comments |= dict(definitions.select("feature", _words_with_unit()).iter_rows())
    for column, words in comments.items():
        connection.execute(f'COMMENT ON COLUMN {name}."{column}" IS {_text(words)}')


def _add_long_view(connection: duckdb.DuckDBPyConnection) -> None:
    """The feature table turned: as a view, it takes no room, and one feature of it is found as quickly as a column."""
    connection.execute(
        "CREATE VIEW features_long AS SELECT subject_id, prediction_time, feature, value FROM "
        "(UNPIVOT features ON COLUMNS(* EXCLUDE (subject_id, prediction_time)) INTO NAME feature VALUE value)"
    )
    contract = tables.FeaturesLong
    connection.execute(f"COMMENT ON VIEW features_long IS {_text(inspect.getdoc(contract) or '')}")
    for name, column in contract.columns().items():
        connection.execute(f'COMMENT ON COLUMN features_long."{name}" IS {_text(column.description or "")}')


def _words_with_unit() -> pl.Expr:
    unit = pl.format(" ({})", pl.col("unit")).fill_null("")
    return pl.col("description") + unit


def _text(words: str) -> str:
    """`words` as an SQL string."""
    return "'" + words.replace("'", "''") + "'"
