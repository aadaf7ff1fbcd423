"""Correlations of what a survey measures."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from benchmarks.simulation.calibration import with_derived
from benchmarks.simulation.census import Census
from benchmarks.simulation.figures import Figure

# NHANES 2017-18, adults; holding age and sex, and raw. Waist and uric acid are not simulated.
_HELD = [
    ("bmi", "hba1c", 0.23),
    ("bmi", "hdl", -0.33),
    ("bmi", "lntg", 0.27),
    ("bmi", "albumin", -0.27),
    ("bmi", "lnalt", 0.21),
    ("bmi", "total_cholesterol", -0.02),
    ("bmi", "egfr", -0.03),
    ("hba1c", "hdl", -0.25),
    ("hba1c", "lntg", 0.23),
    ("hba1c", "egfr", 0.07),
    ("hdl", "lntg", -0.50),
    ("hdl", "total_cholesterol", 0.16),
    ("total_cholesterol", "lntg", 0.34),
    ("sodium", "potassium", 0.19),
]
_RAW = [
    ("age", "sbp", 0.40),
    ("age", "egfr", -0.69),
    ("age", "hba1c", 0.35),
    ("age", "lnacr", 0.23),
    ("sbp", "dbp", 0.49),
    ("sbp", "lnacr", 0.28),
    ("sbp", "hba1c", 0.24),
    ("total_cholesterol", "ldl", 0.79),
    ("lnacr", "hba1c", 0.34),
    ("lnacr", "egfr", -0.17),
]


def correlation_figures(census: Census) -> Iterator[Figure]:
    """All of them, in the last survey; HbA1c by its logarithm."""
    survey = with_derived(census.survey.filter(pl.col("month") == census.survey["month"].max()))
    age, sex = survey["age"].to_numpy(), survey["is_male"].to_numpy()
    held = np.stack([np.ones(len(age)), age, age**2, age**3, sex, sex * age], axis=1)

    def values(name: str) -> np.ndarray:
        column = survey["age" if name == "age" else f"measured_{name}"].to_numpy().astype(float)
        return np.log(column) if name == "hba1c" else column

    def rest(name: str) -> np.ndarray:
        return values(name) - held @ np.linalg.lstsq(held, values(name), rcond=None)[0]

    for of, pairs, how in ((rest, _HELD, ", holding age and sex"), (values, _RAW, "")):
        for one, other, published in pairs:
            r = float(np.corrcoef(of(one), of(other))[0, 1])
            name = f"Correlation of {one} and {other}{how}".replace("_", " ")
            yield Figure(name=name, published=published, simulated=r, tag="c", source="NHANES 2017-18", absolute=0.08)
