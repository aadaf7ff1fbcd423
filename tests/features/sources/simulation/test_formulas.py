"""What somebody can check with a calculator, and the numbers of the tables found again in the matrices."""

import numpy as np
import pytest

from features.sources.simulation.bodies import People, is_reached, measured_level, set_covariates, set_levels
from features.sources.simulation.results import creatinine_of, highest_egfr, result_of
from features.sources.simulation.world import RATE_AGES, STATE_AGES, World, chance, compile_world
from tests.features.sources.simulation.conftest import copied


@pytest.mark.parametrize(
    ("sex", "age", "egfr", "creatinine"),
    [
        ("male", 50, 104.05, 0.90),  # the ratio is 1, so 142 x 0.9938**50
        ("female", 50, 105.30, 0.70),  # the same x 1.012
        ("male", 50, 45.29, 1.80),  # the ratio is 2, so 104.05 x 2**-1.2
        ("female", 50, 45.83, 1.40),  # 105.30 x 2**-1.2
        ("male", 50, 128.28, 0.45),  # the ratio is a half, so 104.05 x 0.5**-0.302
        ("female", 50, 124.44, 0.35),  # 105.30 x 0.5**-0.241
    ],
)
def test_creatinine_solves_ckd_epi_2021(sex: str, age: float, egfr: float, creatinine: float) -> None:
    assert creatinine_of(egfr, age, sex == "male") == pytest.approx(creatinine, rel=2e-4)


def test_a_chance_is_the_rate_that_gives_it_on_one_occasion() -> None:
    assert chance(0.5) == pytest.approx(0.6931, abs=1e-4)  # ln 2
    assert 1 - np.exp(-chance(0.12)) == pytest.approx(0.12)
    assert chance(0) == 0
    assert np.isfinite(chance(1))


def test_rates_are_those_of_the_table_at_its_ages_and_lie_straight_between_in_logarithm(world: World) -> None:
    plain = compile_world(world.raw | {"solved": {}}).nature
    heart_failure = plain.names.index("heart_failure")
    table = world.raw["conditions"]["heart_failure"]
    by_age = np.exp(plain.base.reshape(len(plain.names), -1, 2)[heart_failure])  # (ages, sexes)
    for sex, name in enumerate(("female", "male")):
        np.testing.assert_allclose(by_age[RATE_AGES, sex], np.array(table[name]) / 1000, rtol=1e-5)
    # At 60 years, half way from 55 to 65: the geometric mean.
    assert by_age[60, 0] == pytest.approx(np.sqrt(table["female"][3] * table["female"][4]) / 1000, rel=1e-4)
    assert by_age[20, 1] == by_age[25, 1]


def test_corrections_are_added_to_the_logarithm(world: World) -> None:
    solved = {"rates": {"pneumonia": {"female": [np.log(2.0)] * 8}, "death": {"male": [np.log(3.0)] * 8}}}
    plain, corrected = (compile_world(world.raw | {"solved": one}).nature for one in ({}, solved))
    ratio = np.exp(corrected.base - plain.base).reshape(len(plain.names), -1, 2)
    np.testing.assert_allclose(ratio[plain.names.index("pneumonia")], [[2, 1]] * 111, rtol=1e-5)
    np.testing.assert_allclose(ratio[plain.names.index("death of cancer")], [[1, 3]] * 111, rtol=1e-5)
    np.testing.assert_allclose(ratio[plain.names.index("sepsis")], 1)


def test_the_mean_of_a_state_is_that_of_the_table_at_its_ages(world: World) -> None:
    plain = compile_world(world.raw | {"solved": {}})
    sbp, table = plain.states.index("sbp"), world.raw["states"]["sbp"]
    np.testing.assert_allclose(plain.mean[sbp, STATE_AGES, 1], table["male"], rtol=1e-6)
    assert plain.mean[sbp, 60, 0] == pytest.approx((table["female"][3] + table["female"][4]) / 2)


