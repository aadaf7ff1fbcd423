"""The truth that no record tells: each person's own risk, and what each treatment would change, from the hidden state.

For a visit, the whole state at its end is copied many times and lived on, each copy with luck of its own; the share of
copies in which an outcome comes by a horizon is its probability. Never an input to anything but evaluation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.sources.simulation.engine import Month, People, step
from features.sources.simulation.lives import BLOCK, MONTH_YEARS, live, months_recorded
from features.sources.simulation.record import Recorder
from features.sources.simulation.world import World

Floats = npt.NDArray[np.float32]
_FIRST_MONTH = 24  # there is a look-back of two years before
_WIDTH = 8_192  # copies lived at once
_NEVER = np.inf
RISKS = {
    "block": pl.Int64,
    "person": pl.Int64,
    "prediction_minute": pl.Int64,
    "age": pl.Float64,
    "is_male": pl.Int64,
    "task": pl.String,
    "horizon_months": pl.Int64,
    "treatment": pl.String,
    "risk": pl.Float64,
    "standard_error": pl.Float64,
    "drawn": pl.Boolean,
}


@dataclass(frozen=True)
class Moments:
    """States at the ends of visits, one column each; `minute` since the records begin."""

    people: People
    person: npt.NDArray[np.int64]
    minute: npt.NDArray[np.int64]


def sample_moments(world: World, seed: int, block: int, wanted: int, each: int = 1) -> Moments:
    """Up to `each` visits of each of the first `wanted` people of a block, at moments drawn evenly over their record.

    Visits within two months after a stay are left out: what such a stay leaves behind by the day is not in the state.
    """
    rng = np.random.default_rng([seed, block, 5])
    months = months_recorded(world)
    due = np.sort(rng.integers(_FIRST_MONTH, months - 12, (BLOCK, each)), axis=1)
    turn, last_stay = np.zeros(BLOCK, np.int64), np.full(BLOCK, -99)
    recorder = Recorder(world, seed, block, BLOCK)
    taken: list[tuple[People, npt.NDArray, npt.NDArray]] = []
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
        last_stay[who[happened.stay >= 0]] = month
        next_due = np.where(turn < each, due[np.arange(BLOCK), np.minimum(turn, each - 1)], months)
        at = np.flatnonzero(happened.visit & (month >= next_due[who]) & (month - last_stay[who] > 2) & (who < wanted))
        if len(at):
            taken.append((people.take(at), who[at], recorder.visit_ends[who[at]].copy()))
            turn[who[at]] += 1
    if not taken:
        raise ValueError("Nobody had a visit in the months from which moments are drawn.")
    from features.sources.simulation.people import concatenate

    people = taken[0][0]
    for more, _, _ in taken[1:]:
        people = concatenate(people, more)
    return Moments(people, np.concatenate([one[1] for one in taken]), np.concatenate([one[2] for one in taken]))


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
    """Risks (RISKS) at sampled visits of a block.

    `treatment` "as usual" is what will really be done; "with X" and "without X", for the drugs in `treatments`, hold X on
    or off for ever, with the same luck, so that their difference is the person's own effect. `drawn` is one more
    life, outside the estimate: whether the outcome came in it.
    """
    moments = sample_moments(world, seed, block, wanted, each)
    options: list[tuple[str, dict[int, bool] | None]] = [("as usual", None)]
    for name in treatments:
        drug = world.drugs.index(name)
        options += [(f"with {name}", {drug: True}), (f"without {name}", {drug: False})]
    parts = []
    for option, forced in options:
        for start in range(0, len(moments.person), max(1, _WIDTH // (copies + 1))):
            rows = np.arange(start, min(start + max(1, _WIDTH // (copies + 1)), len(moments.person)))
            futures = live_on(world, moments.people.take(rows), copies + 1, longest_months, [seed, block, 6, start], forced)
            for task, asked, months in futures:
                if asked.any():
                    parts += _counted(world, moments, rows, block, task, asked, months, option, longest_months)
    return pl.concat(parts) if parts else pl.DataFrame(schema=RISKS)


def live_on(
    world: World, people: People, copies: int, months: int, seed: list[int], forced: dict[int, bool] | None = None
) -> Iterator[tuple[str, npt.NDArray[np.bool_], Floats]]:
    """Each outcome's task, who is asked (people,), and the month in which it comes in each copy (people, copies).

    Months count from 1; infinite when it does not come within `months`, or death comes first.
    """
    n = len(people)
    asked = {task: _asked(world, people, one) for task, one in world.raw["outcomes"].items()}
    crowd = people.take(np.repeat(np.arange(n), copies))
    known_before, last_before = crowd.known.copy(), crowd.last.copy()
    came = {task: np.full(n * copies, _NEVER, np.float32) for task in world.raw["outcomes"]}
    for month in range(1, months + 1):
        lives = crowd.alive.copy()
        happened = step(crowd, world, MONTH_YEARS, np.random.default_rng([*seed, month]), forced)
        for task, one in world.raw["outcomes"].items():
            now = _comes(world, crowd, happened, one, task, known_before, last_before) & lives
            came[task][now & (came[task] == _NEVER)] = month
        crowd.here[:] = True  # the risk is that of people who stay
    for task, who in asked.items():
        yield task, who, came[task].reshape(n, copies)


def _asked(world: World, people: People, one: dict) -> npt.NDArray[np.bool_]:
    low, high = one.get("ages", (18, 111))
    asked = (people.age >= low) & (people.age < high)
    known = {name: people.known[i] for i, name in enumerate(world.conditions)}
    for name in one.get("needs", []):
        asked &= known[name]
    for name in [*one.get("not_with", []), *([] if one.get("each_new") else one.get("known", []))]:
        asked &= ~known[name]
    if "result_falls" in one:
        asked &= np.isfinite(people.last[world.states.index(one["result_falls"]["of"])])
    return asked


def _comes(world: World, people: People, happened: Month, one: dict, task: str, known_before, last_before):
    """In whom the outcome comes in this month."""
    died = ~people.alive
    comes = died.copy() if task == "mortality" else np.zeros(len(people), bool)
    for what in one.get("happens", []):
        if what == "emergency":
            comes |= happened.emergency
        elif what == "stay":
            comes |= happened.stay >= 0
        else:
            comes |= happened.stay == world.stays.index(what)
    for name in one.get("known", []):
        place = world.conditions.index(name)
        comes |= happened.found[place] & ~known_before[place]
    if "result_falls" in one:
        state = world.states.index(one["result_falls"]["of"])
        falls = people.last[state] <= (1 - one["result_falls"]["share"]) * last_before[state]
        comes |= falls & people.alive
    return comes


def _counted(world, moments: Moments, rows, block, task, asked, months, option, longest) -> list[pl.DataFrame]:
    of = rows[asked]
    frames = []
    for horizon in world.raw["outcomes"][task]["horizon_months"]:
        if horizon > longest:
            continue
        comes = months[asked] <= horizon
        risk = comes[:, 1:].mean(axis=1)
        frames.append(
            pl.DataFrame(
                {
                    "block": np.full(len(of), block),
                    "person": moments.person[of],
                    "prediction_minute": moments.minute[of],
                    "age": moments.people.age[of],
                    "is_male": moments.people.is_male[of],
                    "task": [task] * len(of),
                    "horizon_months": np.full(len(of), horizon),
                    "treatment": [option] * len(of),
                    "risk": risk,
                    "standard_error": np.sqrt(risk * (1 - risk) / (comes.shape[1] - 1)),
                    "drawn": comes[:, 0],
                }
            ).cast(RISKS)
        )
    return frames
