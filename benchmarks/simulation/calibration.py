"""The simulated population against published figures, one row a figure; and corrections that bring them together."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.simulation.census import Census
from features.sources.simulation.world import RATE_AGES, STATE_AGES, TABLES, World

TARGETS = Path(__file__).parent / "targets.toml"
SEXES = {"female": 0, "male": 1}
_BANDS = [(20 + 10 * i, 30 + 10 * i) for i in range(6)] + [(80, 111)]
_DAMPING = 0.6
_FEW = 12  # events behind a cell: with fewer, the correction is smaller


@dataclass(frozen=True)
class Cell:
    """One published figure and its simulated counterpart; `count` people or events lie behind the simulated one."""

    target: dict
    sex: str  # female, male or all
    ages: tuple[int, int]
    published: float
    simulated: float
    count: int

    @property
    def is_within(self) -> bool:
        """Whether it lies within the accepted deviation; a share below 1 % may differ by a factor of 1.5."""
        if self.target["how"] == "share" and self.published < 1:
            return 1 / 1.5 <= (self.simulated + 1e-9) / self.published <= 1.5
        allowed = self.target.get("within", 0.20) * abs(self.published)
        return abs(self.simulated - self.published) <= allowed


def compare(census: Census, world: World) -> list[Cell]:
    """Every target's cells."""
    survey = _with_derived(census.survey)
    events = _with_unions(census.events)
    weights = _weights(census.years, world)
    survey = survey.join(weights, on=["band", "is_male"], how="left")
    events = events.join(weights, on=["band", "is_male"], how="left")
    years = census.years.group_by("band", "is_male").agg(pl.col("years").sum()).join(weights, on=["band", "is_male"])
    cells = []
    for target in tomllib.loads(TARGETS.read_text())["target"]:
        ranges = [tuple(one) for one in target.get("ages", _BANDS)]
        for sex in ("female", "male", "all"):
            for ages, published in zip(ranges, target.get(sex, []), strict=False):
                simulated, count = _measure(target, sex, ages, survey, events, years, census)
                cells.append(Cell(target, sex, ages, float(published), simulated, count))
    return cells


def _measure(target, sex, ages, survey, events, years, census) -> tuple[float, int]:
    of_sex = pl.lit(True) if sex == "all" else pl.col("is_male") == SEXES[sex]
    in_ages = (pl.col("age") >= ages[0]) & (pl.col("age") < ages[1])
    if target["how"] == "rate":
        happened = events.filter((pl.col("what") == target["of"]) & of_sex & in_ages)
        under_risk = _person_years(survey, census, of_sex, in_ages)
        return (1000 * happened["weight"].sum() / under_risk if under_risk else 0.0), happened.height
    people = survey.filter(of_sex & in_ages)
    if "among" in target:
        people = people.filter(pl.col(target["among"]))
    if people.is_empty():
        return float("nan"), 0
    values, weight = people[target["of"]].cast(pl.Float64).to_numpy(), people["weight"].to_numpy()
    mean = float(np.average(values, weights=weight))
    if target["how"] == "mean":
        return mean, people.height
    if target["how"] == "sd":
        return float(np.sqrt(np.average((values - mean) ** 2, weights=weight))), people.height
    return 100 * mean, int(values.sum())


def _person_years(survey: pl.DataFrame, census: Census, of_sex: pl.Expr, in_ages: pl.Expr) -> float:
    """Weighted person-years, from the yearly surveys scaled to all the person-years counted."""
    share = survey.filter(of_sex & in_ages)["weight"].sum() / survey["weight"].sum()
    return float(share * survey["weight"].mean() * census.years["years"].sum())


def _weights(years: pl.DataFrame, world: World) -> pl.DataFrame:
    """What each band and sex must count so that all together are the adult population."""
    population = world.raw["care"]["population"]
    shares = pl.DataFrame(
        [(band, number, population[sex][band]) for sex, number in SEXES.items() for band in range(7)],
        schema={"band": pl.Int64, "is_male": pl.Int64, "share": pl.Float64},
        orient="row",
    )
    lived = years.group_by("band", "is_male").agg(pl.col("years").sum())
    table = shares.join(lived, on=["band", "is_male"])
    return table.select(
        "band", "is_male", weight=pl.col("share") / pl.col("share").sum() / (pl.col("years") / pl.col("years").sum())
    )


