"""Results as they are written down: by the formulas of measurements.toml, and hour by hour in a hospital stay."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from features.sources.simulation.bodies import People, measured_level
from features.sources.simulation.stays import StayPaths
from features.sources.simulation.world import Floats, Ints, World

Values = dict[str, Floats]
_LOWEST_CREATININE = 0.35  # mg/dL

# From the measured level and what else is true of the same people: age, is_male, height (cm), a state, a condition.
FORMULAS: dict[str | None, Callable[[Floats, Callable[[str], npt.NDArray]], Floats]] = {
    None: lambda level, of: level,
    "exponential": lambda level, of: np.exp(level),
    "weight": lambda level, of: level * (of("height") / 100) ** 2,
    "glucose": lambda level, of: np.maximum(28.7 * level - 46.7, 45),  # the average that an HbA1c stands for (ADAG)
    "creatinine": lambda level, of: creatinine_of(level, of("age"), of("is_male")),
    "egfr": lambda level, of: np.minimum(level, highest_egfr(of("age"), of("is_male"))),
    "total_cholesterol": lambda level, of: level + of("hdl") + np.exp(of("lntg")) / 5,  # Friedewald
    "nt_probnp": lambda level, of: np.exp(
        4.2 + 0.035 * (of("age") - 50) + 0.05 * np.maximum(60 - level, 0) + 1.3 * of("heart_failure")
    ),
    "smoking": lambda level, of: np.where(of("smokes"), 2, of("ex_smoker")),  # never, ex-smoker, smokes
}


def result_of(world: World, name: str, people: People, at: Ints, error: Floats, height: Floats | None = None) -> Floats:
    """The result `name` of the people `at`, in its unit; `error` (S, at) of the measurement in sd, `height` in cm."""
    one = world.raw["measurements"][name]

    def of(what: str) -> npt.NDArray:
        if what in world.conditions:
            return people.has[world.conditions.index(what), at]
        if what in world.states:
            return people.level[world.states.index(what), at]
        return np.asarray(height) if what == "height" else getattr(people, what)[at]

    level = of(one["of"])
    if one["of"] in world.states:
        level = measured_level(level, error[world.states.index(one["of"])], one)
    if one["category"] == "survey":  # points of a scale
        level = np.clip(level, world.raw["states"][one["of"]]["low"], world.raw["states"][one["of"]]["high"])
    return FORMULAS[one.get("formula")](level, of)


def creatinine_of(egfr: npt.ArrayLike, age: npt.ArrayLike, is_male: npt.ArrayLike) -> Floats:
    """Creatinine (mg/dL) of an eGFR (mL/min/1.73 m2); Inker, N Engl J Med 2021;385:1737-49, solved for creatinine.

    Not below 0.35 mg/dL, where the formula would turn a little error of the eGFR into none left.
    """
    is_man = np.asarray(is_male) == 1
    kappa, alpha = np.where(is_man, 0.9, 0.7), np.where(is_man, -0.302, -0.241)
    ratio = np.maximum(egfr, 2) / _egfr_at_kappa(age, is_man)
    return np.maximum(kappa * np.where(ratio < 1, ratio ** (-1 / 1.2), ratio ** (1 / alpha)), _LOWEST_CREATININE)


def highest_egfr(age: npt.ArrayLike, is_male: npt.ArrayLike) -> Floats:
    """The eGFR of the lowest creatinine: no formula on a creatinine gives more."""
    is_man = np.asarray(is_male) == 1
    kappa, alpha = np.where(is_man, 0.9, 0.7), np.where(is_man, -0.302, -0.241)
    return _egfr_at_kappa(age, is_man) * (_LOWEST_CREATININE / kappa) ** alpha


def _egfr_at_kappa(age: npt.ArrayLike, is_man: npt.NDArray) -> Floats:
    return 142 * 0.9938 ** np.asarray(age) * np.where(is_man, 1.0, 1.012)


def rounds(
    world: World, stays: StayPaths, people: People, stay_of: Ints, rng: np.random.Generator
) -> Iterator[tuple[Ints, Ints, Values, float | None]]:
    """All that tables/rounds.toml takes in these stays of the people at `stay_of`.

    What is taken together: of which stays, minutes after admission, values, hours until issued, if not as usual.
    """
    tables, kinds = world.raw["rounds"], [world.raw["stays"][name] for name in world.stays]
    usual, when, hour = tables["usual"], tables["when"], np.arange(stays.severity.shape[1])
    shows = {organ: np.array([one.get(organ, usual[organ]) for one in kinds])[stays.kind] for organ in usual}

    def values(name: str, stay: Ints, at_hour: Ints) -> Floats:
        one, severity = tables["results"][name], np.maximum(stays.severity[stay, at_hour], 0)
        error = one.get("noise", 1) * np.broadcast_to(rng.standard_normal(len(stay)), (len(world.states), len(stay)))
        if "usual" in one:
            value = measured_level(one["usual"], error[0], world.raw["measurements"][name])
        else:
            value = result_of(world, name, people, stay_of[stay], error)
        adds, times, exp = (
            severity * sum(weight * shows[organ][stay] for organ, weight in one.get(how, {}).items())
            for how in ("adds", "times", "exp")
        )
        value = (value + one.get("add", 0) + adds) * (1 + times) * np.exp(exp)
        return np.clip(value, one.get("low", 0), one.get("high", np.inf))

    is_there = hour < stays.hours[:, None]
    is_usual = hour % np.where(hour < 24, when["first_day"], when["later"]) == 0
    is_very_ill = (stays.severity > when["very_ill_above"]) & (hour % when["very_ill"] == 0)
    stay, at_hour = np.nonzero((is_usual | is_very_ill) & is_there)
    minute = at_hour * 60 + rng.integers(0, 50, len(stay))
    yield stay, minute, {name: values(name, stay, at_hour) for name in tables["vital_signs"]}, None
    clock = hour + stays.admitted_at[:, None]
    is_morning = (clock % when["blood_every"] == when["blood_at"]) & (hour > when["blood_at"])
    stay, at_hour = np.nonzero((is_morning | (hour == 0)) & is_there)
    minute = at_hour * 60 + rng.integers(0, 50, len(stay))
    for name, one in tables["blood"].items():
        judged = stays.severity[stay, at_hour] + when["judged"] * rng.standard_normal(len(stay))
        of = np.flatnonzero((judged > one.get("above", -np.inf)) & (rng.random(len(stay)) < one.get("chance", 1)))
        yield stay[of], minute[of], {name: values(name, stay[of], at_hour[of])}, one["hours"]
