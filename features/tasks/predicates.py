"""Which events does a predicate name?"""

from collections.abc import Iterable, Mapping

import polars as pl

from features.codes import match_patterns
from features.tasks.schema import Predicate

FOUND = ["subject_id", "time", "known_time", "encounter_id", "numeric_value", "unit"]


def predicate_events(
    events: pl.LazyFrame, codes: pl.DataFrame, predicates: Mapping[str, Predicate], name: str
) -> pl.DataFrame:
    """The events of the predicate `name`, with the unit (code group) that each belongs to.

    Reads:    `events`: features.tables.Events. `codes`: code, every code of the events. `predicates`: those of a task,
              by name.
    Returns:  subject_id, time, known_time, encounter_id, numeric_value, unit; an event in two groups has two rows;
              static facts are left out. Where a value decides, an event without a number in the stated unit is none.
    """
    predicate = predicates[name]
    units = matched_units(codes, [predicate])
    found = events.filter(pl.col("time").is_not_null() & pl.col("code").is_in(units["code"].unique().implode()))
    if predicate.has_bound:
        value = pl.col("numeric_value").cast(pl.Float64).round(4)  # 6.5 % is stored as the nearest float32
        low, high = predicate.value_at_least, predicate.value_below
        found = found.filter(
            pl.col("unit") == predicate.unit,
            value >= (float("-inf") if low is None else low),
            value < (float("inf") if high is None else high),
        )
    if predicate.unless_same_visit is not None:
        barred = predicate_events(events, codes, predicates, predicate.unless_same_visit)
        visits = barred.lazy().select("subject_id", "encounter_id").drop_nulls().unique()
        found = found.join(visits, on=["subject_id", "encounter_id"], how="anti")
    return (
        found.drop("unit")
        .select("subject_id", "time", "known_time", "encounter_id", "numeric_value", "code")
        .join(units.lazy(), on="code")
        .select(FOUND)
        .collect()
    )


def matched_units(codes: pl.DataFrame, predicates: Iterable[Predicate]) -> pl.DataFrame:
    """The codes that predicates name, as code, unit."""
    patterns = pl.DataFrame(
        [
            (unit, pattern)
            for predicate in predicates
            for unit, spellings in predicate.units().items()
            for pattern in spellings
        ],
        schema={"unit": pl.String, "pattern": pl.String},
        orient="row",
    ).unique()
    return match_patterns(codes, patterns).select("code", "unit").unique()
