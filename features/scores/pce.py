"""Pooled Cohort Equations: what is the 10-year risk of a first heart attack, coronary death or stroke?

Population:  age 40 to 79, no atherosclerotic cardiovascular disease so far.
Source:      Goff, Circulation 2014;129:S49-73, table A and its supplement; the coefficients are in pce.csv, an empty
             cell where a term is not in the equation. Known to over-predict: in MESA 10.8 % against 6.0 % observed.
Variant:     the equations were fitted for Black and White people. As the guideline says, everybody else is given the
             equations for White people; a race that is not recorded gives no result.
Ranges:      total cholesterol 130 to 320 and HDL 20 to 100 mg/dL, systolic pressure 90 to 200 mmHg. Outside them the
             risk is null. Some programs floor the result at 1 %: not here.
"""

from functools import cache
from itertools import product
from pathlib import Path

import polars as pl

RANGES = {"age": (40, 79), "total_cholesterol": (130, 320), "hdl": (20, 100), "systolic": (90, 200)}


def add_pce(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the 10-year risk of atherosclerotic cardiovascular disease.

    Reads:   age (completed years), sex ("female" or "male"), is_black (boolean), total_cholesterol and hdl (mg/dL),
             systolic (mmHg), and the booleans on_bp_drug, is_smoking (now), has_diabetes.
    Adds:    pce: a probability. Null when a variable is null or out of range, and for any other sex.
    """
    in_scope = pl.all_horizontal(pl.col(name).is_between(*ends) for name, ends in RANGES.items())
    risk = pl.coalesce(
        pl.when((pl.col("sex") == sex) & (pl.col("is_black") == (race == "black"))).then(_risk(f"{race}_{sex}"))
        for race, sex in product(("black", "white"), ("female", "male"))
    )
    return rows.with_columns(pce=pl.when(in_scope).then(risk))


@cache
def _coefficients(group: str) -> dict[str, float]:
    return dict(pl.read_csv(Path(__file__).with_name("pce.csv")).select("term", group).drop_nulls().iter_rows())


def _risk(group: str) -> pl.Expr:
    coefficients, terms = _coefficients(group), _terms()
    # A plain sum, because sum_horizontal takes a null for 0.
    total = sum((terms[term] * value for term, value in coefficients.items() if term in terms), start=pl.lit(0.0))
    return 1 - coefficients["survival"] ** (total - coefficients["mean"]).exp()


def _terms() -> dict[str, pl.Expr]:
    """The terms of the equations under their names in pce.csv."""
    ln_age, ln_sbp = pl.col("age").log(), pl.col("systolic").log()
    treated = pl.col("on_bp_drug").cast(pl.Float64)
    alone = {
        "ln_age": ln_age,
        "ln_cholesterol": pl.col("total_cholesterol").log(),
        "ln_hdl": pl.col("hdl").log(),
        "ln_treated_sbp": treated * ln_sbp,
        "ln_untreated_sbp": (1 - treated) * ln_sbp,
        "smoking": pl.col("is_smoking").cast(pl.Float64),
        "diabetes": pl.col("has_diabetes").cast(pl.Float64),
    }
    products = {f"ln_age*{name}": ln_age * term for name, term in alone.items()}
    return {**alone, **products, "ln_age^2": ln_age**2}
