"""How tables are kept between assets: one Parquet file each, lazy in, lazy out, checked when written; some sealed."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import dagster as dg
import dataframely as dy
import polars as pl
from upath import UPath

from features import result_tables, tables
from features.errors import TableError
from features.privacy import vault
from orchestration.beside import beside
from orchestration.resources import Study

CONTRACTS: dict[str, type[dy.Schema]] = {
    "dataset": tables.Dataset,
    "subject_splits": tables.SubjectSplits,
    "codes": tables.Codes,
    "quarantine": tables.Quarantine,
    "record_counts": tables.RecordCounts,
    "data_profile": tables.DataProfile,
    "observation_periods": tables.ObservationPeriods,
    "study_days": tables.StudyDays,
    "labels": tables.Labels,
    "cohort_counts": tables.CohortCounts,
    "feature_definitions": tables.FeatureDefinitions,
    "clinical_scores": tables.ClinicalScores,
    "features": tables.FeatureKeys,
    "feature_sources": tables.FeatureSources,
    "features_as_of": tables.FeaturesAsOfKeys,
    "predictions": result_tables.Predictions,
    "evaluations": result_tables.Evaluations,
    "league": result_tables.League,
    "audits": result_tables.Audits,
    "skipped_tasks": result_tables.SkippedTasks,
    "risk_scores": result_tables.RiskScores,
    "true_risks": result_tables.TrueRisks,
    "oracle": result_tables.Oracle,
    "trajectory_measures": result_tables.TrajectoryMeasures,
    "trajectory_evaluations": result_tables.TrajectoryEvaluations,
    "trajectory_importance": result_tables.TrajectoryImportance,
    "trajectories": result_tables.Trajectories,
}
_FEATURE_TABLES = ("features", "features_as_of")


def checked_table(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """`table` if it keeps the contract of the asset `name`. Raises TableError otherwise.

    A feature table's columns beyond its keys are not in the contract: they need only be Float32.
    """
    contract = CONTRACTS.get(name)
    if contract is None:
        raise TableError(
            f"The table {name} has no contract. Add one to features/result_tables.py or tables.py and name it here."
        )
    if name not in _FEATURE_TABLES:
        return tables.checked(table, contract)
    columns = table.drop(contract.column_names(), strict=False)
    if other := sorted(column for column, dtype in columns.schema.items() if dtype != pl.Float32):
        raise TableError(f"Table {name}: {len(other)} columns are not Float32, the first of them {other[0]}.")
    keys = tables.checked(table.drop(columns.columns), contract)
    return pl.concat([keys, columns], how="horizontal")


def column_schema(name: str) -> dg.TableSchema:
    """The contract of the asset `name` as Dagster shows it."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column, str(of.dtype), of.description, dg.TableColumnConstraints(nullable=bool(of.nullable)))
            for column, of in CONTRACTS[name].columns().items()
        ]
    )


def evaluation_table(name: str, description: str) -> dg.AssetOut:
    """The asset `name`, a table of how models did, with its contract."""
    return dg.AssetOut(
        description=description,
        group_name="evaluation",
        code_version="1",
        kinds={"polars"},
        metadata={"dagster/column_schema": column_schema(name)},
    )


def shown_rows(rows: int, smallest_cell: int) -> dict[str, int]:
    """Row count as metadata; nothing when it is so small that it could point at people."""
    return {"dagster/row_count": rows} if rows >= smallest_cell else {}


def write_parts(study: Study, name: str, parts: Iterable[pl.DataFrame]) -> dg.MaterializeResult:
    """Write a table that would not fit into memory as <home>/tables/<name>.parquet, a row group for each part.

    Each part is checked against the contract of `name`, so a key must not lie in two parts. Other assets read the
    table like any other. Raises TableError when there is no part.
    """
    import pyarrow.parquet as pq

    place = study.home.tables / f"{name}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    building = beside(place)
    writer = None
    rows = 0
    try:
        for part in parts:
            checked_part = checked_table(name, part).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(building, checked_part.schema, compression="zstd")
            writer.write_table(checked_part)
            rows += part.height
        if writer is None:
            raise TableError(f"Table {name}: no part was made.")
        writer.close()
        building.replace(place)
    finally:
        building.unlink(missing_ok=True)
    return dg.MaterializeResult(metadata={**shown_rows(rows, study.settings.smallest_cell)})


class ParquetTables(dg.UPathIOManager):
    """Tables as <home>/tables/<asset>.parquet, a day's partition as <asset>/<day>.parquet."""

    extension = ".parquet"

    def __init__(self, study: Study) -> None:
        super().__init__(base_path=UPath(study.home.tables))
        self._smallest_cell = study.settings.smallest_cell

    def dump_to_path(self, context: dg.OutputContext, obj: pl.DataFrame | pl.LazyFrame, path: UPath) -> None:
        """Check the table against its contract; write it beside the old one and rename it into its place."""
        if not isinstance(obj, pl.DataFrame | pl.LazyFrame):
            raise TableError(f"Table {context.asset_key.path[-1]}: a polars frame was expected, not {type(obj)}.")
        found = cast("pl.DataFrame", obj.lazy().collect(engine="streaming"))
        table = checked_table(context.asset_key.path[-1], found)
        self._write(table, Path(str(path)))
        context.add_output_metadata(shown_rows(table.height, self._smallest_cell))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.LazyFrame:
        """Scan the table; nothing is read yet. Raises TableError when it has not been made."""
        return pl.scan_parquet(_made(path))

    def _write(self, table: pl.DataFrame, place: Path) -> None:
        building = beside(place)
        try:
            table.write_parquet(building, compression="zstd")
            building.replace(place)
        finally:
            building.unlink(missing_ok=True)


class SealedTables(ParquetTables):
    """Tables that would betray the date shift, encrypted with the vault's key: <home>/tables/<asset>.vault."""

    extension = ".vault"

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._study = study

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.LazyFrame:
        """Decrypt the table into memory. Raises TableError when it has not been made."""
        return vault.unseal(self._study.key(), _made(path)).lazy()

    def _write(self, table: pl.DataFrame, place: Path) -> None:
        vault.seal(self._study.key(), table, place)


def _made(path: UPath) -> Path:
    file = Path(str(path))
    if not file.exists():
        raise TableError(f"The table {file.stem} has not been made yet. Launch main_job, or `sequela run`, first.")
    return file


class ParquetTablesFactory(dg.ConfigurableIOManagerFactory):
    """Gives Dagster the tables of a study."""

    study: dg.ResourceDependency[Study]

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetTables:
        """One for each run."""
        return ParquetTables(self.study)


class SealedTablesFactory(dg.ConfigurableIOManagerFactory):
    """Gives Dagster the sealed tables of a study."""

    study: dg.ResourceDependency[Study]

    def create_io_manager(self, context: dg.InitResourceContext) -> SealedTables:
        """One for each run."""
        return SealedTables(self.study)
