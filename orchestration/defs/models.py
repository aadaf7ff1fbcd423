"""Fitting the ladder of models, judging it on held-out patients, and the report of both.

torch, LightGBM and scikit-learn are imported inside the functions: Dagster loads this file again in every process.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from features.record_shape import SHAPE, record_shape
from features.tasks.in_records import unanswerable
from features.tasks.schema import load_tasks
from orchestration.plots import auroc_chart, league_chart
from orchestration.resources import Study
from orchestration.source_labels import source_label
from orchestration.tables_io import column_schema, evaluation_table

ROWS_TO_REBUILD = 200
_PLOTTED = {"auroc": "auroc", "brier": "brier", "slope": "calibration_slope"}  # short names: Dagster's column is narrow


@dg.multi_asset(
    outs={
        "risk_model": dg.AssetOut(
            description="The fitted ladder: weights, settings, vocabulary, calibration; no pickled code.",
            group_name="models",
            code_version="5",
            kinds={"pytorch", "lightgbm"},
            dagster_type=dg.Nothing,
        ),
        "predictions": evaluation_table("predictions", "Each model's forecast for tuning and held-out patients."),
        "evaluations": evaluation_table("evaluations", "How well each model did on held-out patients."),
        "skipped_tasks": evaluation_table("skipped_tasks", "Tasks that these records cannot answer, and why."),
    },
    deps=["timelines"],
    pool="models",
)
def train_models(
    study: Study,
    labels: pl.LazyFrame,
    features: pl.LazyFrame,
    feature_definitions: pl.LazyFrame,
    observation_periods: pl.LazyFrame,
    codes: pl.LazyFrame,
) -> Iterator[dg.MaterializeResult]:
    """Fit every rung of the ladder on train patients, calibrate on tuning, judge on held-out."""
    from models.train import train_ladder

    tasks = load_tasks()
    ladder = train_ladder(
        study.events(),
        labels.collect(),
        features.collect(),
        feature_definitions.collect(),
        study.settings,
        study.home.models,
        task_names=tuple(task.name for task in tasks),
        refused=unanswerable(tasks, codes.collect(), observation_periods.collect(), study.settings),
        comparators={task.name: task.comparators for task in tasks},
    )
    left_out = {f"{task}_{days}d": ", ".join(names) for (task, days), names in ladder.left_out.items()}
    yield dg.MaterializeResult(asset_key="risk_model", data_version=dg.DataVersion(ladder.version))
    yield dg.MaterializeResult(asset_key="predictions", value=ladder.predictions)
    yield dg.MaterializeResult(
        asset_key="evaluations",
        value=ladder.evaluations,
        metadata=_measures(ladder.evaluations) | ({"comparators_left_out": left_out} if left_out else {}),
    )
    yield dg.MaterializeResult(asset_key="skipped_tasks", value=ladder.skipped)


@dg.asset_check(asset="risk_model", blocking=True, additional_ins={"labels": dg.AssetIn("labels")})
def no_sequence_from_the_future(study: Study, labels: pl.LazyFrame) -> dg.AssetCheckResult:
    """Built again from what was known by then alone, and with canaries known later, the sequences stay the same."""
    from models.saved_model import load_model
    from models.sequence_integrity import count_sequences_that_see_the_future

    vocabulary = load_model(study.home.models).vocabulary
    keys = labels.select("subject_id", "prediction_time").unique().collect()
    changed = 0
    if vocabulary is not None:
        changed = count_sequences_that_see_the_future(
            study.events(), keys, vocabulary, rows=ROWS_TO_REBUILD, seed=study.settings.seed
        )
    return dg.AssetCheckResult(
        passed=changed == 0,
        metadata={"rows_built_again": ROWS_TO_REBUILD if vocabulary is not None else 0},
        description=None if changed == 0 else "Some sequences change when the future is hidden.",
    )


def _measures(evaluations: pl.DataFrame) -> dict[str, float | dg.MarkdownMetadataValue]:
    """AUROC, Brier score and calibration slope of each released model, for Dagster to plot over runs."""
    released = evaluations.filter(pl.col("is_released"))
    floats = {
        f"{row['task']}_{row['horizon_days']}d_{name}": float(row[measure])
        for row in released.iter_rows(named=True)
        for name, measure in _PLOTTED.items()
        if row[measure] is not None
    }
    return {**floats, **({"auroc_chart": auroc_chart(evaluations)} if evaluations.height else {})}


@dg.asset(
    group_name="evaluation",
    kinds={"polars"},
    code_version="1",
    metadata={"dagster/column_schema": column_schema("league")},
)
def league(study: Study, predictions: pl.LazyFrame, evaluations: pl.LazyFrame) -> dg.MaterializeResult[pl.DataFrame]:
    """Every model beside the best simpler one on the same held-out rows."""
    from models.league import league_table

    table = league_table(predictions.collect(), evaluations.collect(), study.settings)
    return dg.MaterializeResult(value=table, metadata=_gains(table))


def _gains(table: pl.DataFrame) -> dict[str, float | dg.MarkdownMetadataValue]:
    """AUROC above the best simpler model, for Dagster to plot over runs, and a picture of all."""
    compared = table.drop_nulls("difference")
    floats = {
        f"{row['task']}_{row['horizon_days']}d_{row['model']}": float(row["difference"])
        for row in compared.iter_rows(named=True)
    }
    return {**floats, **({"league_chart": league_chart(compared)} if compared.height else {})}


@dg.asset(
    group_name="evaluation",
    kinds={"lightgbm"},
    code_version="1",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("audits")},
)
def audits(
    study: Study, labels: pl.LazyFrame, features: pl.LazyFrame, observation_periods: pl.LazyFrame
) -> pl.DataFrame:
    """Whether the way records were kept gives the outcome of a task away: a model that sees nothing else."""
    from models.observation_audit import AGE_SEX, audit_observation

    asked = labels.collect()
    moments = asked.select("subject_id", "prediction_time").unique()
    shape = record_shape(study.events(), moments, observation_periods.collect(), study.settings.lookback_days)
    age_sex = features.select("subject_id", "prediction_time", *AGE_SEX).collect()
    return audit_observation(shape.join(age_sex, on=["subject_id", "prediction_time"]), asked, study.settings)


@dg.asset_check(asset="audits")
def record_shape_is_silent(audits: pl.LazyFrame) -> dg.AssetCheckResult:
    """No task's outcome is told by the way the records were kept."""
    given_away = audits.filter(pl.col("verdict") == "gives away").collect()
    found = [
        f"{row['task']} within {row['horizon_days']} days (AUROC {row['auroc']:.2f} against {row['age_sex_auroc']:.2f} "
        f"by age and sex; most by {SHAPE[row['most_used']]})"
        for row in given_away.iter_rows(named=True)
    ]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The shape of the records gives away {'; '.join(found)}." if found else None,
    )


