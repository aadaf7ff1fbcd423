"""PREVENT, base model: the risk of a first cardiovascular disease, of atherosclerotic disease alone, of heart failure.

Population:  age 30 to 79 (30-year risks: 30 to 59), no cardiovascular disease known.
Source:      Khan, Circulation 2024;149:430-49, supplement, tables S12A and S12F; the coefficients are in prevent.csv, a
             column for each outcome, horizon and sex, an empty cell where a term is not in the model. The models with
             HbA1c, albuminuria or deprivation have other coefficients and are not here.
Missing:     measurements and smoking give no result; diabetes and drugs that nobody recorded count as absent.
Ranges:      those of the paper. Outside them a risk is null, and each measurement voids only the outcomes that read it:
             body mass index only heart failure, cholesterol everything but heart failure. Systolic pressure ends at
             180 mmHg; two other programs go to 200.
"""

from functools import cache
from itertools import product
from pathlib import Path

import polars as pl

from features.scores.conditions import condition
from features.scores.egfr import egfr
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE, creatinine, systolic_bp
from features.scores.risk_factors import (
    LOOKBACK_DAYS,
    MMOL_PER_MG_CHOLESTEROL,
    ON_BP_DRUG,
    ON_STATIN,
    SMOKING,
    bmi,
    hdl_cholesterol,
    total_cholesterol,
)

_TITLES = {"cvd": "cardiovascular disease", "ascvd": "atherosclerotic cardiovascular disease", "hf": "heart failure"}
_OLDEST = {10: 79, 30: 59}
_EGFR_RANGE = (15, 140)

_ALWAYS = (
    AGE,
    IS_FEMALE,
    systolic_bp(LOOKBACK_DAYS, low=90, high=180),
    creatinine(LOOKBACK_DAYS),
    condition("diabetes"),
    SMOKING,
    ON_BP_DRUG,
    condition("cardiovascular_disease"),
)
_WITH_LIPIDS = (*_ALWAYS, total_cholesterol(130, 320), hdl_cholesterol(20, 100), ON_STATIN)
INPUTS = {"cvd": _WITH_LIPIDS, "ascvd": _WITH_LIPIDS, "hf": (*_ALWAYS, bmi(18.5, 39.9))}


def add_prevent(inputs: pl.LazyFrame, outcome: str = "cvd", years: int = 10) -> pl.LazyFrame:
    """Add the risk of "cvd", "ascvd" or "hf" within 10 or 30 years.

    Reads:    age_years (completed), egfr (mL/min/1.73 m², CKD-EPI 2021), systolic_bp (mmHg), total_cholesterol and
              hdl_cholesterol (mg/dL; not for "hf"), bmi (kg/m²; for "hf"), and as 1 or 0 is_female, diabetes,
              is_smoking (now), on_bp_drug and on_statin (not for "hf").
    Adds:     value and risk: the probability. Null when a variable that the outcome reads is null, and for an eGFR
              outside 15 to 140, which `reason` says. The engine holds the other ranges.
    """
    terms, model = _terms(), f"{outcome}_{years}y"
    female, male = (
        pl.sum_horizontal(
            (terms[term] * value for term, value in _coefficients(f"{model}_{sex}").items()), ignore_nulls=False
        )
        for sex in ("female", "male")
    )
    in_range = pl.col("egfr").is_between(*_EGFR_RANGE)
    is_female = pl.col("is_female") == 1
    log_odds = pl.when(in_range & is_female).then(female).when(in_range & ~is_female).then(male)
    risk = 1 / (1 + (-log_odds).exp())
    return inputs.with_columns(value=risk, risk=risk, reason=pl.when(~in_range).then(pl.lit("out of range: egfr")))


def _from_record(outcome: str, years: int) -> Score:
    def formula(inputs: pl.LazyFrame) -> pl.LazyFrame:
        known_egfr = egfr(pl.col("creatinine"), pl.col("age_years"), pl.col("is_female"))
        return add_prevent(inputs.with_columns(egfr=known_egfr), outcome, years)

    return Score(
        name=f"prevent_{outcome}" if years == 10 else f"prevent_{outcome}_{years}y",
        title=f"PREVENT, {_TITLES[outcome]} within {years} years",
        inputs=INPUTS[outcome],
        population=pl.col("age_years").is_between(30, _OLDEST[years]) & (pl.col("cardiovascular_disease") == 0),
        formula=formula,
        meant_for=f"Age 30 to {_OLDEST[years]}, no cardiovascular disease known",
        source="Khan, Circulation 2024;149:430-49",
        note="Base model. An eGFR outside 15 to 140 gives no result.",
    )


@cache
def _coefficients(model: str) -> dict[str, float]:
    table = pl.read_csv(Path(__file__).with_name("prevent.csv"))
    return dict(table.select("term", model).drop_nulls().iter_rows())


def _terms() -> dict[str, pl.Expr]:
    """The terms of the equations under their names in prevent.csv."""
    age = (pl.col("age_years") - 55) / 10
    non_hdl = MMOL_PER_MG_CHOLESTEROL * (pl.col("total_cholesterol") - pl.col("hdl_cholesterol")) - 3.5
    systolic, bmi, egfr = pl.col("systolic_bp"), pl.col("bmi"), pl.col("egfr")
    alone = {
        "age": age,
        "non_hdl": non_hdl,
        "hdl": (MMOL_PER_MG_CHOLESTEROL * pl.col("hdl_cholesterol") - 1.3) / 0.3,
        "sbp_below_110": (systolic.clip(upper_bound=110) - 110) / 20,
        "sbp_above_110": (systolic.clip(lower_bound=110) - 130) / 20,
        "bmi_below_30": (bmi.clip(upper_bound=30) - 25) / 5,
        "bmi_above_30": (bmi.clip(lower_bound=30) - 30) / 5,
        "egfr_below_60": (egfr.clip(upper_bound=60) - 60) / -15,
        "egfr_above_60": (egfr.clip(lower_bound=60) - 90) / -15,
        "diabetes": pl.col("diabetes"),
        "smoking": pl.col("is_smoking"),
        "bp_drug": pl.col("on_bp_drug"),
        "statin": pl.col("on_statin"),
    }
    with_age = ("non_hdl", "hdl", "sbp_above_110", "bmi_above_30", "egfr_below_60", "diabetes", "smoking")
    return {
        "constant": pl.lit(1.0),
        **alone,
        "age^2": age**2,
        "bp_drug*sbp_above_110": alone["bp_drug"] * alone["sbp_above_110"],
        "statin*non_hdl": alone["statin"] * non_hdl,
        **{f"age*{name}": age * alone[name] for name in with_age},
    }


SCORES = tuple(_from_record(outcome, years) for years, outcome in product(_OLDEST, INPUTS))
