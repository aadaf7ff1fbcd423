"""Whose readmission might have been avoided? The HOSPITAL score, at discharge.

Population: adults at the end of a hospital stay or within the day after, alive. (The service is not on record, so
surgical stays are in.)
Hb and Na: the last of the stay; without one the score is null. Oncology: the service is not on record either, so a
malignancy known by then, metastatic or not, stands for it, as in the simplified score (Aubert, 2017). Procedure: within
the stay, ICD-10-PCS codes, the CPT codes of surgery (10004 to 69990, without drawing blood), and the SNOMED CT
procedures below. Laboratory tests, visits and drugs have CPT and HCPCS codes too; SNOMED CT does not mark procedures as
such, and plain films, electrocardiograms and the like are left out. Index type: by the encounter's priority, else an
emergency visit within the day before. Length: days between the dates of admission and discharge.
Policy: visits, illnesses and procedures that are not on record count as absent, and the result says so.
Source: Donzé, JAMA Intern Med 2013;173:632-8, and 2016;176:496-502. Copies differ in the bands of earlier admissions:
hospital has those of 2016 (0-1, 2-5, more), to which the published risks belong; hospital_2013 those said to be of 2013
(0, 1-5, more), without a risk.
"""

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, history, in_stay, value
from features.scores.stays import ADMISSIONS, DIED_IN_STAY, IS_ACUTE, STAY_DAYS

LONGEST_STAY_DAYS = 365
# Mean risk of a potentially avoidable readmission within 30 days at 0-4, 5-6 and 7 or more points (2016).
RISKS_2016 = (0.058, 0.119, 0.228)

# Appendectomy, partial resection of colon, wisdom tooth, coronary bypass, coronary intervention, tubal ligation,
# manipulation of the knee, lung transplant, lung volume reduction, caesarean section, instrumental delivery,
# implanted defibrillator, haemodialysis, transfusion, colonoscopy, chemotherapy with radiation.
_SNOMED_PROCEDURES = """80146002 43075005 65546002 232717009 415070008 287664005 699253003 88039007 429609002 11466000
236974004 447365002 302497006 180207008 73761001 703423002""".split()

_PROCEDURE = history(
    "procedure",
    (*(f"CPT//{first}*" for first in range(1, 7)), "ICD10PCS//*", *(f"SNOMED//{code}" for code in _SNOMED_PROCEDURES)),
    "A procedure during the stay; no measures of quality (CPT 1036F and the like) nor drawing blood (36415, 36416)",
    window_days=LONGEST_STAY_DAYS,
)
_NO_SURGERY = r"^CPT//(\d{4}[A-Z]|3641[56]$)"  # measures of quality (1036F) and the like; drawing blood


def add_hospital(most_for_nothing: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Add HOSPITAL; up to `most_for_nothing` earlier admissions give no point (2013: 0, 2016: 1).

    Reads:    haemoglobin (g/dL), malignancy, metastatic_tumour, sodium (mmol/L), procedure, is_acute_admission,
              stay_days, earlier_admissions.
    Adds:     points_<input>, value (0 to 13). Null when an input is null.
    """
    admissions = pl.col("earlier_admissions")
    points = {
        "haemoglobin": (pl.col("haemoglobin") < 12).cast(pl.Int32),
        "malignancy": pl.col("malignancy") * 2,
        # Cancer counts once, however it was recorded.
        "metastatic_tumour": pl.col("metastatic_tumour") * (1 - pl.col("malignancy")) * 2,
        "sodium": (pl.col("sodium") < 135).cast(pl.Int32),
        "procedure": pl.col("procedure"),
        "is_acute_admission": pl.col("is_acute_admission"),
        "stay_days": (pl.col("stay_days") >= 5).cast(pl.Int32) * 2,
        "earlier_admissions": pl.when(admissions > 5)
        .then(5)
        .when(admissions > most_for_nothing)
        .then(2)
        .when(admissions >= 0)
        .then(0),
    }
    columns = {f"points_{name}": expression for name, expression in points.items()}
    value = pl.sum_horizontal(points.values(), ignore_nulls=False)
    return lambda inputs: inputs.with_columns(**columns, value=value)


def add_hospital_2016(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add HOSPITAL with the bands of 2016 and its risk: reads and adds as `add_hospital`, and risk."""
    low, intermediate, high = RISKS_2016
    points = pl.col("value")
    risk = pl.when(points >= 7).then(high).when(points >= 5).then(intermediate).when(points >= 0).then(low)
    return add_hospital(most_for_nothing=1)(inputs).with_columns(risk=risk)


def _score(name: str, title: str, formula: Callable[[pl.LazyFrame], pl.LazyFrame], note: str) -> Score:
    return Score(
        name=name,
        title=title,
        inputs=(
            in_stay(
                value(
                    "haemoglobin",
                    ("LOINC//718-7",),
                    "g/dL",
                    "Haemoglobin, last of the stay",
                    window_days=LONGEST_STAY_DAYS,
                    conversions=(("g/L", 0.1, 0.0),),
                )
            ),
            condition("malignancy"),
            condition("metastatic_tumour"),
            in_stay(
                value(
                    "sodium",
                    ("LOINC//2951-2", "LOINC//2947-0"),
                    "mmol/L",
                    "Sodium, last of the stay",
                    window_days=LONGEST_STAY_DAYS,
                    conversions=(("meq/L", 1.0, 0.0),),
                )
            ),
            replace(in_stay(_PROCEDURE), except_for=_NO_SURGERY),
            IS_ACUTE,
            STAY_DAYS,
            ADMISSIONS,
            AGE,
            DIED_IN_STAY,
        ),
        population=pl.col("stay_days").is_not_null() & (pl.col("age_years") >= 18) & (pl.col("died_in_stay") == 0),
        formula=formula,
        meant_for="Adults at the end of a hospital stay or within the day after, alive",
        source="Donzé, JAMA Intern Med 2013;173:632-8 and 2016;176:496-502",
        note=note,
    )


_ONCOLOGY = "The service is not on record: any malignancy known by then stands for discharge from oncology (2 points)."

SCORES = (
    _score(
        "hospital",
        "HOSPITAL, bands of 2016",
        add_hospital_2016,
        "Risk: of a potentially avoidable readmission within 30 days, by the three groups of 2016. " + _ONCOLOGY,
    ),
    _score(
        "hospital_2013",
        "HOSPITAL, bands of 2013",
        add_hospital(most_for_nothing=0),
        "Another reading of the bands of earlier admissions; no risk, because the published ones belong to 2016. "
        + _ONCOLOGY,
    ),
)
