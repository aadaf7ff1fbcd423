"""The ADA's diabetes risk test and its reduced form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.ada import add_ada_risk, add_ada_risk_reduced
from tests.features.scores.scored import scored, without

NO_POINTS = {
    "age": 30,
    "sex": "female",
    "bmi": 22.0,
    "ever_hypertension": False,
    "ever_gestational_diabetes": False,
    "has_close_relative_with_diabetes": False,
    "is_active": True,
}
MAN_62 = {
    "age": 62,
    "sex": "male",
    "bmi": 32.0,
    "ever_hypertension": True,
    "ever_gestational_diabetes": False,
    "has_close_relative_with_diabetes": True,
    "is_active": False,
}


@pytest.mark.parametrize(
    ("inputs", "points", "reduced"),
    [
        (MAN_62, 9, 7),  # 3 + 1 + 1 + 1 + 1 + 2; without relative and inactivity 7
        (NO_POINTS | {"age": 45, "bmi": 26.0, "ever_gestational_diabetes": True}, 3, 3),  # 1 + 1 + 1
        (NO_POINTS | {"age": 52, "bmi": 41.0}, 5, 5),  # 2 + 3
        (NO_POINTS, 0, 0),
        (MAN_62 | {"bmi": 40.0}, 10, 8),  # the most
    ],
)
def test_worked_examples(inputs, points, reduced):
    assert scored(add_ada_risk, inputs)["ada_risk"] == points
    assert scored(add_ada_risk_reduced, inputs)["ada_risk_reduced"] == reduced


@pytest.mark.parametrize(
    ("variable", "steps"),
    [
        ("age", {39: 0, 40: 1, 49: 1, 50: 2, 59: 2, 60: 3}),
        ("bmi", {24.9: 0, 25.0: 1, 29.9: 1, 30.0: 2, 39.9: 2, 40.0: 3}),
    ],
)
def test_edges_of_the_bands(variable, steps):
    assert {value: scored(add_ada_risk, NO_POINTS, **{variable: value})["ada_risk"] for value in steps} == steps


def test_diabetes_in_pregnancy_is_asked_of_women_alone():
    man = scored(add_ada_risk_reduced, MAN_62, ever_gestational_diabetes=None)
    assert man["ada_risk_reduced"] == 7
    assert scored(add_ada_risk_reduced, MAN_62, sex="other")["ada_risk_reduced"] is None


@pytest.mark.parametrize("variable", NO_POINTS)
def test_a_missing_item_is_never_no_points(variable):
    assert without(add_ada_risk, NO_POINTS, variable)["ada_risk"] is None
    is_read = variable not in ("has_close_relative_with_diabetes", "is_active")
    assert (without(add_ada_risk_reduced, NO_POINTS, variable)["ada_risk_reduced"] is None) == is_read


@given(
    ages=st.tuples(st.integers(18, 89), st.integers(18, 89)),
    weights=st.tuples(st.floats(15, 60), st.floats(15, 60)),
)
def test_age_and_weight_never_lower_the_points(ages, weights):
    less = scored(add_ada_risk_reduced, MAN_62, age=min(ages), bmi=min(weights))
    more = scored(add_ada_risk_reduced, MAN_62, age=max(ages), bmi=max(weights))
    assert less["ada_risk_reduced"] <= more["ada_risk_reduced"]
