"""The feature table of a whole population, a shard of the dataset at a time: memory does not grow with the people."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import polars as pl

from features.feature_plan import plan_columns
from features.feature_tables import build_features, numbered_measures
from features.points import KEYS, moments_of, points_of, with_numbers
from features.scores.engine import clinical_scores
from features.settings import StudySettings
from features.tables import Events, FeatureSources, checked, empty
from features.windows import rows_of_runs, window_runs

SHARE_OF_ROWS_FILLED = 0.01


def plan_features(
    shards: Sequence[pl.LazyFrame],
    prediction_times: pl.DataFrame,
    settings: StudySettings,
    codes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Choose the columns on train patients.

    Reads:    `shards`: features.tables.Events of train patients only; a subject's events lie in one shard.
              `prediction_times`: subject_id, prediction_time. `codes`: features.tables.Codes, for names and wording;
              without it a column without a short name of its own is named after its code.
    Returns:  FeatureDefinitions, in the order of the columns. Beyond what features.feature_plan leaves out, columns
              that are empty on nearly all train rows, or always the same, say nothing and are left out.
    """
    planned = plan_columns(shards, prediction_times, settings, codes)
    if prediction_times.is_empty():
        return planned
    told = pl.concat(
        pl.DataFrame(
            {
                "feature": part.columns,
                "filled": part.select(pl.all().count()).row(0),
                "lowest": part.select(pl.all().min()).row(0),
                "highest": part.select(pl.all().max()).row(0),
            },
            schema={"feature": pl.String, "filled": pl.Int64, "lowest": pl.Float32, "highest": pl.Float32},
        )
        for part in (part.drop(KEYS) for part in feature_parts(shards, prediction_times, planned))
    )
    rows = prediction_times.select(KEYS).n_unique()
    telling = told.group_by("feature").agg(
        is_filled=pl.col("filled").sum() >= SHARE_OF_ROWS_FILLED * rows,
        is_varied=pl.col("lowest").min() < pl.col("highest").max(),
    )
    names = telling.filter("is_filled", "is_varied")["feature"]
    return planned.filter(pl.col("feature").is_in(names.implode()) | (pl.col("kind") == "demographic"))


def feature_parts(
    shards: Iterable[pl.LazyFrame], prediction_times: pl.DataFrame, definitions: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """The feature table in parts, a shard at a time: memory does not grow with the population.

    Reads as `build_features`; a subject's events lie in one shard. Subjects without any event come last.
    """
    times = prediction_times.select(KEYS).unique().sort(KEYS)
    for shard, own in _rows_by_shard(shards, times):
        yield build_features(shard, own, definitions)


def source_parts(
    shards: Iterable[pl.LazyFrame], prediction_times: pl.DataFrame, definitions: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Which record is behind the latest value of each measurement, in parts as `feature_parts`.

    Returns FeatureSources, sorted by subject, feature and time, so that a record which stays the latest for many
    prediction times takes hardly any room.
    """
    latest = definitions.filter(statistic="last")
    for shard, rows in _rows_by_shard(shards, prediction_times.select(KEYS).unique().sort(KEYS)):
        if rows.is_empty() or latest.is_empty():
            yield empty(FeatureSources)
            continue
        events = shard.filter(pl.col("numeric_value").is_not_null()).collect(engine="streaming")
        numbered, measures = numbered_measures(latest, events)
        points = with_numbers(points_of(events, moments_of(rows), measures))
        found = []
        for (window_days,), features in numbered.group_by("window_days", maintain_order=True):
            runs = window_runs(points, cast("int", window_days), ["last_record"])
            runs = runs.join(features.select("measure", "feature"), on="measure", maintain_order="left")
            place, row = rows_of_runs(runs)
            found.append(rows[row].hstack(runs[place].select("feature", record_id="last_record")))
        yield checked(pl.concat(found).sort("subject_id", "feature", "prediction_time"), FeatureSources)


def score_parts(
    shards: Iterable[pl.LazyFrame], prediction_times: pl.DataFrame, names: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """ClinicalScores of the scores `names`, in parts as `feature_parts`."""
    for shard, rows in _rows_by_shard(shards, prediction_times.select(KEYS).unique().sort(KEYS)):
        yield clinical_scores(shard, rows, names)


def _rows_by_shard(shards: Iterable[pl.LazyFrame], times: pl.DataFrame) -> Iterator[tuple[pl.LazyFrame, pl.DataFrame]]:
    """Each shard with the rows of its subjects; at last the rows of subjects who have no events at all."""
    found = [pl.DataFrame(schema={"subject_id": pl.Int64})]
    for shard in shards:
        found.append(shard.select("subject_id").unique().collect(engine="streaming"))
        own = times.join(found[-1], on="subject_id", how="semi", maintain_order="left")
        if own.height:
            yield shard, own
    left = times.join(pl.concat(found), on="subject_id", how="anti", maintain_order="left")
    if left.height or times.is_empty():
        yield pl.LazyFrame(schema=empty(Events).schema), left
