"""The truth that no record tells: each person's own risk, and what each treatment would change, from the hidden state.

For a visit, the whole state at its end is copied many times and lived on, each copy with luck of its own; the share of
copies in which an outcome comes by a horizon is its probability. Never an input to anything but evaluation. Hospital
stays: stay_truth.py.
"""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from features.sources.simulation.bodies import People
from features.sources.simulation.engine import Month, step
from features.sources.simulation.lives import BLOCK, MONTH_YEARS, live
from features.sources.simulation.record import Recorder
from features.sources.simulation.world import Bools, Floats, Ints, World

FIRST_MONTH, LAST_MONTHS = 24, 12  # without predictions: a look-back at the start of the records, follow-up at the end
AS_USUAL = "as usual"
_AT_ONCE = 64  # moments whose copies are lived together


class Moments(NamedTuple):
    """States at moments of prediction, one column each; `minute` since the records begin."""

    people: People
    person: Ints
    minute: Ints

    def take(self, which: npt.NDArray) -> "Moments":
        """Some of them."""
        return Moments(self.people.take(which), self.person[which], self.minute[which])


def sample_moments(world: World, seed: int, block: int, each: int = 1) -> Moments:
    """Up to `each` visits of each person of a block, at moments drawn evenly over the record; in order of the people.

    Visits within two months after a stay are left out: what such a stay leaves behind by the day is not in the state.
    Raises ValueError when nobody had a visit.
    """
    rng = np.random.default_rng([seed, block, 5])
    due = np.sort(rng.integers(FIRST_MONTH, world.months - LAST_MONTHS, (BLOCK, each)), axis=1)
    due = np.hstack([due, np.full((BLOCK, 1), world.months)])
    turn, last_stay = np.zeros(BLOCK, np.int64), np.full(BLOCK, -99)
    recorder = Recorder(world, seed, block)
    taken: list[Moments] = []
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
        last_stay[who[happened.stay >= 0]] = month
        is_due = (month >= due[who, turn[who]]) & (month - last_stay[who] > 2)
        at = np.flatnonzero(happened.visit & is_due)
        if len(at):
            taken.append(Moments(people.take(at), who[at], recorder.visit_ends[who[at]]))
            turn[who[at]] += 1
    if not taken:
        raise ValueError("Nobody had a visit in the months from which moments are drawn.")
    person, minute = (np.concatenate([one[i] for one in taken]) for i in (1, 2))
    order = np.argsort(person, kind="stable")
    people = reduce(People.and_also, (one.people for one in taken)).take(order)
    return Moments(people, person[order], minute[order])


