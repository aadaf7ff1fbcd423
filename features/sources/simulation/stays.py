"""Hospital stays, hour by hour: how ill somebody is, and whether the stay ends at home, by death, or again in hospital.

Severity is a hidden path, s(hour) = s(0) exp(-hour / own time) + a wandering part. The hazard of death rises with it;
nobody goes home before the work-up is done, nor while ill, nor at night.
"""

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from features.sources.simulation.world import Bools, Floats, Ints, World

LONGEST_HOURS, SHORTEST_HOURS = 24 * 45, 10
_KEEPS, _WANDERS = 0.97, 0.38  # of the wandering part: what stays from hour to hour, and its sd
_DEATH = (-10.35, 2.0)  # log hazard of death an hour, at severity 0 and for each unit
_ILL = 0.9  # nobody goes home above this severity
_SPREAD_OF_HOME_HOURS, _SPREAD_OF_BETTER_HOURS = 0.72, 0.55  # sd of the logarithm
_IS_HOME_TIME = (np.arange(24) >= 9) & (np.arange(24) < 20)  # by the hour of the day
RETURN_DAYS, _RETURN_HALF_DAYS = 30, 12.0  # the hazard of an unplanned return falls to a half in so many days
BOOKED_DAYS = 9, 29  # when a booked return comes


@dataclass
class StayPaths:
    """N stays; start, better_hours and home_median (hours) are hidden, for futures."""

    kind: Ints
    is_planned: Bools  # booked before they began
    severity: Floats  # (N, hours from admission)
    hours: Ints  # their length
    died: Bools  # in hospital
    admitted_at: Ints  # hour of the day
    start: Floats
    better_hours: Floats
    home_median: Floats
    chance_of_return: Floats  # the true probability, at discharge, of an unplanned return within 30 days
    returns: Bools  # within 30 days
    return_is_planned: Bools  # it is booked
    return_days: Floats


def simulate_stays(world: World, kind: Ints, is_planned: Bools, x: Floats, age: Floats, seeds: Ints) -> StayPaths:
    """Stays of the given kinds, of people with covariates `x` (C, N).

    Each stay has a seed and so luck of its own: nobody's depends on who else is in hospital.
    """
    own = [np.random.default_rng(seed) for seed in seeds.tolist()]
    normal = np.array([rng.standard_normal(4 + LONGEST_HOURS) for rng in own])
    start_luck, better_luck, hour_luck, ready_luck = normal[:, :4].T
    uniform = np.array([rng.random(6) for rng in own]).T
    of_all = world.raw["stays"]["_of_all"]

    def column(name: str, default: float = 0.0) -> Floats:
        return np.array([world.raw["stays"][stay].get(name, default) for stay in world.stays])[kind]

    def weighed(weights: dict[str, float]) -> Floats:
        return sum(weight * x[world.covariates.index(name)] for name, weight in weights.items())

    mean, sd = column("severity").T
    start = mean + sd * start_luck + weighed(of_all["severity"])
    start = start + of_all["severity_a_decade_past_60"] * np.maximum(0, (age - 60) / 10)
    better = column("better_hours") * np.exp(_SPREAD_OF_BETTER_HOURS * better_luck) / np.log(3)
    median = column("home_hours") * np.exp(weighed(of_all["hours"]))
    # Who is booked comes in the morning; emergencies come at all hours, most in the afternoon and evening.
    at = np.floor(np.where(is_planned, 7 + 6 * uniform[0], 15 + 5.5 * hour_luck)).astype(np.int64) % 24
    wander = _wandering(_WANDERS * normal[:, 4], normal[:, 4:])
    severity = start[:, None] * np.exp(-np.arange(LONGEST_HOURS) / better[:, None]) + wander
    ready = median * np.exp(_SPREAD_OF_HOME_HOURS * ready_luck)
    hours, died = _ends(severity, np.maximum(ready, SHORTEST_HOURS), at, uniform[1])
    ratios = {name: float(np.log(ratio)) for name, ratio in of_all["readmission"].items()}
    chance = np.clip(np.exp(np.log(column("readmission")) + weighed(ratios)), 0, 0.7)
    is_unplanned = uniform[2] < chance
    is_booked = (uniform[3] < world.books_return[kind]) & ~is_unplanned
    within, (first, last) = 1 - 0.5 ** (RETURN_DAYS / _RETURN_HALF_DAYS), BOOKED_DAYS
    unplanned_days = -np.log2(1 - within * uniform[5]) * _RETURN_HALF_DAYS
    days = np.where(is_booked, first + (last - first) * uniform[4], unplanned_days)
    back, severity = (is_unplanned | is_booked) & ~died, severity.astype(np.float32)
    hidden = start, better, median, chance
    return StayPaths(kind, is_planned, severity, np.maximum(hours, 1), died, at, *hidden, back, is_booked, days)


