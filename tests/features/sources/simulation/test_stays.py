"""Hospital stays end by their rules, and their futures are what really follows."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from features.sources.simulation.bodies import People
from features.sources.simulation.stays import (
    LONGEST_HOURS,
    RETURN_DAYS,
    SHORTEST_HOURS,
    StayPaths,
    futures_of_stays,
    simulate_stays,
)
from features.sources.simulation.world import World

STAYS = 1_500


@pytest.fixture(scope="module")
def stays(world: World, crowd: People) -> StayPaths:
    kind = np.arange(STAYS) % len(world.stays)
    who = np.arange(STAYS) % len(crowd)
    return simulate_stays(world, kind, world.is_planned[kind], crowd.x[:, who], crowd.age[who], np.arange(STAYS))


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
    np.testing.assert_array_equal(stays.is_planned, booked)
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
    kind = stays.kind[some]
    alone = simulate_stays(world, kind, world.is_planned[kind], crowd.x[:, some], crowd.age[some], some)
    np.testing.assert_array_equal(alone.hours, stays.hours[some])
    np.testing.assert_array_equal(alone.severity, stays.severity[some])
    np.testing.assert_array_equal(alone.return_days, stays.return_days[some])


@pytest.mark.parametrize("after_hours", [6, 24])
def test_futures_from_the_middle_of_a_stay_are_what_follows(stays: StayPaths, after_hours: int) -> None:
    there, copies = np.flatnonzero(stays.hours >= after_hours), 8
    rng = np.random.default_rng(2)
    futures = [futures_of_stays(stays, int(which), after_hours, copies, rng) for which in there]
    still_there, dies = (np.stack(parts).mean(axis=1) for parts in zip(*futures, strict=True))
    assert (still_there[:, 0] == 1).all()
    assert (np.diff(still_there, axis=1) <= 1e-9).all()
    lasts = {hours: still_there[:, hours - after_hours] for hours in (24, 30, 48, 96, 168)}
    truly = [(stays.died[there], dies)] + [(stays.hours[there] >= hours, lasts[hours]) for hours in lasts]
    apart = dies[stays.died[there]].mean() / dies[~stays.died[there]].mean()
    assert apart > 1.5  # rare here: a ratio, not a difference
    for came, foreseen in truly:
        sd = np.sqrt((foreseen * (1 - foreseen)).sum())
        assert abs(came.sum() - foreseen.sum()) < 4 * sd + 1e-6
        if sd > 3 and foreseen is not dies:  # they differ between people
            assert foreseen[came].mean() > foreseen[~came].mean() + 0.02


def test_a_future_is_known_from_what_came_before_alone(stays: StayPaths) -> None:
    which = int(np.flatnonzero(stays.hours >= 24)[3])
    later = replace(stays, severity=stays.severity.copy(), hours=stays.hours + 99, died=~stays.died)
    later.severity[:, 25:] = 5.0
    before, after = (futures_of_stays(one, which, 24, 5, np.random.default_rng(1)) for one in (stays, later))
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])


def test_who_is_well_goes_home_in_the_first_daytime_hour_after_the_work_up(stays: StayPaths) -> None:
    """Never ill, admitted at 8 o'clock: at home time from 9 to 19 on each day; the work-up of 50 hours, median."""
    which = int(np.flatnonzero(stays.hours >= 24)[0])
    well = replace(
        stays, start=np.full(STAYS, -50.0), better_hours=np.full(STAYS, 1e9), home_median=np.full(STAYS, 50.0)
    )
    well = replace(well, admitted_at=np.full(STAYS, 8), severity=np.full_like(stays.severity, -50.0))
    still_there, dies = futures_of_stays(well, which, 24, 3, np.random.default_rng(1))
    work_up = NormalDist(np.log(50), 0.72)

    def longer_than(hours: float) -> float:
        return 1 - work_up.cdf(np.log(hours))

    # At 24 hours (8 o'clock) the last chance was at 11 hours (19 o'clock): the work-up takes more than 11 hours.
    # At 72 hours (8 o'clock) the last chance was at 59 hours; at 53 hours (13 o'clock) it was at 52 hours.
    for hours, last_chance in ((72, 59), (53, 52), (25, 11), (26, 25)):
        expected = longer_than(last_chance) / longer_than(11)
        np.testing.assert_allclose(still_there[:, hours - 24], expected, rtol=1e-9)
    np.testing.assert_allclose(dies, 0, atol=1e-12)


def test_the_work_up_of_who_was_too_ill_to_leave_may_long_be_done(world: World, crowd: People) -> None:
    kind, who = np.full(6_000, world.stays.index("infarction")), np.arange(6_000) % len(crowd)
    stays = simulate_stays(world, kind, world.is_planned[kind], crowd.x[:, who], crowd.age[who], np.arange(6_000))
    there = np.flatnonzero((stays.hours >= 72) & (stays.severity[:, :72] >= 0.9).all(axis=1))
    rng = np.random.default_rng(3)
    still_there = np.stack([futures_of_stays(stays, int(which), 72, 8, rng)[0].mean(axis=0) for which in there])
    assert len(there) > 60
    for long in (96, 120):
        foreseen = still_there[:, long - 72]
        sd = np.sqrt((foreseen * (1 - foreseen)).sum())
        assert abs((stays.hours[there] >= long).sum() - foreseen.sum()) < 4 * sd
