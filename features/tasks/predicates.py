"""Which events does a predicate name?"""

from collections.abc import Iterable

import polars as pl

from features.codes import match_patterns
from features.tasks.schema import Predicate


def predicate_events(events: pl.LazyFrame, codes: pl.DataFrame, predicate: Predicate) -> pl.DataFrame:
    """The events of a predicate, with the unit (code group) that each belongs to.

    Reads:    `events`: features.tables.Events. `codes`: code, every code of the events.
    Returns:  subject_id, time, known_time, unit; an event in two groups has two rows; static facts are left out.
    """
    units = matched_units(codes, [predicate])
    return (
        events.filter(pl.col("time").is_not_null() & pl.col("code").is_in(units["code"].unique().implode()))
        .select("subject_id", "time", "known_time", "code")
        .join(units.lazy(), on="code")
        .select("subject_id", "time", "known_time", "unit")
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
