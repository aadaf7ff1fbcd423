"""The feature table: one row per subject and prediction time, one documented column per feature."""

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.codes import match_patterns
from features.meds_codes import BIRTH
from features.points import (
    DAY_US,
    DAYS_PER_YEAR,
    KEYS,
    Points,
    a_day_old,
    moments_of,
    points_of,
    with_numbers,
    with_stay_days,
)
from features.rhythm import visit_rhythm
from features.scores.columns import KIND as SCORE
from features.scores.columns import records_behind_scores, score_cells
from features.tables import FeatureKeys, checked
from features.windows import rows_of_runs, window_runs

OLDEST_AGE_YEARS = 90
_ROWS_AT_ONCE = 50_000
_ZERO_WHEN_ABSENT = ("count", "is_present", "sum_of_stays")
_SEXES = ["SEX//female", "SEX//male", "SEX//other"]
_STAY_ENDS = ["ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end"]
# Statistics of a column that have another name in features.windows.
_WORKED_OUT_AS = {
    "days_since": "last_time",
    "days_since_previous": "last_time",
    "years_since_first": "first_time",
    "sum_of_stays": "sum",
}
_UNIT_US = {"last_time": DAY_US, "first_time": DAY_US * DAYS_PER_YEAR}
_READ = [
    "subject_id",
    "time",
    "known_time",
    "code",
    "numeric_value",
    "unit",
    "text_value",
    "encounter_id",
    "record_id",
]


def build_features(events: pl.LazyFrame, prediction_times: pl.DataFrame, definitions: pl.DataFrame) -> pl.DataFrame:
    """Compute every feature at every prediction time, from what was known then.

    Reads:    `events`: features.tables.Events. `prediction_times`: subject_id, prediction_time; doubles count
              once. `definitions`: FeatureDefinitions.
    Returns:  subject_id, prediction_time, then a Float32 column for each definition in order; sorted by the keys.
              Counts, states and days in hospital are 0 when nothing is recorded; other features are null then.
    """
    rows = prediction_times.select(KEYS).unique().sort(KEYS)
    numbered = definitions.with_row_index("column")
    parts = [
        _features_of_rows(events, rows.slice(first, _ROWS_AT_ONCE), numbered)
        for first in range(0, max(rows.height, 1), _ROWS_AT_ONCE)
    ]
    table = pl.concat(parts)
    checked(table.select(KEYS), FeatureKeys)
    return table


def records_behind(
    events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame, at_most: int = 3
) -> pl.DataFrame:
    """The records that a feature was computed from, newest first.

    Reads:    `rows`: subject_id, prediction_time, feature.
    Returns:  the same with record_ids (list of Int64, distinct, at most `at_most`; empty for demographics and when
              nothing was recorded), in the order of `rows`.
    """
    asked = rows.select(*KEYS, "feature").with_row_index("row")
    wanted = definitions.join(asked.select("feature").unique(), on="feature")
    of_scores = asked.filter(pl.col("feature").is_in(wanted.filter(kind=SCORE)["feature"].implode()))
    wanted = wanted.filter(pl.col("kind") != SCORE)
    codes = match_patterns(
        events.select("code").unique().collect(),
        wanted.select("feature", pattern="codes").explode("pattern").drop_nulls(),
    )
    window = pl.duration(days=pl.col("window_days"))
    found = (
        asked.lazy()
        .join(wanted.lazy().select("feature", "kind", "statistic", "window_days"), on="feature")
        .join(codes.lazy().select("feature", "code"), on="feature")
        .join(
            events.filter(pl.col("time").is_not_null()).filter(
                pl.col("subject_id").is_in(asked["subject_id"].unique().implode())
            ),
            on=["subject_id", "code"],
        )
        .filter(
            pl.col("known_time") <= pl.col("prediction_time"),
            pl.col("window_days").is_null() | (pl.col("time") > pl.col("prediction_time") - window),
            (pl.col("kind") != "value") | pl.col("numeric_value").is_not_null(),
            (pl.col("statistic") != "days_since_previous")
            | (pl.col("time") <= pl.col("prediction_time") - pl.duration(days=1)),
        )
        .filter((pl.col("statistic") != "years_since_first") | (pl.col("time") == pl.col("time").min().over("row")))
        .group_by("row", "record_id")
        .agg(pl.col("time").max(), pl.col("known_time").max())
        .sort("row", "time", "known_time", "record_id", descending=[False, True, True, False])
        .select("row", "record_id")
        .collect()
    )
    if of_scores.height:
        behind = records_behind_scores(events, of_scores).sort("row", "age_days", "record_id")
        found = pl.concat([found, behind.select("row", "record_id").unique(maintain_order=True)])
    found = found.group_by("row", maintain_order=True).agg(record_ids=pl.col("record_id").head(at_most))
    return (
        asked.join(found, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("record_ids").fill_null(pl.lit([], pl.List(pl.Int64))))
        .drop("row")
    )


