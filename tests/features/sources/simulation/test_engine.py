"""One step of everybody's life does what the tables say."""

import msgspec
import numpy as np
import pytest

from features.sources.simulation.bodies import People, set_covariates
from features.sources.simulation.engine import Month, step
from features.sources.simulation.lives import MONTH_YEARS
from features.sources.simulation.simulate import simulate_block
from features.sources.simulation.world import World, compile_world
from tests.features.sources.simulation.conftest import SEED, copied, quiet

GOUT = {
    "female": [20.0] * 8,
    "male": [20.0] * 8,
    "code": ["90560007", "Gout (disorder)"],
    "icd": ["M10.9", "Gout, unspecified"],
}


def fitted(people: People, world: World) -> People:
    """The same people in a world with another list of conditions, drugs and covariates."""
    rows = {"has": len(world.conditions), "known": len(world.conditions), "on": len(world.drugs)}
    changed = copied(people)
    for name, wanted in (rows | {"response": len(world.drugs)}).items():
        old = getattr(changed, name)
        more = np.full((wanted - len(old), len(people)), 1 if name == "response" else 0, old.dtype)
        setattr(changed, name, np.concatenate([old, more]))
    changed.x = np.zeros((len(world.covariates), len(people)), np.float32)
    set_covariates(changed, world)
    return changed


def lived(people: People, world: World, months: int, forced: dict[int, bool] | None = None, seed: int = 5) -> People:
    people = copied(people)
    for month in range(months):
        step(people, world, MONTH_YEARS, np.random.default_rng([seed, month]), forced)
    return people


def within_chance(share: float, probability: float, people: int) -> bool:
    """Whether a share lies within four standard errors of its probability."""
    return abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / people)


def test_a_constant_hazard_gives_exponential_onset(world: World, crowd: People) -> None:
    raw = quiet(world)
    raw["conditions"]["gout"] = GOUT | {"female": [200.0] * 8, "male": [200.0] * 8}
    gouty = compile_world(raw)
    people = lived(fitted(crowd, gouty), gouty, 24)
    share = people.has[gouty.conditions.index("gout")].mean()
    assert within_chance(share, 1 - np.exp(-0.2 * 2), len(crowd))
    assert people.alive.all()
    assert people.here.all()


def test_a_hazard_ratio_multiplies_the_rate_for_each_unit(world: World, crowd: People) -> None:
    raw = quiet(world)
    raw["conditions"]["gout"] = GOUT | {"ratios": {"smokes": 3.0, "bmi5": 1.5}}
    gouty = compile_world(raw)
    row, twice = gouty.nature.names.index("gout"), fitted(crowd, gouty).take(np.array([0, 0]))
    smokes, bmi5 = gouty.covariates.index("smokes"), gouty.covariates.index("bmi5")
    twice.x[smokes], twice.x[bmi5] = [0, 1], [0, 2]
    rates = gouty.nature.rates(twice.x, twice.age, twice.is_male)[row]
    assert rates[0] == pytest.approx(0.020, rel=1e-4)
    assert rates[1] / rates[0] == pytest.approx(3 * 1.5**2, rel=1e-4)


def test_what_a_process_needs_or_excludes_is_kept(world: World, crowd: People) -> None:
    raw = quiet(world)
    raw["conditions"]["gout"] = GOUT | {"needs": ["smokes"], "not_with": ["copd"], "female": [5000.0] * 8}
    raw["conditions"]["gout"]["male"] = [5000.0] * 8
    gouty = compile_world(raw)
    people = fitted(crowd, gouty)
    has = {name: people.has[i] for i, name in enumerate(gouty.conditions)}
    has["smokes"][:300], has["copd"][:100] = True, True
    has["smokes"][300:], has["copd"][100:] = False, False
    before = people.has.copy()
    people = lived(people, gouty, 24)
    gout = people.has[gouty.conditions.index("gout")]
    assert gout[100:300].mean() > 0.99  # 1 - exp(-5 x 2)
    assert not gout[:100].any()
    assert not gout[300:][~before[gouty.conditions.index("smokes"), 300:]].any()


