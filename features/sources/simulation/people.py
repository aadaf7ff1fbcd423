"""Drawing people: age, sex, place, genes and habits; and living their years before the records begin."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.sources.simulation.engine import People, set_covariates, set_levels, step
from features.sources.simulation.world import RATE_AGES, World

FIRST_AGE = 20.0
_SEGMENT_YEARS = 5.0  # people join a block in groups, and live in long steps until they are recorded
_STEP_YEARS = 0.5
_OLDEST_AT_ENTRY = 100.0


@dataclass(frozen=True)
class Arrivals:
    """People as they come into the records' region, at `month` of the records (0 for those who were there)."""

    people: People
    month: npt.NDArray[np.int64]


def draw_arrivals(world: World, rng: np.random.Generator, wanted: int, months: int) -> Arrivals:
    """`wanted` people, alive when they arrive, with the lives behind them that people of their age have."""
    candidates = int(wanted * 1.4) + 40
    is_male, entry_age = _ages(world, rng, candidates)
    people = _newborn(world, rng, is_male, entry_age)
    segments = ((entry_age - FIRST_AGE) // _SEGMENT_YEARS).astype(np.int64)
    people.age[:] = entry_age - segments * _SEGMENT_YEARS
    set_levels(people, world)
    set_covariates(people, world)
    living = people.take(np.array([], np.int64))
    number = np.array([], np.int64)
    for segment in range(int(segments.max()), -1, -1):
        joining = np.flatnonzero(segments == segment)
        living, number = concatenate(living, people.take(joining)), np.concatenate([number, joining])
        for _ in range(int(_SEGMENT_YEARS / _STEP_YEARS) if segment else 0):
            step(living, world, _STEP_YEARS, rng)
            living.here[:] = True  # who moved away came from elsewhere
    survivors = np.flatnonzero(living.alive)
    if len(survivors) < wanted:
        raise RuntimeError(
            f"{len(survivors)} of {candidates} simulated people reached their arrival; {wanted} are needed."
        )
    chosen = survivors[np.sort(np.argsort(number[survivors])[:wanted])]
    population = world.raw["care"]["population"]
    waits = rng.random(wanted) >= population["there_from_the_start"]
    return Arrivals(living.take(chosen), np.where(waits, rng.integers(1, months - 12, wanted), 0))


def concatenate(first: People, second: People) -> People:
    """Two groups as one."""
    return People(
        **{
            one.name: np.concatenate([getattr(first, one.name), getattr(second, one.name)], axis=-1)
            for one in fields(People)
        }
    )


def _ages(world: World, rng: np.random.Generator, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Sex and age at arrival, so that the survivors have the ages of the population."""
    population = world.raw["care"]["population"]
    ages = np.arange(FIRST_AGE, _OLDEST_AT_ENTRY, 0.5)
    weights = []
    for sex in ("female", "male"):
        share = np.array(population[sex]) / 10
        band = np.minimum((ages - 20) // 10, 6).astype(int)
        of_age = np.where(ages < 80, share[band], share[6] * 10 * np.exp(-(ages - 80) / 6.5) / 6.5)
        weights.append(of_age / np.interp(ages, RATE_AGES, population["survives"][sex]))
    both = np.concatenate(weights)
    drawn = rng.choice(len(both), n, p=both / both.sum())
    return drawn // len(ages), ages[drawn % len(ages)] + 0.5 * rng.random(n)


def _newborn(world: World, rng: np.random.Generator, is_male: npt.NDArray, entry_age: npt.NDArray) -> People:
    """People of 20 who will arrive at `entry_age`."""
    n, traits, care = len(is_male), world.raw["care"]["traits"], world.raw["care"]
    drawn = [
        rng.standard_normal(n) if traits[name] == "normal" else rng.random(n) < traits[name] for name in world.traits
    ]
    own = world.correlation_root @ rng.standard_normal((len(world.states), n))
    wander = world.correlation_root @ rng.standard_normal((len(world.states), n))
    varies = np.array([world.raw["treatments"][name].get("varies", 0) for name in world.drugs])[:, None]
    has = np.zeros((len(world.conditions), n), bool)
    smoked = np.stack(
        [
            np.interp(entry_age, [25, 35, 45, 55, 65, 75, 85], traits["ever_smoked_at_20"][sex])
            for sex in ("female", "male")
        ]
    )
    has[world.conditions.index("smokes")] = rng.random(n) < smoked[is_male, np.arange(n)]
    as_floats = lambda array: np.asarray(array, np.float32)  # noqa: E731
    return People(
        age=np.full(n, FIRST_AGE, np.float32),
        is_male=is_male.astype(np.int64),
        site=rng.choice(len(care["sites"]), n, p=[site["share"] for site in care["sites"]]),
        apoe4=rng.binomial(2, traits["apoe4"], n),
        traits=as_floats(np.stack(drawn)),
        own=as_floats(own),
        wander=as_floats(wander),
        pace=as_floats(
            np.exp(world.pace[:, None] * rng.standard_normal((len(world.states), n)) - world.pace[:, None] ** 2 / 2)
        ),
        drifted=np.zeros((len(world.states), n), np.float32),
        response=as_floats(np.exp(varies * rng.standard_normal((len(world.drugs), n)) - varies**2 / 2)),
        has=has,
        known=np.zeros_like(has),
        on=np.zeros((len(world.drugs), n), bool),
        last=np.full((len(world.states), n), np.nan, np.float32),
        stay_lately=np.zeros(n, np.float32),
        alive=np.ones(n, bool),
        here=np.ones(n, bool),
        level=np.zeros((len(world.states), n), np.float32),
        x=np.zeros((len(world.covariates), n), np.float32),
    )
