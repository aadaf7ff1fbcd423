"""Results as a laboratory or a nurse writes them down: the formulas that measurements.toml names."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from features.sources.simulation.bodies import People, measured_level
from features.sources.simulation.hazards import Floats, Ints
from features.sources.simulation.world import World

OWN_ERROR = (None, "exponential", "weight", "creatinine")  # formulas of the one result that clinicians remember

# The measured level, and what else is true of the same people, by name: age, is_male, height (cm), a state or a condition.
FORMULAS: dict[str | None, Callable[[Floats, Callable[[str], Floats]], Floats]] = {
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


def result_of(world: World, name: str, people: People, at: Ints, error: Floats, height: Floats | None = None) -> Floats:
    """The result `name` of the people `at`, `error` being that of the measurement (in sd), in measurements.toml's unit."""
    one = world.raw["measurements"][name]

    def of(what: str) -> Floats:
        if what == "height":
            return height
        if what in world.conditions:
            return people.has[world.conditions.index(what), at]
        return people.level[world.states.index(what), at] if what in world.states else getattr(people, what)[at]

    level = measured_level(of(one["of"]), error, one) if one["of"] in world.states else error
    return FORMULAS[one.get("formula")](level, of)


def creatinine_of(egfr: npt.ArrayLike, age: npt.ArrayLike, is_male: npt.ArrayLike) -> Floats:
    """Creatinine (mg/dL) of an eGFR (mL/min/1.73 m2); Inker, N Engl J Med 2021;385:1737-49, solved for creatinine."""
    is_man = np.asarray(is_male) == 1
    kappa, alpha = np.where(is_man, 0.9, 0.7), np.where(is_man, -0.302, -0.241)
    ratio = np.maximum(egfr, 2) / (142 * 0.9938 ** np.asarray(age) * np.where(is_man, 1.0, 1.012))
    return kappa * np.where(ratio < 1, ratio ** (-1 / 1.2), ratio ** (1 / alpha))
