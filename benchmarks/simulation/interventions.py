"""Do treatments do what trials say, when they are forced on, and do the records show the known confounding?

The same people, with the same luck, live twice: with the drug (or state) and without.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from benchmarks.simulation.special import Figure
from features.sources.simulation.engine import People, step
from features.sources.simulation.lives import MONTH_YEARS
from features.sources.simulation.people import draw_arrivals
from features.sources.simulation.world import World, load_world

_YEARS = 5
_PEOPLE = 1_024

Chosen = Callable[[People, World], np.ndarray]


def _is_adult_of(low: float, high: float) -> Chosen:
    return lambda people, world: (people.age >= low) & (people.age < high)


def _has(name: str, *without: str) -> Chosen:
    def chosen(people: People, world: World) -> np.ndarray:
        there = people.has[world.conditions.index(name)].copy()
        for other in without:
            there &= ~people.has[world.conditions.index(other)]
        return there

    return chosen


# name, who, what is forced (drugs, or shifts of states), the event counted, published ratio, tag, source
CHECKS: list[tuple[str, Chosen, dict[str, float], str, float, float, str, str]] = [
    (
        "LDL lower by 1 mmol/L: infarction",
        _is_adult_of(50, 85),
        {"ldl": -38.67},
        "infarction",
        0.78,
        0.10,
        "v",
        "CTT, 0.76 to 0.80",
    ),
    (
        "Systolic pressure lower by 10: stroke",
        _is_adult_of(50, 85),
        {"sbp": -10},
        "stroke",
        0.73,
        0.15,
        "v",
        "Ettehad 2016",
    ),
    (
        "Systolic pressure lower by 10: coronary disease",
        _is_adult_of(50, 85),
        {"sbp": -10},
        "coronary",
        0.83,
        0.15,
        "v",
        "Ettehad 2016",
    ),
    (
        "Metformin in prediabetes: diabetes",
        _has("prediabetes"),
        {"metformin": 1},
        "type_2_diabetes",
        0.69,
        0.20,
        "v",
        "DPP, 3 years",
    ),
    (
        "GLP-1 agonist in diabetes: infarction or stroke",
        _has("type_2_diabetes"),
        {"glp1": 1},
        "cardiovascular",
        0.86,
        0.15,
        "v",
        "trial meta-analysis",
    ),
    (
        "SGLT2 inhibitor in heart failure: stay for it",
        _has("heart_failure"),
        {"sglt2": 1},
        "heart_failure_stay",
        0.74,
        0.20,
        "v",
        "Nuffield, CV death or HF stay 0.77",
    ),
    (
        "Anticoagulant in atrial fibrillation: stroke",
        _has("atrial_fibrillation"),
        {"anticoagulant": 1},
        "stroke",
        0.36,
        0.30,
        "m",
        "warfarin against nothing",
    ),
    (
        "Bisphosphonate in osteoporosis: hip fracture",
        _has("osteoporosis"),
        {"bisphosphonate": 1},
        "hip_fracture",
        0.62,
        0.25,
        "m",
        "0.6 to 0.7",
    ),
    (
        "No effect: statin on hip fracture",
        _is_adult_of(60, 90),
        {"statin": 1},
        "hip_fracture",
        1.0,
        0.10,
        "c",
        "negative control",
    ),
    (
        "No effect: beta blocker after infarction with normal ejection, on death",
        _has("infarction", "heart_failure"),
        {"beta_blocker": 1},
        "death",
        0.97,
        0.10,
        "v",
        "2025 individual-patient meta-analysis",
    ),
]


def check_interventions(blocks: int, seed: int = 11, processes: int = 2) -> list[Figure]:
    """One figure a check: the ratio of events with and without, over five years of the same lives."""
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        counts = np.sum(list(pool.map(_count, [(seed, block) for block in range(blocks)])), axis=0)
    figures = []
    for (name, _, _, _, published, within, tag, source), (on, off) in zip(CHECKS, counts, strict=True):
        ratio = on / off if off else float("nan")
        figures.append(Figure(name, published, float(ratio), tag, source, within=within, count=int(off)))
    return figures


def _count(task: tuple[int, int]) -> np.ndarray:
    seed, block = task
    world = load_world()
    with threadpool_limits(1):
        people = draw_arrivals(world, np.random.default_rng([seed, block]), _PEOPLE, 156).people
        return np.array([_compare(world, people, check, [seed, block]) for check in CHECKS], float)


def _compare(world: World, people: People, check: tuple, seed: list[int]) -> tuple[float, float]:
    _, chosen, forced, event, *_ = check
    who = people.take(np.flatnonzero(chosen(people, world)))
    with_it = {name: 1.0 if name in world.drugs else shift for name, shift in forced.items()}
    without = dict.fromkeys(forced, 0.0)
    return _events(world, who, with_it, event, seed), _events(world, who, without, event, seed)


def _events(world: World, people: People, forced: dict[str, float], event: str, seed: list[int]) -> float:
    people = people.take(np.arange(len(people)))
    drugs = {world.drugs.index(name): bool(on) for name, on in forced.items() if name in world.drugs}
    for name, shift in forced.items():
        if name in world.states:
            people.drifted[world.states.index(name)] += np.float32(shift)
    had = np.zeros(len(people), bool)
    for month in range(_YEARS * 12):
        before = people.has.copy()
        happened = step(people, world, MONTH_YEARS, np.random.default_rng([*seed, 3, month]), drugs)
        people.here[:] = True
        kind = happened.stay
        now = {
            "infarction": kind == world.stays.index("infarction"),
            "stroke": kind == world.stays.index("stroke"),
            "hip_fracture": kind == world.stays.index("hip_fracture"),
            "heart_failure_stay": kind == world.stays.index("heart_failure"),
            "death": ~people.alive,
        }
        new = people.has & ~before
        now["coronary"] = now["infarction"] | new[world.conditions.index("coronary_disease")]
        now["cardiovascular"] = now["infarction"] | now["stroke"]
        now["type_2_diabetes"] = new[world.conditions.index("type_2_diabetes")]
        had |= now[event]
    return float(had.sum())


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