@dg.asset(group_name="evaluation", kinds={"html"}, code_version="1", deps=["risk_model"])
def report(
    study: Study,
    dataset: pl.LazyFrame,
    labels: pl.LazyFrame,
    features: pl.LazyFrame,
    predictions: pl.LazyFrame,
    evaluations: pl.LazyFrame,
    league: pl.LazyFrame,
    audits: pl.LazyFrame,
    skipped_tasks: pl.LazyFrame,
    data_profile: pl.LazyFrame,
    record_counts: pl.LazyFrame,
) -> dg.MaterializeResult:
    """The pages a clinical reviewer reads."""
    from models.report import write_report
    from models.saved_model import load_model

    read, tasks = dataset.collect(), load_tasks()
    columns = set(features.collect_schema().names())
    shown = {"age_years", "is_female", *(name for task in tasks for one in task.comparators for name in one.features)}
    page = write_report(
        study.home.report,
        labels.collect(),
        predictions.collect(),
        evaluations.collect(),
        skipped_tasks.collect(),
        data_profile.collect(),
        record_counts.collect(),
        source_label(read["source_kind"].item()),
        study.settings,
        model_version=load_model(study.home.models).version,
        data_version=read["data_version"].item(),
        tasks=tasks,
        features=features.select("subject_id", "prediction_time", pl.col(sorted(shown & columns))).collect(),
        audits=audits.collect(),
        league=league.collect(),
    )
    return dg.MaterializeResult(metadata={"page": dg.MetadataValue.path(page)})
