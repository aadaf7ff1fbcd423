"""Bodies: all that is true of people, and how it changes by itself as they age."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.sources.simulation.world import DERIVED, OLDEST, Bools, Floats, Ints, World


@dataclass
class People:
    """P people; every array has them last. Rows: S states, C covariates, F conditions, D drugs, T traits."""

    age: Floats  # years
    is_male: Ints
    site: Ints
    apoe4: Ints  # alleles
    traits: Floats  # (T, P)
    own: Floats  # (S, P) the lasting part of each state, standard normal
    wander: Floats  # (S, P) the part that wanders
    pace: Floats  # (S, P) of the person's own drift
    drifted: Floats  # (S, P)
    response: Floats  # (D, P) to drugs
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

    def and_also(self, others: "People") -> "People":
        """These and others."""
        both = {one.name: (getattr(self, one.name), getattr(others, one.name)) for one in fields(self)}
        return People(**{name: np.concatenate(arrays, axis=-1) for name, arrays in both.items()})


def change_bodies(people: People, world: World, years: float, rng: np.random.Generator) -> None:
    """Age, wander, drift; and the conditions that come, or pass, by a level."""
    people.age += np.float32(years)
    keeps = world.a_year ** np.float32(years)
    fresh = world.correlation_root @ rng.standard_normal(people.wander.shape, np.float32)
    people.wander = keeps * people.wander + np.sqrt(1 - keeps**2) * fresh
    people.drifted += np.float32(years) * (world.drifts @ people.x) * people.pace
    set_levels(people, world)
    for i, name in enumerate(world.conditions):
        if "when" not in (one := world.raw["conditions"][name]):
            continue
        limits = [one["when"], *one.get("or_when", [])]
        there = np.any([is_reached(limit, people.level[world.states.index(limit["of"])]) for limit in limits], axis=0)
        for other in one.get("needs", []):
            there &= people.has[world.conditions.index(other)]
        for other in one.get("not_with", []):
            there &= ~people.has[world.conditions.index(other)]
        people.has[i] = there if world.passes[i] else people.has[i] | there


def set_levels(people: People, world: World) -> None:
    """The level of every state: what is usual at that age, the person's own place in it, drift, conditions, drugs."""
    age = np.minimum(people.age, OLDEST - 1)
    year = age.astype(np.int64)
    part, nxt = (age - year).astype(np.float32), np.minimum(year + 1, OLDEST - 1)
    mean = world.mean[:, year, people.is_male] * (1 - part) + world.mean[:, nxt, people.is_male] * part
    z = np.sqrt(world.trait) * people.own + np.sqrt(1 - world.trait) * people.wander
    z = z + world.skew / 6 * (z * z - 1)
    level = mean + world.sd[:, year, people.is_male] * z + people.drifted + world.shifts @ people.x
    for i, one in enumerate(world.raw["treatments"].values()):
        if not people.on[i].any():
            continue
        weights = one.get("more_for", {}).items()
        more = sum((weight * people.x[world.covariates.index(name)] for name, weight in weights), np.float32(0))
        strength = people.on[i] * people.response[i] * np.maximum(0, 1 + more)
        for state, effect in one.get("on", {}).items():
            level[world.states.index(state)] += np.float32(effect) * strength
        for state, left in one.get("times", {}).items():
            row = level[world.states.index(state)]
            excess = np.maximum(row - world.raw["states"][state].get("normal", 0), 0)
            row -= np.clip((1 - left) * strength, 0, 0.85) * excess
    people.level = np.clip(level, world.low, world.high)


def set_covariates(people: People, world: World) -> None:
    """Fill `people.x` from what is true now, in the order of world.covariates."""
    tables, derived = [world.raw["covariates"][name] for name in world.scaled], _derived(people, world)
    scaled = [_scaled(one, people.level[world.states.index(one["of"])]) for one in tables]
    chosen = [derived[name] for name in DERIVED]
    blocks = [np.array(scaled), people.has, people.on * people.response, people.traits, np.array(chosen), people.known]
    np.concatenate(blocks, out=people.x[: len(world.covariates) - len(world.seen)])
    see(people, world)


def see(people: People, world: World) -> None:
    """Fill the last rows of `people.x`: what clinicians know from the last results, nothing where there is none."""
    for row, name in enumerate(world.seen, start=len(world.covariates) - len(world.seen)):
        one = world.raw["covariates"][name]
        people.x[row] = is_reached(one, people.last[world.states.index(one["last"])])


def is_reached(one: dict[str, float], level: Floats) -> Bools:
    """Whether a level is `at_least`, or `at_most`, what a table says; false for nan."""
    return level >= one["at_least"] if "at_least" in one else level <= one["at_most"]


def measured_level(level: Floats, error: Floats, one: dict) -> Floats:
    """One result of a state: the level with the error of a single measurement (`error` in sd)."""
    if "error" in one:
        return level + np.float32(one["error"]) * error
    if one.get("formula") == "exponential":
        return level + np.float32(one["relative"]) * error
    return level * (1 + np.float32(one["relative"]) * error)


def _scaled(one: dict, level: Floats) -> npt.NDArray:
    is_limit = "per" not in one
    return is_reached(one, level) if is_limit else np.clip((level - one["from"]) / one["per"], one["low"], one["high"])


def _derived(people: People, world: World) -> dict[str, npt.NDArray]:
    """Covariates that no table defines."""
    has, known = (dict(zip(world.conditions, rows, strict=True)) for rows in (people.has, people.known))
    has_low_lvef = people.level[world.states.index("lvef")] < 45
    return {
        "past_50": people.age >= 50,
        "past_70": people.age >= 70,
        "is_female": people.is_male == 0,
        "stay_lately": people.stay_lately,
        "known_cancer": known["breast_cancer"] | known["colorectal_cancer"] | known["lung_cancer"],
        "dementia": has["alzheimers_disease"] | has["other_dementia"],
        "young_diabetes": has["type_2_diabetes"] * np.clip((70 - people.age) / 30, 0, 1),
        "beta_blocker_in_low_lvef": people.on[world.drugs.index("beta_blocker")] & has_low_lvef,
        "admits_freely": world.of_sites("admits")[people.site],
        "apoe4_one": people.apoe4 == 1,
        "apoe4_two": people.apoe4 == 2,
    }
