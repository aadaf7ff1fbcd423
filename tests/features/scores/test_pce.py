"""Pooled Cohort Equations, against the guideline's examples; the figures are percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.pce import add_pce
from tests.features.scores.scored import scored, without

GUIDELINE = {
    "age": 55,
    "sex": "female",
    "is_black": False,
    "total_cholesterol": 213.0,
    "hdl": 50.0,
    "systolic": 120.0,
    "on_bp_drug": False,
    "is_smoking": False,
    "has_diabetes": False,
}
MAN_54 = GUIDELINE | {
    "age": 54,
    "sex": "male",
    "total_cholesterol": 170.0,
    "systolic": 157.0,
    "is_smoking": True,
    "has_diabetes": True,
}
ALL_RISKS_65 = GUIDELINE | {
    "age": 65,
    "total_cholesterol": 200.0,
    "hdl": 45.0,
    "systolic": 150.0,
    "on_bp_drug": True,
    "is_smoking": True,
    "has_diabetes": True,
}


@pytest.mark.parametrize(
    ("inputs", "sex", "is_black", "percent"),
    [
        (GUIDELINE, "female", False, 2.1),
        (GUIDELINE, "female", True, 3.0),
        (GUIDELINE, "male", False, 5.4),
        (GUIDELINE, "male", True, 6.1),
        (MAN_54, "male", False, 20.8),
        (ALL_RISKS_65, "female", False, 34.3),
        (ALL_RISKS_65, "female", True, 50.8),
        (ALL_RISKS_65, "male", False, 46.0),
        (ALL_RISKS_65, "male", True, 55.5),
        (GUIDELINE | {"systolic": 140.0}, "male", True, 7.9),
    ],
)
def test_worked_examples(inputs, sex, is_black, percent):
    risk = scored(add_pce, inputs, sex=sex, is_black=is_black)["pce"]
    assert 100 * risk == pytest.approx(percent, abs=0.05)


def test_a_low_risk_is_not_floored_at_one_percent():
    assert scored(add_pce, GUIDELINE, age=40)["pce"] < 0.01


@pytest.mark.parametrize("variable", GUIDELINE)
def test_a_missing_variable_gives_null(variable):
    assert without(add_pce, GUIDELINE, variable)["pce"] is None


@pytest.mark.parametrize(
    ("variable", "inside", "outside"),
    [
        ("age", 40, 39),
        ("age", 79, 80),
        ("total_cholesterol", 130.0, 129.0),
        ("total_cholesterol", 320.0, 321.0),
        ("hdl", 20.0, 19.0),
        ("hdl", 100.0, 101.0),
        ("systolic", 90.0, 89.0),
        ("systolic", 200.0, 201.0),
        ("sex", "male", "other"),
    ],
)
def test_out_of_range_gives_null(variable, inside, outside):
    assert scored(add_pce, GUIDELINE, **{variable: inside})["pce"] is not None
    assert scored(add_pce, GUIDELINE, **{variable: outside})["pce"] is None


@given(
    person=st.fixed_dictionaries(
        {
            "age": st.integers(40, 79),
            "sex": st.sampled_from(["female", "male"]),
            "total_cholesterol": st.floats(130, 320),
            "hdl": st.floats(20, 100),
            **{name: st.booleans() for name in ("is_black", "on_bp_drug", "is_smoking", "has_diabetes")},
        }
    ),
    pressures=st.tuples(st.integers(90, 200), st.integers(90, 200)),
)
def test_pressure_raises_the_risk(person, pressures):
    low, high = (scored(add_pce, person, systolic=float(pressure))["pce"] for pressure in sorted(pressures))
    assert low <= high
