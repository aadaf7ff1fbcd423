"""Kidney Failure Risk Equation, against the examples of the published R package; the figures are percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.kfre import add_kfre
from tests.features.scores.scored import scored, without

MAN_60 = {"age": 60.0, "sex": "male", "egfr": 30.0, "albumin_creatinine": 300.0}


@pytest.mark.parametrize(
    ("sex", "age", "egfr", "albumin_creatinine", "region", "two_years", "five_years"),
    [
        ("female", 57.28, 15.0, 1762.00184, "elsewhere", 44.66, 89.89),
        ("female", 57.28, 15.0, 1762.00184, "north_america", 58.70, 93.67),
        ("male", 65.0, 19.0, 30.0, "elsewhere", 6.3123, 22.3128),
        ("female", 70.0, 50.0, 35.0, "elsewhere", 0.1550, 0.5987),
        ("male", 75.0, 22.0, 40.0, "elsewhere", 4.1757, 15.2247),
        ("male", 60.0, 30.0, 300.0, "north_america", 8.63, 24.56),
        ("male", 60.0, 30.0, 300.0, "elsewhere", 5.86, 20.86),
    ],
)
def test_worked_examples(sex, age, egfr, albumin_creatinine, region, two_years, five_years):
    person = {"age": age, "sex": sex, "egfr": egfr, "albumin_creatinine": albumin_creatinine}
    result = scored(lambda rows: add_kfre(rows, region), person)
    assert 100 * result["kfre_2y"] == pytest.approx(two_years, abs=0.005)
    assert 100 * result["kfre_5y"] == pytest.approx(five_years, abs=0.005)


@pytest.mark.parametrize("variable", MAN_60)
def test_a_missing_variable_gives_null(variable):
    result = without(add_kfre, MAN_60, variable)
    assert result["kfre_2y"] is None
    assert result["kfre_5y"] is None


@pytest.mark.parametrize(
    ("variable", "inside", "outside"),
    [
        ("egfr", 59.9, 60.0),
        ("age", 18.0, 17.0),
        ("albumin_creatinine", 0.1, 0.0),  # its logarithm is taken
        ("sex", "female", "other"),
    ],
)
def test_out_of_the_population_gives_null(variable, inside, outside):
    assert scored(add_kfre, MAN_60, **{variable: inside})["kfre_5y"] is not None
    assert scored(add_kfre, MAN_60, **{variable: outside})["kfre_5y"] is None


values = st.floats(1, 5000)
kidneys = st.floats(5, 59)


@given(age=st.integers(18, 89), egfr=st.tuples(kidneys, kidneys), acr=st.tuples(values, values))
def test_worse_kidneys_and_more_albumin_raise_the_risk(age, egfr, acr):
    mild = scored(add_kfre, MAN_60, age=float(age), egfr=max(egfr), albumin_creatinine=min(acr))
    severe = scored(add_kfre, MAN_60, age=float(age), egfr=min(egfr), albumin_creatinine=max(acr))
    assert mild["kfre_2y"] <= severe["kfre_2y"]
    assert mild["kfre_5y"] <= severe["kfre_5y"]
    assert mild["kfre_2y"] <= mild["kfre_5y"]
