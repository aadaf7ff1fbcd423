"""From rows in any order to patients' timelines: one subject in one place, in order, each fact once.

Works on one bucket of subjects at a time, so memory depends on a bucket, not on the population.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa

from features.meds_codes import BIRTH, DEATH
from features.privacy.rules import load_rules
from features.records.events import DISCHARGE_DIAGNOSIS
from features.records.medicines import MEDICATION
from features.records.reasons import IN_ERROR

OLDER_VERSION = "older version or copy of another record"
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

    patients: subject_id, weeks_us, cap_days. sites: alias, site_id. medications: placeholder, medicine.
    """

    patients: pl.DataFrame
    sites: pl.DataFrame
    medications: pl.DataFrame
    data_end: date
    longest_visit_days: int
    longest_stay_days: int


@dataclass(frozen=True)
class Bucket:
    """A bucket's timelines and the account of its records.

    events: the columns of MEDS_TYPES, sorted. outcomes: kind, outcome, reason, records. wordings: code, wording,
    events, subjects. findings: counts for the data profile.
    """

    events: pl.DataFrame
    outcomes: pl.DataFrame
    wordings: pl.DataFrame
    findings: dict[str, int]


def build_bucket(folder: Path, around: Surroundings) -> Bucket:
    """Make the timelines of the subjects whose rows lie in `folder` (written by `features.records.landing`)."""
    records = pl.read_ipc(f"{folder}/*.records.arrow")
    events = pl.read_ipc(f"{folder}/*.events.arrow")

    current, retired = _newest_versions(records)
    events = events.join(current, on=["record_id", "file", "position"], how="semi")
    wordings = (
        events.filter(~pl.col("code").str.starts_with("_"))
        .group_by("code", "wording")
        .agg(events=pl.len().cast(pl.Int64), subjects=pl.col("subject_id").n_unique().cast(pl.Int64))
    )
    events = _with_medicines(_with_sites(events, around.sites), around.medications)
    events, findings = _with_dates(events, around)
    events = _with_reasons(events, around)
    kept, repeated = _each_fact_once(events.filter(pl.col("reason").is_null()))
    lost = (
        pl.concat(
            [
                events.filter(pl.col("reason").is_not_null()).select("record_id", "reason"),
                repeated.select("record_id", reason=pl.lit(SAME_FACT)),
            ]
        )
        .with_columns(
            rank=pl.col("reason").replace_strict({r: i for i, r in enumerate(_REASONS)}, return_dtype=pl.Int8)
        )
        .group_by("record_id")
        .agg(pl.col("reason").sort_by("rank").first())
        .join(kept, on="record_id", how="anti")
    )
    outcomes = pl.concat(
        [
            current.join(retired, on="record_id", how="anti")
            .join(lost, on="record_id", how="left")
            .select("kind", "reason"),
            records.join(current, on=["record_id", "file", "position"], how="anti").select(
                "kind", reason=pl.lit(OLDER_VERSION)
            ),
            retired.select("kind", reason=pl.lit(IN_ERROR)),
        ]
    )
    outcomes = (
        outcomes.with_columns(
            outcome=pl.when(pl.col("reason").is_null()).then(pl.lit("used")).otherwise(pl.lit("ignored")),
            reason=pl.col("reason").fill_null(""),
        )
        .group_by("kind", "outcome", "reason")
        .agg(records=pl.len().cast(pl.Int64))
    )
    return Bucket(kept, outcomes, wordings, findings)


