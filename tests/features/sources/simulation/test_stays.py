"""Hospital stays end by their rules, and their futures are what really follows."""

import numpy as np
import pytest

from features.sources.simulation.bodies import People
from features.sources.simulation.stays import (
    LONGEST_HOURS,
    RETURN_DAYS,
    SHORTEST_HOURS,
    StayPaths,
    _normal_above,
    futures_of_stays,
    simulate_stays,
)
from features.sources.simulation.world import World

STAYS = 1_500


@pytest.fixture(scope="module")
def stays(world: World, crowd: People) -> StayPaths:
    kind = np.arange(STAYS) % len(world.stays)
    who = np.arange(STAYS) % len(crowd)
    return simulate_stays(world, kind, crowd.x[:, who], crowd.age[who], np.arange(STAYS))


def test_nobody_goes_home_ill_nor_at_night_nor_before_the_work_up(stays: StayPaths) -> None:
    home = np.flatnonzero(~stays.died & (stays.hours < LONGEST_HOURS - 1))
    clock = (stays.admitted_at[home] + stays.hours[home]) % 24
    assert len(home) > 0.85 * STAYS
    assert ((clock >= 9) & (clock < 20)).all()
    assert (stays.severity[home, stays.hours[home]] < 0.9).all()
    assert stays.hours[home].min() >= SHORTEST_HOURS


def test_the_more_ill_die_more_and_stay_longer(stays: StayPaths) -> None:
    ill = stays.severity[:, 0] > np.quantile(stays.severity[:, 0], 0.8)
    assert stays.died[ill].mean() > 3 * stays.died[~ill].mean()
    assert stays.died.any()
    alive = ~stays.died
    assert np.median(stays.hours[ill & alive]) > np.median(stays.hours[~ill & alive])


def test_booked_stays_begin_in_the_morning_and_emergencies_at_all_hours(world: World, stays: StayPaths) -> None:
    booked = np.isin(stays.kind, [i for i, name in enumerate(world.stays) if world.raw["stays"][name].get("planned")])
    assert set(stays.admitted_at[booked]) == set(range(7, 13))
    assert len(set(stays.admitted_at[~booked])) == 24


def test_returns_come_within_thirty_days_as_often_as_foreseen(stays: StayPaths) -> None:
    back = stays.returns & ~stays.return_is_planned
    assert ((stays.return_days[stays.returns] > 0) & (stays.return_days[stays.returns] <= RETURN_DAYS)).all()
    assert not (stays.returns & stays.died).any()
    assert stays.return_days[stays.returns & stays.return_is_planned].min() >= 9
    foreseen = stays.chance_of_return[~stays.died]
    sd = np.sqrt((foreseen * (1 - foreseen)).sum())
    assert abs(back[~stays.died].sum() - foreseen.sum()) < 4 * sd
    # The hazard halves in 12 days, so half come before 12 log2(1 / (1 - 0.5 (1 - 2**-2.5))) = 8.6 days.
    assert np.median(stays.return_days[back]) == pytest.approx(8.6, abs=2.5)


def test_a_stay_has_luck_of_its_own(world: World, crowd: People, stays: StayPaths) -> None:
    some = np.array([4, 17, 300])
    alone = simulate_stays(world, stays.kind[some], crowd.x[:, some], crowd.age[some], some)
    np.testing.assert_array_equal(alone.hours, stays.hours[some])
    np.testing.assert_array_equal(alone.severity, stays.severity[some])
    np.testing.assert_array_equal(alone.return_days, stays.return_days[some])


@pytest.mark.parametrize("after_hours", [6, 24])
def test_futures_from_the_middle_of_a_stay_are_what_follows(stays: StayPaths, after_hours: int) -> None:
    there, copies = np.flatnonzero(stays.hours > after_hours)[:400], 24
    rng = np.random.default_rng(2)
    futures = [futures_of_stays(stays, int(which), after_hours, copies, rng) for which in there]
    hours, died = (np.stack(parts) for parts in zip(*futures, strict=True))
    assert hours.min() >= after_hours
    for truly, foreseen in (
        (stays.died[there], died.mean(axis=1)),
        (stays.hours[there] >= 96, (hours >= 96).mean(axis=1)),
        (stays.hours[there] >= 168, (hours >= 168).mean(axis=1)),
    ):
        sd = np.sqrt((foreseen * (1 - foreseen) * (1 + 1 / copies)).sum())
        assert abs(truly.sum() - foreseen.sum()) < 4 * sd
    lasting, is_long = (hours >= 96).mean(axis=1), stays.hours[there] >= 96
    assert lasting[is_long].mean() > lasting[~is_long].mean() + 0.02  # they differ between people


def test_the_work_up_of_who_was_too_ill_to_leave_may_long_be_done(world: World, crowd: People) -> None:
    kind, who = np.full(6_000, world.stays.index("infarction")), np.arange(6_000) % len(crowd)
    stays = simulate_stays(world, kind, crowd.x[:, who], crowd.age[who], np.arange(6_000))
    there = np.flatnonzero((stays.hours > 72) & (stays.severity[:, :73] >= 0.9).all(axis=1))
    rng, copies = np.random.default_rng(3), 20
    hours = np.stack([futures_of_stays(stays, int(which), 72, copies, rng)[0] for which in there])
    assert len(there) > 100
    for long in (96, 120):
        foreseen = (hours >= long).mean(axis=1)
        sd = np.sqrt((foreseen * (1 - foreseen) * (1 + 1 / copies)).sum())
        assert abs((stays.hours[there] >= long).sum() - foreseen.sum()) < 4 * sd


def test_a_normal_number_above_a_limit() -> None:
    rng = np.random.default_rng(1)
    for lowest, mean in (
        (-9.0, 0.0),
        (0.0, 0.7979),
        (2.0, 2.3732),
        (5.0, 5.1865),
    ):  # density(lowest) / (1 - cdf(lowest))
        drawn = _normal_above(lowest, 4_000, rng)
        assert drawn.min() >= lowest
        assert drawn.mean() == pytest.approx(mean, abs=4 * drawn.std() / np.sqrt(4_000))
