"""What the record says of hospital stays: vital signs at the door, the early-warning score, where people go after."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from benchmarks.simulation.figures import Figure
from features.sources.simulation.lives import live
from features.sources.simulation.record import DAY_MINUTES, HOME, HOME_CARE, INPATIENT, OTHER_FACILITY, Recorder
from features.sources.simulation.world import World, load_world

_PRESSURES = (("sbp", "systolic"), ("dbp", "diastolic"))
VITALS = ("respiratory_rate", "temperature", "sbp", "dbp", "heart_rate", "oxygen_saturation")
# Points of the National Early Warning Score (RCP 2017; in these as in 2012): up to and with each limit, and above.
_NEWS = {
    "respiratory_rate": ([8, 11, 20, 24], [3, 1, 0, 2, 3]),
    "oxygen_saturation": ([91, 93, 95], [3, 2, 1, 0]),
    "temperature": ([35.0, 36.0, 38.0, 39.0], [3, 1, 0, 1, 2]),
    "sbp": ([90, 100, 110, 219], [3, 2, 1, 0, 3]),
    "heart_rate": ([40, 50, 90, 110, 130], [3, 1, 0, 1, 2, 3]),
}
_UK = "two English hospitals, emergency medical admissions"


def early_warning_score(vitals: pl.DataFrame) -> pl.Series:
    """NEWS from five vital signs, each rounded as it is written down; nobody on oxygen or confused (not recorded)."""
    points = np.zeros(vitals.height, np.int64)
    for name, (limits, scores) in _NEWS.items():
        decimals = 1 if name == "temperature" else 0
        points += np.array(scores)[np.searchsorted(limits, vitals[name].round(decimals).to_numpy())]
    return pl.Series("news", points)


def take_admissions(blocks: int, seed: int = 1, processes: int = 2) -> pl.DataFrame:
    """One row a stay on record: block, age, is_planned, disposition, and the first of each vital sign."""
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        return pl.concat(list(pool.map(_admissions_of_block, [(seed, block) for block in range(blocks)])))


def _admissions_of_block(task: tuple[int, int]) -> pl.DataFrame:
    seed, block = task
    world = load_world()
    with threadpool_limits(1):
        recorder = Recorder(world, seed, block)
        for month, people, happened, who in live(world, seed, block):
            recorder.write(month, people, happened, who)
    stays = pl.DataFrame(recorder.rows["Encounter"].done()).with_row_index("encounter").filter(kind=INPATIENT)
    first = vital_signs(world, pl.DataFrame(recorder.rows["Observation"].done()))
    first = first.sort("time").group_by("encounter", "of").agg(pl.col("value").first())
    wide = first.pivot(on="of", index="encounter", values="value").with_columns(pl.col("encounter").cast(pl.UInt32))
    born = pl.DataFrame({"patient": recorder.people["patient"], "days": recorder.people["days"]})
    table = stays.join(wide, on="encounter", how="left").join(born, on="patient")
    age = (pl.col("days") + pl.col("start") / DAY_MINUTES) / 365.25
    return table.select(pl.lit(block).alias("block"), age.alias("age"), "disposition", *VITALS, is_planned="priority")


def vital_signs(world: World, observed: pl.DataFrame) -> pl.DataFrame:
    """Columns encounter, time, of (name) and value, from the rows of record.py."""
    names = [name for name in world.results for _ in world.raw["measurements"][name]["codes"]]
    single = observed.filter(pl.col("systolic").is_nan()).with_columns(
        of=pl.col("code").replace_strict(dict(enumerate(names)), return_dtype=pl.String)
    )
    pressure = observed.filter(pl.col("systolic").is_not_nan())
    both = [pressure.with_columns(of=pl.lit(n), value=pl.col(c)) for n, c in _PRESSURES]
    return pl.concat([single.filter(pl.col("of").is_in(VITALS)), *both]).select("encounter", "time", "of", "value")


def admission_figures(admissions: pl.DataFrame) -> Iterator[Figure]:
    """Vital signs of emergencies against those of two hospitals (the mean of both), scores, and dispositions of all."""
    emergencies = admissions.filter(pl.col("is_planned") == 0).drop_nulls(VITALS)
    for name, unit, mean, sd in (
        ("respiratory_rate", "/min", 18.4, 4.2),
        ("temperature", "C", 36.4, 0.75),
        ("sbp", "mm[Hg]", 132.5, 25),
        ("dbp", "mm[Hg]", 75, 15.5),
        ("heart_rate", "/min", 83.3, 19.5),
        ("oxygen_saturation", "%", 96.1, 2.95),
    ):
        values, title = emergencies[name], f"At admission, {name.replace('_', ' ')} ({unit})"
        # 5 % of a mean, or a fifth of the sd, whichever is more.
        allowed = max(0.05 * mean, 0.2 * sd) if name != "temperature" else 0.2 * sd
        yield Figure(
            name=f"{title}, mean",
            published=mean,
            simulated=float(values.mean()),
            source=_UK,
            absolute=allowed,
        )
        yield Figure(name=f"{title}, sd", published=sd, simulated=float(values.std()), source=_UK)
    score = early_warning_score(emergencies)
    source = f"{_UK}, 2.5 less 0.4 for oxygen (15 %) and confusion (2.5 %), which are not simulated"
    yield Figure(name="At admission, NEWS, mean", published=2.1, simulated=float(score.mean()), source=source)
    source = f"{_UK}; simulated without oxygen and confusion"
    for name, low, high, published in (("below 3", 0, 2, 74), ("3 to 5", 3, 5, 20), ("above 5", 6, 20, 6)):
        share = 100 * float(score.is_between(low, high).mean())
        yield Figure(name=f"At admission, NEWS {name}, %", published=published, simulated=share, source=source)
    for where, code, ages, published in (
        ("home", HOME, (20, 111), 74),
        ("home with care", HOME_CARE, (45, 55), 8),
        ("home with care", HOME_CARE, (55, 65), 12),
        ("home with care", HOME_CARE, (65, 75), 15),
        ("a facility", OTHER_FACILITY, (45, 55), 7),
        ("a facility", OTHER_FACILITY, (55, 65), 11),
        ("a facility", OTHER_FACILITY, (65, 75), 18),
    ):
        of = admissions.filter(pl.col("age").is_between(*ages, closed="left"))
        name = f"Stay ends with {where}, {f'{ages[0]} to {ages[1] - 1}' if ages[1] < 111 else 'all adults'}, %"
        share = 100 * float((of["disposition"] == code).mean())
        yield Figure(name=name, published=published, simulated=share, source="HCUP 2007")