def test_lives_keep_to_what_conditions_need(world: World, block) -> None:
    has = dict(zip(world.conditions, block.people.has, strict=True))
    for one, needed in (("retinopathy", "type_2_diabetes"), ("proliferative_retinopathy", "retinopathy")):
        assert has[one].any()
        assert not (has[one] & ~has[needed]).any()
    for one, other in (("smokes", "ex_smoker"), ("prediabetes", "type_2_diabetes")):
        assert has[one].any()
        assert not (has[one] & has[other]).any()


def test_a_condition_comes_with_its_level_and_passes_with_it(world: World, crowd: People) -> None:
    people = copied(crowd)
    people.drifted[world.states.index("bmi")] += 40 - people.level[world.states.index("bmi")]
    people = lived(people, world, 1)
    assert people.has[world.conditions.index("obesity")].mean() > 0.99
    people.drifted[world.states.index("bmi")] -= 20
    people = lived(people, world, 1)
    assert people.has[world.conditions.index("obesity")].mean() < 0.01


@pytest.mark.parametrize("drug", ["calcium_blocker", "statin"])
def test_a_drug_held_on_changes_states_as_the_table_says(world: World, crowd: People, drug: str) -> None:
    number = world.drugs.index(drug)
    on, off = (lived(crowd, world, 1, {number: is_on}) for is_on in (True, False))
    others = np.flatnonzero((on.on[:number] == off.on[:number]).all(axis=0))
    table, response = world.raw["treatments"][drug], on.response[number]
    if drug == "statin":
        state, left = "ldl", 1 - (1 - table["times"]["ldl"]) * response
        expected = off.level[world.states.index(state)] * np.clip(left, 0.15, 1)
    else:
        state = "sbp"
        more = 1 + table["more_for"]["sbp20"] * crowd.x[world.covariates.index("sbp20")]
        expected = off.level[world.states.index(state)] + table["on"]["sbp"] * response * np.maximum(more, 0)
    row = world.states.index(state)
    inside = others[(np.abs(expected - np.clip(expected, world.low[row], world.high[row])) < 1e-6)[others]]
    assert len(inside) > 0.9 * len(crowd)
    np.testing.assert_allclose(on.level[row, inside], expected[inside], rtol=2e-3)


def test_a_drug_held_on_lowers_the_hazards_that_its_states_raise(world: World, crowd: People) -> None:
    people = crowd.take(np.flatnonzero(crowd.age >= 50))
    statin, row = world.drugs.index("statin"), world.nature.names.index("infarction")
    rates = []
    for is_on in (True, False):
        after = lived(people, world, 3, {statin: is_on})
        set_covariates(after, world)
        rates.append(world.nature.rates(after.x, after.age, after.is_male)[row])
    ldl = world.states.index("ldl")
    assert np.mean(rates[0]) < 0.9 * np.mean(rates[1])
    assert (rates[0] <= rates[1] * (1 + 1e-5)).mean() > 0.95
    assert (
        lived(people, world, 3, {statin: True}).level[ldl].mean() < 0.75 * people.level[ldl][~people.on[statin]].mean()
    )


def test_a_drug_without_effect_changes_nobodys_life(world: World, crowd: People) -> None:
    raw = dict(world.raw)
    raw["treatments"] = raw["treatments"] | {"placebo": {"code": ["0", "Placebo"], "for": [], "stops": {"rate": 100}}}
    there = compile_world(raw)
    people, placebo = fitted(crowd, there), there.drugs.index("placebo")
    with_it, without = (lived(people, there, 18, {placebo: is_on}) for is_on in (True, False))
    for name in ("age", "level", "has", "known", "last", "stay_lately", "alive", "here", "drifted"):
        np.testing.assert_array_equal(getattr(with_it, name), getattr(without, name))
    np.testing.assert_array_equal(with_it.on[:placebo], without.on[:placebo])


def test_what_happens_to_some_changes_nothing_for_the_others(world: World, crowd: People) -> None:
    frail = copied(crowd)
    frail.drifted[world.states.index("frailty"), :100] += 0.5  # many of them will be in hospital
    frail.age[:100] = 95
    stays: list[dict[tuple[int, int, int], int]] = [{}, {}]
    one, other = copied(crowd), frail
    for people, hours in zip((one, other), stays, strict=True):
        for month in range(18):
            happened = step(people, world, MONTH_YEARS, np.random.default_rng([5, month]))
            for turn, (who, paths) in enumerate(happened.stays):
                hours |= {(month, turn, int(w)): int(h) for w, h in zip(who, paths.hours, strict=True) if w >= 100}
    assert len(stays[0]) > 50
    assert stays[0] == stays[1]
    assert not np.array_equal(one.stay_lately[:100], other.stay_lately[:100])
    for name in ("level", "has", "known", "on", "last", "stay_lately", "alive", "here"):
        np.testing.assert_array_equal(getattr(one, name)[..., 100:], getattr(other, name)[..., 100:])


