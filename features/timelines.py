"""From rows in any order to patients' timelines: one subject in one place, in order, each fact once.

Works on some subjects at a time, so memory depends on them and not on the population; no one's timeline depends on who
the others are.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl
import pyarrow as pa

from features.meds_codes import BIRTH, DEATH, ENCOUNTER_START, MOVED
from features.privacy.rules import load_rules
from features.records.medicines import MEDICATION
from features.records.reasons import IN_ERROR
from features.versions import ROW, newest_versions
from features.visits import with_dates, with_sites

OLDER_VERSION = "older version or copy of another record"
DELETED = "deleted at the source"
NO_PATIENT = "its patient is not among the records"
NO_DATE = "no date, and no visit to take one from"
NO_MEDICINE = "refers to a medicine that is not among the records"
BEFORE_BIRTH = "before birth"
BEFORE_CAPPED_BIRTH = "before the birth to which ages over 89 are capped"
AFTER_DEATH = "after death"
DEATH_RECORD = "records a death after the fact"
SAME_FACT = "says the same as another record"
# Of a record's several events each may be dropped for another reason; the first in this order is told.
_REASONS = (
    NO_PATIENT,
    NO_MEDICINE,
    NO_DATE,
    DEATH_RECORD,
    AFTER_DEATH,
    BEFORE_BIRTH,
    BEFORE_CAPPED_BIRTH,
    SAME_FACT,
)

_RECORD = ["subject_id", "record_id"]

_OLDEST_YEARS = 90
# The seconds of a shift may carry a newborn's first visit past midnight of the day before.
_BIRTH_SLACK = timedelta(minutes=30)

# MEDS 0.4's own Arrow types, then ours.
MEDS_TYPES = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("time", pa.timestamp("us")),
        ("code", pa.string()),
        ("numeric_value", pa.float32()),
        ("text_value", pa.large_string()),
        ("known_time", pa.timestamp("us")),
        ("unit", pa.string()),
        ("encounter_id", pa.int64()),
        ("site_id", pa.int64()),
        ("record_id", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Surroundings:
    """What a bucket must know of the rest: all small, whatever the number of events.

    patients: subject_id, weeks_us, seconds_us, cap_days, split. sites: alias, site_id. medications: placeholder,
    medicine. places, deletions, contested: see features.versions.newest_versions. exports: records.exports.EXPORTS.
    known_to: the last true moment (microseconds) that the source knows of.
    """

    patients: pl.DataFrame
    sites: pl.DataFrame
    medications: pl.DataFrame
    places: pl.DataFrame
    deletions: pl.DataFrame
    contested: pl.DataFrame
    exports: pl.DataFrame
    known_to: int
    data_end: date
    longest_visit_days: int
    longest_stay_days: int


@dataclass(frozen=True)
class Timelines:
    """Some patients' timelines and the account of their records, patient by patient.

    events: the columns of MEDS_TYPES, sorted. current: the row of each record that holds. outcomes: subject_id, kind,
    outcome, reason, records. wordings: subject_id, code, wording, events. findings: subject_id, finding, count, for the
    data profile.
    """

    events: pl.DataFrame
    current: pl.DataFrame
    outcomes: pl.DataFrame
    wordings: pl.DataFrame
    findings: pl.DataFrame


def build_timelines(records: pl.DataFrame, events: pl.DataFrame, around: Surroundings) -> Timelines:
    """Make the timelines of the patients whose rows (records.frames.frames_of) these are, each from its own alone."""
    versions = newest_versions(records, around.places, around.deletions, around.contested)
    if versions.current.height < records.height:
        events = events.join(versions.current, on=ROW, how="semi")
    retired = versions.current.filter("is_retired")
    wordings = (
        events.filter(~pl.col("code").str.starts_with("_"))
        .group_by("subject_id", "code", "wording")
        .agg(events=pl.len().cast(pl.Int64))
    )
    events = _with_medicines(with_sites(events, around.sites), around.medications)
    events, findings = with_dates(events, around.longest_visit_days, around.longest_stay_days)
    events = _with_reasons(events, around)
    kept, repeated = _each_fact_once(events.filter(pl.col("reason").is_null()))
    lost = (
        pl.concat(
            [
                events.filter(pl.col("reason").is_not_null()).select(*_RECORD, "reason"),
                repeated.select(*_RECORD, reason=pl.lit(SAME_FACT)),
            ]
        )
        .with_columns(
            rank=pl.col("reason").replace_strict({r: i for i, r in enumerate(_REASONS)}, return_dtype=pl.Int8)
        )
        .group_by(_RECORD)
        .agg(pl.col("reason").sort_by("rank").first())
        .join(kept, on=_RECORD, how="anti")
    )
    outcomes = pl.concat(
        [
            versions.current.filter(~pl.col("is_retired"))
            .join(lost, on=_RECORD, how="left")
            .select("subject_id", "kind", "reason"),
            versions.older.select("subject_id", "kind", reason=pl.lit(OLDER_VERSION)),
            versions.withdrawn.select("subject_id", "kind", reason=pl.lit(DELETED)),
            retired.select("subject_id", "kind", reason=pl.lit(IN_ERROR)),
        ]
    )
    outcomes = (
        outcomes.group_by("subject_id", "kind", "reason")
        .agg(records=pl.len().cast(pl.Int64))
        .select(
            "subject_id",
            "kind",
            outcome=pl.when(pl.col("reason").is_null()).then(pl.lit("used")).otherwise(pl.lit("ignored")),
            reason=pl.col("reason").fill_null(""),
            records="records",
        )
    )
    return Timelines(kept, versions.current, outcomes, wordings, findings)


def _with_medicines(events: pl.DataFrame, medications: pl.DataFrame) -> pl.DataFrame:
    """Replace references to Medication resources by their codes; unknown ones keep the placeholder."""
    refers = pl.col("code").str.starts_with(MEDICATION)
    if not events.select(refers.any()).item():
        return events
    parts = pl.col("code").str.splitn("//", 3).struct
    return (
        events.with_columns(
            placeholder=pl.when(refers).then(parts.field("field_0") + "//" + parts.field("field_1")),
            aspect=pl.when(refers).then(parts.field("field_2")),
        )
        .join(medications, on="placeholder", how="left")
        .with_columns(
            code=pl.when(refers & pl.col("medicine").is_not_null())
            .then(pl.concat_str("medicine", pl.lit("//") + pl.col("aspect"), ignore_nulls=True))
            .otherwise("code")
        )
        .drop("placeholder", "aspect", "medicine")
    )


def oldest_birth(data_end: date) -> datetime:
    """The true moment before which a birth is moved up, in a source that ends on `data_end`."""
    return datetime(data_end.year - _OLDEST_YEARS, data_end.month, 1)


def last_believed_move(data_end: date) -> datetime:
    """The true moment before which somebody can have moved away, in a source that ends on `data_end`.

    An address that ends later says nothing yet, and an end that many have, such as 2999-12-31, would tell their shifts.
    """
    return datetime(data_end.year, data_end.month, 1)


def _with_reasons(events: pl.DataFrame, around: Surroundings) -> pl.DataFrame:
    """Add `reason`: why an event cannot stay; null for those that can. Caps births of people over 89.

    Leaves out moves that are not over, or after which a visit shows that the person still comes.
    """
    # The limit depends on the source's end alone, never on when a person died: an age capped at each person's own last
    # day would end at 90 for everybody, and so tell the days left to live.
    limit = oldest_birth(around.data_end) + pl.duration(microseconds="weeks_us")
    people = (
        around.patients.join(events.select("subject_id").unique(), on="subject_id", how="semi")
        .join(_first_time(events, BIRTH, "born"), on="subject_id", how="left")
        .join(_first_time(events, DEATH, "died"), on="subject_id", how="left")
        .with_columns(
            capped=pl.when(pl.col("born") < limit).then(limit + pl.duration(days="cap_days")).otherwise("born"),
            is_known=pl.lit(value=True),
            unmoved_from=pl.lit(last_believed_move(around.data_end)) + pl.duration(microseconds="weeks_us"),
        )
        .drop("weeks_us", "seconds_us", "cap_days", "split")
    )
    is_static = pl.col("time").is_null() & pl.col("code").str.contains("^(?:SEX|RACE|ETHNICITY)//")
    is_birth = pl.col("code") == BIRTH
    codes = list(load_rules().death_records)
    is_death_code = pl.col("code").is_in([*codes, *(f"ENCOUNTER_TYPE//{code}" for code in codes)])
    death_records = events.filter(is_death_code).select(*_RECORD, is_death_record=True).unique()
    visits = events.filter(pl.col("code").str.contains(ENCOUNTER_START))
    last_visits = visits.group_by("subject_id").agg(last_visit=pl.col("time").max())
    stays = (pl.col("time") >= pl.col("unmoved_from")) | (pl.col("time") < pl.col("last_visit"))
    events = (
        events.join(people, on="subject_id", how="left")
        .join(last_visits, on="subject_id", how="left")
        .filter(~((pl.col("code") == MOVED) & stays.fill_null(value=False)))
        .drop("unmoved_from", "last_visit")
        .join(death_records, on=_RECORD, how="left")
        .with_columns(time=pl.when(is_birth).then("capped").otherwise("time"))
        .with_columns(
            reason=pl.when(pl.col("is_known").is_null())
            .then(pl.lit(NO_PATIENT))
            .when(pl.col("code").str.starts_with(MEDICATION))
            .then(pl.lit(NO_MEDICINE))
            .when(is_static | is_birth)
            .then(None)
            .when(pl.col("time").is_null())
            .then(pl.lit(NO_DATE))
            .when("is_death_record")
            .then(pl.lit(DEATH_RECORD))
            .when(pl.col("time") > pl.col("died"))
            .then(pl.lit(AFTER_DEATH))
            .when(pl.col("time") < pl.col("born") - _BIRTH_SLACK)
            .then(pl.lit(BEFORE_BIRTH))
            .when(pl.col("time") < pl.col("capped") - _BIRTH_SLACK)
            .then(pl.lit(BEFORE_CAPPED_BIRTH)),
        )
        .with_columns(
            time=pl.max_horizontal("time", pl.when(~is_static).then("capped")),
            known_time=pl.when(is_birth).then("capped").otherwise(pl.max_horizontal("known_time", "time")),
        )
        .with_columns(known_time=pl.when(is_static).then(None).otherwise(pl.max_horizontal("known_time", "time")))
        .drop("born", "died", "capped", "is_known", "is_death_record")
    )
    return events


def _first_time(events: pl.DataFrame, code: str, name: str) -> pl.DataFrame:
    return events.filter(pl.col("code") == code).group_by("subject_id").agg(pl.col("time").min().alias(name))


def _each_fact_once(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The timelines in order, and the events that repeat one of them in all but the record they come from.

    Ties in time have no meaning in the source, so a fixed order stands in.
    """
    fact = ["subject_id", "time", "known_time", "code", "numeric_value", "unit", "text_value", "encounter_id"]
    ordered = events.select(MEDS_TYPES.names).sort(*fact, "record_id", nulls_last=False)
    repeats = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in fact)
    ordered = ordered.with_columns(is_repeat=repeats & (pl.int_range(pl.len()) > 0))
    return ordered.filter(~pl.col("is_repeat")).drop("is_repeat"), ordered.filter("is_repeat")
