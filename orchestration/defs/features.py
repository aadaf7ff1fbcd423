"""The feature table: one row for each patient and prediction time, and that of any real day."""

from datetime import date

import dagster as dg
import polars as pl

from features import integrity
from features.as_of import features_of_day
from features.feature_tables import build_features, plan_features
from features.scores.engine import clinical_scores as compute_scores
from features.scores.registry import answerable
from features.scoring_day import require_scorable
from orchestration.days import DAYS
from orchestration.resources import Study
from orchestration.tables_io import column_schema

ROWS_TO_REBUILD = 200


@dg.asset(
    group_name="features",
    kinds={"polars"},
    code_version="1",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("feature_definitions")},
)
def feature_definitions(
    study: Study, labels: pl.LazyFrame, subject_splits: pl.LazyFrame, codes: pl.LazyFrame
) -> pl.DataFrame:
    """The dictionary of the feature table, decided on train patients only."""
    train = subject_splits.filter(pl.col("split") == "train").select("subject_id")
    times = labels.join(train, on="subject_id").select("subject_id", "prediction_time").unique().collect()
    return plan_features(study.events().join(train, on="subject_id"), times, study.settings, codes=codes.collect())


@dg.asset(group_name="features", kinds={"polars"}, code_version="1", deps=["timelines"])
def features(study: Study, labels: pl.LazyFrame, feature_definitions: pl.LazyFrame) -> pl.DataFrame:
    """What was known about each patient at each prediction time, as numbers."""
    times = labels.select("subject_id", "prediction_time").unique().collect()
    return build_features(study.events(), times, feature_definitions.collect())


@dg.asset(
    group_name="features",
    kinds={"polars"},
    code_version="1",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("clinical_scores")},
)
def clinical_scores(study: Study, labels: pl.LazyFrame, codes: pl.LazyFrame) -> pl.DataFrame:
    """The published scores at each prediction time for which they are meant, with their inputs."""
    times = labels.select("subject_id", "prediction_time").unique().collect()
    return compute_scores(study.events(), times, answerable(codes.select("code").collect()))


@dg.asset(
    group_name="features",
    kinds={"polars"},
    code_version="1",
    partitions_def=DAYS,
    io_manager_key="sealed_tables",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("features_as_of")},
)
def features_as_of(
    context: dg.AssetExecutionContext, study: Study, study_days: pl.LazyFrame, feature_definitions: pl.LazyFrame
) -> pl.DataFrame:
    """The feature table of a real day as it was seen on that day, whatever was corrected or came to light since."""
    as_of = date.fromisoformat(context.partition_key)
    first_day, last_day = study_days.collect().row(0)
    require_scorable(as_of, first_day, last_day)
    events, moments = study.seen_on(as_of, last_day)
    return features_of_day(as_of, events, moments, feature_definitions.collect(), study.settings.lookback_days)


@dg.asset_check(
    asset="features", blocking=True, additional_ins={"feature_definitions": dg.AssetIn("feature_definitions")}
)
def no_feature_from_the_future(
    study: Study, features: pl.LazyFrame, feature_definitions: pl.LazyFrame
) -> dg.AssetCheckResult:
    """Built again from what was known by then alone, and with canaries known later, the rows stay the same."""
    changed = integrity.count_rows_that_see_the_future(
        study.events(), features, feature_definitions.collect(), rows=ROWS_TO_REBUILD, seed=study.settings.seed
    )
    return dg.AssetCheckResult(
        passed=changed == 0,
        metadata={"rows_built_again": ROWS_TO_REBUILD},
        description=None if changed == 0 else "Some feature rows change when the future is hidden.",
    )
