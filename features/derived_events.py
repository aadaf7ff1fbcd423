"""Events that no record holds, made from those that it does: kidney function from each creatinine result."""

import polars as pl

from features.meds_codes import BIRTH
from features.scores.egfr import egfr

EGFR = "DERIVED//EGFR"
CREATININE = ("LOINC//2160-0", "LOINC//38483-4")
"""Creatinine in serum or plasma, in blood; mg/dL."""

_DAYS_PER_YEAR = 365.25
_YOUNGEST_YEARS = 18


def egfr_events(events: pl.LazyFrame) -> pl.LazyFrame:
    """Estimated kidney function (eGFR) at each creatinine result of an adult.

    Reads:    features.tables.Events: creatinine in mg/dL above 0, birth, sex.
    Returns:  events with the times, visit and record of the creatinine, code DERIVED//EGFR, numeric_value in
              mL/min/{1.73_m2}. None for a creatinine in another unit, for people of unknown birth or of another sex
              than female or male, and below 18 years, because the equation was fitted on adults.
    Source:   CKD-EPI 2021, creatinine, without race; Inker, N Engl J Med 2021;385:1737-49.
    """
    female, male = (pl.col("code") == f"SEX//{sex}" for sex in ("female", "male"))
    people = events.group_by("subject_id").agg(
        birth=pl.col("time").filter(pl.col("code") == BIRTH).min(),
        is_female=pl.when(female.any()).then(1).when(male.any()).then(0),
    )
    age_years = (pl.col("time") - pl.col("birth")).dt.total_seconds() / 86_400 / _DAYS_PER_YEAR
    creatinine = pl.col("numeric_value").cast(pl.Float64)
    return (
        events.filter(pl.col("code").is_in(CREATININE), pl.col("unit") == "mg/dL", creatinine > 0)
        .join(people, on="subject_id")
        .filter(age_years >= _YOUNGEST_YEARS, pl.col("is_female").is_not_null())
        .with_columns(
            code=pl.lit(EGFR),
            numeric_value=egfr(creatinine, age_years, pl.col("is_female")).cast(pl.Float32),
            unit=pl.lit("mL/min/{1.73_m2}"),
        )
        .drop("birth", "is_female")
    )
