"""Tables between assets: lazy in, lazy out, refused when they break their contract, never half written."""

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from features.errors import TableError
from features.tables import SubjectSplits, empty
from orchestration.resources import Study
from orchestration.tables_io import (
    CONTRACTS,
    ParquetTables,
    ParquetTablesFactory,
    SealedTables,
    checked_table,
    column_schema,
    shown_rows,
    write_parts,
)

GOOD = pl.DataFrame({"subject_id": [1, 2], "split": ["train", "held_out"]})


def store(table, tmp_path):
    """Hand `table` on as the asset subject_splits; returns what the next asset gets."""
    handed_on = []

    @dg.asset
    def subject_splits():
        return table

    @dg.asset
    def reader(subject_splits) -> dg.MaterializeResult:
        handed_on.append(subject_splits)
        return dg.MaterializeResult()

    study = Study(home_folder=str(tmp_path))
    resources = {"study": study, "io_manager": ParquetTablesFactory(study=study)}
    dg.materialize([subject_splits, reader], resources=resources)
    return handed_on[0]


@pytest.mark.parametrize("table", [GOOD, GOOD.lazy(), empty(SubjectSplits)])
def test_a_table_comes_back_lazily(table, tmp_path):
    came = store(table, tmp_path)
    assert isinstance(came, pl.LazyFrame)
    assert came.collect().equals(table.lazy().collect())


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD.drop("split"),
        GOOD.with_columns(name=pl.lit("x")),
        GOOD.with_columns(pl.col("subject_id").cast(pl.String)),
        GOOD.with_columns(split=pl.lit("test")),
        pl.concat([GOOD, GOOD]),
        {"subject_id": [1]},
    ],
)
def test_a_wrong_table_is_refused_and_the_last_one_stays(wrong, tmp_path):
    store(GOOD, tmp_path)
    with pytest.raises(Exception, match=r"[Tt]able") as refused:
        store(wrong, tmp_path)
    chain = [refused.value, refused.value.__cause__, refused.value.__context__]
    assert any(isinstance(error, TableError) for error in chain)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["subject_splits.parquet"]
    assert pl.read_parquet(tmp_path / "tables" / "subject_splits.parquet").equals(GOOD)


@pytest.mark.parametrize("storage", [ParquetTables, SealedTables])
def test_a_table_that_is_not_there_names_the_next_step(storage, tmp_path):
    tables = storage(Study(home_folder=str(tmp_path)))
    with pytest.raises(TableError, match=r"labels has not been made yet. Launch main_job"):
        tables.load_from_path(dg.build_input_context(), UPath(tmp_path / "labels.parquet"))


def test_features_may_have_any_float32_columns():
    times = pl.Series([None], dtype=pl.Datetime("us")).fill_null(pl.datetime(2015, 1, 1))
    table = pl.DataFrame(
        {"subject_id": [1], "prediction_time": times, "age_years": pl.Series([50.0], dtype=pl.Float32)}
    )
    assert checked_table("features", table).equals(table)
    with pytest.raises(TableError, match="Float32"):
        checked_table("features", table.with_columns(pl.col("age_years").cast(pl.Float64)))


def feature_rows(*subjects, height=50.0):
    times = pl.Series([None] * len(subjects), dtype=pl.Datetime("us")).fill_null(pl.datetime(2015, 1, 1))
    heights = pl.Series([height] * len(subjects), dtype=pl.Float32)
    return pl.DataFrame({"subject_id": list(subjects), "prediction_time": times, "age_years": heights})


def test_a_table_in_parts_is_one_table(tmp_path):
    study = Study(home_folder=str(tmp_path))
    told = write_parts(study, "features", iter([feature_rows(1, 2), feature_rows(*range(3, 30))]))
    path = tmp_path / "tables" / "features.parquet"
    assert pl.read_parquet(path).equals(feature_rows(*range(1, 30)))
    assert told.metadata == {"dagster/row_count": 29}
    assert [file.name for file in path.parent.iterdir()] == ["features.parquet"]


def test_a_wrong_part_leaves_the_last_table(tmp_path):
    study = Study(home_folder=str(tmp_path))
    write_parts(study, "features", [feature_rows(1)])
    wrong = feature_rows(3).with_columns(pl.col("age_years").cast(pl.Float64))
    with pytest.raises(TableError, match="Float32"):
        write_parts(study, "features", iter([feature_rows(2), wrong]))
    with pytest.raises(TableError, match="no part"):
        write_parts(study, "features", [])
    path = tmp_path / "tables" / "features.parquet"
    assert pl.read_parquet(path).equals(feature_rows(1))
    assert [file.name for file in path.parent.iterdir()] == ["features.parquet"]


def test_a_table_without_contract_is_refused():
    with pytest.raises(TableError, match="no contract"):
        checked_table("surprise", GOOD)


def test_every_contract_can_be_shown():
    assert all(column.description for name in CONTRACTS for column in column_schema(name).columns)


def test_small_counts_are_not_shown():
    assert shown_rows(10, smallest_cell=11) == {}
    assert shown_rows(11, smallest_cell=11) == {"dagster/row_count": 11}
