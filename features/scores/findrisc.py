"""FINDRISC: how likely is type 2 diabetes within 10 years, from questions that anybody can answer?

Population:  adults without known diabetes.
Source:      the public form of the Finnish Diabetes Association, 0 to 26 points with its bands, after Lindström and
             Tuomilehto, Diabetes Care 2003;26:725-31, whose own score has neither family history nor these bands. As on
             the form, exactly 30 kg/m², 102 cm and 88 cm still belong to the middle band.
Reduced:     records hold neither exercise nor diet, hardly ever the waist, and family history only when somebody wrote
             it down, so that its absence says nothing. None of them is taken as 0 points: `findrisc_reduced` leaves
             those four items out (age, body mass index, drugs against high blood pressure, high glucose; 0 to 14
             points). It is ours and unvalidated: it ranks people, and no published risk belongs to it.
"""

import polars as pl

_RISK_OF_BAND = {0: 0.01, 7: 0.04, 12: 0.17, 15: 0.33, 21: 0.50}  # from these points on


def add_findrisc(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score and its risk.

    Reads:   what `add_findrisc_reduced` reads, sex ("female" or "male"), waist (cm), the booleans is_active (30 minutes
             on most days) and eats_greens (vegetables, fruit or berries every day), and relatives_with_diabetes:
             "none", "distant" (grandparent, aunt, uncle, cousin) or "close" (parent, sibling, child).
    Adds:    findrisc (0 to 26 points) and findrisc_risk (probability within 10 years). Null when an item is null, and
             for any other sex.
    """
    waist, relatives = pl.col("waist"), pl.col("relatives_with_diabetes")
    waist_points = (
        pl.when(pl.col("sex") == "male")
        .then(3 * (waist >= 94) + 1 * (waist > 102))
        .when(pl.col("sex") == "female")
        .then(3 * (waist >= 80) + 1 * (waist > 88))
    )
    points = (
        _reduced_points()
        + waist_points
        + 2 * ~pl.col("is_active")
        + 1 * ~pl.col("eats_greens")
        + relatives.replace_strict({"none": 0, "distant": 3, "close": 5}, default=None)
    )
    risk = pl.coalesce(
        pl.when(pl.col("findrisc") >= lowest).then(risk) for lowest, risk in reversed(_RISK_OF_BAND.items())
    )
    return rows.with_columns(findrisc=points.cast(pl.Float64)).with_columns(findrisc_risk=risk)


def add_findrisc_reduced(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the four items that records hold.

    Reads:   age (completed years), bmi (kg/m²), and the booleans ever_bp_drug (a drug against high blood pressure) and
             ever_high_glucose.
    Adds:    findrisc_reduced: 0 to 14 points. Null when an item is null.
    """
    return rows.with_columns(findrisc_reduced=_reduced_points().cast(pl.Float64))


def _reduced_points() -> pl.Expr:
    age, bmi = pl.col("age"), pl.col("bmi")
    return (
        2 * (age >= 45)
        + 1 * (age >= 55)
        + 1 * (age >= 65)
        + 1 * (bmi >= 25)
        + 2 * (bmi > 30)
        + 2 * pl.col("ever_bp_drug")
        + 5 * pl.col("ever_high_glucose")
    )
