"""What is written down during a hospital stay, by the hour: vital signs and blood, as tables/rounds.toml says."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from features.sources.simulation.bodies import People
from features.sources.simulation.results import result_of
from features.sources.simulation.stays import StayPaths
from features.sources.simulation.hazards import Bools, Floats, Ints
from features.sources.simulation.world import World

_ORGANS = ("lungs", "heart", "fever")


class Taken(NamedTuple):
    """Results of one kind: in which stay (place among the stays), minutes after admission, hours until issued (median).

    `second` is the diastolic pressure beside a systolic one.
    """

    result: str
    stay: Ints
    minute: Ints
    value: Floats
    hours: float
    second: Floats | float = np.nan


def rounds(world: World, stays: StayPaths, people: People, stay_of: Ints, rng: np.random.Generator) -> Iterator[Taken]:
    """All that is taken in these stays of the people at `stay_of`."""
    when = world.raw["rounds"]["rounds"]
    hour = np.arange(stays.severity.shape[1])
    is_there = hour < np.maximum(stays.hours, 1)[:, None]
    is_usual = np.where(hour < 24, hour % when["first_day"] == 0, hour % when["later"] == 0)
    is_very_ill = (stays.severity > when["very_ill_above"]) & (hour % when["very_ill"] == 0)
    yield from _vital_signs(world, stays, people, stay_of, (is_usual | is_very_ill) & is_there, rng)
    clock = hour + stays.admitted_at[:, None]
    is_morning = (clock % when["blood_every"] == when["blood_at"]) & (hour > when["blood_at"])
    yield from _blood(world, stays, people, stay_of, ((hour == 0) | is_morning) & is_there, rng)


def _vital_signs(
    world: World, stays: StayPaths, people: People, stay_of: Ints, is_taken: Bools, rng: np.random.Generator
) -> Iterator[Taken]:
    signs = world.raw["rounds"]["vital_signs"]
    stay, hour = np.nonzero(is_taken)
    severity, shows = stays.severity[stay, hour], _shows(world, stays, stay)
    values = {}
    for (name, one), luck in zip(signs.items(), rng.standard_normal((len(signs), len(stay))), strict=True):
        organs = shows | {"heart": np.maximum(shows["heart"], one.get("heart_at_least", 0))}
        shown = one.get("ill", 0) + sum(one.get(organ, 0) * organs[organ] for organ in _ORGANS)
        value = one["add"] + np.maximum(severity, one.get("mildest", 0)) * shown + one["noise"] * luck
        if "of" in one:
            value = value + people.level[world.states.index(one["of"]), stay_of[stay]]
        values[name] = np.clip(value, one["low"], one.get("high", np.inf))
    minute = hour * 60 + rng.integers(0, 40, len(stay))
    diastolic = values.pop("dbp")
    for name, value in values.items():
        yield Taken(name, stay, minute, value, 0, diastolic if name == "sbp" else np.nan)


def _blood(
    world: World, stays: StayPaths, people: People, stay_of: Ints, is_taken: Bools, rng: np.random.Generator
) -> Iterator[Taken]:
    tables = world.raw["rounds"]
    stay, hour = np.nonzero(is_taken)
    severity, fever = np.maximum(stays.severity[stay, hour], 0), _shows(world, stays, stay)["fever"]
    minute, hours = hour * 60 + rng.integers(10, 50, len(stay)), tables["rounds"]["blood_hours"]
    who = stay_of[stay]
    for name, one in tables["blood"].items():
        usual = result_of(world, name, people, who, rng.standard_normal(len(stay)))
        yield Taken(name, stay, minute, usual * (1 + (one["ill"] + one.get("fever", 0) * fever) * severity), hours)
    for name, one in tables["blood_by_logarithm"].items():
        if "chance" in one:
            of = np.flatnonzero(rng.random(len(stay)) < one["chance"])
        else:
            of = np.flatnonzero(severity + one["judged"] * rng.standard_normal(len(stay)) > one["above"])
        level = people.level[world.states.index(one["of"]), who[of]] if "of" in one else one["usual"]
        level = level + one["ill"] * severity[of] + one.get("fever", 0) * fever[of]
        level = level + one["noise"] * rng.standard_normal(len(of))
        value = np.exp(np.minimum(level, one.get("high", np.inf)))
        yield Taken(name, stay[of], minute[of], value, one.get("hours", hours))


def _shows(world: World, stays: StayPaths, stay: Ints) -> dict[str, Floats]:
    """How much of a unit of severity shows in each organ, for the kind of each of the stays."""
    usual = world.raw["rounds"]["rounds"]["usual"]
    tables = [world.raw["stays"][name] for name in world.stays]
    return {organ: np.array([one.get(organ, usual[organ]) for one in tables])[stays.kind[stay]] for organ in _ORGANS}
