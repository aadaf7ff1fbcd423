"""The simulated population against published figures, one row a figure; and corrections that bring them together."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.simulation.census import Census
from benchmarks.simulation.figures import Figure
from features.sources.simulation.world import RATE_AGES, STATE_AGES, TABLES, World

TARGETS = Path(__file__).parent / "targets.toml"
SEXES = {"female": 0, "male": 1}
_BANDS = [(20 + 10 * i, 30 + 10 * i) for i in range(6)] + [(80, 111)]
_DAMPING = 0.6
_SMOOTH = 0.12  # of the way to the neighbouring ages, each round
_TOO_FEW = 20  # people or events
_FEW = 12  # events behind a cell: with fewer, the correction is smaller


@dataclass(frozen=True, kw_only=True)
class Cell(Figure):
    """One figure of targets.toml, of one sex and range of ages; `count` people or events are behind the simulated."""

    target: dict
    sex: str  # female, male or all
    ages: tuple[int, int]
    count: int

    @property
    def is_by_chance(self) -> bool:
        """Whether it lies outside by no more than chance, or too few events stand behind it to tell."""
        few = self.target["how"] in ("share", "rate") and self.count < _TOO_FEW
        return super().is_by_chance or (few and not self.is_within)


def compare(census: Census, world: World) -> list[Cell]:
    """Every target's cells."""
    survey = with_derived(census.survey)
    events = _with_unions(census.events)
    weights = _weights(census.years, world)
    survey = survey.join(weights, on=["band", "is_male"], how="left")
    events = events.join(weights, on=["band", "is_male"], how="left")
    cells = []
    for target in tomllib.loads(TARGETS.read_text())["target"]:
        ranges = [tuple(one) for one in target.get("ages", _BANDS)]
        for sex in ("female", "male", "all"):
            for ages, published in zip(ranges, target.get(sex, []), strict=False):
                simulated, count = measure(target, sex, ages, survey, events, census)
                about = {key: target[key] for key in ("name", "tag", "source", "within") if key in target}
                place = {"target": target, "sex": sex, "ages": ages, "is_percent": target["how"] == "share"}
                cells.append(Cell(**about, **place, published=float(published), simulated=simulated, count=count))
    return cells


def measure(
    target: dict, sex: str, ages: tuple[int, int], survey: pl.DataFrame, events: pl.DataFrame, census: Census
) -> tuple[float, int]:
    """The simulated figure, and how many people or events stand behind it; survey and events have a `weight`."""
    of_sex = pl.lit(True) if sex == "all" else pl.col("is_male") == SEXES[sex]
    whom = of_sex & (pl.col("age") >= ages[0]) & (pl.col("age") < ages[1])
    among, is_not = target.get("among", "").removeprefix("not "), target.get("among", "").startswith("not ")
    of_those = survey.filter(whom & (pl.col(among) != is_not if among else True))
    if target["how"] == "rate":
        happened = events.filter((pl.col("what") == target["of"]) & whom)
        # The yearly surveys, scaled to all the person-years counted.
        under_risk = of_those["weight"].sum() / survey.height * census.years["years"].sum()
        return (1000 * happened["weight"].sum() / under_risk if under_risk else 0.0), happened.height
    if of_those.is_empty():
        return float("nan"), 0
    values, weight = of_those[target["of"]].cast(pl.Float64).to_numpy(), of_those["weight"].to_numpy()
    mean = float(np.average(values, weights=weight))
    if target["how"] == "mean":
        return mean, len(values)
    if target["how"] == "sd":
        return float(np.sqrt(np.average((values - mean) ** 2, weights=weight))), len(values)
    if target["how"] == "quantile":
        return weighted_quantile(values, weight, target["quantile"]), len(values)
    return 100 * mean, int(values.sum())


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The lowest value that so large a share of the weight does not exceed."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])])


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


def with_derived(survey: pl.DataFrame) -> pl.DataFrame:
    """What a survey makes of its answers and measurements."""
    col = pl.col
    hba1c, egfr, lnacr, sbp, dbp = (col(f"measured_{name}") for name in ("hba1c", "egfr", "lnacr", "sbp", "dbp"))
    takes = pl.any_horizontal(f"on_{drug}" for drug in ("ace_inhibitor", "calcium_blocker", "thiazide", "beta_blocker"))
    coronary = col("has_coronary_disease") | col("has_infarction")
    survey = survey.with_columns(
        takes_pressure_drug=takes,
        measured_total_cholesterol=col("measured_ldl") + col("measured_hdl") + col("measured_lntg").exp() / 5,
        measured_triglycerides=col("measured_lntg").exp(),
        measured_acr=lnacr.exp(),
        **{
            "hba1c_at_least_6.5": hba1c >= 6.5,
            "hba1c_below_7": hba1c < 7,
            "egfr_below_60": egfr < 60,
            "acr_at_least_30": lnacr >= np.log(30),
            "kidney_disease": (egfr < 60) | (lnacr >= np.log(30)),
            "g3a": (egfr < 60) & (egfr >= 45),
            "g3b": (egfr < 45) & (egfr >= 30),
            "g4": (egfr < 30) & (egfr >= 15),
            "g5": egfr < 15,
            "a2": (lnacr >= np.log(30)) & (lnacr < np.log(300)),
            "a3": lnacr >= np.log(300),
            "pressure_140": (sbp >= 140) | (dbp >= 90) | takes,
            "pressure_130": (sbp >= 130) | (dbp >= 80) | takes,
            "below_140": takes & (sbp < 140) & (dbp < 90),
            "below_130": takes & (sbp < 130) & (dbp < 80),
            "diabetes_not_diagnosed": col("has_type_2_diabetes") & ~col("known_type_2_diabetes"),
            "sight_threatened": col("has_proliferative_retinopathy") | col("has_macular_oedema"),
            "coronary_or_infarction": coronary,
            "vascular": coronary | col("has_stroke"),
            "has_any_dementia": col("has_alzheimers_disease") | col("has_other_dementia"),
            "known_any_dementia": col("known_alzheimers_disease") | col("known_other_dementia"),
        },
    )
    ill = ("has_type_2_diabetes", "vascular", "has_heart_failure", "kidney_disease")
    return survey.with_columns(none_of_these=~pl.any_horizontal(ill))


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
            if those[0].target.get("smooth"):
                entry[sex] = drawn_together(entry[sex])
        solved[kind][goal] = entry
    return solved


def drawn_together(corrections: list[float]) -> list[float]:
    """Each a little nearer to the mean of its two neighbours, so that a survey's chance does not shape an illness."""
    ends = [corrections[0], *corrections, corrections[-1]]
    beside = [(a + b) / 2 for a, b in zip(ends, ends[2:], strict=False)]
    return [round(own + _SMOOTH * (mean - own), 4) for own, mean in zip(corrections, beside, strict=True)]


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
