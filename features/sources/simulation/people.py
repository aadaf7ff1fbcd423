"""Drawing people: age, sex, place, genes and habits; and living their years before the records begin."""

from typing import NamedTuple

import numpy as np

from features.sources.simulation.bodies import People, set_covariates, set_levels
from features.sources.simulation.engine import step
from features.sources.simulation.world import RATE_AGES, SEXES, STATE_AGES, Floats, Ints, World

FIRST_AGE, _OLDEST_AT_ENTRY = 20.0, 100.0
_SEGMENT_YEARS, _STEP_YEARS = 5.0, 0.5  # people join in groups, and live in long steps until they are recorded


class Arrivals(NamedTuple):
    """People as they come into the records' region, at `month` of the records (0 for those who were there)."""

    people: People
    month: Ints


def draw_arrivals(world: World, rng: np.random.Generator, wanted: int, months: int) -> Arrivals:
    """`wanted` people, alive when they arrive, with the lives behind them that people of their age have."""
    candidates = int(wanted * 1.4) + 40
    is_male, entry_age = _ages(world, rng, candidates)
    people = _newborn(world, rng, is_male, entry_age)
    segments = ((entry_age - FIRST_AGE) // _SEGMENT_YEARS).astype(np.int64)
    people.age[:] = entry_age - segments * _SEGMENT_YEARS
    set_levels(people, world)
    set_covariates(people, world)
    number = np.array([], np.int64)
    living = people.take(number)
    for segment in range(int(segments.max()), -1, -1):
        joining = np.flatnonzero(segments == segment)
        living, number = living.and_also(people.take(joining)), np.concatenate([number, joining])
        for _ in range(int(_SEGMENT_YEARS / _STEP_YEARS) if segment else 0):
            step(living, world, _STEP_YEARS, rng)
            living.here[:] = True  # who moved away came from elsewhere
    survivors = np.flatnonzero(living.alive)
    if len(survivors) < wanted:
        raise RuntimeError(f"{len(survivors)} of {candidates} simulated people reached their arrival, not {wanted}.")
    chosen = survivors[np.sort(np.argsort(number[survivors])[:wanted])]
    waits = rng.random(wanted) >= world.raw["care"]["population"]["there_from_the_start"]
    return Arrivals(living.take(chosen), np.where(waits, rng.integers(1, months - 12, wanted), 0))


def _ages(world: World, rng: np.random.Generator, n: int) -> tuple[Ints, Floats]:
    """Sex and age at arrival, so that the survivors have the ages of the population."""
    population, ages = world.raw["care"]["population"], np.arange(FIRST_AGE, _OLDEST_AT_ENTRY, 0.5)
    weights = []
    for sex in SEXES:
        share = np.array(population[sex]) / 10  # by band of ten years; the last is open and thins out
        of_age = share[np.minimum((ages - 20) // 10, 6).astype(int)]
        of_age = np.where(ages < 80, of_age, share[6] * 10 * np.exp(-(ages - 80) / 6.5) / 6.5)
        weights.append(of_age / np.interp(ages, RATE_AGES, population["survives"][sex]))
    both = np.concatenate(weights)
    drawn = rng.choice(len(both), n, p=both / both.sum())
    return drawn // len(ages), ages[drawn % len(ages)] + 0.5 * rng.random(n)


def _newborn(world: World, rng: np.random.Generator, is_male: Ints, entry_age: Floats) -> People:
    """People of 20 who will arrive at `entry_age`."""
    care, n = world.raw["care"], len(is_male)
    shares, states = care["traits"], (len(world.states), n)
    traits = [rng.standard_normal(n) if shares[t] == "normal" else rng.random(n) < shares[t] for t in world.traits]
    own, wander = (world.correlation_root @ rng.standard_normal(states) for _ in range(2))
    smoked = np.stack([np.interp(entry_age, STATE_AGES, shares["ever_smoked_at_20"][sex]) for sex in SEXES])
    has = np.zeros((len(world.conditions), n), bool)
    has[world.conditions.index("smokes")] = rng.random(n) < smoked[is_male, np.arange(n)]
    varies = np.array([[one.get("varies", 0)] for one in world.raw["treatments"].values()])
    return People(
        age=np.full(n, FIRST_AGE, np.float32),
        is_male=is_male,
        site=rng.choice(len(care["sites"]), n, p=world.of_sites("share")),
        apoe4=rng.binomial(2, shares["apoe4"], n),
        traits=np.stack(traits).astype(np.float32),
        own=own.astype(np.float32),
        wander=wander.astype(np.float32),
        pace=np.exp(world.pace * rng.standard_normal(states) - world.pace**2 / 2).astype(np.float32),
        drifted=np.zeros(states, np.float32),
        response=np.exp(varies * rng.standard_normal((len(varies), n)) - varies**2 / 2).astype(np.float32),
        has=has,
        known=np.zeros_like(has),
        on=np.zeros((len(world.drugs), n), bool),
        last=np.full(states, np.nan, np.float32),
        stay_lately=np.zeros(n, np.float32),
        alive=np.ones(n, bool),
        here=np.ones(n, bool),
        level=np.zeros(states, np.float32),
        x=np.zeros((len(world.covariates), n), np.float32),
    )
