"""How was each person's record kept, apart from what it says?

A record's length, the calendar, and what was written down at all tell of the source, not of the body. Models are kept
from them (features.feature_plan, features.tasks.labels); here they are measured, so that models.observation_audit
can ask what they would give away. They are meant for that audit alone and are no features.

What counts as shape, and what is care. How often a person comes is prognosis, not a fault of the record: whoever used
much care will use much, within the look-back as before it. So the density of visits is measured relative to that of the
look-back, which the models may see: a source that keeps only a part of what is older shows as a step, a frail person
who always came often does not. What is missing counts for measurements and immunisations alone, which healthy
people have too; to have no diagnosis or medicine is to be well. The absolute densities stand beside, as CARE, to be
compared with (benchmarks.audit); what each choice finds is in docs/audit.md.
"""

import polars as pl

from features.meds_codes import ENCOUNTER_START

KEYS = ["subject_id", "prediction_time"]
SHAPE = {
    "years_observed": "years from the start of the observation to the prediction time",
    "years_to_source_end": "years from the prediction time to the end of the source's data, which is the calendar",
    "visits_before_to_recent": "visits a year before the look-back, relative to those in it",
    "has_no_measurement_before": "no measurement before the look-back",
    "has_no_immunisation_before": "no immunisation before the look-back",
}
CARE = {
    "visits_per_year_recent": "visits a year in the look-back",
    "visits_per_year_before": "visits a year before the look-back",
}
_MARKS = {"visits": ENCOUNTER_START, "measurements": r"^LOINC//", "immunisations": r"^CVX//"}
_SECONDS_PER_YEAR = 365.25 * 86_400


def record_shape(
    events: pl.LazyFrame, moments: pl.DataFrame, periods: pl.DataFrame, lookback_days: int
) -> pl.DataFrame:
    """Measure the record behind each moment, as it stood then and inside the person's observation period.

    Reads:    `events`: features.tables.Events, by known_time. `moments`: subject_id, prediction_time; distinct.
              `periods`: ObservationPeriods.
    Returns:  the moments, then the columns of SHAPE and CARE as Float64, sorted by the keys. visits_before_to_recent is
              the natural logarithm of the ratio of two rates, each with one more visit in one more year, so that a few
              visits of a short time say little. What looks before the look-back is null when nobody observed then.
    """
    spans = moments.select(KEYS).join(periods.select("subject_id", "start", "covered_until"), on="subject_id")
    spans = spans.with_columns(edge=pl.max_horizontal("start", _lookback_start(lookback_days)))
    counted = _with_counts(spans, _marks(events, spans["subject_id"].unique()))
    years_before, years_recent = _years("start", "edge"), _years("edge", "prediction_time")
    was_observed = years_before > 0
    visits = {part: pl.col(f"visits_{part}") for part in ("before", "recent")}
    return counted.select(
        *KEYS,
        years_observed=_years("start", "prediction_time"),
        years_to_source_end=_years("prediction_time", "covered_until"),
        visits_before_to_recent=pl.when(was_observed).then(
            _smooth_rate(visits["before"], years_before).log() - _smooth_rate(visits["recent"], years_recent).log()
        ),
        **{
            f"has_no_{what}_before": pl.when(was_observed).then(pl.col(f"{what}s_before") == 0).cast(pl.Float64)
            for what in ("measurement", "immunisation")
        },
        visits_per_year_recent=visits["recent"] / years_recent,
        visits_per_year_before=pl.when(was_observed).then(visits["before"] / years_before),
    ).sort(KEYS)


def _marks(events: pl.LazyFrame, subjects: pl.Series) -> pl.DataFrame:
    """When visits, measurements and immunisations became known, and how many of each were by then."""
    kinds = {kind: pl.col("code").str.contains(pattern) for kind, pattern in _MARKS.items()}
    return (
        events.filter(pl.any_horizontal(*kinds.values()) & pl.col("known_time").is_not_null())
        .filter(pl.col("subject_id").is_in(subjects.implode()))
        .group_by("subject_id", "known_time")
        .agg(**{kind: is_kind.sum().cast(pl.Int64) for kind, is_kind in kinds.items()})
        .collect(engine="streaming")
        .sort("subject_id", "known_time")
        .with_columns(pl.col(*_MARKS).cum_sum().over("subject_id"))
        .sort("known_time")
    )


def _with_counts(spans: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    """Add <kind>_before and <kind>_recent: known from `start` to `edge`, and from there to the prediction time."""
    counted = spans
    for moment in ("start", "edge", "prediction_time"):
        counted = (
            counted.sort(moment)
            .join_asof(
                marks,
                left_on=moment,
                right_on="known_time",
                by="subject_id",
                strategy="backward",
                allow_exact_matches=moment != "start",  # the start itself is inside
                coalesce=False,
                check_sortedness=False,  # both sides are sorted above
            )
            .drop("known_time")
            .rename({kind: f"{kind}_by_{moment}" for kind in _MARKS})
        )
    counted = counted.with_columns(pl.col(f"^({'|'.join(_MARKS)})_by_.*$").fill_null(0))
    return counted.with_columns(
        **{f"{kind}_before": pl.col(f"{kind}_by_edge") - pl.col(f"{kind}_by_start") for kind in _MARKS},
        **{f"{kind}_recent": pl.col(f"{kind}_by_prediction_time") - pl.col(f"{kind}_by_edge") for kind in _MARKS},
    )


def _lookback_start(lookback_days: int) -> pl.Expr:
    return pl.col("prediction_time") - pl.duration(days=lookback_days)


def _years(since: str, until: str) -> pl.Expr:
    return (pl.col(until) - pl.col(since)).dt.total_seconds() / _SECONDS_PER_YEAR


def _smooth_rate(count: pl.Expr, years: pl.Expr) -> pl.Expr:
    return (count + 1) / (years + 1)
