"""The measuring of the simulated population, on numbers that somebody can check by hand."""

import numpy as np
import polars as pl
import pytest

from benchmarks.simulation.admissions import early_warning_score, vital_signs
from benchmarks.simulation.calibration import Cell, drawn_together, measure, weighted_quantile
from benchmarks.simulation.census import Census, split
from benchmarks.simulation.courses import log_ratio
from benchmarks.simulation.figures import Figure, with_margins
from benchmarks.simulation.interventions import CHECKS, figures_of, is_asked
from features.sources.simulation.lives import live
from features.sources.simulation.world import load_world


@pytest.mark.parametrize(
    ("published", "simulated", "margin", "verdict"),
    [
        (10.0, 11.9, 0.0, ""),  # 20 % of 10 is 2: from 8 to 12
        (10.0, 12.1, 0.05, "**off**"),  # 0.1 outside, of which chance may explain 0.05
        (10.0, 12.1, 0.2, "chance"),
        (0.6, 0.41, 0.0, ""),  # below 1 %: a factor of 1.5, so from 0.4 to 0.9
        (0.6, 0.39, 0.0, "**off**"),
        (0.6, 0.91, float("nan"), "**off**"),  # without a margin, nothing is left to chance
    ],
)
def test_a_figure_is_within_or_off_or_off_by_chance(
    published: float, simulated: float, margin: float, verdict: str
) -> None:
    figure = Figure(name="share", published=published, simulated=simulated, margin=margin, is_percent=True)
    assert figure.verdict == verdict


def test_a_figure_with_fewer_than_twenty_behind_it_is_left_to_chance() -> None:
    about = {"name": "share", "published": 10.0, "simulated": 0.0, "margin": 0.0, "sex": "all", "ages": (20, 30)}
    assert Cell(**about, target={"how": "share"}, count=19).verdict == "chance"
    assert Cell(**about, target={"how": "share"}, count=20).verdict == "**off**"
    assert Cell(**about, target={"how": "mean"}, count=19).verdict == "**off**"


def test_the_margin_is_that_of_the_mean_of_ten_parts() -> None:
    parts = [[1.0], [3.0]] * 5  # the sd is sqrt(10 / 9), so the margin 2.26 x 1.054 / sqrt(10) = 0.753
    (figure,) = with_margins(lambda of: [Figure(name="mean", published=2, simulated=float(np.mean(of)))], [2.0], parts)
    assert figure.simulated == 2
    assert figure.margin == pytest.approx(0.753, abs=1e-3)
    with pytest.raises(ValueError, match="10 parts, not 2"):
        with_margins(lambda of: [], [2.0], parts[:2])


def test_the_early_warning_score_is_that_of_the_chart() -> None:
    vitals = pl.DataFrame(
        {
            "respiratory_rate": [18.0, 22, 26, 20.6],
            "oxygen_saturation": [96.0, 93, 90, 95.4],
            "temperature": [37.0, 38.5, 35.5, 36.04],
            "sbp": [120.0, 95, 85, 220],
            "heart_rate": [75.0, 110, 125, 90.4],
        }
    )
    # All well; 2+2+1+2+1; 3+3+1+3+2; and, rounded to 21, 95, 36.0, 220 and 90, 2+1+1+3+0.
    assert early_warning_score(vitals).to_list() == [0, 8, 12, 7]


def test_vital_signs_are_told_by_their_codes() -> None:
    world = load_world()
    names = [name for name in world.results for _ in world.raw["measurements"][name]["codes"]]
    nan = float("nan")
    rows = {
        "encounter": [7, 7, 8],
        "time": [10, 10, 20],
        "code": [names.index("heart_rate"), names.index("sbp"), names.index("creatinine")],
        "value": [81.0, nan, 1.1],
        "systolic": [nan, 132.0, nan],
        "diastolic": [nan, 74.0, nan],
    }
    told = vital_signs(world, pl.DataFrame(rows)).select("encounter", "of", "value").rows()
    assert told == [(7, "heart_rate", 81), (7, "sbp", 132), (7, "dbp", 74)]  # creatinine is none


