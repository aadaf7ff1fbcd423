"""CAIDE without APOE and its reduced form; the risks are percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.caide import add_caide, add_caide_reduced
from tests.features.scores.scored import scored, without

MMOL = 1 / 0.02586  # mg/dL in 1 mmol/L of cholesterol
WOMAN_50 = {
    "age_years": 50,
    "is_female": 1,
    "education_years": 8,
    "systolic_bp": 150.0,
    "bmi": 27.0,
    "total_cholesterol": 7.0 * MMOL,
    "is_inactive": 1,
}
MAN_55 = WOMAN_50 | {"age_years": 55, "is_female": 0, "education_years": 6, "bmi": 32.0}
NO_POINTS = {
    "age_years": 45,
    "is_female": 1,
    "education_years": 12,
    "systolic_bp": 120.0,
    "bmi": 24.0,
    "total_cholesterol": 5.0 * MMOL,
    "is_inactive": 0,
}


@pytest.mark.parametrize(
    ("inputs", "points", "percent", "reduced"),
    [
        (WOMAN_50, 10, 6.91, 7),  # 3 + 2 + 2 + 2 + 1; age, pressure and cholesterol are 3 + 2 + 2 of them
        (MAN_55, 15, 35.55, 11),
        (NO_POINTS, 0, 0.13, 0),
        (NO_POINTS | {"age_years": 54, "is_inactive": 1}, 5, 0.99, 4),
        (WOMAN_50 | {"education_years": 10}, 8, 3.22, 7),
        (WOMAN_50 | {"is_inactive": 0}, 9, 4.74, 7),
        (WOMAN_50 | {"bmi": 31.0}, 12, 14.21, 9),
    ],
)
def test_worked_examples(inputs, points, percent, reduced):
    result = scored(add_caide, inputs)
    assert result["value"] == points
    assert 100 * result["risk"] == pytest.approx(percent, abs=0.005)
    assert scored(add_caide_reduced, inputs)["value"] == reduced


@pytest.mark.parametrize(
    ("variable", "steps"),
    [
        ("age_years", {39: 0, 46: 0, 47: 3, 53: 3, 54: 4, 64: 4}),
        ("education_years", {10: 0, 9: 2, 7: 2, 6: 3, 0: 3}),
        ("systolic_bp", {140.0: 0, 141.0: 2}),
        ("bmi", {30.0: 0, 30.1: 2}),
        ("total_cholesterol", {6.5 * MMOL: 0, 251.0: 0, 252.0: 2}),
        ("is_female", {1: 0, 0: 1}),
    ],
)
def test_edges_of_the_bands(variable, steps):
    assert {value: scored(add_caide, NO_POINTS, **{variable: value})["value"] for value in steps} == steps


@pytest.mark.parametrize("variable", NO_POINTS)
def test_a_missing_item_is_never_no_points(variable):
    assert without(add_caide, NO_POINTS, variable)["value"] is None
    assert without(add_caide, NO_POINTS, variable)["risk"] is None
    is_read = variable not in ("education_years", "is_inactive")
    assert (without(add_caide_reduced, NO_POINTS, variable)["value"] is None) == is_read


@given(
    ages=st.tuples(st.integers(39, 64), st.integers(39, 64)),
    pressures=st.tuples(st.floats(80, 220), st.floats(80, 220)),
)
def test_age_and_pressure_never_lower_the_points(ages, pressures):
    less = scored(add_caide_reduced, WOMAN_50, age_years=min(ages), systolic_bp=min(pressures))
    more = scored(add_caide_reduced, WOMAN_50, age_years=max(ages), systolic_bp=max(pressures))
    assert less["value"] <= more["value"]
