"""Pooled Cohort Equations, against the guideline's examples; the figures are percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.pce import add_pce
from tests.features.scores.scored import scored, without

GUIDELINE = {
    "age_years": 55,
    "is_female": 1,
    "is_black": 0,
    "total_cholesterol": 213.0,
    "hdl_cholesterol": 50.0,
    "systolic_bp": 120.0,
    "on_bp_drug": 0,
    "is_smoking": 0,
    "diabetes": 0,
}
MAN_54 = GUIDELINE | {
    "age_years": 54,
    "is_female": 0,
    "total_cholesterol": 170.0,
    "systolic_bp": 157.0,
    "is_smoking": 1,
    "diabetes": 1,
}
ALL_RISKS_65 = GUIDELINE | {
    "age_years": 65,
    "total_cholesterol": 200.0,
    "hdl_cholesterol": 45.0,
    "systolic_bp": 150.0,
    "on_bp_drug": 1,
    "is_smoking": 1,
    "diabetes": 1,
}


@pytest.mark.parametrize(
    ("inputs", "is_female", "is_black", "percent"),
    [
        (GUIDELINE, 1, 0, 2.1),
        (GUIDELINE, 1, 1, 3.0),
        (GUIDELINE, 0, 0, 5.4),
        (GUIDELINE, 0, 1, 6.1),
        (MAN_54, 0, 0, 20.8),
        (ALL_RISKS_65, 1, 0, 34.3),
        (ALL_RISKS_65, 1, 1, 50.8),
        (ALL_RISKS_65, 0, 0, 46.0),
        (ALL_RISKS_65, 0, 1, 55.5),
        (GUIDELINE | {"systolic_bp": 140.0}, 0, 1, 7.9),
    ],
)
def test_worked_examples(inputs, is_female, is_black, percent):
    risk = scored(add_pce, inputs, is_female=is_female, is_black=is_black)["value"]
    assert 100 * risk == pytest.approx(percent, abs=0.05)


def test_a_low_risk_is_not_floored_at_one_percent():
    assert scored(add_pce, GUIDELINE, age_years=40)["value"] < 0.01


@pytest.mark.parametrize("variable", GUIDELINE)
def test_a_missing_variable_gives_null(variable):
    assert without(add_pce, GUIDELINE, variable)["value"] is None


@given(
    person=st.fixed_dictionaries(
        {
            "age_years": st.integers(40, 79),
            "total_cholesterol": st.floats(130, 320),
            "hdl_cholesterol": st.floats(20, 100),
            **{name: st.integers(0, 1) for name in ("is_female", "is_black", "on_bp_drug", "is_smoking", "diabetes")},
        }
    ),
    pressures=st.tuples(st.integers(90, 200), st.integers(90, 200)),
)
def test_pressure_raises_the_risk(person, pressures):
    low, high = (scored(add_pce, person, systolic_bp=float(pressure))["value"] for pressure in sorted(pressures))
    assert low <= high