def test_a_level_is_mean_plus_place_plus_drift_plus_conditions(world: World, crowd: People) -> None:
    world = compile_world(world.raw | {"solved": {}})
    somebody = copied(crowd).take(np.array([0]))
    somebody.age[:], somebody.is_male[:] = 45, 0
    for still in (somebody.own, somebody.wander, somebody.drifted, somebody.has, somebody.on):
        still[:] = 0
    set_levels(somebody, world)
    set_covariates(somebody, world)
    set_levels(somebody, world)
    hdl, table = world.states.index("hdl"), world.raw["states"]["hdl"]
    skew, sd = table["skew"], table["sd"][2]
    assert somebody.level[hdl, 0] == pytest.approx(table["female"][2] - sd * skew / 6, rel=1e-5)  # z = 0
    somebody.own[hdl] = 1 / np.sqrt(table["trait"])  # one standard deviation up: z = 1
    somebody.drifted[hdl] = 2
    set_levels(somebody, world)
    assert somebody.level[hdl, 0] == pytest.approx(table["female"][2] + sd + 2, rel=1e-5)


def test_correlations_of_bodies_are_those_of_the_table(world: World, crowd: People) -> None:
    for one, other in (("sbp", "dbp"), ("hdl", "lntg"), ("bmi", "hdl"), ("bmi", "frailty")):
        told = world.raw["states"]["_correlations"][one][other]
        found = np.corrcoef(crowd.own[world.states.index(one)], crowd.own[world.states.index(other)])[0, 1]
        assert found == pytest.approx(told, abs=5 * (1 - told**2) / np.sqrt(len(crowd)))


def test_a_single_measurement_errs_by_its_sd_or_share() -> None:
    one = np.array([1.0, 0.0, -2.0])
    np.testing.assert_allclose(measured_level(np.full(3, 120.0), one, {"error": 8.5}), [128.5, 120, 103])
    np.testing.assert_allclose(measured_level(np.full(3, 100.0), one, {"relative": 0.08}), [108, 100, 84])
    in_logarithm = measured_level(np.log([50.0]), np.array([1.0]), {"relative": 0.2, "formula": "exponential"})
    np.testing.assert_allclose(np.exp(in_logarithm), 50 * np.exp(0.2), rtol=1e-6)


def test_limits_are_reached_from_their_side_and_never_by_no_result() -> None:
    level = np.array([139.9, 140.0, np.nan])
    assert is_reached({"at_least": 140}, level).tolist() == [False, True, False]
    assert is_reached({"at_most": 139.9}, level).tolist() == [True, False, False]


def test_results_by_formula(world: World, crowd: People) -> None:
    some = copied(crowd).take(np.arange(4))
    at, error, height = np.arange(4), np.zeros((len(world.states), 4)), np.full(4, 180.0)

    def set_level(name: str, value: float) -> None:
        some.level[world.states.index(name)] = value

    def result(name: str) -> float:
        return float(result_of(world, name, some, at, error, height)[0])

    set_level("bmi", 25)
    set_level("hba1c", 7)
    set_level("ldl", 100)
    set_level("hdl", 50)
    set_level("lntg", np.log(150))
    assert result("weight") == pytest.approx(81)  # 25 x 1.8**2
    assert result("glucose") == pytest.approx(154.2)  # 28.7 x 7 - 46.7
    assert result("total_cholesterol") == pytest.approx(180)  # 100 + 50 + 150 / 5
    assert result("triglycerides") == pytest.approx(150)
    some.has[world.conditions.index("smokes")], some.has[world.conditions.index("ex_smoker")] = False, True
    assert result("smoking") == 1
    some.has[world.conditions.index("smokes")] = True
    assert result("smoking") == 2


def test_points_of_a_questionnaire_stay_on_its_scale(world: World, crowd: People) -> None:
    at, error = np.arange(len(crowd)), np.full((len(world.states), len(crowd)), 5.0)
    assert result_of(world, "mmse", crowd, at, error).max() == 30
    assert result_of(world, "phq9", crowd, at, -error).min() == 0


def test_no_creatinine_is_lower_than_a_living_body_has() -> None:
    # A woman of 60 with 0.35 mg/dL: 142 x 0.5^-0.241 x 0.9938^60 x 1.012 = 142 x 1.1818 x 0.6886 x 1.012 = 116.9
    assert highest_egfr(60, 0) == pytest.approx(116.9, abs=0.1)
    assert creatinine_of(150, 60, 0) == 0.35
    assert creatinine_of(highest_egfr(35, 1), 35, 1) == pytest.approx(0.35)
