"""FINDRISC and its reduced form, with the form's own points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.findrisc import add_findrisc, add_findrisc_reduced
from tests.features.scores.scored import scored, without

MAN_58 = {
    "age_years": 58,
    "is_female": 0,
    "bmi": 31.0,
    "waist": 105.0,
    "is_inactive": 1,
    "no_daily_greens": 1,
    "on_bp_drug": 1,
    "high_glucose": 0,
    "hba1c": 5.0,
    "fasting_glucose": 90.0,
    "relatives_with_diabetes": "close",
}
WOMAN_50 = {
    "age_years": 50,
    "is_female": 1,
    "bmi": 27.0,
    "waist": 85.0,
    "is_inactive": 0,
    "no_daily_greens": 0,
    "on_bp_drug": 0,
    "high_glucose": 1,
    "hba1c": 5.0,
    "fasting_glucose": 90.0,
    "relatives_with_diabetes": "distant",
}
NO_POINTS = WOMAN_50 | {
    "age_years": 40,
    "bmi": 23.0,
    "waist": 75.0,
    "high_glucose": 0,
    "hba1c": 5.0,
    "fasting_glucose": 90.0,
    "relatives_with_diabetes": "none",
}
MAN_35 = NO_POINTS | {
    "age_years": 35,
    "is_female": 0,
    "bmi": 24.2,
    "waist": 90.0,
    "is_inactive": 1,
    "no_daily_greens": 1,
}


@pytest.mark.parametrize(
    ("inputs", "points", "risk", "reduced"),
    [
        (MAN_58, 20, 0.33, 8),  # 3 + 3 + 4 + 2 + 1 + 2 + 0 + 5; age, BMI and drug are 3 + 3 + 2 of them
        (WOMAN_50, 14, 0.17, 8),  # 2 + 1 + 3 + 5 + 3; 2 + 1 + 5
        (NO_POINTS, 0, 0.01, 0),
        (MAN_35, 3, 0.01, 0),  # 2 + 1
        (MAN_58 | {"high_glucose": 1}, 25, 0.50, 13),
    ],
)
def test_worked_examples(inputs, points, risk, reduced):
    result = scored(add_findrisc, inputs)
    assert (result["value"], result["risk"]) == (points, risk)
    assert scored(add_findrisc_reduced, inputs)["value"] == reduced


@pytest.mark.parametrize(
    ("inputs", "variable", "steps"),
    [
        (NO_POINTS, "age_years", {44: 0, 45: 2, 54: 2, 55: 3, 64: 3, 65: 4}),
        (NO_POINTS, "bmi", {24.9: 0, 25.0: 1, 30.0: 1, 30.1: 3}),
        (NO_POINTS, "waist", {79.0: 0, 80.0: 3, 88.0: 3, 89.0: 4}),
        (NO_POINTS | {"is_female": 0}, "waist", {93.0: 0, 94.0: 3, 102.0: 3, 103.0: 4}),
        (NO_POINTS, "hba1c", {5.6: 0, 5.7: 5}),
        (NO_POINTS, "fasting_glucose", {99.0: 0, 100.0: 5}),
        (NO_POINTS | {"hba1c": 6.0}, "fasting_glucose", {99.0: 5, 100.0: 5}),
        (NO_POINTS | {"high_glucose": 1}, "hba1c", {5.6: 5, 5.7: 5}),  # once, however it was found
        (NO_POINTS, "relatives_with_diabetes", {"none": 0, "distant": 3, "close": 5}),
    ],
)
def test_edges_of_the_bands(inputs, variable, steps):
    assert {value: scored(add_findrisc, inputs, **{variable: value})["value"] for value in steps} == steps


@pytest.mark.parametrize(
    ("extra_points", "risk"),
    [
        ({"age_years": 45, "high_glucose": 1}, 0.04),  # 7 points
        ({"age_years": 55, "bmi": 25.0, "on_bp_drug": 1, "high_glucose": 1}, 0.04),  # 11
        ({"age_years": 65, "bmi": 25.0, "on_bp_drug": 1, "high_glucose": 1}, 0.17),  # 12
        ({"age_years": 65, "bmi": 31.0, "on_bp_drug": 1, "high_glucose": 1}, 0.17),  # 14
        ({"age_years": 65, "bmi": 31.0, "waist": 85.0, "on_bp_drug": 1, "high_glucose": 1}, 0.33),  # 17
    ],
)
def test_bands_of_risk(extra_points, risk):
    assert scored(add_findrisc, NO_POINTS, **extra_points)["risk"] == risk


@pytest.mark.parametrize("variable", MAN_58)
def test_a_missing_item_is_never_no_points(variable):
    assert without(add_findrisc, MAN_58, variable)["value"] is None
    assert without(add_findrisc, MAN_58, variable)["risk"] is None
    is_read = variable in ("age_years", "bmi", "on_bp_drug", "high_glucose", "hba1c", "fasting_glucose")
    assert (without(add_findrisc_reduced, MAN_58, variable)["value"] is None) == is_read


@given(
    ages=st.tuples(st.integers(18, 89), st.integers(18, 89)),
    weights=st.tuples(st.floats(15, 60), st.floats(15, 60)),
)
def test_age_and_weight_never_lower_the_points(ages, weights):
    less = scored(add_findrisc_reduced, MAN_58, age_years=min(ages), bmi=min(weights))
    more = scored(add_findrisc_reduced, MAN_58, age_years=max(ages), bmi=max(weights))
    assert 0 <= less["value"] <= more["value"] <= 14
