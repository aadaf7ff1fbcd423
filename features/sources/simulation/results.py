"""Results as a laboratory or a nurse would write them: from a body's state, with the formulas of measurements.toml."""

import numpy as np
import numpy.typing as npt

from features.sources.simulation.engine import People
from features.sources.simulation.hazards import Floats, Ints
from features.sources.simulation.world import World


def by_formula(
    world: World, formula: str | None, level: Floats, people: People, at: Ints, height: Floats | None = None
) -> Floats:
    """What is reported of a measured `level` of the people `at`; `height` in cm is needed for the weight."""
    if formula is None:
        return level
    if formula == "exponential":
        return np.exp(level)
    if formula == "weight":
        return level * (height / 100) ** 2
    if formula == "glucose":  # the average glucose that an HbA1c stands for (ADAG)
        return np.maximum(28.7 * level - 46.7, 45)
    if formula == "creatinine":
        return creatinine_of(level, people.age[at], people.is_male[at])
    if formula == "total_cholesterol":
        hdl, lntg = (people.level[world.states.index(name), at] for name in ("hdl", "lntg"))
        return level + hdl + np.exp(lntg) / 5
    if formula == "nt_probnp":
        failing = people.has[world.conditions.index("heart_failure"), at]
        return np.exp(4.2 + 0.035 * (people.age[at] - 50) + 0.05 * np.maximum(60 - level, 0) + 1.3 * failing)
    if formula == "smoking":  # never, ex-smoker, smokes
        smokes, stopped = (people.has[world.conditions.index(name), at] for name in ("smokes", "ex_smoker"))
        return np.where(smokes, 2, np.where(stopped, 1, 0))
    raise ValueError(f"measurements.toml names a formula that nobody wrote: {formula}")


def creatinine_of(egfr: npt.ArrayLike, age: npt.ArrayLike, is_male: npt.ArrayLike) -> Floats:
    """Creatinine (mg/dL) of an eGFR (mL/min/1.73 m2); Inker, N Engl J Med 2021;385:1737-49, solved for creatinine."""
    is_male = np.asarray(is_male) == 1
    kappa, alpha = np.where(is_male, 0.9, 0.7), np.where(is_male, -0.302, -0.241)
    ratio = np.maximum(egfr, 2) / (142 * 0.9938 ** np.asarray(age) * np.where(is_male, 1.0, 1.012))
    return kappa * np.where(ratio < 1, ratio ** (-1 / 1.2), ratio ** (1 / alpha))
