"""CAIDE without APOE: how likely is dementia 20 years after mid-life?

Population:  age 39 to 64, no dementia known.
Source:      Kivipelto, Lancet Neurol 2006;5:735-41. Risk = expit(-7.406 + 0.796 + 0.401 x points), which agrees with
             the printed bands (0-5 points 1.0 %, 12-15 points 16.4 %); the sum of the multivariable coefficients in
             place of the points does not. Age alone does nearly as well.
Reduced:     records hold neither years of education nor exercise. Neither is taken as 0 points: `caide_reduced` leaves
             both out (age, sex, systolic pressure, body mass index, cholesterol; 0 to 11 points). It is ours and
             unvalidated, and no published risk belongs to it.
Missing:     no pressure, body mass index or cholesterol, no result.
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE, systolic_bp
from features.scores.points import add_points
from features.scores.risk_factors import LOOKBACK_DAYS, MMOL_PER_MG_CHOLESTEROL, bmi, total_cholesterol

_HIGH_CHOLESTEROL_MG_DL = 6.5 / MMOL_PER_MG_CHOLESTEROL


def add_caide(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score and its risk.

    Reads:    what `add_caide_reduced` reads, education_years, and is_inactive (1 or 0; not 20 to 30 minutes at least
              twice a week).
    Adds:     value (0 to 15 points), risk (probability of dementia within 20 years), points_ of each item. Null when
              one is null.
    """
    education = pl.col("education_years")
    points = _reduced_points() | {
        "education_years": 2 * (education < 10) + 1 * (education < 7),
        "is_inactive": 1 * pl.col("is_inactive"),
    }
    risk = 1 / (1 + (7.406 - 0.796 - 0.401 * pl.col("value")).exp())
    return add_points(inputs, points).with_columns(risk=risk)


def add_caide_reduced(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the items that records hold.

    Reads:    age_years (completed), is_female (1 or 0), systolic_bp (mmHg), bmi (kg/m²), total_cholesterol (mg/dL).
    Adds:     value (0 to 11 points), points_ of each item. Null when one is null.
    """
    return add_points(inputs, _reduced_points())


def _reduced_points() -> dict[str, pl.Expr]:
    age = pl.col("age_years")
    return {
        "age_years": 3 * (age >= 47) + 1 * (age > 53),
        "is_female": 1 - pl.col("is_female"),
        "systolic_bp": 2 * (pl.col("systolic_bp") > 140),
        "bmi": 2 * (pl.col("bmi") > 30),
        "total_cholesterol": 2 * (pl.col("total_cholesterol") > _HIGH_CHOLESTEROL_MG_DL),
    }


SCORES = (
    Score(
        name="caide_reduced",
        title="CAIDE without APOE, reduced to what records hold",
        inputs=(AGE, IS_FEMALE, systolic_bp(LOOKBACK_DAYS), bmi(), total_cholesterol(), condition("dementia")),
        population=pl.col("age_years").is_between(39, 64) & (pl.col("dementia") == 0),
        formula=add_caide_reduced,
        meant_for="Age 39 to 64, no dementia known",
        source="Kivipelto, Lancet Neurol 2006;5:735-41",
        note="Unvalidated reduced form, 0 to 11 points: without education and exercise.",
        unit="{score}",
    ),
)
