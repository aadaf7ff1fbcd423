"""The feature table: one row per subject and prediction time, one documented column per feature."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.codes import match_patterns
from features.feature_plan import plan_columns
from features.meds_codes import BIRTH
from features.scores.columns import KIND as SCORE
from features.scores.columns import records_behind_scores, score_cells
from features.settings import StudySettings
from features.tables import FeatureKeys, checked
from features.windows import DAYS_PER_YEAR, KEYS, count_records, known_events, summarise_values, with_stay_days

OLDEST_AGE_YEARS = 90
SHARE_OF_ROWS_FILLED = 0.01
_ROWS_AT_ONCE = 50_000
_ZERO_WHEN_ABSENT = ("count", "is_present", "sum_of_stays")


def plan_features(
    events: pl.LazyFrame,
    prediction_times: pl.DataFrame,
    settings: StudySettings,
    codes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Choose the columns on train patients.

    Reads:    `events`: features.tables.Events of train patients only. `prediction_times`: subject_id,
              prediction_time. `codes`: features.tables.Codes, for names and wording; without it a column without a
              short name of its own is named after its code.
    Returns:  FeatureDefinitions, in the order of the columns. Beyond what features.feature_plan leaves out, columns
              that are empty on nearly all train rows, or always the same, say nothing and are left out.
    """
    planned = plan_columns(events, prediction_times, settings, codes)
    if prediction_times.is_empty():
        return planned
    table = build_features(events, prediction_times, planned).drop(KEYS)
    filled = table.select(pl.all().count() >= SHARE_OF_ROWS_FILLED * table.height)
    varied = table.select(pl.all().drop_nulls().n_unique() > 1)
    telling = [name for name in table.columns if filled[name].item() and varied[name].item()]
    return planned.filter(pl.col("feature").is_in(telling) | (pl.col("kind") == "demographic"))


def build_features(events: pl.LazyFrame, prediction_times: pl.DataFrame, definitions: pl.DataFrame) -> pl.DataFrame:
    """Compute every feature at every prediction time, from what was known then.

    Reads:    `events`: features.tables.Events. `prediction_times`: subject_id, prediction_time; doubles count
              once. `definitions`: FeatureDefinitions.
    Returns:  subject_id, prediction_time, then a Float32 column for each definition in order; sorted by the keys.
              Counts, states and days in hospital are 0 when nothing is recorded; other features are null then.
    """
    rows = prediction_times.select(KEYS).unique().sort(KEYS).with_row_index("row")
    present = events.select("code").unique().collect()
    numbered = definitions.with_row_index("column")
    parts = [
        _features_of_rows(events, rows.slice(first, _ROWS_AT_ONCE), numbered, present)
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


def _features_of_rows(
    events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame, present: pl.DataFrame
) -> pl.DataFrame:
    """The feature table of some rows, filled column by column into one matrix."""
    first_row = 0 if rows.is_empty() else int(rows["row"][0])
    of_subjects = events.filter(pl.col("subject_id").is_in(rows["subject_id"].unique().implode()))
    table: NDArray[np.float32] = np.full((rows.height, definitions.height), np.nan, np.float32, order="F")
    table[:, definitions.filter(pl.col("statistic").is_in(_ZERO_WHEN_ABSENT))["column"].to_numpy()] = 0
    stays = pl.col("statistic") == "sum_of_stays"
    counted = pl.col("kind").is_in(["state", "count", "utilisation"]) & ~stays
    for cells in chain(
        _demographic_cells(of_subjects, rows, definitions.filter(kind="demographic")),
        _record_cells(of_subjects, rows, definitions.filter(counted), present),
        _value_cells(of_subjects, rows, definitions.filter(kind="value"), present),
        _value_cells(with_stay_days(of_subjects), rows, definitions.filter(stays), present),
        score_cells(of_subjects, rows, definitions, present),
    ):
        table[cells["row"].to_numpy() - first_row, cells["column"].to_numpy()] = cells["cell"].to_numpy()
    columns = {name: table[:, index] for index, name in enumerate(definitions["feature"])}
    return rows.select(KEYS).with_columns(
        pl.Series(name, column, dtype=pl.Float32).fill_nan(None) for name, column in columns.items()
    )


def _demographic_cells(events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cells of age and sex: row, column, cell."""
    is_sex = pl.col("code").is_in(["SEX//female", "SEX//male", "SEX//other"])
    people = (
        events.filter((pl.col("code") == BIRTH) | is_sex)
        .group_by("subject_id")
        .agg(
            birth=pl.col("time").filter(pl.col("code") == BIRTH).min(),
            is_female=(pl.col("code") == "SEX//female").filter(is_sex).max(),
        )
        .collect()
    )
    age_years = (pl.col("prediction_time") - pl.col("birth")).dt.total_seconds() / 86_400 / DAYS_PER_YEAR
    known = rows.join(people, on="subject_id").with_columns(age=age_years.clip(0, OLDEST_AGE_YEARS))
    for column, statistic in definitions.select("column", "statistic").iter_rows():
        yield _cells(known, pl.lit(column), statistic)


def _record_cells(
    events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame, present: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Cells of the features that count records: row, column, cell."""
    for is_state in (True, False):
        part = definitions.filter((pl.col("kind") == "state") == is_state)
        part, measures = _measures(part, present)
        longest = None if is_state else _longest(part)
        known = known_events(events, rows, measures, longest).select("row", "measure", "age_days")
        known = known.collect(engine="streaming").lazy()
        for window_days in part["window_days"].unique():
            yield from _summary_cells(count_records(known, window_days), part, window_days)


def _value_cells(
    events: pl.LazyFrame, rows: pl.DataFrame, definitions: pl.DataFrame, present: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Cells of the features that summarise numbers: row, column, cell."""
    definitions, measures = _measures(definitions, present)
    known = known_events(events, rows, measures, _longest(definitions))
    for window_days in definitions["window_days"].unique():
        yield from _summary_cells(summarise_values(known, window_days), definitions, window_days)


def _measures(definitions: pl.DataFrame, present: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the sets of codes: definitions with `measure`, and the codes present with the measures they feed."""
    numbered = definitions.with_columns(measure=pl.col("codes").list.join(" ").rank("dense"))
    patterns = numbered.select("measure", pattern="codes").explode("pattern").unique()
    return numbered, match_patterns(present, patterns).select("code", "measure").unique()


def _longest(definitions: pl.DataFrame) -> int:
    return int(definitions.select(pl.col("window_days").max().fill_null(1)).item())


def _summary_cells(summary: pl.DataFrame, definitions: pl.DataFrame, window_days: int | None) -> Iterator[pl.DataFrame]:
    in_window = definitions.filter(pl.col("window_days").eq_missing(pl.lit(window_days, pl.Int32)))
    for statistic in in_window["statistic"].unique():
        columns = in_window.filter(statistic=statistic).select("measure", "column")
        name = "sum" if statistic == "sum_of_stays" else statistic
        yield _cells(summary.join(columns, on="measure"), pl.col("column"), name)


def _cells(summary: pl.DataFrame, column: pl.Expr, statistic: str) -> pl.DataFrame:
    return summary.select("row", column=column, cell=pl.col(statistic).cast(pl.Float32)).drop_nulls("cell")
