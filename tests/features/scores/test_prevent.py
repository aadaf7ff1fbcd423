"""PREVENT, against the paper's examples; the figures are percent."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.scores.prevent import OUTCOMES, RANGES, READS, add_prevent
from tests.features.scores.scored import Inputs, scored, without

WORKED = {
    "age": 50,
    "sex": "female",
    "total_cholesterol": 200.0,
    "hdl": 45.0,
    "systolic": 160.0,
    "bmi": 35.0,
    "egfr": 90.0,
    "has_diabetes": True,
    "is_smoking": False,
    "on_bp_drug": True,
    "on_statin": False,
}
PAPER = WORKED | {"total_cholesterol": 240.0, "hdl": 55.0, "has_diabetes": False}
MAN_65 = WORKED | {
    "age": 65,
    "sex": "male",
    "total_cholesterol": 180.0,
    "hdl": 40.0,
    "systolic": 138.0,
    "bmi": 32.0,
    "egfr": 48.0,
    "on_statin": True,
}
WOMAN_35 = WORKED | {
    "age": 35,
    "total_cholesterol": 190.0,
    "hdl": 60.0,
    "systolic": 105.0,
    "bmi": 22.0,
    "egfr": 110.0,
    "has_diabetes": False,
    "is_smoking": True,
    "on_bp_drug": False,
}
ALL_SCORES = [f"prevent_{outcome}{years}" for years in ("", "_30y") for outcome in OUTCOMES]


@pytest.mark.parametrize(
    ("inputs", "ten_years", "thirty_years", "digits"),
    [
        (WORKED, (14.68, 9.20, 8.06), (53.0, 35.4, 39.0), (2, 1)),
        (WORKED | {"sex": "male"}, (16.32, 10.19, 10.59), (51.4, 34.9, 42.4), (2, 1)),
        (PAPER, (5.43, 3.64, 2.53), (30.67, 19.86, 18.48), (2, 2)),  # printed in the paper as 5.4, 3.6, 2.5
        (PAPER | {"is_smoking": True}, (9.26, 5.99, 4.70), None, (2, 2)),  # printed: ASCVD 6.0, heart failure 4.7
        (MAN_65, (25.70, 15.09, 18.34), None, (2, 2)),
        (WOMAN_35, (0.69, 0.44, 0.30), (5.07, 2.92, 2.55), (2, 2)),
    ],
)
def test_worked_examples(inputs, ten_years, thirty_years, digits):
    result = scored(add_prevent, inputs)
    for outcome, percent in zip(OUTCOMES, ten_years, strict=True):
        assert 100 * result[f"prevent_{outcome}"] == pytest.approx(percent, abs=0.5001 * 10 ** -digits[0])
    for outcome, percent in zip(OUTCOMES, thirty_years or (), strict=bool(thirty_years)):
        # The woman of 50 has 53.0 %; a copy that drops age² from the 30-year models makes it 53.6 %.
        assert 100 * result[f"prevent_{outcome}_30y"] == pytest.approx(percent, abs=0.5001 * 10 ** -digits[1])


@pytest.mark.parametrize(
    ("variable", "value", "voided"),
    [
        ("age", 29, {*ALL_SCORES}),
        ("age", 80, {*ALL_SCORES}),
        ("age", 60, {"prevent_cvd_30y", "prevent_ascvd_30y", "prevent_hf_30y"}),
        ("age", 59, set()),
        ("sex", "other", {*ALL_SCORES}),
        ("systolic", 181.0, {*ALL_SCORES}),
        ("systolic", 180.0, set()),
        ("egfr", 14.9, {*ALL_SCORES}),
        ("egfr", 140.0, set()),
        ("bmi", 40.0, {"prevent_hf", "prevent_hf_30y"}),
        ("bmi", 39.9, set()),
        ("total_cholesterol", 129.0, {*ALL_SCORES} - {"prevent_hf", "prevent_hf_30y"}),
        ("hdl", 101.0, {*ALL_SCORES} - {"prevent_hf", "prevent_hf_30y"}),
    ],
)
def test_a_variable_out_of_range_voids_the_outcomes_that_read_it(variable, value, voided):
    result = scored(add_prevent, WORKED, **{variable: value})
    assert {score for score in ALL_SCORES if result[score] is None} == voided


@pytest.mark.parametrize("variable", WORKED)
def test_a_missing_variable_voids_the_outcomes_that_read_it(variable):
    result = without(add_prevent, WORKED, variable)
    assert {outcome for outcome in OUTCOMES if result[f"prevent_{outcome}"] is None} == {
        outcome for outcome in OUTCOMES if variable in READS[outcome]
    }


def test_the_splines_bend_where_they_should():
    """Log odds by hand for a woman of 55: (SBP - 110) / 20 x -0.2394003 below 110, and / 20 x 0.3600781 above."""
    base: Inputs = WORKED | {"age": 55, "on_bp_drug": False, "has_diabetes": False}

    def log_odds(outcome: str, **changed: object) -> float:
        risk = scored(add_prevent, base, **changed)[f"prevent_{outcome}"]
        return math.log(risk / (1 - risk))

    at_110 = log_odds("cvd", systolic=110.0)
    assert log_odds("cvd", systolic=100.0) - at_110 == pytest.approx(0.2394003 / 2)
    assert log_odds("cvd", systolic=120.0) - at_110 == pytest.approx(0.3600781 / 2)
    at_60 = log_odds("cvd", egfr=60.0)
    assert log_odds("cvd", egfr=45.0) - at_60 == pytest.approx(0.6045917)
    assert log_odds("cvd", egfr=75.0) - at_60 == pytest.approx(-0.0433769)
    at_30 = log_odds("hf", bmi=30.0)
    assert log_odds("hf", bmi=25.0) - at_30 == pytest.approx(0.0072294)
    assert log_odds("hf", bmi=35.0) - at_30 == pytest.approx(0.2997706)


people = st.fixed_dictionaries(
    {
        "age": st.integers(30, 79),
        "sex": st.sampled_from(["female", "male"]),
        **{name: st.floats(*ends) for name, ends in RANGES.items() if name not in ("systolic", "egfr")},
        **{name: st.booleans() for name in ("has_diabetes", "is_smoking", "on_bp_drug", "on_statin")},
    }
)


@settings(max_examples=40)
@given(person=people, pressures=st.tuples(st.integers(110, 180), st.integers(110, 180)), egfr=st.integers(15, 140))
def test_pressure_from_110_up_raises_every_ten_year_risk(person, pressures, egfr):
    low, high = (scored(add_prevent, person, systolic=float(p), egfr=float(egfr)) for p in sorted(pressures))
    assert all(low[f"prevent_{outcome}"] <= high[f"prevent_{outcome}"] for outcome in OUTCOMES)


@settings(max_examples=40)
@given(person=people, kidneys=st.tuples(st.integers(15, 140), st.integers(15, 140)), systolic=st.integers(90, 180))
def test_better_kidneys_lower_every_ten_year_risk(person, kidneys, systolic):
    low, high = (scored(add_prevent, person, egfr=float(e), systolic=float(systolic)) for e in sorted(kidneys))
    assert all(low[f"prevent_{outcome}"] >= high[f"prevent_{outcome}"] for outcome in OUTCOMES)


@pytest.mark.parametrize("sex", ["female", "male"])
def test_age_raises_the_ten_year_risks_of_a_healthy_person(sex):
    """With every risk factor at its worst the terms with age turn this round, in the paper's equations as here."""
    healthy: Inputs = WOMAN_35 | {"is_smoking": False, "sex": sex}
    by_age = add_prevent(pl.LazyFrame([healthy | {"age": age} for age in range(30, 80)])).collect()
    assert all((by_age[f"prevent_{outcome}"].diff().drop_nulls() > 0).all() for outcome in OUTCOMES)
