"""FINDRISC: how likely is type 2 diabetes within 10 years, from questions that anybody can answer?

Population:  adults without known diabetes.
Source:      the public form of the Finnish Diabetes Association, 0 to 26 points with its bands, after Lindström and
             Tuomilehto, Diabetes Care 2003;26:725-31, whose own score has neither family history nor these bands. As on
             the form, exactly 30 kg/m², 102 cm and 88 cm still belong to the middle band.
Reduced:     records hold neither exercise nor diet, hardly ever the waist, and family history only when somebody wrote
             it down, so that its absence says nothing. None of them is taken as 0 points: `findrisc_reduced` leaves
             those four items out (age, body mass index, drugs against high blood pressure, high glucose; 0 to 14
             points). It is ours and unvalidated: it ranks people, and no published risk belongs to it.
Glucose:     the form asks whether a high glucose was ever found. Here that is prediabetes at any time, or within two
             years another diagnosis, an HbA1c of 5.7 % or more, or a fasting glucose of 100 mg/dL or more, where
             prediabetes begins (American Diabetes Association).
Drugs:       the form asks for drugs against high blood pressure at any time; here they are those of the last 400 days,
             because a source may keep of old prescriptions only those that still run at its end.
Missing:     no body mass index, no result. A drug that nobody recorded counts as absent, and so does a high glucose
             that nobody found: without a result it is taken as normal, which its status says.
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, highest, or_normal, value
from features.scores.points import add_points
from features.scores.risk_factors import LOOKBACK_DAYS, ON_BP_DRUG, bmi

_RISK_OF_BAND = {0: 0.01, 7: 0.04, 12: 0.17, 15: 0.33, 21: 0.50}  # from these points on

_HBA1C = value(
    "hba1c",
    ("LOINC//4548-4",),
    "%",
    "HbA1c",
    window_days=LOOKBACK_DAYS,
    conversions=(("mmol/mol", 0.0915, 2.15),),
)
_FASTING_GLUCOSE = value(
    "fasting_glucose",
    ("LOINC//1558-6", "LOINC//76629-5"),
    "mg/dL",
    "Fasting glucose",
    window_days=LOOKBACK_DAYS,
    conversions=(("mmol/L", 18.016, 0.0),),
)


def add_findrisc(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the published score and its risk.

    Reads:    what `add_findrisc_reduced` reads, waist (cm), relatives_with_diabetes ("none", "distant": grandparent,
              aunt, uncle, cousin, "close": parent, sibling, child), and as 1 or 0 is_female, is_inactive (less than 30
              minutes on most days) and no_daily_greens (vegetables, fruit or berries).
    Adds:     value (0 to 26 points), risk (probability within 10 years), points_ of each item. Null when one is null.
    """
    waist, is_female = pl.col("waist"), pl.col("is_female") == 1
    points = _reduced_points() | {
        "waist": pl.when(is_female)
        .then(3 * (waist >= 80) + 1 * (waist > 88))
        .when(~is_female)
        .then(3 * (waist >= 94) + 1 * (waist > 102)),
        "is_inactive": 2 * pl.col("is_inactive"),
        "no_daily_greens": 1 * pl.col("no_daily_greens"),
        "relatives_with_diabetes": pl.col("relatives_with_diabetes").replace_strict(
            {"none": 0, "distant": 3, "close": 5}, default=None
        ),
    }
    bands = sorted(_RISK_OF_BAND.items(), reverse=True)
    risk = pl.coalesce(pl.when(pl.col("value") >= lowest).then(risk) for lowest, risk in bands)
    return add_points(inputs, points).with_columns(risk=risk)


def add_findrisc_reduced(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the score of the four items that records hold.

    Reads:    age_years (completed), bmi (kg/m²), hba1c (%), fasting_glucose (mg/dL), and as 1 or 0 on_bp_drug and
              high_glucose (a diagnosis).
    Adds:     value (0 to 14 points), points_ of each item. Null when one is null.
    """
    return add_points(inputs, _reduced_points())


def _reduced_points() -> dict[str, pl.Expr]:
    age, bmi = pl.col("age_years"), pl.col("bmi")
    is_coded, is_high = pl.col("high_glucose") == 1, pl.col("hba1c") >= 5.7
    return {
        "age_years": 2 * (age >= 45) + 1 * (age >= 55) + 1 * (age >= 65),
        "bmi": 1 * (bmi >= 25) + 2 * (bmi > 30),
        "on_bp_drug": 2 * pl.col("on_bp_drug"),
        # High glucose counts once, however it was found.
        "high_glucose": 5 * is_coded,
        "hba1c": 5 * (~is_coded & is_high),
        "fasting_glucose": 5 * (~is_coded & ~is_high & (pl.col("fasting_glucose") >= 100)),
    }


SCORES = (
    Score(
        name="findrisc_reduced",
        title="FINDRISC, reduced to what records hold",
        inputs=(
            AGE,
            bmi(),
            ON_BP_DRUG,
            condition("high_glucose"),
            or_normal(highest(_HBA1C), 5.0),
            or_normal(highest(_FASTING_GLUCOSE), 90.0),
            condition("diabetes"),
        ),
        population=(pl.col("age_years") >= 18) & (pl.col("diabetes") == 0),
        formula=add_findrisc_reduced,
        meant_for="Adults without known diabetes",
        source="Form of the Finnish Diabetes Association; Lindström, Diabetes Care 2003;26:725-31",
        note="Unvalidated reduced form, 0 to 14 points: without waist, exercise and diet, and without family history, "
        "which records hold only when somebody wrote it down. Glucose is high by diagnosis, or by the highest HbA1c "
        "(from 5.7 %) or fasting glucose (from 100 mg/dL) of two years. Of drugs, "
        "only those of the last 400 days count.",
        unit="{score}",
    ),
)
