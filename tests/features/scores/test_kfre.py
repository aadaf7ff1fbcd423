"""Kidney Failure Risk Equation, against the examples of the published R package; the figures are percent."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scores.kfre import add_kfre
from tests.features.scores.scored import scored, without

MAN_60 = {"age_years": 60.0, "is_female": 0, "egfr": 30.0, "albumin_creatinine": 300.0}


@pytest.mark.parametrize(
    ("is_female", "age", "egfr", "acr", "region", "two_years", "five_years"),
    [
        (1, 57.28, 15.0, 1762.00184, "elsewhere", 44.66, 89.89),
        (1, 57.28, 15.0, 1762.00184, "north_america", 58.70, 93.67),
        (0, 65.0, 19.0, 30.0, "elsewhere", 6.3123, 22.3128),
        (1, 70.0, 50.0, 35.0, "elsewhere", 0.1550, 0.5987),
        (0, 75.0, 22.0, 40.0, "elsewhere", 4.1757, 15.2247),
        (0, 60.0, 30.0, 300.0, "north_america", 8.63, 24.56),
        (0, 60.0, 30.0, 300.0, "elsewhere", 5.86, 20.86),
    ],
)
def test_worked_examples(is_female, age, egfr, acr, region, two_years, five_years):
    person = {"age_years": age, "is_female": is_female, "egfr": egfr, "albumin_creatinine": acr}
    for years, percent in ((2, two_years), (5, five_years)):
        result = scored(partial(add_kfre, years=years, region=region), person)
        assert 100 * result["value"] == pytest.approx(percent, abs=0.005)
        assert result["risk"] == result["value"]


@pytest.mark.parametrize("variable", MAN_60)
def test_a_missing_variable_gives_null(variable):
    assert without(partial(add_kfre, years=2), MAN_60, variable)["value"] is None


values = st.floats(1, 5000)
kidneys = st.floats(5, 59)


@given(age=st.integers(18, 90), egfr=st.tuples(kidneys, kidneys), acr=st.tuples(values, values))
def test_worse_kidneys_and_more_albumin_raise_the_risk(age, egfr, acr):
    mild = MAN_60 | {"age_years": float(age), "egfr": max(egfr), "albumin_creatinine": min(acr)}
    severe = MAN_60 | {"age_years": float(age), "egfr": min(egfr), "albumin_creatinine": max(acr)}
    two, five = partial(add_kfre, years=2), partial(add_kfre, years=5)
    assert scored(two, mild)["value"] <= scored(two, severe)["value"] <= scored(five, severe)["value"]
