"""Who comes back after a hospital stay? The LACE index, at discharge.

Population: adults at the end of a hospital stay or within the day after, alive and going neither to a nursing facility
nor to another hospital, as the discharge disposition says (NUBC and HL7 codes); where none is recorded, the patient
counts as going home.
Length: days between the dates of admission and discharge. Acute: by the encounter's priority; where none is recorded,
when an emergency visit began within the day before. Comorbidity: LACE's own weights on the Charlson items (not those of
1987), the graver form cancelling the milder; 4 or more count 5. Emergency visits: of the 183 days before the stay,
without those of its last day.
Policy: what is not on record counts as absent, and the result says so. Where a source holds no emergency visits at all
the score is not computed for it: see `registry.answerable`.
Source: van Walraven, CMAJ 2010;182:551-7. High risk from 10 on. Its table of expected risk could not be had with
certainty, so there is no `risk`. ("Modified LACE", with 6 for 14 days and more, is another score.)
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE
from features.scores.stays import DIED_IN_STAY, EMERGENCY_START, EMERGENCY_VISITS, IS_ACUTE, LEFT_FOR_CARE, STAY_DAYS

WEIGHTS = {
    "myocardial_infarction": 1,
    "cerebrovascular_disease": 1,
    "peripheral_vascular_disease": 1,
    "diabetes_uncomplicated": 1,
    "heart_failure": 2,
    "diabetes_complicated": 2,
    "chronic_pulmonary_disease": 2,
    "mild_liver_disease": 2,
    "mild_kidney_disease": 2,
    "malignancy": 2,
    "dementia": 3,
    "connective_tissue_disease": 3,
    "aids": 4,
    "severe_liver_disease": 4,
    "severe_kidney_disease": 4,
    "metastatic_tumour": 6,
}
# Liver and kidney are one item of the score, so mild disease of both counts once; the severe forms reach the cap alone.
_CANCELLED_BY = {"diabetes_uncomplicated": "diabetes_complicated", "mild_kidney_disease": "mild_liver_disease"}


def add_lace(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add LACE.

    Reads:    stay_days, is_acute_admission (1 or 0), emergency_visits, and the illnesses of WEIGHTS (1 or 0).
    Adds:     points_<input> (of illnesses before their sum is capped), value (0 to 19). Null when an input is null.
    """
    illnesses = {illness: _counted(illness) * weight for illness, weight in WEIGHTS.items()}
    comorbidity = pl.sum_horizontal(illnesses.values(), ignore_nulls=False)
    days = pl.col("stay_days")
    others = {
        "stay_days": pl.when(days < 4)
        .then(days.clip(0))
        .when(days < 7)
        .then(4)
        .when(days < 14)
        .then(5)
        .when(days >= 14)
        .then(7),
        "is_acute_admission": pl.col("is_acute_admission") * 3,
        "emergency_visits": pl.col("emergency_visits").clip(upper_bound=4),
    }
    value = pl.sum_horizontal(
        *others.values(), pl.when(comorbidity >= 4).then(5).otherwise(comorbidity), ignore_nulls=False
    )
    return inputs.with_columns(
        **{f"points_{name}": points for name, points in (illnesses | others).items()}, value=value
    )


def _counted(illness: str) -> pl.Expr:
    other = _CANCELLED_BY.get(illness)
    return pl.col(illness) if other is None else pl.col(illness) * (1 - pl.col(other))


SCORES = (
    Score(
        name="lace",
        title="LACE",
        inputs=(
            STAY_DAYS,
            IS_ACUTE,
            *(condition(illness) for illness in WEIGHTS),
            EMERGENCY_VISITS,
            AGE,
            DIED_IN_STAY,
            LEFT_FOR_CARE,
        ),
        population=pl.col("stay_days").is_not_null()
        & (pl.col("age_years") >= 18)
        & (pl.col("died_in_stay") == 0)
        & (pl.col("left_for_care") == 0),
        formula=add_lace,
        meant_for="Adults at the end of a hospital stay or within the day after, gone home alive",
        source="van Walraven, CMAJ 2010;182:551-7",
        note="Illnesses: own weights on the Charlson items, capped together at 5. No published probability is used.",
        needs=EMERGENCY_START,
    ),
)
