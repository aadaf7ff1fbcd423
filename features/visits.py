"""What a visit lends to the records that name it: its site, its dates, and when it was over."""

from datetime import timedelta

import polars as pl

from features.records.events import DISCHARGE_DIAGNOSIS

# A record that names the visit of another patient has none.
_VISIT = ["subject_id", "encounter_id"]
_RECORD = ["subject_id", "record_id"]


def with_sites(events: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Give every event the site of its visit; sites named by an identifier get the organisation's pseudonym."""
    visits = (
        events.filter(pl.col("site_id").is_not_null() & pl.col("encounter_id").is_not_null())
        .select(*_VISIT, alias="site_id")
        .unique(_VISIT)
        .join(sites, on="alias", how="left")
        .select(*_VISIT, site_id=pl.coalesce("site_id", "alias"))
    )
    return events.drop("site_id").join(visits, on=_VISIT, how="left")


def with_dates(
    events: pl.DataFrame, longest_visit_days: int, longest_stay_days: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take missing dates from the visit, put known_time right, and drop ends of visits that nobody believes.

    Counts what it had to do: subject_id, finding, count.
    """
    is_start = pl.col("code").str.starts_with("ENCOUNTER//") & pl.col("code").str.ends_with("//start")
    is_end = pl.col("code").str.starts_with("ENCOUNTER//") & pl.col("code").str.ends_with("//end")
    visits = (
        events.filter(is_start | is_end)
        .group_by(_VISIT)
        .agg(
            visit_start=pl.col("time").filter(is_start).min(),
            visit_end=pl.col("time").filter(is_end).max(),
            is_stay=pl.col("code").str.contains("//IMP//").any(),
        )
        .with_columns(
            is_absurd=pl.col("visit_end") - pl.col("visit_start")
            > pl.when("is_stay").then(timedelta(days=longest_stay_days)).otherwise(timedelta(days=longest_visit_days)),
            is_backwards=pl.col("visit_end") < pl.col("visit_start"),
        )
        .with_columns(has_no_end=(pl.col("is_absurd") | pl.col("is_backwards")).fill_null(value=False))
        .with_columns(visit_end=pl.when(~pl.col("has_no_end")).then("visit_end"))
    )
    unbelieved = visits.filter("has_no_end").select(_VISIT)
    discharge_diagnoses = (
        events.filter(pl.col("code").str.starts_with(DISCHARGE_DIAGNOSIS))
        .join(unbelieved, on=_VISIT, how="anti")
        .select(
            "subject_id",
            record_id=pl.col("code").str.strip_prefix(DISCHARGE_DIAGNOSIS).cast(pl.Int64),
            discharged="known_time",
        )
        .group_by(_RECORD)
        .agg(pl.col("discharged").min())
    )
    events = (
        events.filter(~pl.col("code").str.starts_with(DISCHARGE_DIAGNOSIS))
        .join(visits, on=_VISIT, how="left")
        .join(discharge_diagnoses, on=_RECORD, how="left")
    )
    is_static = pl.col("code").str.contains("^(?:SEX|RACE|ETHNICITY)//")
    is_unbelieved_end = pl.col("has_no_end").fill_null(value=False) & (
        is_end | pl.col("code").str.starts_with("DISCHARGE//")
    )
    findings = pl.concat(
        [
            _found(visits, visits_of_absurd_length=pl.col("is_absurd"), ends_before_start=pl.col("is_backwards")),
            _found(
                events,
                dates_taken_from_visit=pl.col("time").is_null() & pl.col("visit_start").is_not_null() & ~is_static,
                known_before_it_happened=pl.col("known_time") < pl.col("time"),
            ),
        ]
    )
    events = (
        events.filter(~is_unbelieved_end)
        .with_columns(
            time=pl.when(is_static).then(None).otherwise(pl.coalesce("time", "visit_start")),
            # What has no date of recording was in the record when the visit ended, at the latest.
            known_time=pl.coalesce("known_time", "visit_end", "time", "visit_start"),
        )
        .with_columns(
            known_time=pl.when(is_static).then(None).otherwise(pl.max_horizontal("known_time", "time", "discharged"))
        )
        .drop("visit_start", "visit_end", "is_stay", "is_absurd", "is_backwards", "has_no_end", "discharged")
    )
    return events, findings


def _found(table: pl.DataFrame, **conditions: pl.Expr) -> pl.DataFrame:
    return pl.concat(
        [
            table.filter(condition)
            .group_by("subject_id")
            .agg(finding=pl.lit(name), count=pl.len().cast(pl.Int64))
            .select("subject_id", "finding", "count")
            for name, condition in conditions.items()
        ]
    )
