"""Each eligible patient's risk on a real day, and the warehouse in which analysts find it."""

from datetime import date

import dagster as dg
import polars as pl

from features.feature_tables import build_features
from features.scoring_day import require_scorable
from features.tasks.labels import eligible_at
from features.tasks.schema import load_tasks
from orchestration.days import DAYS
from orchestration.resources import Study
from orchestration.tables_io import column_schema
from orchestration.warehouse import publish_warehouse, require_publishable

EVERYBODY_IS_KNOWN = "every_published_subject_is_in_the_timelines"


@dg.asset(
    group_name="scoring",
    kinds={"pytorch", "polars"},
    code_version="3",
    partitions_def=DAYS,
    deps=["timelines", "risk_model"],
    metadata={"dagster/column_schema": column_schema("risk_scores")},
)
def risk_scores(
    context: dg.AssetExecutionContext,
    study: Study,
    dataset: pl.LazyFrame,
    study_days: pl.LazyFrame,
    observation_periods: pl.LazyFrame,
    codes: pl.LazyFrame,
) -> pl.DataFrame:
    """Every eligible patient's calibrated risk for each task, from what was seen by the day's end."""
    from models.prediction import score_patients
    from models.saved_model import load_model

    as_of = date.fromisoformat(context.partition_key)
    first_day, last_day = study_days.collect().row(0)
    require_scorable(as_of, first_day, last_day)
    require_publishable(study.home)  # before any work: a home may be of an older version
    model = load_model(study.home.models)
    events, moments = study.seen_on(as_of, last_day)
    eligible = eligible_at(events, observation_periods.collect(), moments, load_tasks(), study.settings)
    times = eligible.select("subject_id", "prediction_time").unique()
    rows = build_features(events, times, model.definitions)
    version = dataset.collect()["data_version"].item()
    return score_patients(model, events, rows, eligible, as_of, version, codes=codes.collect())


@dg.asset(
    group_name="scoring",
    kinds={"duckdb"},
    code_version="1",
    deps=[
        "timelines",
        "codes",
        "quarantine",
        "record_counts",
        "data_profile",
        "labels",
        "features",
        "feature_definitions",
        "feature_sources",
        "clinical_scores",
        "predictions",
        "evaluations",
        "league",
        "skipped_tasks",
        "subject_splits",
        "dataset",
        "true_risks",
        "oracle",
        "trajectories",
        "trajectory_measures",
        "trajectory_evaluations",
        "trajectory_importance",
        risk_scores,
    ],
    check_specs=[
        dg.AssetCheckSpec(
            EVERYBODY_IS_KNOWN,
            asset="warehouse",
            blocking=True,
            description="Who stands in any table of the warehouse has a timeline; else nothing is published.",
        )
    ],
    pool="warehouse",
)
def warehouse(study: Study) -> dg.MaterializeResult:
    """One DuckDB file for analysts, published whole or not at all."""
    strangers = publish_warehouse(study.home)
    told = "The new warehouse speaks of people who have no timeline: read the records again (`sequela run`)."
    check = dg.AssetCheckResult(
        check_name=EVERYBODY_IS_KNOWN, passed=strangers == 0, description=told if strangers else None
    )
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(study.home.warehouse)}, check_results=[check])
