"""The truth that no record tells: each person's own risk, and what each treatment would change, from the hidden state.

For a visit, the whole state at its end is copied many times and lived on, each copy with luck of its own; the share of
copies in which an outcome comes by a horizon is its probability. Never an input to anything but evaluation.
"""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
import polars as pl

from features.sources.simulation.bodies import People
from features.sources.simulation.engine import Month, step
from features.sources.simulation.lives import BLOCK, MONTH_YEARS, live, months_recorded
from features.sources.simulation.record import Recorder
from features.sources.simulation.world import Bools, Floats, Ints, World

_FIRST_MONTH = 24  # there is a look-back of two years before
_WIDTH = 8_192  # copies lived at once


class Moments(NamedTuple):
    """States at the ends of visits, one column each; `minute` since the records begin."""

    people: People
    person: Ints
    minute: Ints


def sample_moments(world: World, seed: int, block: int, wanted: int, each: int = 1) -> Moments:
    """Up to `each` visits of each of the first `wanted` people of a block, at moments drawn evenly over their record.

    Visits within two months after a stay are left out: what such a stay leaves behind by the day is not in the state.
    Raises ValueError when nobody had a visit.
    """
    rng, months = np.random.default_rng([seed, block, 5]), months_recorded(world)
    due = np.sort(rng.integers(_FIRST_MONTH, months - 12, (BLOCK, each)), axis=1)
    due = np.hstack([due, np.full((BLOCK, 1), months)])
    turn, last_stay = np.zeros(BLOCK, np.int64), np.full(BLOCK, -99)
    recorder = Recorder(world, seed, block)
    taken: list[Moments] = []
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
        last_stay[who[happened.stay >= 0]] = month
        is_due = (month >= due[who, turn[who]]) & (month - last_stay[who] > 2) & (who < wanted)
        at = np.flatnonzero(happened.visit & is_due)
        if len(at):
            taken.append(Moments(people.take(at), who[at], recorder.visit_ends[who[at]]))
            turn[who[at]] += 1
    if not taken:
        raise ValueError("Nobody had a visit in the months from which moments are drawn.")
    person, minute = (np.concatenate([one[i] for one in taken]) for i in (1, 2))
    return Moments(reduce(People.and_also, (one.people for one in taken)), person, minute)


def risks_of_block(
    world: World,
    seed: int,
    block: int,
    wanted: int = BLOCK,
    each: int = 1,
    copies: int = 100,
    treatments: tuple[str, ...] = (),
    longest_months: int = 60,
) -> pl.DataFrame:
    """Risks at sampled visits of a block.

    Columns: person, prediction_minute, age (years), is_male, horizon_months, risk, standard_error, drawn (in one more
    life, outside the estimate: whether the outcome came), block, task, treatment. "as usual" is what will really be
    done; "with X" and "without X", for X in `treatments`, hold a drug on or off for ever, with the same luck, so that
    their difference is the person's own effect.
    """
    moments, width = sample_moments(world, seed, block, wanted, each), max(1, _WIDTH // (copies + 1))
    options: dict[str, dict[int, bool]] = {"as usual": {}}
    for name in treatments:
        drug = world.drugs.index(name)
        options |= {f"with {name}": {drug: True}, f"without {name}": {drug: False}}
    parts = []
    for option, forced in options.items():
        for start in range(0, len(moments.person), width):
            some = np.arange(start, min(start + width, len(moments.person)))
            few = Moments(moments.people.take(some), moments.person[some], moments.minute[some])
            futures = live_on(world, few.people, copies + 1, longest_months, [seed, block, 6, start], forced)
            for task, (asked, months) in futures.items():
                horizons = [one for one in world.raw["outcomes"][task]["horizon_months"] if one <= longest_months]
                about = {"block": block, "task": task, "treatment": option}
                parts.append(_counted(few, asked, months, horizons, about))
    return pl.concat(parts)


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


def _counted(moments: Moments, asked: Bools, months: Floats, horizons: list[int], about: dict) -> pl.DataFrame:
    """The risks of those who are asked; the first copy is the life that is drawn."""
    comes = months[asked] <= np.reshape(horizons, (-1, 1, 1))  # (horizons, people, copies)
    risk = comes[..., 1:].mean(axis=-1)
    people = {"person": moments.person, "prediction_minute": moments.minute}
    people |= {"age": moments.people.age.astype(float), "is_male": moments.people.is_male}
    columns = {name: np.tile(column[asked], len(horizons)) for name, column in people.items()}
    columns |= {"horizon_months": np.repeat(np.array(horizons, np.int64), asked.sum()), "risk": risk.ravel()}
    columns |= {"standard_error": np.sqrt(risk * (1 - risk) / (comes.shape[-1] - 1)).ravel()}
    return pl.DataFrame(columns | {"drawn": comes[..., 0].ravel()} | about).cast({"block": pl.Int64})
