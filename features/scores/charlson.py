"""How heavy is the burden of illness? The Charlson comorbidity index, with and without age, and Quan's later weights.

Population: adults. Policy: an illness that is not on record counts as absent, and the result says so.
All of the record counts, not only recent years, but for what resolves or what a source drops once it is closed (peptic
ulcer; see `lapsing` in conditions.toml): that counts for two years.
Codes: Quan, Med Care 2005;43:1130-9, on ICD-10; SNOMED CT as conditions.toml says. As there, every stage of chronic
kidney disease counts, and E08 and E09 (diabetes from another cause) do not.
Weights: charlson, Charlson, J Chronic Dis 1987;40:373-83 (the illnesses as in Quan's map: leukaemia and lymphoma are
one item with other malignancies); charlson_quan, Quan, Am J Epidemiol 2011;173:676-82 (AIDS 4: only so does the index
reach its known maximum of 24); charlson_age, Charlson, J Clin Epidemiol 1994;47:1245-51, adds points for age to the
first; `risk` is the complement of its ten-year survival 0.983^exp(0.9 x points), which was never recalibrated.
"""

from collections.abc import Callable, Mapping

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE

WEIGHTS_1987 = {
    "myocardial_infarction": 1,
    "heart_failure": 1,
    "peripheral_vascular_disease": 1,
    "cerebrovascular_disease": 1,
    "dementia": 1,
    "chronic_pulmonary_disease": 1,
    "connective_tissue_disease": 1,
    "peptic_ulcer": 1,
    "mild_liver_disease": 1,
    "diabetes_uncomplicated": 1,
    "diabetes_complicated": 2,
    "paralysis": 2,
    "kidney_disease": 2,
    "malignancy": 2,
    "severe_liver_disease": 3,
    "metastatic_tumour": 6,
    "aids": 6,
}
WEIGHTS_2011 = dict.fromkeys(WEIGHTS_1987, 0) | {
    "heart_failure": 2,
    "dementia": 2,
    "chronic_pulmonary_disease": 1,
    "connective_tissue_disease": 1,
    "mild_liver_disease": 2,
    "diabetes_complicated": 1,
    "paralysis": 2,
    "kidney_disease": 1,
    "malignancy": 2,
    "severe_liver_disease": 4,
    "metastatic_tumour": 6,
    "aids": 4,
}
_CANCELLED_BY = {
    "mild_liver_disease": "severe_liver_disease",
    "diabetes_uncomplicated": "diabetes_complicated",
    "malignancy": "metastatic_tumour",
}


def add_charlson(weights: Mapping[str, int], *, with_age: bool = False) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Add the index with these weights.

    Reads:    a column of 1 and 0 for each illness; age_years when `with_age`.
    Adds:     points_<illness>, points_age_years when `with_age`, value (their sum; the graver of two forms of one
              illness cancels the milder), risk when `with_age` (of dying within ten years). Null when an input is null.
    """
    points = {illness: _counted(illness) * weight for illness, weight in weights.items()}
    if with_age:
        points["age_years"] = _age_points()
    value = pl.sum_horizontal(points.values(), ignore_nulls=False)
    risk = {"risk": 1 - 0.983 ** (0.9 * value).exp()} if with_age else {}
    columns = {f"points_{name}": expression for name, expression in points.items()}
    return lambda inputs: inputs.with_columns(**columns, value=value, **risk)


def _counted(illness: str) -> pl.Expr:
    graver = _CANCELLED_BY.get(illness)
    return pl.col(illness) if graver is None else pl.col(illness) * (1 - pl.col(graver))


def _age_points() -> pl.Expr:
    """One point for each decade from 50 on, at most 4."""
    return ((pl.col("age_years") - 40) / 10).floor().clip(0, 4)


_ILLNESSES = tuple(condition(illness) for illness in WEIGHTS_1987)
_CODES = "codes Quan, Med Care 2005;43:1130-9"

SCORES = (
    Score(
        name="charlson",
        title="Charlson comorbidity index, weights of 1987",
        inputs=(*_ILLNESSES, AGE),
        population=pl.col("age_years") >= 18,
        formula=add_charlson(WEIGHTS_1987),
        meant_for="Adults",
        source=f"Charlson, J Chronic Dis 1987;40:373-83; {_CODES}",
    ),
    Score(
        name="charlson_age",
        title="Charlson comorbidity index with age",
        inputs=(*_ILLNESSES, AGE),
        population=pl.col("age_years") >= 18,
        formula=add_charlson(WEIGHTS_1987, with_age=True),
        meant_for="Adults",
        source=f"Charlson, J Clin Epidemiol 1994;47:1245-51; {_CODES}",
        note="Risk: of dying within ten years, as published; not recalibrated for today.",
    ),
    Score(
        name="charlson_quan",
        title="Charlson comorbidity index, weights of Quan 2011",
        inputs=(*_ILLNESSES, AGE),
        population=pl.col("age_years") >= 18,
        formula=add_charlson(WEIGHTS_2011),
        meant_for="Adults",
        source=f"Quan, Am J Epidemiol 2011;173:676-82; {_CODES}",
    ),
)
