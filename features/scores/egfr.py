"""How well do the kidneys filter? Estimated glomerular filtration rate (eGFR), CKD-EPI 2021, creatinine, without race.

Population: adults of recorded sex. Policy: no creatinine within the look-back, no score.
Source: Inker, N Engl J Med 2021;385:1737-49.
"""

import polars as pl

from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE, creatinine

LOOKBACK_DAYS = 365


def egfr(creatinine: pl.Expr, age_years: pl.Expr, is_female: pl.Expr) -> pl.Expr:
    """eGFR (mL/min/1.73 m²) from creatinine (mg/dL), age (years) and sex (1 female, 0 male); null when one is null."""
    female = is_female == 1
    ratio = creatinine / pl.when(female).then(0.7).when(~female).then(0.9)
    return (
        142
        * ratio.clip(upper_bound=1) ** pl.when(female).then(-0.241).otherwise(-0.302)
        * ratio.clip(lower_bound=1) ** -1.2
        * 0.9938**age_years
        * pl.when(female).then(1.012).otherwise(1.0)
    )


def add_egfr(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add estimated kidney function.

    Reads:    creatinine (mg/dL), age_years, is_female (1 or 0).
    Adds:     value (mL/min/1.73 m²), null when an input is null.
    """
    return inputs.with_columns(value=egfr(pl.col("creatinine"), pl.col("age_years"), pl.col("is_female")))


SCORES = (
    Score(
        name="egfr",
        title="eGFR, CKD-EPI 2021 (creatinine)",
        inputs=(creatinine(LOOKBACK_DAYS), AGE, IS_FEMALE),
        population=pl.col("age_years") >= 18,
        formula=add_egfr,
        meant_for="Adults",
        source="Inker, N Engl J Med 2021;385:1737-49",
        unit="mL/min/{1.73_m2}",
    ),
)
