"""How regularly does a person come? Days between the days with a visit, as known at each prediction time."""

import polars as pl

from features.points import KEYS

VISIT_STARTS = ("ENCOUNTER//AMB//start", "ENCOUNTER//EMER//start", "ENCOUNTER//IMP//start")
RHYTHM = {
    "mean_gap": "mean number of days between days with a visit",
    "longest_gap": "longest stretch of days between days with a visit",
    "gap_variation": "how irregularly visits come: standard deviation of the days between them, divided by their mean",
}


def visit_rhythm(events: pl.DataFrame, rows: pl.DataFrame, window_days: int) -> pl.DataFrame:
    """Gaps between visits inside a window.

    Reads:    `events`: subject_id, time, known_time, code; the starts of visits are used. `rows`: row, subject_id,
              prediction_time. Several visits on one day count as one.
    Returns:  row, mean_gap, longest_gap (days; null with fewer than two days with a visit), gap_variation (1 for
              visits by chance, 0 for a clock; null with fewer than two gaps). Only rows with any visit.
    """
    seen = (pl.col("known_time") <= pl.col("prediction_time")) & (
        pl.col("time") > pl.col("prediction_time") - pl.duration(days=window_days)
    )
    gap = pl.col("day").diff().dt.total_days().cast(pl.Float64)
    return (
        events.lazy()
        .filter(pl.col("code").is_in(VISIT_STARTS) & pl.col("time").is_not_null())
        .select("subject_id", "time", "known_time")
        .join(rows.lazy().select("row", *KEYS), on="subject_id")
        .filter(seen)
        .select("row", day=pl.col("time").dt.date())
        .unique()
        .sort("row", "day")
        .group_by("row", maintain_order=True)
        .agg(mean_gap=gap.mean(), longest_gap=gap.max(), gap_variation=gap.std() / gap.mean())
        .collect()
    )
