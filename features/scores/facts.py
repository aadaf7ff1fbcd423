"""What does the record say about each input of a score at a prediction time? The latest fact known by then.

A fact is looked up without comparing every event with every row: among the events of a person and an input, in the
order in which they became known, only those can be the latest at some moment that are no older than all before them.
"""

import polars as pl

from features.codes import match_patterns
from features.points import KEYS
from features.scores.inputs import OLDEST_AGE_YEARS, Fact, Input

_SECONDS_PER_DAY = 86_400
_DIGITS = 6  # what a Float32 keeps of a decimal number: 35.1 stays 35.1 as Float64


def read_events(events: pl.LazyFrame, facts: dict[Fact, Input], present: pl.DataFrame) -> pl.DataFrame:
    """The events that any of the facts is looked up in, with the number that each means to it.

    Reads:    `events`: features.tables.Events. `facts`: as from `facts_of`. `present`: code, every code of the events.
    Returns:  subject_id, time, known_time, code, encounter_id, record_id, fact (its place in `facts`), value
              (Float64, in the input's unit; 1 for histories). Numbers in a unit that the input cannot convert are
              left out.
    """
    patterns = [(place, one.kind, pattern) for place, one in enumerate(facts.values()) for pattern in one.codes]
    codes = match_patterns(
        present,
        pl.DataFrame(patterns, schema={"fact": pl.UInt32, "kind": pl.String, "pattern": pl.String}, orient="row"),
    ).unique(["code", "fact"])
    for place, one in enumerate(facts.values()):
        if one.except_for:
            codes = codes.filter((pl.col("fact") != place) | ~pl.col("code").str.contains(one.except_for))
    units = [(place, *conversion) for place, one in enumerate(facts.values()) for conversion in one.conversions]
    conversions = pl.LazyFrame(
        units,
        schema={"fact": pl.UInt32, "unit": pl.String, "factor": pl.Float64, "offset": pl.Float64},
        orient="row",
    )
    given = [(place, *answered) for place, one in enumerate(facts.values()) for answered in one.answers]
    answers = pl.LazyFrame(given, schema={"fact": pl.UInt32, "answer": pl.String, "meaning": pl.Float64}, orient="row")
    number = pl.col("numeric_value").cast(pl.Float64).round_sig_figs(_DIGITS)
    kind = pl.col("kind")
    is_number = kind.is_in(["value", "highest"])
    return (
        events.filter(pl.col("code").is_in(codes["code"].unique().implode()))
        .join(codes.lazy(), on="code")
        .with_columns(answer=pl.when(kind == "static").then("code").otherwise("text_value"))
        .join(conversions, on=["fact", "unit"], how="left")
        .join(answers, on=["fact", "answer"], how="left")
        .with_columns(
            value=pl.when(is_number)
            .then(number * pl.col("factor") + pl.col("offset"))
            .when(kind.is_in(["answer", "static"]))
            .then("meaning")
            .otherwise(1.0)
        )
        .filter(~is_number | pl.col("value").is_not_null())
        .select("subject_id", "time", "known_time", "code", "encounter_id", "record_id", "fact", "value")
        .collect(engine="streaming")
    )


def facts_of(inputs: list[Input]) -> dict[Fact, Input]:
    """The distinct facts of the inputs and of what is looked up beside them; the place of one is its number."""
    distinct: dict[Fact, Input] = {}
    for one in (each for asked in inputs for each in (asked, *asked.beside)):
        distinct.setdefault(one.fact, one)
    return distinct


def latest_known(read: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The latest event of each fact at each row, among those known by then; at one moment the one known last.

    Reads:    `read`: as from `read_events`, events with a time. `rows`: row, subject_id, prediction_time.
    Returns:  row, fact, value, time, age_days, record_id; no row where nothing was known.
    """
    key = ["subject_id", "fact"]
    newest_so_far = (
        read.select(*key, "time", "known_time", "record_id", "value")
        .sort(*key, "known_time", "time", "record_id", "value")
        .filter(pl.col("time") == pl.col("time").cum_max().over(key))
        .unique([*key, "known_time"], keep="last", maintain_order=True)
        .sort("known_time")
    )
    age_days = (pl.col("prediction_time") - pl.col("time")).dt.total_seconds() / _SECONDS_PER_DAY
    return (
        rows.select("row", *KEYS)
        .join(read.select(key).unique(), on="subject_id")
        .sort("prediction_time")
        .join_asof(
            newest_so_far,
            left_on="prediction_time",
            right_on="known_time",
            by=key,
            check_sortedness=False,  # both sides are sorted above
        )
        .drop_nulls("time")
        .select("row", "fact", "value", "time", "prediction_time", "record_id", age_days=age_days)
    )


def highest_known(read: pl.DataFrame, rows: pl.DataFrame, window_days: dict[int, int | None]) -> pl.DataFrame:
    """The highest number of each fact within its look-back at each row, of equal ones the latest.

    Reads:    `read`, `rows`: as `latest_known`. `window_days`: of the fact at each place, None for ever.
    Returns:  row, fact, value, age_days, record_id; no row where nothing was known.
    """
    windows = pl.DataFrame(
        {"fact": list(window_days), "window": list(window_days.values())}, {"fact": pl.UInt32, "window": pl.Int32}
    )
    age_days = (pl.col("prediction_time") - pl.col("time")).dt.total_seconds() / _SECONDS_PER_DAY
    return (
        rows.join(read.join(windows, on="fact"), on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
        .select("row", "fact", "value", "record_id", "window", age_days=age_days)
        .filter((pl.col("age_days") < pl.col("window")).fill_null(value=True))
        .sort("row", "fact", "value", "age_days", "record_id", descending=[False, False, True, False, False])
        .unique(["row", "fact"], keep="first", maintain_order=True)
        .select("row", "fact", "value", "age_days", "record_id")
    )


def static_facts(read: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The facts without a time, which were always known; those that contradict each other are left out.

    Returns:  row, fact, value, age_days (null), record_id.
    """
    of_people = (
        read.drop_nulls("value")
        .group_by("subject_id", "fact")
        .agg(pl.col("value").min(), pl.col("record_id").max(), meanings=pl.col("value").n_unique())
        .filter(pl.col("meanings") == 1)
    )
    return rows.join(of_people, on="subject_id").select(
        "row", "fact", "value", "record_id", age_days=pl.lit(None, pl.Float64)
    )


def completed_years() -> pl.Expr:
    """Age in completed years on the day of `prediction_time`, from the birth at `time`; 90 and above as 90."""
    born, now = pl.col("time").dt, pl.col("prediction_time").dt
    had_birthday = now.month().cast(pl.Int32) * 100 + now.day() >= born.month().cast(pl.Int32) * 100 + born.day()
    years = now.year() - born.year() - pl.when(had_birthday).then(0).otherwise(1)
    return years.clip(upper_bound=OLDEST_AGE_YEARS).cast(pl.Float64)