def test_the_log_ratio_is_that_of_the_odds() -> None:
    x = np.repeat([0.0, 1.0], [4, 2])
    happens = np.array([True, False, False, False, True, False])  # odds of 1 to 3, and of 1 to 1
    assert log_ratio(x, happens) == pytest.approx(np.log(3))


def test_a_quantile_counts_weights() -> None:
    values, weight = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])  # in order 1, 2, 2, 3
    assert weighted_quantile(values, weight, 0.25) == 1
    assert weighted_quantile(values, weight, 0.5) == 2
    assert weighted_quantile(values, weight, 0.95) == 3


def test_corrections_are_drawn_to_their_neighbours() -> None:
    assert drawn_together([0.0, 1.0, 0.0]) == [0.06, 0.88, 0.06]  # 0.12 of the way to 0.5, 0 and 0.5
    assert drawn_together([2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]


@pytest.fixture
def census() -> Census:
    """Three people, two years each; one has diabetes and knows it, and one is found to have it."""
    survey = pl.DataFrame(
        {
            "person": [0, 1, 100_000],
            "age": [50.0, 60.0, 70.0],
            "is_male": [0, 1, 1],
            "known": [False, False, True],
            "weight": [1.0, 1.0, 1.0],
        }
    )
    events = pl.DataFrame({"person": [1], "what": ["found"], "age": [60.5], "is_male": [1], "weight": [1.0]})
    years = pl.DataFrame({"block": [0, 1], "years": [4.0, 2.0]})
    return Census(survey, events, years, survey.select("person"), survey.select("person"))


def test_a_rate_is_of_those_who_can_have_the_event(census: Census) -> None:
    target = {"how": "rate", "of": "found"}
    of_all = measure(target, "all", (20, 111), census.survey, census.events, census)
    at_risk = measure(target | {"among": "not known"}, "all", (20, 111), census.survey, census.events, census)
    assert of_all == (pytest.approx(1000 / 6), 1)  # one in six person-years
    assert at_risk == (pytest.approx(1000 / 4), 1)


def test_a_census_is_split_by_whole_blocks(census: Census) -> None:
    first, second = split(census, 2)
    assert first.survey["person"].to_list() == [0, 1]
    assert second.survey["person"].to_list() == [100_000]
    assert (first.years["years"].sum(), second.years["years"].sum()) == (4, 2)


def test_interventions_are_ratios_differences_of_years_and_ratios_of_gains() -> None:
    counts = np.zeros((2, len(CHECKS), 6))
    counts[:, :] = [30, 40, 50, 9, 10, 20]  # with, without, people; the same of those against
    by_name = {check["name"]: one for check, one in zip(CHECKS, figures_of(counts), strict=True)}
    for check in CHECKS:
        ratio = -10 / 50 if check["event"] == "years" else 30 / 40
        expected = (10 / 50) / (1 / 20) if "against" in check else ratio
        assert by_name[check["name"]].simulated == pytest.approx(expected)


def test_who_is_asked_has_the_age_the_condition_and_the_level() -> None:
    world = load_world()
    _, people, _, _ = next(iter(live(world, seed=1, block=0)))
    asked = is_asked(world, people, {"ages": [50, 85], "has": "hypertension", "level": {"sbp": [120, 150]}})
    sbp = people.level[world.states.index("sbp")]
    assert 0 < asked.sum() < len(people)
    assert (people.age[asked] >= 50).all()
    assert people.has[world.conditions.index("hypertension"), asked].all()
    assert ((sbp[asked] >= 120) & (sbp[asked] < 150)).all()
    every_name = {*world.conditions, *world.states}
    assert {check["whom"].get("has", "smokes") for check in CHECKS} <= every_name
