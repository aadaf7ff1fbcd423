"""Kidney Failure Risk Equation, four variables: how likely is dialysis or a kidney transplant within 2 and 5 years?

Population:  adults with an eGFR below 60, or with chronic kidney disease known and no eGFR, who have had neither
             dialysis nor a transplant. That the eGFR was low for three months is not asked.
Source:      Tangri, JAMA 2011;305:1553-9 (variables); JAMA 2016;315:164-74 (the baseline of each region). eGFR by
             CKD-EPI 2021, which serves below 45 (Grams, Am J Kidney Dis 2023).
Missing:     creatinine and albuminuria give no result; albuminuria is never assumed.
Variant:     the baseline of North America; `region` has the other. Death before kidney failure is not allowed for, so
             the 5-year risk of old people is too high.
"""

from functools import partial

import polars as pl

from features.scores.conditions import condition
from features.scores.egfr import egfr
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE, creatinine
from features.scores.risk_factors import ALBUMIN_CREATININE, LOOKBACK_DAYS

_BASELINE_SURVIVAL = {"north_america": {2: 0.9750, 5: 0.9240}, "elsewhere": {2: 0.9832, 5: 0.9365}}


def add_kfre(inputs: pl.LazyFrame, years: int, region: str = "north_america") -> pl.LazyFrame:
    """Add the risk of treated kidney failure within 2 or 5 years.

    Reads:    age_years, is_female (1 or 0), egfr (mL/min/1.73 m²), albumin_creatinine (urine, mg/g, above 0).
    Adds:     value and risk: the probability. Null when an input is null.
    """
    log_hazard = (
        -0.2201 * (pl.col("age_years") / 10 - 7.036)
        + 0.2467 * ((1 - pl.col("is_female")) - 0.5642)
        - 0.5567 * (pl.col("egfr") / 5 - 7.222)
        + 0.4510 * (pl.col("albumin_creatinine").log() - 5.137)
    )
    risk = 1 - _BASELINE_SURVIVAL[region][years] ** log_hazard.exp()
    return inputs.with_columns(value=risk, risk=risk)


_EGFR = egfr(pl.col("creatinine"), pl.col("age_years"), pl.col("is_female"))


def _from_record(inputs: pl.LazyFrame, years: int) -> pl.LazyFrame:
    return add_kfre(inputs.with_columns(egfr=_EGFR), years)


SCORES = tuple(
    Score(
        name=f"kfre_{years}y",
        title=f"Kidney Failure Risk Equation, 4 variables, {years} years",
        inputs=(
            AGE,
            IS_FEMALE,
            creatinine(LOOKBACK_DAYS),
            ALBUMIN_CREATININE,
            condition("kidney_disease"),
            condition("kidney_replacement"),
        ),
        population=(pl.col("age_years") >= 18)
        & (_EGFR < 60).fill_null(pl.col("kidney_disease") == 1)
        & (pl.col("kidney_replacement") == 0),
        formula=partial(_from_record, years=years),
        meant_for="Adults with an eGFR below 60 or known kidney disease, neither dialysis nor transplant",
        source="Tangri, JAMA 2011;305:1553-9 and 2016;315:164-74",
        note="Baseline of North America; eGFR by CKD-EPI 2021.",
    )
    for years in (2, 5)
)