def _features_of_rows(events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame) -> pl.DataFrame:
    """The feature table of some rows, filled column by column into one matrix."""
    table: NDArray[np.float32] = np.full((rows.height, definitions.height), np.nan, np.float32, order="F")
    table[:, definitions.filter(pl.col("statistic").is_in(_ZERO_WHEN_ABSENT))["column"].to_numpy()] = 0
    of_subjects = _of_subjects(events, rows)
    for cells in _cells(of_subjects, rows, definitions):
        table[cells["row"].to_numpy(), cells["column"].to_numpy()] = cells["cell"].to_numpy()
    # Without `orient` a table with as many rows as columns would be taken for its transpose.
    columns = pl.from_numpy(table, schema=definitions["feature"].to_list(), orient="row")
    return rows.select(KEYS).hstack(columns.fill_nan(None))


def _of_subjects(events: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    subjects = rows["subject_id"].unique().implode()
    return events.filter(pl.col("subject_id").is_in(subjects)).select(_READ).collect(engine="streaming")


def _cells(events: pl.DataFrame, rows: pl.DataFrame, definitions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cells of the table: row, column, cell; what is nought or missing is left out."""
    yield from _demographic_cells(events, rows, definitions.filter(kind="demographic"))
    yield from score_cells(events.lazy(), rows.with_row_index("row"), definitions, events.select("code").unique())
    rhythm = definitions.filter(kind="rhythm")
    if rhythm.height and rows.height:
        yield from _rhythm_cells(events, rows, rhythm)
    is_stays, is_previous = (pl.col("statistic") == name for name in ("sum_of_stays", "days_since_previous"))
    counted = pl.col("kind").is_in(["state", "count", "utilisation"]) & ~is_stays & ~is_previous
    stays = with_stay_days(events.lazy().filter(pl.col("code").is_in(_STAY_ENDS))).collect()
    for read, part, view in (
        (events, counted, None),
        (events, is_previous, a_day_old),
        (events, pl.col("kind") == "value", with_numbers),
        (stays, is_stays, with_numbers),
    ):
        wanted = definitions.filter(part)
        if wanted.height and rows.height:
            yield from _window_cells(read, rows, wanted, view)


def _demographic_cells(events: pl.DataFrame, rows: pl.DataFrame, definitions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    is_sex = pl.col("code").is_in(_SEXES)
    people = (
        events.filter((pl.col("code") == BIRTH) | is_sex)
        .group_by("subject_id")
        .agg(
            birth=pl.col("time").filter(pl.col("code") == BIRTH).min(),
            is_female=(pl.col("code") == "SEX//female").filter(is_sex).max(),
        )
    )
    age_years = (pl.col("prediction_time") - pl.col("birth")).dt.total_seconds() / 86_400 / DAYS_PER_YEAR
    known = (
        rows.with_row_index("row").join(people, on="subject_id").with_columns(age=age_years.clip(0, OLDEST_AGE_YEARS))
    )
    for column, statistic in definitions.select("column", "statistic").iter_rows():
        yield known.select("row", column=pl.lit(column), cell=pl.col(statistic).cast(pl.Float32)).drop_nulls("cell")


def _rhythm_cells(events: pl.DataFrame, rows: pl.DataFrame, definitions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for (window_days,), of_window in definitions.group_by("window_days", maintain_order=True):
        found = visit_rhythm(events, rows.with_row_index("row"), cast("int", window_days))
        for column, statistic in of_window.select("column", "statistic").iter_rows():
            yield found.select("row", column=pl.lit(column), cell=pl.col(statistic).cast(pl.Float32)).drop_nulls("cell")


def _window_cells(
    events: pl.DataFrame, rows: pl.DataFrame, definitions: pl.DataFrame, view: Callable[[Points], Points] | None
) -> Iterator[pl.DataFrame]:
    """Cells of the features that a window of events gives, the events as `view` shows them."""
    definitions, measures = numbered_measures(definitions, events)
    points = points_of(events, moments_of(rows), measures)
    points = points if view is None else view(points)
    at = rows["prediction_time"].to_physical().to_numpy()
    for (window_days,), of_window in definitions.group_by("window_days", maintain_order=True):
        named = {statistic: _WORKED_OUT_AS.get(statistic, statistic) for statistic in of_window["statistic"].unique()}
        runs = window_runs(points, cast("int | None", window_days), sorted(set(named.values())))
        for statistic, name in named.items():
            columns = of_window.filter(statistic=statistic).select("measure", "column")
            found = runs.join(columns, on="measure", maintain_order="left")
            place, row = rows_of_runs(found)
            cell = found[name].to_numpy()[place]
            cell = (at[row] - cell) / _UNIT_US[name] if name in _UNIT_US else cell
            yield pl.DataFrame({"row": row, "column": found["column"].to_numpy()[place], "cell": cell})


def numbered_measures(definitions: pl.DataFrame, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the sets of codes: definitions with `measure`, and the codes of events with the measures they feed."""
    numbered = definitions.with_columns(measure=pl.col("codes").list.join(" ").rank("dense"))
    patterns = numbered.select("measure", pattern="codes").explode("pattern").unique()
    return numbered, match_patterns(events.select("code").unique(), patterns).select("code", "measure").unique()
