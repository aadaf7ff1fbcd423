"""What was known at each prediction time, and when did it happen?

The one rule about time: an event is seen when known_time <= prediction_time. A look-back window adds that it also
happened inside the window, by clinical `time`: an old illness that is written down today is old, not recent care, and
a source that keeps old entries only for some people must not show through. As time <= known_time, such an event lies
in (prediction_time - window, prediction_time].
"""

import polars as pl

KEYS = ["subject_id", "prediction_time"]
DAYS_PER_YEAR = 365.25
_SECONDS_PER_DAY = 86_400
_SHORTEST_SLOPE_DAYS = 30
_PREVIOUS_VISIT_DAYS = 1


def known_events(
    events: pl.LazyFrame, rows: pl.DataFrame, measures: pl.DataFrame, window_days: int | None
) -> pl.LazyFrame:
    """Pair each row with the events that a measure reads and that were known by then.

    Reads:    `events`: features.tables.Events. `rows`: subject_id, prediction_time, row (a number that names the
              row). `measures`: code, measure; a code may feed several measures. `window_days`: the look-back; None
              for the whole record.
    Returns:  row, measure, age_days (from the event's time to the prediction time, 0 or more), known_time,
              numeric_value, record_id.
    """
    age_days = (pl.col("prediction_time") - pl.col("time")).dt.total_seconds() / _SECONDS_PER_DAY
    pairs = (
        events.filter(pl.col("time").is_not_null() & pl.col("code").is_in(measures["code"].unique().implode()))
        .select("subject_id", "time", "known_time", "code", "numeric_value", "record_id")
        .join(rows.lazy().select("row", *KEYS), on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
    )
    if window_days is not None:
        pairs = pairs.filter(pl.col("time") > pl.col("prediction_time") - pl.duration(days=window_days))
    return pairs.join(measures.lazy(), on="code").select(
        "row", "measure", "known_time", "numeric_value", "record_id", age_days=age_days
    )


def count_records(known: pl.LazyFrame, window_days: int | None) -> pl.DataFrame:
    """Count the events of each row and measure inside a window.

    Reads:    row, measure, age_days, of a window at least as long.
    Returns:  row, measure, count, is_present (1), days_since_previous: days since the latest that is at least one
              day old; null when there is none. A visit that ends at the prediction time is not its own predecessor.
    """
    is_previous = pl.col("age_days") >= _PREVIOUS_VISIT_DAYS
    return (
        _inside(known, window_days)
        .group_by("row", "measure")
        .agg(
            count=pl.len(),
            is_present=pl.lit(1),
            days_since_previous=pl.col("age_days").filter(is_previous).min(),
        )
        .collect(engine="streaming")
    )


def summarise_values(known: pl.LazyFrame, window_days: int | None) -> pl.DataFrame:
    """Summarise the numbers of each row and measure inside a window.

    Reads:    row, measure, age_days, known_time, numeric_value, record_id; rows without a number are left out.
    Returns:  row, measure, count, sum, mean, minimum, maximum, last (the latest; at one moment the one known last),
              days_since (the age of the last), slope (per year, by least squares; null unless the values span 30 days,
              because two values of one visit tell no course).
    """
    years = -pl.col("age_days") / DAYS_PER_YEAR
    values = (
        _inside(known, window_days)
        .filter(pl.col("numeric_value").is_not_null())
        .select("row", "measure", "age_days", "known_time", "record_id", value=pl.col("numeric_value").cast(pl.Float64))
        .collect(engine="streaming")
        # A full order makes ties and sums come out the same however the events were ordered.
        .sort("row", "measure", pl.col("age_days").neg(), "known_time", "record_id", "value")
    )
    span_days = pl.col("age_days").max() - pl.col("age_days").min()
    slope = pl.cov(years, "value", ddof=0) / years.var(ddof=0)
    return values.group_by("row", "measure", maintain_order=True).agg(
        count=pl.len(),
        sum=pl.col("value").sum(),
        mean=pl.col("value").mean(),
        minimum=pl.col("value").min(),
        maximum=pl.col("value").max(),
        last=pl.col("value").last(),
        days_since=pl.col("age_days").last(),
        slope=pl.when(span_days >= _SHORTEST_SLOPE_DAYS).then(slope),
    )


def with_stay_days(events: pl.LazyFrame) -> pl.LazyFrame:
    """The end of each inpatient stay with its length.

    Reads:    features.tables.Events.
    Returns:  the ENCOUNTER//IMP//end events, numeric_value = days since the same encounter's start. An end whose
              encounter or start is unknown is left out.
    """
    # A start that became known after the end would be the future at that moment.
    starts = events.filter(pl.col("code") == "ENCOUNTER//IMP//start").select(
        "subject_id", "encounter_id", started="time", start_known="known_time"
    )
    first_start = (
        events.filter((pl.col("code") == "ENCOUNTER//IMP//end") & pl.col("encounter_id").is_not_null())
        .join(starts, on=["subject_id", "encounter_id"])
        .filter((pl.col("start_known") <= pl.col("known_time")) & (pl.col("started") <= pl.col("time")))
    )
    stay_days = (pl.col("time") - pl.col("started")).dt.total_seconds() / _SECONDS_PER_DAY
    return (
        first_start.with_columns(numeric_value=stay_days.cast(pl.Float32), unit=pl.lit("d"))
        .drop("started", "start_known")
        # One end with two starts would count twice; the earlier start stands.
        .sort("numeric_value", descending=True)
        .unique(["subject_id", "encounter_id", "record_id", "time", "known_time"], keep="first", maintain_order=True)
    )


def _inside(known: pl.LazyFrame, window_days: int | None) -> pl.LazyFrame:
    return known if window_days is None else known.filter(pl.col("age_days") < window_days)
