"""One step of everybody's life: bodies change, things happen, clinicians look, find, and treat.

The order inside a step is the order of its time (see `Month`): deaths, then what happens by itself, then the visit. So
the state after a step is exactly the state at the end of that step's visit, and futures simulated from it (truth.py)
have the very distribution of what follows that visit here.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.sources.simulation.stays import StayPaths, simulate_stays
from features.sources.simulation.world import CANCERS, DERIVED, Floats, Rows, World

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
STAY_FADES_A_YEAR = 0.0016  # what is left after a year of having been in hospital; a third after two months
_LONGEST_CHAIN = 3  # a stay and two returns


@dataclass
class People:
    """Everything that is true of P people, known or not; every array has the people last. Letters as in World."""

    age: Floats  # years
    is_male: Ints
    site: Ints
    apoe4: Ints  # alleles
    traits: Floats  # (T, P)
    own: Floats  # (S, P) the lasting part of each state, standard normal
    wander: Floats  # (S, P) the part that wanders
    pace: Floats  # (S, P) of the person's own drift
    drifted: Floats  # (S, P)
    response: Floats  # (D, P)
    has: Bools  # (F, P)
    known: Bools  # (F, P)
    on: Bools  # (D, P)
    last: Floats  # (S, P) the last result measured; nan before any
    stay_lately: Floats  # (P,) 1 at a discharge, then fading
    alive: Bools
    here: Bools  # not moved away
    level: Floats  # (S, P)
    x: Floats  # (C, P) covariates

    def __len__(self) -> int:
        return len(self.age)

    def take(self, which: npt.NDArray) -> "People":
        """Some of them, or one many times over."""
        return People(**{one.name: getattr(self, one.name)[..., which] for one in fields(self)})


@dataclass
class Month:
    """What happened in a step. Times of day are for record.py; here is only what and to whom.

    died_of: (P,) cause, -1 for none, by itself at the step's start. stay: (P,) kind, -1 for none. stays: whose (places
    among the P) and their paths by the hour; after the first stays come those of who returned. visit, emergency, moved:
    (P,). ordered: (orders, P). found: (F, P) newly known. started, stopped: (D, P). error: (S, P) of whatever was
    measured, in sd.
    """

    died_of: Ints
    stay: Ints
    stays: list[tuple[Ints, StayPaths]]
    visit: Bools
    emergency: Bools
    moved: Bools
    ordered: Bools
    found: Bools
    started: Bools
    stopped: Bools
    error: Floats


def step(people: People, world: World, years: float, rng: np.random.Generator, forced: dict[int, bool] | None = None):
    """Move `people` on by `years` (in place) and return the Month. `forced` holds drugs on or off whatever happens.

    Draws the same number of random numbers whatever happens, so that two worlds with the same seed differ only by
    what was forced.
    """
    n = len(people)
    active = people.alive & people.here
    _change_bodies(people, world, years, rng)
    _force(people, forced)
    set_covariates(people, world)
    bins = np.minimum(people.age.astype(np.int64), 110) * 2 + people.is_male

    rates = _rates(world.nature, people.x, bins)
    happens = (rng.random(rates.shape, np.float32) < -np.expm1(-rates * np.float32(years))) & active
    died_of = _first_of(happens, world.nature, "death")
    people.alive &= died_of < 0
    happens &= people.alive

    stay = _begin_and_end(people, world, happens)
    visit = happens[world.nature.of("visit")[0]]
    emergency = happens[world.nature.of("emergency")[0]]
    moved = happens[world.nature.of("move")[0]]
    stays = _stays(people, world, stay, np.random.default_rng(int(rng.integers(1 << 62))))
    for stay_of, paths in stays:
        people.alive[stay_of[paths.died]] = False
    care_of_stay = (stay >= 0) & people.alive
    visit, emergency = visit & people.alive & (stay < 0), emergency & people.alive
    found_in_stay = _name_what_brought_them(people, world, stay, rng)

    visits, sites = visit * _visits_in(years, world, rates), world.raw["care"]["sites"]
    tests, codes = (np.array([site[habit] for site in sites], np.float32)[people.site] for habit in ("tests", "codes"))
    care = visits + care_of_stay
    ordered = _on_occasions(
        world.ordering, people, bins, {"care": care, "visit": visits * tests, "stay": care_of_stay * tests}, rng
    )
    by_order = np.zeros((len(world.orders), n), bool)
    np.logical_or.at(by_order, world.ordering.target, ordered)
    error = rng.standard_normal((len(world.states), n), np.float32)
    _measure(people, world, by_order, error)
    occasions = {"care": care, "visit": visits * codes, "stay": care_of_stay * codes}
    occasions |= {name: by_order[i] * codes for i, name in enumerate(world.orders)}
    decided = _on_occasions(world.deciding, people, bins, occasions, rng)
    found = found_in_stay
    rows = world.deciding.of("known")
    np.logical_or.at(found, world.deciding.target[rows], decided[rows])
    people.known |= found
    started = np.zeros_like(people.on)
    rows = world.deciding.of("start")
    np.logical_or.at(started, world.deciding.target[rows], decided[rows])
    started &= ~people.on
    stopped = np.zeros_like(people.on)
    rows = world.nature.of("stop")
    stopped[world.nature.target[rows]] = happens[rows]
    stopped &= people.on & people.alive
    people.on = (people.on & ~stopped) | started
    people.stay_lately *= np.float32(STAY_FADES_A_YEAR**years)
    people.stay_lately[care_of_stay] = 1
    people.here &= ~moved
    return Month(died_of, stay, stays, visit, emergency, moved & active, by_order, found, started, stopped, error)


def set_covariates(people: People, world: World) -> None:
    """Fill `people.x` from what is true now; its rows in the order of world.covariates."""
    x, at = people.x, 0
    for state, start, per, low, high, sign in world.scaled:
        level = people.level[state]
        if sign:
            x[at] = (level >= start) if sign > 0 else (level <= start)
        else:
            np.clip((level - start) / per, low, high, out=x[at])
        at += 1
    blocks = [people.has, people.on * people.response, people.traits]
    for block in blocks:
        x[at : at + len(block)] = block
        at += len(block)
    f = {name: people.has[i] for i, name in enumerate(world.conditions)}
    k = {name: people.known[i] for i, name in enumerate(world.conditions)}
    lvef = people.level[world.states.index("lvef")]
    admits = np.array([site["admits"] for site in world.raw["care"]["sites"]], np.float32)
    derived = {
        "past_50": people.age >= 50,
        "past_70": people.age >= 70,
        "is_female": people.is_male == 0,
        "stay_lately": people.stay_lately,
        "known_cancer": np.logical_or.reduce([k[name] for name in CANCERS]),
        "dementia": f["alzheimers_disease"] | f["other_dementia"],
        "young_diabetes": f["type_2_diabetes"] * np.clip((70 - people.age) / 30, 0, 1),
        "beta_blocker_in_low_lvef": people.on[world.drugs.index("beta_blocker")] & (lvef < 45),
        "admits_freely": admits[people.site],
        "apoe4_one": people.apoe4 == 1,
        "apoe4_two": people.apoe4 == 2,
    }
    for name in DERIVED:
        x[at] = derived[name]
        at += 1
    x[at : at + len(people.known)] = people.known
    at += len(people.known)
    _see(people, world, x[at:])


def _see(people: People, world: World, into: Floats) -> None:
    for i, (state, limit, sign) in enumerate(world.seen):
        last = people.last[state]  # comparisons with nan are false
        into[i] = (last >= limit) if sign > 0 else (last <= limit)


def _change_bodies(people: People, world: World, years: float, rng: np.random.Generator) -> None:
    people.age += np.float32(years)
    keeps = (world.a_year ** np.float32(years))[:, None]
    fresh = world.correlation_root @ rng.standard_normal(people.wander.shape, np.float32)
    people.wander = keeps * people.wander + np.sqrt(1 - keeps**2) * fresh
    people.drifted += np.float32(years) * (world.drifts @ people.x) * people.pace
    set_levels(people, world)
    for condition, state, limit, sign, needs, never, passes in world.levels:
        there = (people.level[state] >= limit) if sign > 0 else (people.level[state] <= limit)
        for other in needs:
            there = there & people.has[other]
        for other in never:
            there = there & ~people.has[other]
        people.has[condition] = there if passes else people.has[condition] | there


def set_levels(people: People, world: World) -> None:
    """The level of every state: what is usual at that age, the person's own place in it, drift, conditions, drugs."""
    age = np.minimum(people.age, 110)
    year = age.astype(np.int64)
    part = (age - year).astype(np.float32)
    nxt = np.minimum(year + 1, 110)
    mean = world.mean[:, year, people.is_male] * (1 - part) + world.mean[:, nxt, people.is_male] * part
    z = np.sqrt(world.trait)[:, None] * people.own + np.sqrt(1 - world.trait)[:, None] * people.wander
    z = z + world.skew[:, None] / 6 * (z * z - 1)
    level = mean + world.sd[:, year, people.is_male] * z + people.drifted + world.shifts @ people.x
    for d, name in enumerate(world.drugs):
        if not people.on[d].any():
            continue
        one = world.raw["treatments"][name]
        strength = people.on[d] * people.response[d]
        if "more_for" in one:
            more = sum(weight * people.x[world.covariates.index(c)] for c, weight in one["more_for"].items())
            strength = strength * np.maximum(0, 1 + more)
        for state, effect in one.get("on", {}).items():
            level[world.states.index(state)] += np.float32(effect) * strength
        for state, left in one.get("times", {}).items():
            row, normal = world.states.index(state), world.raw["states"][state].get("normal", 0)
            excess = level[row] - normal
            taken = np.clip((1 - left) * strength, 0, 0.85) * np.maximum(excess, 0)
            level[row] = level[row] - taken
    np.clip(level, world.low[:, None], world.high[:, None], out=level)
    people.level = level.astype(np.float32)