def _with_derived(survey: pl.DataFrame) -> pl.DataFrame:
    has, known = pl.col, pl.col
    return survey.with_columns(
        **{
            "hba1c_at_least_6.5": pl.col("measured_hba1c") >= 6.5,
            "hba1c_below_7": pl.col("measured_hba1c") < 7,
            "egfr_below_60": pl.col("measured_egfr") < 60,
            "acr_at_least_30": pl.col("measured_lnacr") >= np.log(30),
            "unknown_type_2_diabetes": ~known("known_type_2_diabetes"),
            "sight_threatened": has("has_proliferative_retinopathy") | has("has_macular_oedema"),
            "coronary_or_infarction": has("has_coronary_disease") | has("has_infarction"),
            "has_any_dementia": has("has_alzheimers_disease") | has("has_other_dementia"),
            "known_any_dementia": known("known_alzheimers_disease") | known("known_other_dementia"),
        }
    )


def _with_unions(events: pl.DataFrame) -> pl.DataFrame:
    what = pl.col("what")
    unions = {
        "death": what.str.starts_with("death "),
        "stay, all": what.str.starts_with("stay of "),
        "emergency, all": (what == "emergency") | (what.str.starts_with("stay of ") & ~what.str.contains("surgery")),
        "hip fracture, all": what == "stay of hip_fracture",
    }
    more = [events.filter(chosen).with_columns(what=pl.lit(name)) for name, chosen in unions.items()]
    return pl.concat([events, *more])


def correct(cells: list[Cell], solved: dict, damping: float = 1.0) -> dict:
    """The corrections of solved.toml, moved so that simulated figures come nearer to the published ones.

    `damping` below 1 takes smaller steps, for late rounds in which chance moves the figures as much as any correction.
    """
    solved = {"rates": dict(solved.get("rates", {})), "means": dict(solved.get("means", {}))}
    by_goal: dict[str, list[Cell]] = {}
    for cell in cells:
        for goal in cell.target["solve"].split(" rates.") if "solve" in cell.target else []:
            by_goal.setdefault(goal.removeprefix("rates.").removeprefix("means."), []).append(cell)
    for goal, those in by_goal.items():
        kind = "means" if "means." in those[0].target["solve"] else "rates"
        knots = STATE_AGES if kind == "means" else RATE_AGES
        entry = {sex: list(solved[kind].get(goal, {}).get(sex, [0.0] * len(knots))) for sex in SEXES}
        for sex in SEXES:
            own = [cell for cell in those if cell.sex in (sex, "all") and np.isfinite(cell.simulated)]
            for i, age in enumerate(knots):
                if own:
                    cell = min(own, key=lambda c: max(c.ages[0] - age, age - c.ages[1] + 1, 0))
                    entry[sex][i] = round(entry[sex][i] + damping * _move(cell, kind), 4)
        solved[kind][goal] = entry
    return solved


def _move(cell: Cell, kind: str) -> float:
    target = cell.target
    if kind == "means":
        if target["how"] == "mean":
            return 0.8 * (cell.published - cell.simulated)
        # A share over a limit: move the mean by what a normal distribution would need.
        step = 0.25 if target["of"] == "acr_at_least_30" else -0.25
        return float(np.clip(step * np.log(cell.published / max(cell.simulated, 0.05)), -0.2, 0.2))
    believed = cell.count / (cell.count + _FEW)
    return float(np.clip(_DAMPING * believed * np.log((cell.published + 1e-3) / (cell.simulated + 1e-3)), -0.7, 0.7))


def write_solved(solved: dict) -> None:
    """Write tables/solved.toml."""
    lines = [
        "# Corrections found by `python -m benchmarks.simulation --solve`: what the tables lack to reach the figures.",
        "# rates: added to the logarithm of a row's rate at 25, 35, … 95 years. means: to a state's mean at 25, … 85.",
    ]
    for kind, entries in solved.items():
        lines += [f"\n[{kind}]"]
        lines += [f'"{name}" = {{ female = {e["female"]}, male = {e["male"]} }}' for name, e in sorted(entries.items())]
    (TABLES / "solved.toml").write_text("\n".join(lines) + "\n")
