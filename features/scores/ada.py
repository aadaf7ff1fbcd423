"""The diabetes risk test of the American Diabetes Association: who should be tested for undiagnosed diabetes?

Population:  adults without known diabetes. The test asks what a person has today; using it to foretell who will be
             diagnosed later is off its label.
Source:      the form of the ADA and the CDC, after Bang, Ann Intern Med 2009;151:775-83. High from 5 points on. Its
             chart of height and weight has its edges at 25, 30 and 40 kg/m². Diabetes in pregnancy was not in Bang's
             model. No risk is published for the points.
Reduced:     records hold neither exercise nor, as a rule, family history, whose absence says nothing. Neither is taken
             as 0 points: `ada_risk_reduced` leaves both out (age, sex, diabetes in pregnancy, high blood pressure, body
             mass index; 0 to 8 points). It is ours and unvalidated, and the threshold of 5 does not belong to it.
"""

import polars as pl


def add_ada_risk(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score.

    Reads:   what `add_ada_risk_reduced` reads, and the booleans has_close_relative_with_diabetes (parent or sibling)
             and is_active.
    Adds:    ada_risk: 0 to 10 points. Null when an item is null, and for any other sex.
    """
    points = _reduced_points() + 1 * pl.col("has_close_relative_with_diabetes") + 1 * ~pl.col("is_active")
    return rows.with_columns(ada_risk=points.cast(pl.Float64))


def add_ada_risk_reduced(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the items that records hold.

    Reads:   age (completed years), sex ("female" or "male"), bmi (kg/m²), and the booleans ever_hypertension and
             ever_gestational_diabetes (no point for a man).
    Adds:    ada_risk_reduced: 0 to 8 points. Null when an item is null, and for any other sex.
    """
    return rows.with_columns(ada_risk_reduced=_reduced_points().cast(pl.Float64))


def _reduced_points() -> pl.Expr:
    age, bmi = pl.col("age"), pl.col("bmi")
    point_of_sex = (
        pl.when(pl.col("sex") == "male")
        .then(1)
        .when(pl.col("sex") == "female")
        .then(1 * pl.col("ever_gestational_diabetes"))
    )
    return (
        1 * (age >= 40)
        + 1 * (age >= 50)
        + 1 * (age >= 60)
        + point_of_sex
        + 1 * pl.col("ever_hypertension")
        + 1 * (bmi >= 25)
        + 1 * (bmi >= 30)
        + 1 * (bmi >= 40)
    )
