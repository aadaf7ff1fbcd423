"""The courses of laboratory values and vital signs: models fitted and judged, and a forecast for every patient.

pytorch-forecasting and all that it loads are imported inside the functions.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from orchestration.resources import Study
from orchestration.tables_io import column_schema, evaluation_table


@dg.multi_asset(
    outs={
        "trajectory_model": dg.AssetOut(
            description="The fitted models of each setting: weights and numbers; no pickled code.",
            group_name="models",
            code_version="1",
            kinds={"pytorch", "lightgbm"},
            dagster_type=dg.Nothing,
        ),
        "trajectory_measures": evaluation_table(
            "trajectory_measures", "What is forecast, by which model; else why not."
        ),
        "trajectory_evaluations": evaluation_table(
            "trajectory_evaluations", "How near each model came on held-out patients."
        ),
        "trajectory_importance": evaluation_table("trajectory_importance", "What the transformer looked at."),
    },
    deps=["timelines"],
    pool="models",
)
def train_trajectory_models(
    study: Study, observation_periods: pl.LazyFrame, subject_splits: pl.LazyFrame
) -> Iterator[dg.MaterializeResult]:
    """Fit every model on train patients, correct and choose on tuning, judge on held-out."""
    from models.trajectories.training import train_trajectories

    trained = train_trajectories(
        study.events(),
        observation_periods.collect(),
        subject_splits.collect(),
        study.settings,
        study.home.trajectory_models,
    )
    yield dg.MaterializeResult(asset_key="trajectory_model", data_version=dg.DataVersion(trained.version))
    yield dg.MaterializeResult(asset_key="trajectory_measures", value=trained.measures)
    yield dg.MaterializeResult(
        asset_key="trajectory_evaluations", value=trained.evaluations, metadata=_measures(trained.evaluations)
    )
    yield dg.MaterializeResult(asset_key="trajectory_importance", value=trained.importance)


def _measures(evaluations: pl.DataFrame) -> dict[str, float]:
    """CRPS and coverage of each released model, for Dagster to plot over runs."""
    released = evaluations.filter(pl.col("is_released"), pl.col("step") == 0)
    return {
        f"{row['setting']}_{row['measure']}_{name}": float(row[name])
        for row in released.iter_rows(named=True)
        for name in ("crps", "coverage")
    }


@dg.asset_check(asset="trajectory_evaluations")
def trajectory_bands_cover(trajectory_evaluations: pl.LazyFrame) -> dg.AssetCheckResult:
    """The corrected 80 % band of each released model covers 80 % of held-out values, as far as can be told."""
    from models.trajectories.evaluation import uncovered

    found = uncovered(trajectory_evaluations.collect())
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The 80 % bands do not cover 80 %: {'; '.join(found)}." if found else None,
    )


@dg.asset(
    group_name="scoring",
    kinds={"pytorch", "polars"},
    code_version="1",
    deps=["timelines", "trajectory_model"],
    metadata={"dagster/column_schema": column_schema("trajectories")},
)
def trajectories(study: Study) -> pl.DataFrame:
    """The course to be expected of each patient's values, from the latest measurement on."""
    from models.trajectories.forecasting import forecast_latest
    from models.trajectories.saved import load_trajectories

    return forecast_latest(load_trajectories(study.home.trajectory_models), study.events())
