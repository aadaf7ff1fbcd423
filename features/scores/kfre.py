"""Kidney Failure Risk Equation, four variables: how likely is dialysis or a kidney transplant within 2 and 5 years?

Population:  adults with an eGFR below 60 who have had neither dialysis nor a transplant.
Source:      Tangri, JAMA 2011;305:1553-9 (variables); JAMA 2016;315:164-74 (the baseline of each region). eGFR by
             CKD-EPI 2021, which serves below 45 (Grams, Am J Kidney Dis 2023).
Variant:     the baseline of North America unless told otherwise. Death before kidney failure is not allowed for, so
             the 5-year risk of old people is too high.
Albuminuria: mg/g, by its natural logarithm, so it must be above 0; it is never assumed.
"""

from typing import Literal

import polars as pl

Region = Literal["north_america", "elsewhere"]
_BASELINE_SURVIVAL = {"north_america": {2: 0.9750, 5: 0.9240}, "elsewhere": {2: 0.9832, 5: 0.9365}}


def add_kfre(rows: pl.LazyFrame, region: Region = "north_america") -> pl.LazyFrame:
    """Add the risk of treated kidney failure.

    Reads:   age (years), sex ("female" or "male"), egfr (mL/min/1.73 m²), albumin_creatinine (urine, mg/g, above 0).
    Adds:    kfre_2y, kfre_5y: probabilities. Null when an input is null, for any other sex, below age 18, from an eGFR
             of 60 on, and when no albumin was found (0 mg/g).
    """
    male = pl.when(pl.col("sex").is_in(["female", "male"])).then(pl.col("sex") == "male").cast(pl.Float64)
    log_hazard = (
        -0.2201 * (pl.col("age") / 10 - 7.036)
        + 0.2467 * (male - 0.5642)
        - 0.5567 * (pl.col("egfr") / 5 - 7.222)
        + 0.4510 * (pl.col("albumin_creatinine").log() - 5.137)
    )
    in_scope = (pl.col("age") >= 18) & (pl.col("egfr") < 60) & (pl.col("albumin_creatinine") > 0)
    return rows.with_columns(
        pl.when(in_scope).then(1 - survival ** log_hazard.exp()).alias(f"kfre_{years}y")
        for years, survival in _BASELINE_SURVIVAL[region].items()
    )