def _force(people: People, forced: dict[int, bool] | None) -> None:
    for drug, is_on in (forced or {}).items():
        people.on[drug] = is_on


def _rates(rows: Rows, x: Floats, bins: Ints) -> Floats:
    return np.exp(rows.base[:, bins] + rows.weights @ x)


def _first_of(happens: Bools, rows: Rows, what: str) -> Ints:
    """The target of the first row of `what` that happens to each person, -1 for none."""
    which = rows.of(what)
    some = happens[which]
    first = rows.target[which][some.argmax(axis=0)]
    return np.where(some.any(axis=0), first, -1)


def _begin_and_end(people: People, world: World, happens: Bools) -> Ints:
    """Onsets and ends of conditions; returns the kind of stay that follows, -1 for none."""
    stay = _first_of(happens, world.nature, "stay")
    for row in world.nature.of("ends"):
        people.has[world.nature.target[row]] &= ~happens[row]
    for row in world.nature.of("begins"):
        one = world.raw["conditions"][world.nature.names[row]]
        target = world.nature.target[row]
        passes_with_stay = one.get("passes", False) and "stay" in one
        if not passes_with_stay:
            people.has[target] |= happens[row]
        if "clears" in one:
            people.has[world.conditions.index(one["clears"])] &= ~happens[row]
        if "stay" in one:
            stay = np.where(happens[row], world.stays.index(one["stay"]), stay)
    return stay


