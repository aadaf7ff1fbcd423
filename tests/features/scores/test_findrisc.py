"""FINDRISC and its reduced form, with the form's own points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.findrisc import add_findrisc, add_findrisc_reduced
from tests.features.scores.scored import scored, without

MAN_58 = {
    "age": 58,
    "sex": "male",
    "bmi": 31.0,
    "waist": 105.0,
    "is_active": False,
    "eats_greens": False,
    "ever_bp_drug": True,
    "ever_high_glucose": False,
    "relatives_with_diabetes": "close",
}
WOMAN_50 = {
    "age": 50,
    "sex": "female",
    "bmi": 27.0,
    "waist": 85.0,
    "is_active": True,
    "eats_greens": True,
    "ever_bp_drug": False,
    "ever_high_glucose": True,
    "relatives_with_diabetes": "distant",
}
NO_POINTS = WOMAN_50 | {
    "age": 40,
    "bmi": 23.0,
    "waist": 75.0,
    "ever_high_glucose": False,
    "relatives_with_diabetes": "none",
}
MAN_35 = NO_POINTS | {
    "age": 35,
    "sex": "male",
    "bmi": 24.2,
    "waist": 90.0,
    "is_active": False,
    "eats_greens": False,
}


@pytest.mark.parametrize(
    ("inputs", "points", "risk", "reduced"),
    [
        (MAN_58, 20, 0.33, 8),  # 3 + 3 + 4 + 2 + 1 + 2 + 0 + 5; age, BMI and drug are 3 + 3 + 2 of them
        (WOMAN_50, 14, 0.17, 8),  # 2 + 1 + 3 + 5 + 3; 2 + 1 + 5
        (NO_POINTS, 0, 0.01, 0),
        (MAN_35, 3, 0.01, 0),  # 2 + 1
        (MAN_58 | {"ever_high_glucose": True}, 25, 0.50, 13),
    ],
)
def test_worked_examples(inputs, points, risk, reduced):
    result = scored(add_findrisc, inputs)
    assert (result["findrisc"], result["findrisc_risk"]) == (points, risk)
    assert scored(add_findrisc_reduced, inputs)["findrisc_reduced"] == reduced


@pytest.mark.parametrize(
    ("inputs", "variable", "steps"),
    [
        (NO_POINTS, "age", {44: 0, 45: 2, 54: 2, 55: 3, 64: 3, 65: 4}),
        (NO_POINTS, "bmi", {24.9: 0, 25.0: 1, 30.0: 1, 30.1: 3}),
        (NO_POINTS, "waist", {79.0: 0, 80.0: 3, 88.0: 3, 89.0: 4}),
        (NO_POINTS | {"sex": "male"}, "waist", {93.0: 0, 94.0: 3, 102.0: 3, 103.0: 4}),
        (NO_POINTS, "relatives_with_diabetes", {"none": 0, "distant": 3, "close": 5}),
    ],
)
def test_edges_of_the_bands(inputs, variable, steps):
    assert {value: scored(add_findrisc, inputs, **{variable: value})["findrisc"] for value in steps} == steps


@pytest.mark.parametrize(
    ("extra_points", "risk"),
    [
        ({"age": 45, "ever_high_glucose": True}, 0.04),  # 7 points
        ({"age": 55, "bmi": 25.0, "ever_bp_drug": True, "ever_high_glucose": True}, 0.04),  # 11
        ({"age": 65, "bmi": 25.0, "ever_bp_drug": True, "ever_high_glucose": True}, 0.17),  # 12
        ({"age": 65, "bmi": 31.0, "ever_bp_drug": True, "ever_high_glucose": True}, 0.17),  # 14
        ({"age": 65, "bmi": 31.0, "waist": 85.0, "ever_bp_drug": True, "ever_high_glucose": True}, 0.33),  # 17
    ],
)
def test_bands_of_risk(extra_points, risk):
    assert scored(add_findrisc, NO_POINTS, **extra_points)["findrisc_risk"] == risk


@pytest.mark.parametrize("variable", MAN_58)
def test_a_missing_item_is_never_no_points(variable):
    assert without(add_findrisc, MAN_58, variable)["findrisc"] is None
    assert without(add_findrisc, MAN_58, variable)["findrisc_risk"] is None
    is_read = variable in ("age", "bmi", "ever_bp_drug", "ever_high_glucose")
    assert (without(add_findrisc_reduced, MAN_58, variable)["findrisc_reduced"] is None) == is_read


@given(
    ages=st.tuples(st.integers(18, 89), st.integers(18, 89)),
    weights=st.tuples(st.floats(15, 60), st.floats(15, 60)),
)
def test_age_and_weight_never_lower_the_points(ages, weights):
    less = scored(add_findrisc_reduced, MAN_58, age=min(ages), bmi=min(weights))
    more = scored(add_findrisc_reduced, MAN_58, age=max(ages), bmi=max(weights))
    assert 0 <= less["findrisc_reduced"] <= more["findrisc_reduced"] <= 14
