"""Results as a laboratory or a nurse writes them down: by the formulas of measurements.toml, and by the hour in a stay."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.sources.simulation.bodies import People, measured_level
from features.sources.simulation.stays import StayPaths
from features.sources.simulation.world import Bools, Floats, Ints, World

OWN_ERROR = (None, "exponential", "weight", "creatinine")  # formulas of the one result that clinicians remember
_ORGANS = ("lungs", "heart", "fever")

# From the measured level and what else is true of the same people, by name: age, is_male, height (cm), states, conditions.
FORMULAS: dict[str | None, Callable[[Floats, Callable[[str], npt.NDArray]], Floats]] = {
    None: lambda level, of: level,
    "exponential": lambda level, of: np.exp(level),
    "weight": lambda level, of: level * (of("height") / 100) ** 2,
    "glucose": lambda level, of: np.maximum(28.7 * level - 46.7, 45),  # the average that an HbA1c stands for (ADAG)
    "creatinine": lambda level, of: creatinine_of(level, of("age"), of("is_male")),
    "total_cholesterol": lambda level, of: level + of("hdl") + np.exp(of("lntg")) / 5,  # Friedewald
    "nt_probnp": lambda level, of: np.exp(
        4.2 + 0.035 * (of("age") - 50) + 0.05 * np.maximum(60 - level, 0) + 1.3 * of("heart_failure")
    ),
    "smoking": lambda level, of: np.where(of("smokes"), 2, of("ex_smoker")),  # never, ex-smoker, smokes
}


class Taken(NamedTuple):
    """Results taken together in stays (places among them), minutes after admission; hours until issued, if not as usual."""

    values: dict[str, Floats]
    stay: Ints
    minute: Ints
    hours: float | None = None


def result_of(world: World, name: str, people: People, at: Ints, error: Floats, height: Floats | None = None) -> Floats:
    """The result `name` of the people `at`, in measurements.toml's unit; `error` of the measurement in sd, `height` in cm."""
    one = world.raw["measurements"][name]

    def of(what: str) -> npt.NDArray:
        if what in world.conditions:
            return people.has[world.conditions.index(what), at]
        if what in world.states:
            return people.level[world.states.index(what), at]
        return np.asarray(height) if what == "height" else getattr(people, what)[at]

    level = measured_level(of(one["of"]), error, one) if one["of"] in world.states else error
    if one["category"] == "survey":  # points of a scale
        level = np.clip(level, world.raw["states"][one["of"]]["low"], world.raw["states"][one["of"]]["high"])
    return FORMULAS[one.get("formula")](level, of)


def creatinine_of(egfr: npt.ArrayLike, age: npt.ArrayLike, is_male: npt.ArrayLike) -> Floats:
    """Creatinine (mg/dL) of an eGFR (mL/min/1.73 m2); Inker, N Engl J Med 2021;385:1737-49, solved for creatinine."""
    is_man = np.asarray(is_male) == 1
    kappa, alpha = np.where(is_man, 0.9, 0.7), np.where(is_man, -0.302, -0.241)
    ratio = np.maximum(egfr, 2) / (142 * 0.9938 ** np.asarray(age) * np.where(is_man, 1.0, 1.012))
    return kappa * np.where(ratio < 1, ratio ** (-1 / 1.2), ratio ** (1 / alpha))


def rounds(world: World, stays: StayPaths, people: People, stay_of: Ints, rng: np.random.Generator) -> Iterator[Taken]:
    """All that tables/rounds.toml takes in these stays of the people at `stay_of`."""
    when, hour = world.raw["rounds"]["when"], np.arange(stays.severity.shape[1])
    is_usual = hour % np.where(hour < 24, when["first_day"], when["later"]) == 0
    is_very_ill = (stays.severity > when["very_ill_above"]) & (hour % when["very_ill"] == 0)
    clock = hour + stays.admitted_at[:, None]
    is_morning = (clock % when["blood_every"] == when["blood_at"]) & (hour > when["blood_at"])
    for group, is_due in ("vital_signs", is_usual | is_very_ill), ("blood", is_morning | (hour == 0)):
        yield from _taken(world, stays, people, stay_of, group, is_due & (hour < stays.hours[:, None]), rng)


def _taken(
    world: World, stays: StayPaths, people: People, stay_of: Ints, group: str, is_due: Bools, rng: np.random.Generator
) -> Iterator[Taken]:
    stay, hour = np.nonzero(is_due)
    severity, minute = np.maximum(stays.severity[stay, hour], 0), hour * 60 + rng.integers(10, 50, len(stay))
    usual, kinds = world.raw["rounds"]["when"]["usual"], [world.raw["stays"][name] for name in world.stays]
    shows = {organ: np.array([one.get(organ, usual[organ]) for one in kinds])[stays.kind[stay]] for organ in _ORGANS}
    shows["ill"] = np.ones(len(stay))
    vital_signs = {}
    for name, one in world.raw["rounds"][group].items():
        of = rng.random(len(stay)) < one.get("chance", 1)
        if "above" in one:
            of &= severity + 0.6 * rng.standard_normal(len(stay)) > one["above"]
        error = one.get("noise", 1) * rng.standard_normal(of.sum())
        if "usual" in one:
            value = measured_level(one["usual"], error, world.raw["measurements"][name])
        else:
            value = result_of(world, name, people, stay_of[stay[of]], error)
        adds, times, exp = (
            severity[of] * sum(weight * shows[organ][of] for organ, weight in one.get(how, {}).items())
            for how in ("adds", "times", "exp")
        )
        value = (value + one.get("add", 0) + adds) * (1 + times) * np.exp(exp)
        value = np.clip(value, one.get("low", 0), one.get("high", np.inf))
        if group == "vital_signs":
            vital_signs[name] = value
        else:
            yield Taken({name: value}, stay[of], minute[of], one.get("hours"))
    if vital_signs:
        yield Taken(vital_signs, stay, minute)
