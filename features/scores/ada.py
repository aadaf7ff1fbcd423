"""The diabetes risk test of the American Diabetes Association: who should be tested for undiagnosed diabetes?

Population:  adults without known diabetes. The test asks what a person has today; using it to foretell who will be
             diagnosed later is off its label.
Source:      the form of the ADA and the CDC, after Bang, Ann Intern Med 2009;151:775-83. High from 5 points on. Its
             chart of height and weight has its edges at 25, 30 and 40 kg/m². Diabetes in pregnancy was not in Bang's
             model. No risk is published for the points.
Reduced:     records hold neither exercise nor, as a rule, family history, whose absence says nothing. Neither is taken
             as 0 points: `ada_risk_reduced` leaves both out (age, sex, diabetes in pregnancy, high blood pressure, body
             mass index; 0 to 8 points). It is ours and unvalidated, and the threshold of 5 does not belong to it.
Missing:     no body mass index, no result; an illness that nobody recorded counts as absent.
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE
from features.scores.points import add_points
from features.scores.risk_factors import bmi


def add_ada_risk(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score.

    Reads:    what `add_ada_risk_reduced` reads, and as 1 or 0 close_relative_with_diabetes (parent or sibling) and
              is_inactive.
    Adds:     value (0 to 10 points), points_ of each item. Null when one is null.
    """
    others = ("close_relative_with_diabetes", "is_inactive")
    return add_points(inputs, _reduced_points() | {name: 1 * pl.col(name) for name in others})


def add_ada_risk_reduced(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the items that records hold.

    Reads:    age_years (completed), bmi (kg/m²), and as 1 or 0 is_female, hypertension and
              gestational_diabetes, which gives a man no point.
    Adds:     value (0 to 8 points), points_ of each item. Null when one is null.
    """
    return add_points(inputs, _reduced_points())


def _reduced_points() -> dict[str, pl.Expr]:
    age, bmi, is_female = pl.col("age_years"), pl.col("bmi"), pl.col("is_female")
    return {
        "age_years": 1 * (age >= 40) + 1 * (age >= 50) + 1 * (age >= 60),
        "is_female": 1 - is_female,
        "gestational_diabetes": is_female * pl.col("gestational_diabetes"),
        "hypertension": 1 * pl.col("hypertension"),
        "bmi": 1 * (bmi >= 25) + 1 * (bmi >= 30) + 1 * (bmi >= 40),
    }


SCORES = (
    Score(
        name="ada_risk_reduced",
        title="ADA diabetes risk test, reduced to what records hold",
        inputs=(
            AGE,
            IS_FEMALE,
            condition("gestational_diabetes"),
            condition("hypertension"),
            bmi(),
            condition("diabetes"),
        ),
        population=(pl.col("age_years") >= 18) & (pl.col("diabetes") == 0),
        formula=add_ada_risk_reduced,
        meant_for="Adults without known diabetes",
        source="Form of the ADA and the CDC; Bang, Ann Intern Med 2009;151:775-83",
        note="Unvalidated reduced form, 0 to 8 points: without exercise and family history. Off label for onset. "
        "Diabetes of pregnancy counts for two years only: a source may drop the closed record.",
        unit="{score}",
    ),
)