def futures_of_stays(
    stays: StayPaths, which: int, after_hours: int, copies: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """How one stay may go on, given what is hidden when `after_hours` have passed and it has not ended.

    For `copies` of the path of severity: the chance still to be there at the beginning of each hour from then on
    (copies, hours), and to die in hospital (copies,). Nobody knows how long the work-up takes before it is done, only
    that it is longer than until the last hour at which they might have gone home, had it been; over its length, and
    over the luck of dying, these chances are exact.
    """
    hour, so_far = np.arange(LONGEST_HOURS), stays.severity[which, : after_hours + 1]
    base = stays.start[which] * np.exp(-hour[after_hours:] / stays.better_hours[which])
    wander = _wandering(np.full(copies, so_far[-1] - base[0]), rng.standard_normal((copies, len(base))))
    severity = np.hstack([np.tile(so_far[:-1], (copies, 1)), base + wander])
    might_go = (hour >= SHORTEST_HOURS) & _IS_HOME_TIME[(stays.admitted_at[which] + hour) % 24] & (severity < _ILL)
    latest = np.maximum.accumulate(np.where(might_go, hour, 0), axis=1)
    luck = np.log(np.maximum(hour, 1e-9) / stays.home_median[which]) / _SPREAD_OF_HOME_HOURS
    not_ready = np.array([erfc(one / sqrt(2)) / 2 for one in luck])  # so many have a longer work-up than each hour
    not_gone = not_ready[latest] / not_ready[latest[:, [after_hours - 1]]]
    survives = np.exp(-np.cumsum(np.where(hour < after_hours, 0, _hazard(severity)), axis=1))
    dies = -(np.diff(survives[:, after_hours - 1 : -1]) * not_gone[:, after_hours:-1]).sum(axis=1)
    return (not_gone * survives)[:, after_hours - 1 : -1], dies


def _wandering(first: Floats, normal: Floats) -> Floats:
    """Paths (N, hours) that start at `first` and keep _KEEPS of themselves from hour to hour."""
    steps = _WANDERS * np.sqrt(1 - _KEEPS**2) * normal
    steps[:, 0] = first
    fading = _KEEPS ** np.arange(normal.shape[1])  # small at the end, but a double bears it
    return fading * np.cumsum(steps / fading, axis=1)


def _hazard(severity: Floats) -> Floats:
    """Of death, an hour."""
    return np.exp(_DEATH[0] + _DEATH[1] * np.minimum(severity, 4.5))


def _ends(severity: Floats, ready: Floats, at: Ints, luck: Floats) -> tuple[Ints, Bools]:
    """Hours until the end of each stay, and whether it ends in death."""
    hour = np.arange(severity.shape[1])
    survival = np.exp(-np.cumsum(_hazard(severity), axis=1))
    dies_at = (survival > luck[:, None]).sum(axis=1)  # LONGEST_HOURS for those who would survive
    can_go = (hour >= ready[:, None]) & _IS_HOME_TIME[(at[:, None] + hour) % 24] & (severity < _ILL)
    goes_at = np.where(can_go.any(axis=1), can_go.argmax(axis=1), severity.shape[1] - 1)
    died = dies_at < goes_at
    return np.where(died, dies_at, goes_at), died
