"""CAIDE without APOE: how likely is dementia 20 years after mid-life?

Population:  age 39 to 64, no dementia.
Source:      Kivipelto, Lancet Neurol 2006;5:735-41. Risk = expit(-7.406 + 0.796 + 0.401 x points), which agrees with
             the printed bands (0-5 points 1.0 %, 12-15 points 16.4 %); the sum of the multivariable coefficients in
             place of the points does not. Age alone does nearly as well.
Reduced:     records hold neither years of education nor exercise. Neither is taken as 0 points: `caide_reduced` leaves
             both out (age, sex, systolic pressure, body mass index, cholesterol; 0 to 11 points). It is ours and
             unvalidated, and no published risk belongs to it.
"""

import polars as pl

YOUNGEST, OLDEST = 39, 64
_CHOLESTEROL_MG_DL = 6.5 / 0.02586  # 6.5 mmol/L


def add_caide(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score and its risk.

    Reads:   what `add_caide_reduced` reads, education_years, and is_active (20 to 30 minutes, twice a week).
    Adds:    caide (0 to 15 points) and caide_risk (probability of dementia within 20 years). Null when an item is null,
             outside 39 to 64 years, and for any other sex.
    """
    education = pl.col("education_years")
    points = _reduced_points() + 2 * (education < 10) + 1 * (education < 7) + 1 * ~pl.col("is_active")
    return rows.with_columns(caide=points.cast(pl.Float64)).with_columns(
        caide_risk=1 / (1 + (7.406 - 0.796 - 0.401 * pl.col("caide")).exp())
    )


def add_caide_reduced(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the items that records hold.

    Reads:   age (completed years), sex ("female" or "male"), systolic (mmHg), bmi (kg/m²), total_cholesterol (mg/dL).
    Adds:    caide_reduced: 0 to 11 points. Null when an item is null, outside 39 to 64 years, and for any other sex.
    """
    return rows.with_columns(caide_reduced=_reduced_points().cast(pl.Float64))


def _reduced_points() -> pl.Expr:
    age, sex = pl.col("age"), pl.col("sex")
    points = (
        3 * (age >= 47)
        + 1 * (age > 53)
        + 1 * (sex == "male")
        + 2 * (pl.col("systolic") > 140)
        + 2 * (pl.col("bmi") > 30)
        + 2 * (pl.col("total_cholesterol") > _CHOLESTEROL_MG_DL)
    )
    return pl.when(age.is_between(YOUNGEST, OLDEST) & sex.is_in(["female", "male"])).then(points)
