"""Which values were measured, and at which moments is a course forecast from them?

A forecast is made when a measurement of the setting becomes known: at its known_time.
"""

from datetime import timedelta

import polars as pl

from features.derived_events import egfr_events
from features.meds_codes import BIRTH, DEATH, MOVED
from models.trajectories.measures import INPATIENT, Setting

_ADULT = timedelta(days=18 * 365.25)
_STAY_START, _STAY_END = "ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end"


def measurements(events: pl.LazyFrame, setting: Setting) -> pl.DataFrame:
    """The values of a setting's measures.

    Reads:    `events`: features.tables.Events.
    Returns:  subject_id, time, known_time, measure (its place in the setting), value; sorted by subject and time.
              A value belongs to a stay when its visit was known to be one by the time at which the value was known.
    """
    codes = pl.LazyFrame(
        [
            (code, place, one.unit, one.lowest, one.highest)
            for place, one in enumerate(setting.measures)
            for code in one.codes
        ],
        schema={
            "code": pl.String,
            "measure": pl.Int64,
            "in_unit": pl.String,
            "lowest": pl.Float64,
            "highest": pl.Float64,
        },
        orient="row",
    )
    visit = ["subject_id", "encounter_id"]
    stays = events.filter(pl.col("code") == _STAY_START).group_by(visit).agg(stay_known=pl.col("known_time").min())
    in_stay = (pl.col("stay_known") <= pl.col("known_time")).fill_null(value=False)
    columns = ["subject_id", "time", "known_time", "code", "numeric_value", "unit", "encounter_id"]
    return (
        pl.concat([events.select(columns), egfr_events(events).select(columns)])
        .join(codes, on="code")
        .filter(pl.col("unit") == pl.col("in_unit"), pl.col("numeric_value").is_between("lowest", "highest"))
        .join(stays, on=visit, how="left")
        .filter(in_stay if setting.name == INPATIENT.name else ~in_stay)
        .select("subject_id", "time", "known_time", "measure", value=pl.col("numeric_value").cast(pl.Float64))
        .sort("subject_id", "time", "known_time", "measure", "value")
        .collect()
    )


def people(events: pl.LazyFrame) -> pl.DataFrame:
    """Birth and sex: subject_id, birth (null when unknown), sex ("female", "male" or "unknown")."""
    female, male = (pl.col("code") == f"SEX//{sex}" for sex in ("female", "male"))
    sex = pl.when(female.any()).then(pl.lit("female")).when(male.any()).then(pl.lit("male"))
    return (
        events.group_by("subject_id")
        .agg(birth=pl.col("time").filter(pl.col("code") == BIRTH).min(), sex=sex.otherwise(pl.lit("unknown")))
        .sort("subject_id")
        .collect()
    )


def draw_origins(
    measured: pl.DataFrame, who: pl.DataFrame, periods: pl.DataFrame, setting: Setting, most: int, seed: int
) -> pl.DataFrame:
    """Up to `most` moments of each adult at which a measurement became known, drawn by a seeded hash.

    Reads:    `measured`, `who`: of `measurements`, `people`. `periods`: features.tables.ObservationPeriods.
    Returns:  subject_id, prediction_time; sorted. The look-back lies inside what the source records of the patient.
    """
    moments = (
        measured.select("subject_id", prediction_time="known_time")
        .unique()
        .join(periods.select("subject_id", "start", "end"), on="subject_id")
        .filter(
            pl.col("prediction_time") - setting.look_back * setting.cell >= pl.col("start"),
            pl.col("prediction_time") <= pl.col("end"),
        )
    )
    drawn = pl.struct("subject_id", "prediction_time").hash(seed)
    return (
        _of_adults(moments, who)
        .sort("subject_id", drawn, "prediction_time")
        .group_by("subject_id", maintain_order=True)
        .head(most)
        .sort("subject_id", "prediction_time")
    )


def latest_origins(events: pl.LazyFrame, measured: pl.DataFrame, who: pl.DataFrame, setting: Setting) -> pl.DataFrame:
    """The latest moment of each living adult at which a measurement became known: subject_id, prediction_time.

    Of a hospital's vital signs only for those whose stay has no end on record.
    """
    moments = measured.group_by("subject_id").agg(prediction_time=pl.col("known_time").max())
    gone = events.filter(pl.col("code").is_in([DEATH, MOVED])).select("subject_id").unique().collect()
    if setting.name == INPATIENT.name:
        visit = ["subject_id", "encounter_id"]
        ended = events.filter(pl.col("code") == _STAY_END).select(visit)
        lying = events.filter(pl.col("code") == _STAY_START).join(ended, on=visit, how="anti")
        started = lying.group_by("subject_id").agg(started=pl.col("time").max()).collect()
        moments = moments.join(started, on="subject_id").filter(pl.col("prediction_time") >= pl.col("started"))
    return _of_adults(moments.join(gone, on="subject_id", how="anti"), who).sort("subject_id")


def _of_adults(moments: pl.DataFrame, who: pl.DataFrame) -> pl.DataFrame:
    return (
        moments.join(who, on="subject_id")
        .filter(pl.col("prediction_time") - pl.col("birth") >= _ADULT)
        .select("subject_id", "prediction_time")
    )