def risks_of_block(
    world: World,
    seed: int,
    block: int,
    wanted: int = BLOCK,
    each: int = 1,
    copies: int = 100,
    treatments: tuple[str, ...] = (),
    longest_days: int = 1825,
) -> pl.DataFrame:
    """Risks at sampled visits of the first `wanted` people of a block; the same for each of them whoever is wanted.

    Columns: person, prediction_minute, age (years), is_male, risk, standard_error, drawn (in one more life, outside the
    estimate: whether the outcome came), block, task, horizon_days, treatment. "as usual" is what will really be done;
    "with X" and "without X", for X in `treatments`, hold a drug on or off for ever, with the same luck, so that their
    difference is the person's own effect.
    """
    moments = sample_moments(world, seed, block, each)
    options: dict[str, dict[int, bool]] = {AS_USUAL: {}}
    for name in treatments:
        drug = world.drugs.index(name)
        options |= {f"with {name}": {drug: True}, f"without {name}": {drug: False}}
    parts = []
    for option, forced in options.items():
        for start in range(0, int((moments.person < wanted).sum()), _AT_ONCE):
            few = moments.take(np.arange(start, min(start + _AT_ONCE, len(moments.person))))
            futures = live_on(world, few.people, copies + 1, longest_days * 12 // 365, [seed, block, 6, start], forced)
            for task, (asked, months) in futures.items():
                for days in world.raw["outcomes"][task]["horizon_days"]:
                    if days <= longest_days:
                        about = {"block": block, "treatment": option, "task": task, "horizon_days": days}
                        parts.append(risk_rows(few.take(asked), months[asked] * 365 <= days * 12, about))
    return pl.concat(parts).filter(pl.col("person") < wanted)


def live_on(
    world: World, people: People, copies: int, months: int, seed: list[int], forced: Mapping[int, bool]
) -> dict[str, tuple[Bools, Floats]]:
    """For each outcome's task: who is asked (people,), and the month in which it comes in each copy (people, copies).

    Months count from 1; infinite when it does not come within `months`, or death comes first.
    """
    crowd = people.take(np.repeat(np.arange(len(people)), copies))
    crowd.here[:] = True  # the risk is that of people who stay
    start = crowd.take(np.arange(len(crowd)))
    came = {task: np.full(len(crowd), np.inf, np.float32) for task in world.raw["outcomes"]}
    for month in range(1, months + 1):
        lives = crowd.alive.copy()
        happened = step(crowd, world, MONTH_YEARS, np.random.default_rng([*seed, month]), forced)
        for task, one in world.raw["outcomes"].items():
            now = _comes(world, crowd, start, happened, one, task) & lives & np.isinf(came[task])
            came[task][now] = month
        crowd.here[:] = True
    shape = len(people), copies
    return {
        task: (_asked(world, people, one), came[task].reshape(shape)) for task, one in world.raw["outcomes"].items()
    }


def _asked(world: World, people: People, one: dict) -> Bools:
    low, high = one.get("ages", (18, 111))
    asked = (people.age >= low) & (people.age < high)
    for name in one.get("needs", []):
        asked &= people.known[world.conditions.index(name)]
    for name in [*one.get("not_with", []), *([] if one.get("each_new") else one.get("known", []))]:
        asked &= ~people.known[world.conditions.index(name)]
    if "result_falls" in one:
        asked &= np.isfinite(people.last[world.states.index(one["result_falls"]["of"])])
    return asked


def _comes(world: World, people: People, start: People, happened: Month, one: dict, task: str) -> Bools:
    """In whom the outcome comes in this month; `start` is how they were at the prediction."""
    comes = ~people.alive if task == "mortality" else np.zeros(len(people), bool)
    for what in one.get("happens", []):
        kinds = {"emergency": happened.emergency, "stay": happened.stay >= 0}
        comes |= kinds[what] if what in kinds else happened.stay == world.stays.index(what)
    for name in one.get("known", []):
        condition = world.conditions.index(name)
        comes |= happened.found[condition] & ~start.known[condition]
    if "result_falls" in one:
        state = world.states.index(one["result_falls"]["of"])
        comes |= people.alive & (people.last[state] <= (1 - one["result_falls"]["share"]) * start.last[state])
    return comes


def risk_rows(
    moments: Moments, chances: npt.NDArray, about: Mapping[str, object], luck: Floats | float = 0.5
) -> pl.DataFrame:
    """The mean of what each copy (people, copies) gives to the outcome: a chance, or whether it came.

    The first copy, outside the mean, is the life that is drawn, by `luck` where it gives a chance.
    """
    columns = {"person": moments.person, "prediction_minute": moments.minute, "drawn": luck < chances[:, 0]}
    columns |= {"age": moments.people.age.astype(float), "is_male": moments.people.is_male}
    estimate = chances[:, 1:]
    columns |= {"risk": estimate.mean(axis=1), "standard_error": estimate.std(axis=1) / np.sqrt(estimate.shape[1])}
    rows = pl.DataFrame(columns).with_columns(pl.lit(value).alias(name) for name, value in about.items())
    return rows.cast({"block": pl.Int64, "horizon_days": pl.Int32})
