"""PREVENT, base model: the risk of a first cardiovascular disease, of atherosclerotic disease alone, of heart failure.

Population:  age 30 to 79 (30-year risks: 30 to 59), no cardiovascular disease so far.
Source:      Khan, Circulation 2024;149:430-49, supplement, tables S12A and S12F; the coefficients are in prevent.csv, a
             column for each outcome, horizon and sex, an empty cell where a term is not in the model. The models with
             HbA1c, albuminuria or deprivation have other coefficients and are not here.
Ranges:      those of the paper. Outside them a risk is null, and each measurement voids only the outcomes that read it:
             body mass index only heart failure, cholesterol everything but heart failure. Systolic pressure ends at
             180 mmHg; two other programs go to 200.
"""

from functools import cache
from itertools import product
from pathlib import Path

import polars as pl

OUTCOMES = ("cvd", "ascvd", "hf")
HORIZONS_YEARS = (10, 30)
MMOL_PER_MG_CHOLESTEROL = 0.02586  # mmol/L in 1 mg/dL, as the paper converts
_OLDEST = {10: 79, 30: 59}

_WITH_LIPIDS = ("total_cholesterol", "hdl", "on_statin")
_ALWAYS = ("age", "sex", "systolic", "egfr", "has_diabetes", "is_smoking", "on_bp_drug")
READS = {"cvd": (*_ALWAYS, *_WITH_LIPIDS), "ascvd": (*_ALWAYS, *_WITH_LIPIDS), "hf": (*_ALWAYS, "bmi")}
RANGES = {
    "total_cholesterol": (130, 320),
    "hdl": (20, 100),
    "systolic": (90, 180),
    "bmi": (18.5, 39.95),  # printed as 18.5 to 39.9
    "egfr": (15, 140),
}


def add_prevent(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the 10-year and 30-year risks.

    Reads:   age (completed years), sex ("female" or "male"), total_cholesterol and hdl (mg/dL), systolic (mmHg), bmi
             (kg/m²), egfr (mL/min/1.73 m², CKD-EPI 2021), and the booleans has_diabetes, is_smoking (now), on_bp_drug,
             on_statin.
    Adds:    prevent_cvd, prevent_ascvd, prevent_hf (10 years) and the same with `_30y`: probabilities. Null when a
             variable that the outcome reads is null or out of range, and for any other sex.
    """
    return rows.with_columns(
        (1 / (1 + (-_log_odds(outcome, years)).exp())).alias(score_name(outcome, years))
        for outcome, years in product(OUTCOMES, HORIZONS_YEARS)
    )


def score_name(outcome: str, years: int) -> str:
    """The 10-year risk has the plain name."""
    return f"prevent_{outcome}" if years == 10 else f"prevent_{outcome}_{years}y"


@cache
def _coefficients(model: str) -> dict[str, float]:
    table = pl.read_csv(Path(__file__).with_name("prevent.csv"))
    return dict(table.select("term", model).drop_nulls().iter_rows())


def _log_odds(outcome: str, years: int) -> pl.Expr:
    terms = _terms()
    model = f"{outcome}_{years}y"
    # A plain sum, because sum_horizontal takes a null for 0.
    female, male = (
        sum((terms[term] * value for term, value in _coefficients(f"{model}_{sex}").items()), start=pl.lit(0.0))
        for sex in ("female", "male")
    )
    in_scope = pl.all_horizontal(
        pl.col("age").is_between(30, _OLDEST[years]),
        *(pl.col(name).is_between(*RANGES[name]) for name in READS[outcome] if name in RANGES),
    )
    sex = pl.col("sex")
    return pl.when(in_scope & (sex == "female")).then(female).when(in_scope & (sex == "male")).then(male)


def _terms() -> dict[str, pl.Expr]:
    """The terms of the equations under their names in prevent.csv."""
    age = (pl.col("age") - 55) / 10
    non_hdl = MMOL_PER_MG_CHOLESTEROL * (pl.col("total_cholesterol") - pl.col("hdl")) - 3.5
    hdl = (MMOL_PER_MG_CHOLESTEROL * pl.col("hdl") - 1.3) / 0.3
    systolic, bmi, egfr = pl.col("systolic"), pl.col("bmi"), pl.col("egfr")
    alone = {
        "age": age,
        "non_hdl": non_hdl,
        "hdl": hdl,
        "sbp_below_110": (systolic.clip(upper_bound=110) - 110) / 20,
        "sbp_above_110": (systolic.clip(lower_bound=110) - 130) / 20,
        "bmi_below_30": (bmi.clip(upper_bound=30) - 25) / 5,
        "bmi_above_30": (bmi.clip(lower_bound=30) - 30) / 5,
        "egfr_below_60": (egfr.clip(upper_bound=60) - 60) / -15,
        "egfr_above_60": (egfr.clip(lower_bound=60) - 90) / -15,
        "diabetes": pl.col("has_diabetes").cast(pl.Float64),
        "smoking": pl.col("is_smoking").cast(pl.Float64),
        "bp_drug": pl.col("on_bp_drug").cast(pl.Float64),
        "statin": pl.col("on_statin").cast(pl.Float64),
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
