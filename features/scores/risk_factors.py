"""The inputs that several scores of heart, kidney, diabetes and dementia share, with their codes, units and look-backs.

Measurements and smoking count for two years, the look-back of the features, so that nobody's score is missing only
because of how long the record is. A prescription counts for 400 days: most are written anew once a year, some a month
late; whether it was stopped in between is not read.
"""

from features.codes import patterns_of_groups
from features.scores.inputs import Input, answer, history, static, value

LOOKBACK_DAYS = 730
PRESCRIPTION_DAYS = 400

# mmol/L in 1 mg/dL of cholesterol, as PREVENT converts. 1/38.67 differs by 7 parts in a million.
MMOL_PER_MG_CHOLESTEROL = 0.02586
_CHOLESTEROL = (("mmol/L", 1 / MMOL_PER_MG_CHOLESTEROL, 0.0),)
_ACR = (("mg/g{creat}", 1.0, 0.0), ("ug/mg", 1.0, 0.0), ("ug/mg{creat}", 1.0, 0.0), ("mg/mmol", 8.84, 0.0))

_SMOKES, _DOES_NOT = 1.0, 0.0
_SMOKING_ANSWERS = {
    "SNOMED//449868002": _SMOKES,  # daily
    "SNOMED//428041000124106": _SMOKES,  # occasionally
    "SNOMED//428071000124103": _SMOKES,  # heavily
    "SNOMED//428061000124105": _SMOKES,  # lightly
    "SNOMED//77176002": _SMOKES,  # smoker, not said how much
    "SNOMED//8517006": _DOES_NOT,  # former
    "SNOMED//266919005": _DOES_NOT,  # never
    "LOINC//LA18976-3": _SMOKES,  # every day
    "LOINC//LA18977-1": _SMOKES,  # some days
    "LOINC//LA18981-3": _SMOKES,  # heavily
    "LOINC//LA18982-1": _SMOKES,  # lightly
    "LOINC//LA18979-7": _SMOKES,  # smoker, not said how much
    "LOINC//LA15920-4": _DOES_NOT,  # former
    "LOINC//LA18978-9": _DOES_NOT,  # never
}


def bmi(low: float | None = None, high: float | None = None) -> Input:
    """Body mass index, kg/m2."""
    codes = ("LOINC//39156-5",)
    return value("bmi", codes, "kg/m2", "Body mass index", window_days=LOOKBACK_DAYS, low=low, high=high)


def total_cholesterol(low: float | None = None, high: float | None = None) -> Input:
    """Total cholesterol in serum or plasma, mg/dL."""
    return value(
        "total_cholesterol",
        ("LOINC//2093-3",),
        "mg/dL",
        "Total cholesterol",
        window_days=LOOKBACK_DAYS,
        conversions=_CHOLESTEROL,
        low=low,
        high=high,
    )


def hdl_cholesterol(low: float | None = None, high: float | None = None) -> Input:
    """HDL cholesterol in serum or plasma, mg/dL."""
    return value(
        "hdl_cholesterol",
        ("LOINC//2085-9",),
        "mg/dL",
        "HDL cholesterol",
        window_days=LOOKBACK_DAYS,
        conversions=_CHOLESTEROL,
        low=low,
        high=high,
    )


ALBUMIN_CREATININE = value(
    "albumin_creatinine",
    ("LOINC//14959-1", "LOINC//9318-7", "LOINC//32294-1", "LOINC//30000-4"),
    "mg/g",
    "Albumin to creatinine in urine",
    window_days=LOOKBACK_DAYS,
    conversions=_ACR,
    low=0.01,  # its logarithm is taken
)

SMOKING = answer(
    "is_smoking", ("LOINC//72166-2",), _SMOKING_ANSWERS, "Smoking now, by the latest answer", window_days=LOOKBACK_DAYS
)
IS_BLACK = static(
    "is_black",
    {
        "RACE//OMB//2054-5": 1.0,
        **dict.fromkeys(
            ("RACE//OMB//" + code for code in ("1002-5", "2028-9", "2076-8", "2106-3", "2131-1", "2135-2")), 0.0
        ),
    },
    "Recorded race: 1 Black, 0 any other; missing when both are recorded",
)

ON_BP_DRUG = history(
    "on_bp_drug",
    patterns_of_groups("blood_pressure_drugs"),
    "A drug against high blood pressure, prescribed or given",
    window_days=PRESCRIPTION_DAYS,
)
ON_STATIN = history(
    "on_statin", patterns_of_groups("statins"), "A statin, prescribed or given", window_days=PRESCRIPTION_DAYS
)
