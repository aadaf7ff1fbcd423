"""Events that no record holds, made from those that it does: kidney function from each creatinine result."""

import polars as pl

from features.meds_codes import BIRTH

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
    people = events.group_by("subject_id").agg(
        birth=pl.col("time").filter(pl.col("code") == BIRTH).min(),
        is_female=pl.col("code").filter(pl.col("code").is_in(["SEX//female", "SEX//male"])).max() == "SEX//female",
    )
    age = (pl.col("time") - pl.col("birth")).dt.total_seconds() / 86_400 / _DAYS_PER_YEAR
    ratio = pl.col("numeric_value").cast(pl.Float64) / pl.when("is_female").then(0.7).otherwise(0.9)
    egfr = (
        142
        * ratio.clip(upper_bound=1) ** pl.when("is_female").then(-0.241).otherwise(-0.302)
        * ratio.clip(lower_bound=1) ** -1.2
        * 0.9938**age
        * pl.when("is_female").then(1.012).otherwise(1.0)
    )
    return (
        events.filter(pl.col("code").is_in(CREATININE), pl.col("unit") == "mg/dL", pl.col("numeric_value") > 0)
        .join(people, on="subject_id")
        .filter(age >= _YOUNGEST_YEARS, pl.col("is_female").is_not_null())
        .with_columns(code=pl.lit(EGFR), numeric_value=egfr.cast(pl.Float32), unit=pl.lit("mL/min/{1.73_m2}"))
        .drop("birth", "is_female")
    )