def _stays(people: People, world: World, stay: Ints, rng: np.random.Generator) -> list[tuple[Ints, StayPaths]]:
    """The month's stays by the hour, and those of the people who come back within 30 days, and again."""
    who, kind, chain = np.flatnonzero(stay >= 0), stay[stay >= 0], []
    while len(who) and len(chain) < _LONGEST_CHAIN:
        paths = simulate_stays(world, kind, people.x[:, who], people.age[who], rng)
        chain.append((who, paths))
        who, kind = who[paths.returns], paths.kind[paths.returns]
    return chain


def _name_what_brought_them(people: People, world: World, stay: Ints, rng: np.random.Generator) -> Bools:
    """Conditions that become known by the stay they bring; some are coded as something else."""
    found = np.zeros_like(people.known)
    is_named = rng.random(len(people)) < 0.93
    for i, name in enumerate(world.conditions):
        one = world.raw["conditions"][name]
        if "stay" in one and not one.get("passes", False):
            found[i] = (stay == world.stays.index(one["stay"])) & people.has[i] & is_named & ~people.known[i]
    return found & people.alive


def _visits_in(years: float, world: World, rates: Floats) -> Floats | float:
    """How many visits a step of several months stands for; in a month, a visit is one."""
    if years < 0.2:
        return 1.0
    return np.maximum(1, rates[world.nature.of("visit")[0]] * np.float32(years))


def _on_occasions(rows: Rows, people: People, bins: Ints, occasions: dict, rng: np.random.Generator) -> Bools:
    """Which rows happen, given how many occasions of its kind each person has; worked out only for those who have any."""
    uniform = rng.random((len(rows.names), len(people)), np.float32)
    happens = np.zeros(uniform.shape, bool)
    who = np.flatnonzero(occasions["care"] > 0)
    if len(who):
        counts = np.stack([occasions[name][who] for name in rows.occasions]).astype(np.float32)
        rates = _rates(rows, people.x[:, who], bins[who]) * counts[rows.exposure]
        happens[:, who] = uniform[:, who] < -np.expm1(-rates)
    return happens


def _measure(people: People, world: World, ordered: Bools, error: Floats) -> None:
    """Remember what was measured, as clinicians see it, and let it count at once."""
    for i, name in enumerate(world.orders):
        who = np.flatnonzero(ordered[i])
        if not len(who):
            continue
        for result in world.raw["orders"][name].get("results", []):
            one = world.raw["measurements"][result]
            if one["of"] not in world.states or one.get("formula") == "smoking":
                continue
            state = world.states.index(one["of"])
            people.last[state, who] = measured_level(people.level[state, who], error[state, who], one)
    _see(people, world, people.x[len(world.covariates) - len(world.seen) :])


def measured_level(level: Floats, error: Floats, one: dict) -> Floats:
    """One result of a state: the level with the error of a single measurement (`error` in sd)."""
    if "error" in one:
        return level + np.float32(one["error"]) * error
    if one.get("formula") == "exponential":
        return level + np.float32(one["relative"]) * error
    return level * (1 + np.float32(one["relative"]) * error)
