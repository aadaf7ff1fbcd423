"""True risks are probabilities of what happens, and treatment effects those of the same people with the same luck."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from features.sources.simulation import truth
from features.sources.simulation.bodies import People
from features.sources.simulation.engine import step
from features.sources.simulation.truth import Moments, live_on, risk_rows, risks_of_block, sample_moments
from features.sources.simulation.world import World, compile_world
from tests.features.sources.simulation.conftest import SEED, Block, copied, quiet
from tests.features.sources.simulation.test_engine import fitted, within_chance

COPIES = 8


@pytest.fixture(scope="module")
def moments(world: World) -> Moments:
    return sample_moments(world, SEED, 0)


@pytest.fixture(scope="module", autouse=True)
def _sampled_once(moments: Moments) -> Iterator[None]:
    """The block is lived once for the moments of all these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truth, "sample_moments", lambda *_: moments)
        yield


@pytest.fixture(scope="module")
def risks(world: World) -> pl.DataFrame:
    return risks_of_block(world, SEED, 0, copies=COPIES, longest_days=365)


def test_risks_are_probabilities_with_their_standard_errors(risks: pl.DataFrame) -> None:
    assert risks["risk"].is_between(0, 1).all()
    expected = (risks["risk"] * (1 - risks["risk"]) / COPIES).sqrt()
    np.testing.assert_allclose(risks["standard_error"], expected)
    assert risks["horizon_days"].unique().to_list() == [365]
    assert risks.select("person", "task", "horizon_days").is_duplicated().sum() == 0


def test_drawn_lives_agree_with_the_risks(risks: pl.DataFrame) -> None:
    for (task,), of in risks.group_by("task"):
        variance = (of["risk"] * (1 - of["risk"]) * (1 + 1 / COPIES) + 1 / COPIES**2).sum()
        assert abs(of["drawn"].sum() - of["risk"].sum()) < 4 * np.sqrt(variance), task


def test_what_really_followed_in_the_record_agrees_with_the_risks(risks: pl.DataFrame, block: Block) -> None:
    for task, came in (("acute_care", block.acute), ("mortality", block.died)):
        truly, foreseen = [], []
        of = risks.filter(pl.col("task") == task).select("person", "prediction_minute", "risk")
        for person, minute, risk in of.iter_rows():
            month = block.visits[person, minute]  # the moment is the end of a visit
            after = slice(month + 1, month + 13)
            if not block.gone[person, after].any():
                truly.append(came[person, after].any())
                foreseen.append(risk)
        risk = np.array(foreseen)
        sd = np.sqrt((risk * (1 - risk)).sum() + len(risk) / 4 / COPIES)
        assert len(risk) > 0.7 * of.height
        assert abs(np.sum(truly) - risk.sum()) < 4 * sd, task
        if task == "acute_care":
            assert risk[truly].mean() > risk[~np.array(truly)].mean() + 0.05


def test_longer_horizons_have_higher_risks(world: World, crowd: People) -> None:
    futures = live_on(world, crowd.take(np.arange(0, 800, 8)), 3, 24, [1], {})
    for task, (asked, months) in futures.items():
        assert months.shape == (100, 3)
        assert asked.shape == (100,)
        assert ((months >= 1) & ((months <= 24) | np.isinf(months))).all(), task
    came = futures["acute_care"][1]
    assert (came <= 6).mean() < (came <= 12).mean() < (came <= 24).mean()
    assert (futures["inpatient_admission"][1] >= came).all()  # a stay is acute care


def test_the_risk_is_that_of_people_who_stay(world: World, crowd: People) -> None:
    some = crowd.take(np.arange(0, 800, 4))
    movers = copied(some)
    movers.here[:] = False
    staying, moving = (live_on(world, people, 2, 2, [1], {})["acute_care"][1] for people in (some, movers))
    np.testing.assert_array_equal(staying, moving)
    assert np.isfinite(staying).any()


def test_horizons_beyond_the_longest_are_left_out(world: World) -> None:
    few = risks_of_block(world, SEED, 0, wanted=20, copies=2, longest_days=730)
    by_task = {task: sorted(of["horizon_days"].unique()) for (task,), of in few.group_by("task")}
    assert by_task["new_chronic_condition"] == [730]
    assert by_task["type_2_diabetes"] == [365]
    wide = few.filter(pl.col("task") == "breast_cancer")
    assert (wide["age"] >= 30).all()
    assert few["person"].max() < 20


