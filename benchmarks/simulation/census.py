"""Counting the simulated population: surveys of everybody each year, and all events with the person-years behind."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from features.sources.simulation.engine import Month, People, measured_level
from features.sources.simulation.lives import live
from features.sources.simulation.world import World, load_world

FIRST_SURVEY, BETWEEN_SURVEYS = 24, 12  # months; the first years settle
_PLACES = 100_000  # a person's number is the block's, times this, and the number within the block


@dataclass
class Census:
    """What was counted.

    survey: one row a person and survey. events: one row an event (what, person, month, age, sex). years: person-years
    by block, band and sex. stays: one row a stay. people: one row a person, with the first month on record.
    """

    survey: pl.DataFrame
    events: pl.DataFrame
    years: pl.DataFrame
    stays: pl.DataFrame
    people: pl.DataFrame


@dataclass
class _Block:
    survey: list[pl.DataFrame] = field(default_factory=list)
    events: list[pl.DataFrame] = field(default_factory=list)
    stays: list[pl.DataFrame] = field(default_factory=list)
    years: dict[tuple[int, int], float] = field(default_factory=dict)


def take_census(blocks: int, seed: int = 1, processes: int = 2, world: World | None = None) -> Census:
    """Simulate `blocks` blocks and count them."""
    tasks = [(seed, block, world) for block in range(blocks)]
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        parts = list(pool.map(_count_block, tasks))
    return Census(*(pl.concat([part[i] for part in parts], how="vertical_relaxed") for i in range(5)))


def split(census: Census, parts: int) -> list[Census]:
    """The census of so many equal parts of the population, whole blocks in each."""
    tables = [getattr(census, one.name) for one in fields(census)]

    def only(table: pl.DataFrame, part: int) -> pl.DataFrame:
        block = pl.col("block") if "block" in table.columns else pl.col("person") // _PLACES
        return table.filter(block % parts == part)

    return [Census(*(only(table, part) for table in tables)) for part in range(parts)]


def _count_block(task: tuple[int, int, World | None]) -> tuple[pl.DataFrame, ...]:
    seed, number, world = task
    world = world or load_world()
    block = _Block()
    with threadpool_limits(1):
        first_month: dict[int, int] = {}
        had = None
        for month, people, happened, numbers in live(world, seed, number):
            who = numbers + _PLACES * number
            first_month.update({int(w): month for w in who if int(w) not in first_month})
            _count_events(block, world, month, people, happened, who, had)
            had = people.has.copy()
            if month >= FIRST_SURVEY and (month - FIRST_SURVEY) % BETWEEN_SURVEYS == 0:
                block.survey.append(_survey(world, month, people, who, np.random.default_rng([seed, number, 9, month])))
    years = pl.DataFrame(
        [(number, band, sex, years) for (band, sex), years in block.years.items()],
        schema={"block": pl.Int64, "band": pl.Int64, "is_male": pl.Int64, "years": pl.Float64},
        orient="row",
    )
    everybody = pl.DataFrame({"person": list(first_month), "first_month": list(first_month.values())})
    return pl.concat(block.survey), pl.concat(block.events), years, pl.concat(block.stays), everybody


def band_of(age: np.ndarray) -> np.ndarray:
    """The band (0 to 6) of each age."""
    return np.clip((age - 20) // 10, 0, 6).astype(np.int64)


def _survey(world: World, month: int, people: People, who: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    there = np.flatnonzero(people.alive & people.here)
    columns: dict[str, np.ndarray] = {
        "person": who[there],
        "month": np.full(len(there), month),
        "age": people.age[there],
        "is_male": people.is_male[there],
        "site": people.site[there],
    }
    errors = {one["of"]: one for one in reversed(world.raw["measurements"].values()) if "of" in one}
    for i, name in enumerate(world.states):
        columns[name] = people.level[i, there]
        if name in errors:
            one = errors[name]
            noise = rng.standard_normal(len(there)).astype(np.float32)
            # A survey reads blood pressure three times.
            columns[f"measured_{name}"] = measured_level(
                people.level[i, there], noise * (0.6 if name in ("sbp", "dbp") else 1), one
            )
    columns |= {f"has_{name}": people.has[i, there] for i, name in enumerate(world.conditions)}
    columns |= {f"known_{name}": people.known[i, there] for i, name in enumerate(world.conditions)}
    columns |= {f"on_{name}": people.on[i, there] for i, name in enumerate(world.drugs)}
    table = pl.DataFrame(columns)
    return table.with_columns(band=pl.Series(band_of(people.age[there])))


def _count_events(block: _Block, world: World, month: int, people: People, happened: Month, who, had) -> None:
    band, sex = band_of(people.age), people.is_male
    was_there = (happened.died_of >= 0) | (people.alive & (people.here | happened.moved))
    for stay_of, _ in happened.stays:
        was_there[stay_of] = True
    if month < FIRST_SURVEY - 12:
        was_there[:] = False
    for b in range(7):
        for s in range(2):
            count = int((was_there & (band == b) & (sex == s)).sum())
            block.years[b, s] = block.years.get((b, s), 0.0) + count / 12
    events: list[tuple[str, np.ndarray]] = [
        ("visit", happened.visit),
        ("emergency", happened.emergency),
        ("move", happened.moved),
    ]
    events += [(f"death of {cause}", happened.died_of == i) for i, cause in enumerate(world.causes)]
    events += [(f"stay of {kind}", happened.stay == i) for i, kind in enumerate(world.stays)]
    if len(happened.stays) > 1:
        again = np.zeros(len(who), bool)
        again[happened.stays[1][0]] = True
        events.append(("stay of who returned", again))
    events += [(f"order of {name}", happened.ordered[i]) for i, name in enumerate(world.orders)]
    events += [(f"found {name}", happened.found[i]) for i, name in enumerate(world.conditions)]
    if had is not None:
        known_before = had.shape[1]
        for i, name in enumerate(world.conditions):
            new = people.has[i].copy()
            new[:known_before] &= ~had[i]
            new[known_before:] = False
            events.append((f"onset of {name}", new))
    died_in_stay = np.zeros(len(who), bool)
    for turn, (stay_of, stays) in enumerate(happened.stays):
        died_in_stay[stay_of[stays.died]] = True
        block.stays.append(
            pl.DataFrame(
                {
                    "person": who[stay_of],
                    "month": np.full(len(stay_of), month),
                    "turn": np.full(len(stay_of), turn),
                    "kind": [world.stays[k] for k in stays.kind],
                    "age": people.age[stay_of],
                    "hours": stays.hours,
                    "died": stays.died,
                    "returns": stays.returns,
                    "is_planned": stays.return_is_planned,
                    "severity": stays.severity[:, 0],
                }
            )
        )
    events.append(("death in a stay", died_in_stay))
    rows = [(name, np.flatnonzero(mask & was_there)) for name, mask in events]
    rows = [(name, at) for name, at in rows if len(at)]
    if rows:
        at = np.concatenate([one for _, one in rows])
        block.events.append(
            pl.DataFrame(
                {
                    "what": np.repeat([name for name, _ in rows], [len(one) for _, one in rows]),
                    "person": who[at],
                    "month": np.full(len(at), month),
                    "band": band[at],
                    "age": people.age[at],
                    "is_male": sex[at],
                }
            )
        )
