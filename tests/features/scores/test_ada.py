"""The ADA's diabetes risk test and its reduced form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.ada import add_ada_risk, add_ada_risk_reduced
from tests.features.scores.scored import scored, without

NO_POINTS = {
    "age_years": 30,
    "is_female": 1,
    "bmi": 22.0,
    "hypertension": 0,
    "gestational_diabetes": 0,
    "close_relative_with_diabetes": 0,
    "is_inactive": 0,
}
MAN_62 = {
    "age_years": 62,
    "is_female": 0,
    "bmi": 32.0,
    "hypertension": 1,
    "gestational_diabetes": 0,
    "close_relative_with_diabetes": 1,
    "is_inactive": 1,
}


@pytest.mark.parametrize(
    ("inputs", "points", "reduced"),
    [
        (MAN_62, 9, 7),  # 3 + 1 + 1 + 1 + 1 + 2; without relative and inactivity 7
        (NO_POINTS | {"age_years": 45, "bmi": 26.0, "gestational_diabetes": 1}, 3, 3),  # 1 + 1 + 1
        (NO_POINTS | {"age_years": 52, "bmi": 41.0}, 5, 5),  # 2 + 3
        (NO_POINTS, 0, 0),
        (MAN_62 | {"bmi": 40.0}, 10, 8),  # the most
    ],
)
def test_worked_examples(inputs, points, reduced):
    assert scored(add_ada_risk, inputs)["value"] == points
    assert scored(add_ada_risk_reduced, inputs)["value"] == reduced


@pytest.mark.parametrize(
    ("variable", "steps"),
    [
        ("age_years", {39: 0, 40: 1, 49: 1, 50: 2, 59: 2, 60: 3}),
        ("bmi", {24.9: 0, 25.0: 1, 29.9: 1, 30.0: 2, 39.9: 2, 40.0: 3}),
    ],
)
def test_edges_of_the_bands(variable, steps):
    assert {value: scored(add_ada_risk, NO_POINTS, **{variable: value})["value"] for value in steps} == steps


def test_diabetes_in_pregnancy_is_asked_of_women_alone():
    assert scored(add_ada_risk_reduced, MAN_62, gestational_diabetes=1)["value"] == 7


@pytest.mark.parametrize("variable", NO_POINTS)
def test_a_missing_item_is_never_no_points(variable):
    assert without(add_ada_risk, NO_POINTS, variable)["value"] is None
    is_read = variable not in ("close_relative_with_diabetes", "is_inactive")
    assert (without(add_ada_risk_reduced, NO_POINTS, variable)["value"] is None) == is_read


@given(
    ages=st.tuples(st.integers(18, 89), st.integers(18, 89)),
    weights=st.tuples(st.floats(15, 60), st.floats(15, 60)),
)
def test_age_and_weight_never_lower_the_points(ages, weights):
    less = scored(add_ada_risk_reduced, MAN_62, age_years=min(ages), bmi=min(weights))
    more = scored(add_ada_risk_reduced, MAN_62, age_years=max(ages), bmi=max(weights))
    assert less["value"] <= more["value"]
