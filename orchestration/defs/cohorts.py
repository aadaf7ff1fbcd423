"""Who is observed when, and what followed each prediction time."""

import shutil

import dagster as dg
import polars as pl

from features.observation import observation_periods
from features.tables import StudyDays, checked
from features.tasks.cohorts import cohort_counts as count_cohorts
from features.tasks.labels import build_labels
from features.tasks.meds_labels import write_meds_labels
from features.tasks.schema import load_tasks
from orchestration.beside import beside
from orchestration.resources import Study
from orchestration.source_labels import source_label
from orchestration.tables_io import column_schema


def _out(name: str, description: str, io_manager_key: str | None = None) -> dg.AssetOut:
    return dg.AssetOut(
        description=description,
        group_name="cohorts",
        code_version="1",
        kinds={"polars"},
        io_manager_key=io_manager_key,
        metadata={"dagster/column_schema": column_schema(name)},
    )


@dg.multi_asset(
    outs={
        # Sealed: the end of a person's period, beside the day on which the source ends, tells the date shift.
        "observation_periods": _out(
            "observation_periods", "When the source really records each person.", "sealed_tables"
        ),
        "study_days": _out("study_days", "The true days between which the source observes anybody."),
    },
    deps=["timelines"],
)
def observe(study: Study, dataset: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decide from the source's own rules when each person is observed."""
    read = dataset.collect().row(0, named=True)
    periods, last_day = observation_periods(
        study.events(), study.shifts(), study.settings, read["is_windowed"], read["covers_until"]
    )
    # Only the year of the first day: the day itself may be one person's first visit.
    days = periods.select(first_day=pl.date(pl.col("calendar_year_start").min(), 1, 1), last_day=pl.lit(last_day))
    return periods, checked(days, StudyDays)


@dg.asset(
    group_name="cohorts",
    kinds={"polars"},
    code_version="2",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("labels")},
)
def labels(study: Study, observation_periods: pl.LazyFrame, subject_splits: pl.LazyFrame) -> pl.DataFrame:
    """What followed each prediction time, for each task and horizon."""
    return build_labels(
        study.events(), observation_periods.collect(), subject_splits.collect(), load_tasks(), study.settings
    )


@dg.asset(group_name="cohorts", kinds={"parquet"}, code_version="1")
def meds_labels(study: Study, labels: pl.LazyFrame) -> dg.MaterializeResult:
    """The labels as MEDS label files, one a task and horizon; censored rows are left out."""
    folder = study.home.meds_labels
    shutil.rmtree(building := beside(folder), ignore_errors=True)
    building.mkdir(parents=True)
    left_out = write_meds_labels(labels.collect(), building)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return dg.MaterializeResult(metadata={"censored_rows_left_out": left_out})


@dg.asset(
    group_name="cohorts",
    kinds={"polars"},
    code_version="1",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("cohort_counts")},
)
def cohort_counts(
    study: Study, labels: pl.LazyFrame, observation_periods: pl.LazyFrame, codes: pl.LazyFrame
) -> pl.DataFrame:
    """Who is asked for each task, after each rule; what followed, by horizon, site and calendar year."""
    return count_cohorts(
        study.events(),
        observation_periods.collect(),
        labels.collect(),
        codes.collect(),
        load_tasks(),
        study.settings,
        study.shifts(),
    )


@dg.asset(group_name="cohorts", kinds={"html"}, code_version="1")
def cohort_report(study: Study, cohort_counts: pl.LazyFrame, dataset: pl.LazyFrame) -> dg.MaterializeResult:
    """The page that says, for each task, who is asked and what followed."""
    from models.report.cohort_page import write_cohort_page

    page = write_cohort_page(
        study.home.report,
        cohort_counts.collect(),
        load_tasks(),
        source_label(dataset.collect()["source_kind"].item()),
        study.settings,
    )
    return dg.MaterializeResult(metadata={"page": dg.MetadataValue.path(page)})
