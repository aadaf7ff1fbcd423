"""One step of everybody's life: bodies change, things happen, clinicians look, find, and treat.

The order inside a step is the order of its time (see `Month`): deaths, then what happens by itself, then the visit. So
the state after a step is exactly the state at the end of that step's visit, and futures simulated from it (truth.py)
have the very distribution of what follows that visit here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.sources.simulation.bodies import People, change_bodies, measured_level, see, set_covariates
from features.sources.simulation.stays import StayPaths, simulate_stays
from features.sources.simulation.world import Bools, Floats, Ints, Processes, World

STAY_FADES_A_YEAR = 0.0016  # what is left after a year of having been in hospital; a third after two months
_MIXED = ("total_cholesterol", "nt_probnp")  # formulas that tell too little of the one state to stand for it
_IS_NAMED = 0.93  # of stays: those coded as what brought them


@dataclass
class Month:
    """What happened to P people in a step. Times of day are for record.py; here is only what and to whom."""

    died_of: Ints  # cause, -1 for none; by itself, at the step's start
    stay: Ints  # kind, -1 for none
    stays: list[tuple[Ints, StayPaths]]  # whose (places among the P), by the hour; then those of who returned
    is_named: Bools  # whether a stay is coded as what brought it
    visit: Bools
    emergency: Bools
    moved: Bools
    ordered: Bools  # (orders, P)
    found: Bools  # (F, P) newly known
    started: Bools  # (D, P)
    error: Floats  # (S, P) of whatever was measured, in sd


def step(
    people: People, world: World, years: float, rng: np.random.Generator, forced: Mapping[int, bool] | None = None
) -> Month:
    """Move `people` on by `years` (in place) and return the Month. `forced` holds drugs on or off whatever happens.

    Everybody has the same random numbers whatever happens to whom, so that two worlds with the same seed differ only by
    what was forced.
    """
    active = people.alive & people.here
    for drug, is_on in (forced or {}).items():
        people.on[drug] = is_on
    change_bodies(people, world, years, rng)
    set_covariates(people, world)

    nature = world.nature
    rates = nature.rates(people.x, people.age, people.is_male)
    happens = (rng.random(rates.shape, np.float32) < -np.expm1(-rates * np.float32(years))) & active
    died_of = _first_of(nature, "death", happens)
    people.alive &= died_of < 0
    happens &= people.alive
    visit, emergency, moved = (happens[nature.of[name]].any(axis=0) for name in ("visit", "emergency", "move"))
    stopped = nature.by_target("stop", happens, len(world.drugs))
    stay = _begin_and_end(people, world, happens)
    who, seeds, in_stay = np.flatnonzero(stay >= 0), rng.integers(1 << 62, size=len(people)), stay >= 0
    stays = stays_and_returns(people, world, who, stay[who], world.is_planned[stay[who]], seeds)
    for turn, (stay_of, paths) in enumerate(stays):
        people.alive[stay_of[paths.died]] = False
        in_stay &= people.alive | (turn > 0)  # who dies in a return was looked after in the stay before
    is_named = rng.random(len(people)) < _IS_NAMED

    visit, emergency = visit & people.alive & (stay < 0), emergency & people.alive
    visits = visit * (np.maximum(1, rates[nature.of["visit"][0]] * np.float32(years)) if years > 0.2 else 1)
    tests, codes = (world.of_sites(habit).astype(np.float32)[people.site] for habit in ("tests", "codes"))
    care = visits + in_stay
    occasions = {"care": care, "visit": visits * tests, "stay": in_stay * tests}
    ordered = world.ordering.by_target("order", _happen(world.ordering, people, occasions, rng), len(world.orders))
    offset = world.of_sites("offset").astype(np.float32)[people.site]  # of the site's equipment
    error = rng.standard_normal(people.level.shape, np.float32) + offset
    _measure(people, world, ordered, error)
    occasions = {"care": care, "visit": visits * codes, "stay": in_stay * codes}
    occasions |= {name: ordered[i] * codes for i, name in enumerate(world.orders)}
    decided = _happen(world.deciding, people, occasions, rng)
    found = world.deciding.by_target("known", decided, len(people.known))
    condition = world.condition_of_stay[stay]
    named = np.flatnonzero(in_stay & is_named & (condition >= 0) & ~world.passes[condition])
    found[condition[named], named] |= ~people.known[condition[named], named]
    started = world.deciding.by_target("start", decided, len(world.drugs)) & ~people.on
    stopped &= people.on & people.alive
    people.known |= found
    people.on = (people.on & ~stopped) | started
    people.stay_lately *= np.float32(STAY_FADES_A_YEAR**years)
    people.stay_lately[in_stay] = 1
    people.here &= ~moved
    return Month(died_of, stay, stays, is_named, visit, emergency, moved, ordered, found, started, error)


def _first_of(rows: Processes, what: str, happens: Bools) -> Ints:
    """(P,): the target of the first row of `what` that happens, -1 for none."""
    some = happens[rows.of[what]]
    return np.where(some.any(axis=0), rows.target[rows.of[what]][some.argmax(axis=0)], -1)


def _begin_and_end(people: People, world: World, happens: Bools) -> Ints:
    """Onsets and ends of conditions; returns the kind of stay that follows, -1 for none."""
    nature, stay = world.nature, _first_of(world.nature, "stay", happens)
    people.has &= ~nature.by_target("ends", happens, len(people.has))
    for row in nature.of["begins"]:
        one = world.raw["conditions"][nature.names[row]]
        if not (world.passes[nature.target[row]] and "stay" in one):
            people.has[nature.target[row]] |= happens[row]
        if "clears" in one:
            people.has[world.conditions.index(one["clears"])] &= ~happens[row]
        if "stay" in one:
            stay = np.where(happens[row], world.stays.index(one["stay"]), stay)
    return stay


def stays_and_returns(
    people: People, world: World, who: Ints, kind: Ints, is_planned: Bools, seeds: Ints
) -> list[tuple[Ints, StayPaths]]:
    """Stays of the people at `who` by the hour, then of those who come back within 30 days, until nobody does."""
    chain: list[tuple[Ints, StayPaths]] = []
    while len(who):
        luck = seeds[who] + len(chain)
        paths = simulate_stays(world, kind, is_planned, people.x[:, who], people.age[who], luck)
        chain.append((who, paths))
        back = paths.returns
        who, kind, is_planned = who[back], kind[back], paths.return_is_planned[back]
    return chain


def _happen(rows: Processes, people: People, occasions: dict[str, Floats], rng: np.random.Generator) -> Bools:
    """Which rows happen, given how many occasions of each kind people have; rates are worked out for who has any."""
    uniform = rng.random((len(rows.names), len(people)), np.float32)
    happens = np.zeros(uniform.shape, bool)
    who = np.flatnonzero(occasions["care"] > 0)
    if len(who):
        counts = np.stack([occasions[name] for name in rows.occasions])[:, who].astype(np.float32)
        rates = rows.rates(people.x[:, who], people.age[who], people.is_male[who])
        happens[:, who] = uniform[:, who] < -np.expm1(-rates * counts)
    return happens


def _measure(people: People, world: World, ordered: Bools, error: Floats) -> None:
    """Remember what was measured, as clinicians see it, and let it count at once."""
    for i, name in enumerate(world.orders):
        who = np.flatnonzero(ordered[i])
        for result in world.raw["orders"][name].get("results", []) if len(who) else []:
            one = world.raw["measurements"][result]
            if one["of"] in world.states and one.get("formula") not in _MIXED:
                state = world.states.index(one["of"])
                people.last[state, who] = measured_level(people.level[state, who], error[state, who], one)
    see(people, world)