def test_nobodys_risk_depends_on_how_many_are_wanted(risks: pl.DataFrame, world: World) -> None:
    few = risks_of_block(world, SEED, 0, wanted=70, copies=COPIES, longest_days=365)
    keys = ["person", "task", "horizon_days"]
    assert few.sort(keys).equals(risks.filter(pl.col("person") < 70).sort(keys))
    assert few["person"].n_unique() > 30


def test_a_question_that_nobody_is_asked_has_no_rows_of_the_usual_types(moments: Moments, risks: pl.DataFrame) -> None:
    about = {"block": 0, "treatment": "as usual", "task": "dementia", "horizon_days": 365}
    none = risk_rows(moments.take(np.array([], np.int64)), np.zeros((0, 9)), about)
    assert none.is_empty()
    assert none.schema == risks.schema


def test_only_those_are_asked_whom_the_outcome_can_still_meet(
    risks: pl.DataFrame, world: World, moments: Moments
) -> None:
    known = dict(zip(world.conditions, moments.people.known, strict=True))
    everybody = set(moments.person.tolist())

    def asked(task: str) -> set[int]:
        return set(risks.filter(pl.col("task") == task)["person"].to_list())

    assert asked("acute_care") == everybody
    assert asked("type_2_diabetes") == set(moments.person[~known["type_2_diabetes"]].tolist())
    is_asked = known["type_2_diabetes"] & ~known["retinopathy"]
    is_asked &= ~known["proliferative_retinopathy"] & ~known["macular_oedema"]
    assert asked("diabetic_retinopathy") == set(moments.person[is_asked].tolist())
    ages = risks.filter(pl.col("task") == "dementia")["age"]
    assert ages.min() >= 55


def test_death_comes_first_where_it_does(world: World, crowd: People) -> None:
    raw = quiet(world)
    raw["deaths"]["other"] |= {"female": [12_000.0] * 8, "male": [12_000.0] * 8, "ratios": {}}
    raw["care"]["emergency"] |= {"female": [1_000.0] * 8, "male": [1_000.0] * 8, "ratios": {}}
    deadly = compile_world(raw)
    people = fitted(crowd, deadly)
    people.on[:] = people.has[:] = False
    futures = live_on(deadly, people, 1, 36, [4], {})
    died, acute = (np.isfinite(futures[task][1]).mean() for task in ("mortality", "acute_care"))
    assert died == 1  # exp(-12 x 3) live
    # Each month death has the first turn: of those alive, exp(-1) live on, and of these 1 - exp(-1/12) come.
    comes = np.exp(-1) * (1 - np.exp(-1 / 12))
    assert within_chance(acute, comes / (1 - np.exp(-1) + comes), len(crowd))


def test_effects_are_those_of_the_same_lives_with_the_same_luck(world: World) -> None:
    both = risks_of_block(world, SEED, 0, wanted=200, copies=10, treatments=("calcium_blocker",), longest_days=365)
    assert both["treatment"].unique().sort().to_list() == [
        "as usual",
        "with calcium_blocker",
        "without calcium_blocker",
    ]
    pairs = both.pivot("treatment", index=["person", "task", "horizon_days"], values="risk")
    with_it, without = pairs["with calcium_blocker"].to_numpy(), pairs["without calcium_blocker"].to_numpy()
    assert (with_it == without).mean() > 0.5  # the same luck: most lives go on alike
    assert (with_it != without).any()
    lives = both.pivot("treatment", index=["person", "task", "horizon_days"], values="drawn")
    same = (lives["with calcium_blocker"] == lives["without calcium_blocker"]).mean()
    assert same > 0.95


def test_a_drug_is_held_from_the_first_day(world: World, crowd: People) -> None:
    statin, ldl = world.drugs.index("statin"), world.states.index("ldl")
    people = copied(crowd)
    people.on[statin] = False
    seen: list[float] = []
    for is_on in (True, False):
        after = copied(people)
        step(after, world, 1 / 12, np.random.default_rng(1), {statin: is_on})
        seen.append(float(after.level[ldl].mean()))
    assert seen[0] < 0.75 * seen[1]
