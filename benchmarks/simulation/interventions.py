"""Do treatments do what trials say, when they are forced on, and do the records show the known confounding?

The same people, with the same luck, live twice: with the drug (or state, order or habit) and without.
"""

import tomllib
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from benchmarks.simulation.figures import PARTS, Figure, with_margins
from features.sources.simulation.engine import Month, People, step
from features.sources.simulation.lives import MONTH_YEARS
from features.sources.simulation.people import draw_arrivals
from features.sources.simulation.world import World, load_world

CHECKS: list[dict] = tomllib.loads((Path(__file__).parent / "interventions.toml").read_text())["check"]
_PEOPLE = 1_024  # drawn for each block
_MONTHS, _LIFE_QUARTERS = 60, 320
_KIDNEY_LOSS = 0.6  # of the eGFR at the start: what is left after a loss of 40 %
_SURELY, _NEVER = 20.0, -60.0  # added to the logarithm of an order's rate


def check_interventions(blocks: int, seed: int = 11, processes: int = 2) -> list[Figure]:
    """One figure a check. Blocks: at least PARTS, which the margins need."""
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        counts = np.stack(list(pool.map(_count, [(seed, block) for block in range(blocks)])))
    return with_margins(figures_of, counts, np.array_split(counts, PARTS))


def figures_of(counts: np.ndarray) -> list[Figure]:
    """One a check, from (blocks, checks, 6): with, without and people, of `whom`, then of `against`."""
    figures = []
    for check, (on, off, people, other_on, other_off, others) in zip(CHECKS, counts.sum(axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            if "against" in check:
                simulated = ((off - on) / people) / ((other_off - other_on) / others)
            else:
                simulated = (on - off) / people if check["event"] == "years" else on / off
        about = {name: check[name] for name in ("name", "published", "within", "source", "tag")}
        figures.append(Figure(**about, simulated=float(simulated)))
    return figures


def _count(task: tuple[int, int]) -> np.ndarray:
    seed, block = task
    world = load_world()
    with threadpool_limits(1):
        people = draw_arrivals(world, np.random.default_rng([seed, block]), _PEOPLE, 156).people
        return np.array([_compare(world, people, check, [seed, block]) for check in CHECKS], float)


def _compare(world: World, people: People, check: dict, seed: list[int]) -> list[float]:
    numbers = []
    for whom in (check["whom"], check.get("against")):
        who = people.take(np.flatnonzero(is_asked(world, people, whom) if whom else np.zeros(len(people), bool)))
        without = dict.fromkeys(check["forced"], 0.0)
        numbers += [_live(world, who, forced, check["event"], seed) for forced in (check["forced"], without)]
        numbers.append(float(len(who)))
    return numbers


def is_asked(world: World, people: People, whom: dict) -> np.ndarray:
    """Whether each person belongs to `whom` of the table."""
    low, high = whom.get("ages", (0, 200))
    asked = (people.age >= low) & (people.age < high)
    if "has" in whom:
        asked &= people.has[world.conditions.index(whom["has"])]
    for name, (low, high) in whom.get("level", {}).items():
        level = people.level[world.states.index(name)]
        asked &= (level >= low) & (level < high)
    return asked


def _live(world: World, people: People, forced: dict[str, float], event: str, seed: list[int]) -> float:
    """How many of the people have the event; or the years that all of them live, or their HbA1c together at the end."""
    if not len(people):
        return 0.0
    people, world = people.take(np.arange(len(people))), _with_orders(world, forced)
    drugs = {world.drugs.index(name): bool(on) for name, on in forced.items() if name in world.drugs}
    for name in forced.keys() & set(world.states):
        people.drifted[world.states.index(name)] += np.float32(forced[name])
    is_life, had, lived = event == "years", np.zeros(len(people), bool), 0.0
    first_egfr, length = people.level[world.states.index("egfr")].copy(), 0.25 if is_life else MONTH_YEARS
    for number in range(_LIFE_QUARTERS if is_life else _MONTHS):
        if "stops_smoking" in forced:
            people.has[world.conditions.index("smokes")] = not forced["stops_smoking"]
            people.has[world.conditions.index("ex_smoker")] = bool(forced["stops_smoking"])
        before = people.has.copy()
        happened = step(people, world, length, np.random.default_rng([*seed, 3, number]), drugs)
        people.here[:] = True
        lived += length * float(people.alive.sum())
        if not is_life and event != "hba1c":
            had |= _happens(world, people, happened, before, first_egfr, event)
    if event == "hba1c":
        return float(people.level[world.states.index("hba1c"), people.alive].sum())
    return lived if is_life else float(had.sum())


def _with_orders(world: World, forced: dict[str, float]) -> World:
    """The world in which every `forced` order is given on every occasion (1), or on none (0)."""
    world, rows = copy(world), copy(world.ordering)
    rows.base = rows.base.copy()
    for name in forced.keys() & set(world.orders):
        of = [row for row in rows.of["order"] if world.orders[rows.target[row]] == name]
        rows.base[of] += _SURELY if forced[name] else _NEVER
    world.ordering = rows
    return world


def _happens(
    world: World, people: People, happened: Month, before: np.ndarray, first_egfr: np.ndarray, event: str
) -> np.ndarray:
    def stay(kind: str) -> np.ndarray:
        return happened.stay == world.stays.index(kind)

    def onset(condition: str) -> np.ndarray:
        return (people.has & ~before)[world.conditions.index(condition)]

    is_lost = people.level[world.states.index("egfr")] < _KIDNEY_LOSS * first_egfr
    more = {
        "death": lambda: ~people.alive,
        "coronary": lambda: stay("infarction") | onset("coronary_disease"),
        "cardiovascular": lambda: stay("infarction") | stay("stroke"),
        "kidney": lambda: people.alive & (onset("kidney_failure") | is_lost),
        "heart_failure_stay": lambda: stay("heart_failure"),
        "type_2_diabetes": lambda: onset("type_2_diabetes"),
    }
    return more[event]() if event in more else stay(event)


def confounding(survey: pl.DataFrame) -> pl.DataFrame:
    """The crude picture in the survey: who takes a drug is sicker. Columns: drug, trouble, with drug %, without %."""
    rows = []
    for drug, trouble in (
        ("statin", "coronary_or_infarction"),
        ("anticoagulant", "has_stroke"),
        ("insulin", "has_retinopathy"),
    ):
        table = survey.with_columns(coronary_or_infarction=pl.col("has_coronary_disease") | pl.col("has_infarction"))
        table = table.filter(pl.col("age") >= 60)
        on = table.filter(pl.col(f"on_{drug}"))[trouble].mean()
        off = table.filter(~pl.col(f"on_{drug}"))[trouble].mean()
        rows.append((drug, trouble.removeprefix("has_").replace("_", " "), 100 * on, 100 * off))
    return pl.DataFrame(rows, schema=["drug", "trouble", "with_drug", "without_drug"], orient="row")