def in_hospital(world: World, crowd: People, severity: float, readmission: float) -> tuple[People, Month]:
    """Everybody after a month with a stay, which may be followed by returns."""
    raw = quiet(world)
    raw["stays"]["_of_all"] |= {"readmission": {}, "severity": {}, "severity_a_decade_past_60": 0.0}
    many = {"female": [1e6] * 8, "male": [1e6] * 8, "ratios": {}}
    raw["stays"]["other_medical"] |= {**many, "severity": [severity, 0.3], "readmission": readmission}
    ill = compile_world(raw)
    people = fitted(crowd, ill)
    return people, step(people, ill, MONTH_YEARS, np.random.default_rng(1))


def test_after_every_stay_people_come_back_as_often(world: World, crowd: People) -> None:
    _, happened = in_hospital(world, crowd, -9, readmission=0.6)
    assert len(happened.stays) > 6  # of 800, 0.6 ** 6 = 4.7 % come a seventh time
    for (before, _), (after, _) in zip(happened.stays[:5], happened.stays[1:6], strict=True):
        assert within_chance(len(after) / len(before), 0.6, len(before))


def test_who_dies_in_a_return_was_looked_after_in_the_stay_before(world: World, crowd: People) -> None:
    people, happened = in_hospital(world, crowd, 2.5, readmission=0.7)
    first, stays = happened.stays[0]
    left = first[~stays.died]
    was_looked_after, died_later = happened.ordered.any(axis=0)[left], ~people.alive[left]
    assert died_later.sum() > 50
    assert was_looked_after[~died_later].mean() > 0.9
    assert was_looked_after[died_later].mean() > 0.9
    assert not happened.ordered[:, first[stays.died]].any()


def test_the_dead_and_the_gone_have_no_events(world: World, crowd: People) -> None:
    people = copied(crowd)
    people.alive[:400], people.here[400:] = False, False
    happened = step(people, world, 1.0, np.random.default_rng(1))
    assert not happened.visit.any()
    assert not happened.emergency.any()
    assert not happened.ordered.any()
    assert not happened.found.any()
    assert (happened.stay < 0).all()
    assert (happened.died_of < 0).all()
    assert happened.stays == []


def test_a_disease_is_added_by_adding_rows(world: World, crowd: People) -> None:
    raw = dict(world.raw)
    found = {"visit": {"chance": 0.5}}
    raw["conditions"] = raw["conditions"] | {"gout": GOUT | {"ratios": {"bmi5": 1.4}, "found": found, "wrongly": 5}}
    raw["deaths"] = raw["deaths"] | {"other": raw["deaths"]["other"] | {"ratios": {"gout": 2.0}}}
    there = compile_world(raw)
    people, gout = fitted(crowd, there), there.conditions.index("gout")
    people = lived(people, there, 60)
    has, known = people.has[gout], people.known[gout]
    assert 0.03 < has.mean() < 0.25  # 20 per 1,000 a year over 5 years, more in the heavy
    assert (has & known).any()
    assert (has & ~known).any()
    assert (~has & known).any()


def test_a_disease_that_was_added_stands_in_the_records(world: World) -> None:
    raw, found = dict(world.raw), {"visit": {"chance": 0.5}}
    raw["conditions"] = raw["conditions"] | {"gout": GOUT | {"ratios": {}, "found": found}}
    texts = simulate_block(compile_world(raw), SEED, 0, wanted=100)
    names = [msgspec.json.decode(line)["code"]["text"] for _, line in texts["Condition"]]
    assert names.count("Gout (disorder)") > 0 < names.count("Gout, unspecified")  # by the site's own coding


def test_a_name_that_no_table_defines_is_named(world: World) -> None:
    raw = dict(world.raw)
    raw["conditions"] = raw["conditions"] | {"gout": GOUT | {"ratios": {"beer": 2.0}}}
    with pytest.raises(ValueError, match="beer"):
        compile_world(raw)
