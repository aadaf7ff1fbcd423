"""Pooled Cohort Equations: what is the 10-year risk of a first heart attack, coronary death or stroke?

Population:  age 40 to 79, no atherosclerotic cardiovascular disease known.
Source:      Goff, Circulation 2014;129:S49-73, table A and its supplement; the coefficients are in pce.csv, an empty
             cell where a term is not in the equation. Known to over-predict: in MESA 10.8 % against 6.0 % observed.
Missing:     measurements, smoking and race give no result; diabetes and drugs that nobody recorded count as absent.
Variant:     the equations were fitted for Black and White people. As the guideline says, everybody else is given the
             equations for White people.
Ranges:      total cholesterol 130 to 320 and HDL 20 to 100 mg/dL, systolic pressure 90 to 200 mmHg. Outside them the
             risk is null. Some programs floor the result at 1 %: not here.
"""

from functools import cache
from itertools import product
from pathlib import Path

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE, systolic_bp
from features.scores.risk_factors import (
    IS_BLACK,
    LOOKBACK_DAYS,
    ON_BP_DRUG,
    SMOKING,
    hdl_cholesterol,
    total_cholesterol,
)


def add_pce(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add the 10-year risk of atherosclerotic cardiovascular disease.

    Reads:    age_years (completed), total_cholesterol and hdl_cholesterol (mg/dL), systolic_bp (mmHg), and as 1 or 0
              is_female, is_black, on_bp_drug, is_smoking (now), diabetes. The engine holds their ranges.
    Adds:     value and risk: the probability. Null when a variable is null.
    """
    groups = product(("white", "black"), ("male", "female"))
    risk = pl.coalesce(
        pl.when((pl.col("is_black") == is_black) & (pl.col("is_female") == is_female)).then(_risk(f"{race}_{sex}"))
        for (is_black, is_female), (race, sex) in zip(product((0, 1), (0, 1)), groups, strict=True)
    )
    return inputs.with_columns(value=risk, risk=risk)


@cache
def _coefficients(group: str) -> dict[str, float]:
    return dict(pl.read_csv(Path(__file__).with_name("pce.csv")).select("term", group).drop_nulls().iter_rows())


def _risk(group: str) -> pl.Expr:
    coefficients, terms = _coefficients(group), _terms()
    total = pl.sum_horizontal(
        (terms[term] * value for term, value in coefficients.items() if term in terms), ignore_nulls=False
    )
    return 1 - coefficients["survival"] ** (total - coefficients["mean"]).exp()


def _terms() -> dict[str, pl.Expr]:
    """The terms of the equations under their names in pce.csv."""
    ln_age, ln_sbp = pl.col("age_years").log(), pl.col("systolic_bp").log()
    alone = {
        "ln_age": ln_age,
        "ln_cholesterol": pl.col("total_cholesterol").log(),
        "ln_hdl": pl.col("hdl_cholesterol").log(),
        "ln_treated_sbp": pl.col("on_bp_drug") * ln_sbp,
        "ln_untreated_sbp": (1 - pl.col("on_bp_drug")) * ln_sbp,
        "smoking": pl.col("is_smoking"),
        "diabetes": pl.col("diabetes"),
    }
    products = {f"ln_age*{name}": ln_age * term for name, term in alone.items()}
    return {**alone, **products, "ln_age^2": ln_age**2}


SCORES = (
    Score(
        name="pce",
        title="Pooled Cohort Equations, atherosclerotic disease within 10 years",
        inputs=(
            AGE,
            IS_FEMALE,
            IS_BLACK,
            total_cholesterol(130, 320),
            hdl_cholesterol(20, 100),
            systolic_bp(LOOKBACK_DAYS, low=90, high=200),
            ON_BP_DRUG,
            SMOKING,
            condition("diabetes"),
            condition("atherosclerotic_disease"),
        ),
        population=pl.col("age_years").is_between(40, 79) & (pl.col("atherosclerotic_disease") == 0),
        formula=add_pce,
        meant_for="Age 40 to 79, no atherosclerotic disease known",
        source="Goff, Circulation 2014;129:S49-73",
        note="Every race but Black has the equations for White people, as the guideline says.",
    ),
)