def _newest_versions(records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The newest version of each record, and those of them that withdraw it."""
    newest = (
        records.sort("record_id", "version_time", "version_number", "file", "position")
        .unique("record_id", keep="last", maintain_order=True)
        .select("record_id", "subject_id", "file", "position", "kind", "is_retired")
    )
    return newest, newest.filter("is_retired")


def _with_sites(events: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Give every event the site of its visit; sites named by an identifier get the organisation's pseudonym."""
    visits = (
        events.filter(pl.col("site_id").is_not_null() & pl.col("encounter_id").is_not_null())
        .select("encounter_id", alias="site_id")
        .unique("encounter_id", keep="first", maintain_order=True)
        .join(sites, on="alias", how="left")
        .select("encounter_id", site_id=pl.coalesce("site_id", "alias"))
    )
    return events.drop("site_id").join(visits, on="encounter_id", how="left")


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


def _with_dates(events: pl.DataFrame, around: Surroundings) -> tuple[pl.DataFrame, dict[str, int]]:
    """Take missing dates from the visit, put known_time right, and drop ends of visits that nobody believes."""
    is_start = pl.col("code").str.starts_with("ENCOUNTER//") & pl.col("code").str.ends_with("//start")
    is_end = pl.col("code").str.starts_with("ENCOUNTER//") & pl.col("code").str.ends_with("//end")
    visits = (
        events.filter(is_start | is_end)
        .group_by("encounter_id")
        .agg(
            visit_start=pl.col("time").filter(is_start).min(),
            visit_end=pl.col("time").filter(is_end).max(),
            is_stay=pl.col("code").str.contains("//IMP//").any(),
        )
        .with_columns(
            is_absurd=pl.col("visit_end") - pl.col("visit_start")
            > pl.when("is_stay")
            .then(timedelta(days=around.longest_stay_days))
            .otherwise(timedelta(days=around.longest_visit_days)),
            is_backwards=pl.col("visit_end") < pl.col("visit_start"),
        )
        .with_columns(has_no_end=(pl.col("is_absurd") | pl.col("is_backwards")).fill_null(value=False))
        .with_columns(visit_end=pl.when(~pl.col("has_no_end")).then("visit_end"))
    )
    unbelieved = visits.filter("has_no_end").select("encounter_id")
    discharge_diagnoses = (
        events.filter(pl.col("code").str.starts_with(DISCHARGE_DIAGNOSIS))
        .join(unbelieved, on="encounter_id", how="anti")
        .select(
            record_id=pl.col("code").str.strip_prefix(DISCHARGE_DIAGNOSIS).cast(pl.Int64),
            discharged="known_time",
        )
        .group_by("record_id")
        .agg(pl.col("discharged").min())
    )
    events = (
        events.filter(~pl.col("code").str.starts_with(DISCHARGE_DIAGNOSIS))
        .join(visits, on="encounter_id", how="left")
        .join(discharge_diagnoses, on="record_id", how="left")
    )
    is_static = pl.col("code").str.contains("^(?:SEX|RACE|ETHNICITY)//")
    is_unbelieved_end = pl.col("has_no_end").fill_null(value=False) & (
        is_end | pl.col("code").str.starts_with("DISCHARGE//")
    )
    findings = {
        "dates_taken_from_visit": events.select(
            (pl.col("time").is_null() & pl.col("visit_start").is_not_null() & ~is_static).sum()
        ).item(),
        "visits_of_absurd_length": visits["is_absurd"].sum(),
        "ends_before_start": visits["is_backwards"].sum(),
        "known_before_it_happened": events.select((pl.col("known_time") < pl.col("time")).sum()).item(),
    }
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
    return events, {name: int(count) for name, count in findings.items() if count}


def _with_reasons(events: pl.DataFrame, around: Surroundings) -> pl.DataFrame:
    """Add `reason`: why an event cannot stay; null for those that can. Caps births of people over 89."""
    # The limit depends on the source's end alone, never on when a person died: an age capped at each person's own last
    # day would end at 90 for everybody, and so tell the days left to live.
    oldest_birth = datetime(around.data_end.year - _OLDEST_YEARS, around.data_end.month, 1)
    limit = oldest_birth + pl.duration(microseconds="weeks_us")
    people = (
        around.patients.join(events.select("subject_id").unique(), on="subject_id", how="semi")
        .join(_first_time(events, BIRTH, "born"), on="subject_id", how="left")
        .join(_first_time(events, DEATH, "died"), on="subject_id", how="left")
        .with_columns(
            capped=pl.when(pl.col("born") < limit).then(limit + pl.duration(days="cap_days")).otherwise("born"),
            is_known=pl.lit(value=True),
        )
        .drop("weeks_us", "cap_days")
    )
    is_static = pl.col("time").is_null() & pl.col("code").str.contains("^(?:SEX|RACE|ETHNICITY)//")
    is_birth = pl.col("code") == BIRTH
    death_records = list(load_rules().death_records)
    is_death_code = pl.col("code").is_in([*death_records, *(f"ENCOUNTER_TYPE//{code}" for code in death_records)])
    is_death_record = pl.col("record_id").is_in(events.filter(is_death_code)["record_id"].unique().implode())
    events = (
        events.join(people, on="subject_id", how="left")
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
            .when(is_death_record)
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
        .drop("born", "died", "capped", "is_known")
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
