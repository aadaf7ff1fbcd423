"""Figures that are no single mean, share or rate: stays, returns, survival after, hazards, correlations, tests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from benchmarks.simulation.census import Census
from features.sources.simulation.world import World


@dataclass(frozen=True)
class Figure:
    """One published figure, what was simulated, and how far they may lie apart (relative, or `absolute`)."""

    name: str
    published: float
    simulated: float
    tag: str
    source: str
    within: float = 0.20
    absolute: float | None = None
    count: int = 0

    @property
    def is_within(self) -> bool:
        """Whether it lies within the accepted deviation."""
        allowed = self.within * abs(self.published) if self.absolute is None else self.absolute
        return abs(self.simulated - self.published) <= allowed


def special_figures(census: Census, world: World) -> list[Figure]:
    """All of them."""
    parts: list[Callable[[Census, World], Iterator[Figure]]] = [
        _stays,
        _returns,
        _after_stays,
        _hazard_of_diabetes,
        _doubling,
        _delay,
        _correlations,
        _testing,
    ]
    return [figure for part in parts for figure in part(census, world)]


def _stays(census: Census, world: World) -> Iterator[Figure]:
    stays, days = census.stays, census.stays["hours"] / 24
    yield Figure(
        "Length of stay, mean (days)", 4.8, float(days.mean()), "v", "HCUP 2007-2022, 4.5 to 5.2", count=stays.height
    )
    yield Figure("Stays of up to 3 days, %", 57, 100 * float((days < 3.5).mean()), "v", "HCUP 2003")
    yield Figure("Stays of 8 days or more, %", 16, 100 * float((days >= 7.5).mean()), "v", "HCUP 2003", within=0.35)
    yield Figure("Died in hospital, % of stays", 2.0, 100 * float(stays["died"].mean()), "v2", "HCUP", within=0.35)
    sepsis = stays.filter(pl.col("kind") == "sepsis")
    yield Figure(
        "Died in hospital of sepsis, %", 15, 100 * float(sepsis["died"].mean()), "v", "Rhee 2017", count=sepsis.height
    )
    lungs = stays.filter(pl.col("kind") == "pneumonia")
    yield Figure(
        "Died in hospital of pneumonia, %", 6.5, 100 * float(lungs["died"].mean()), "v", "Louisville", within=0.3
    )
    heart = stays.filter(pl.col("kind") == "infarction")
    yield Figure(
        "Died in hospital of infarction, %", 8, 100 * float(heart["died"].mean()), "v2", "HCUP 2010", within=0.35
    )


def _returns(census: Census, world: World) -> Iterator[Figure]:
    left = census.stays.filter(~pl.col("died"))
    yield Figure(
        "Back within 30 days, %", 14, 100 * float(left["returns"].mean()), "v", "HCUP 2010-16", count=left.height
    )
    old = left.filter(pl.col("age") >= 65)
    for kind, published in (("heart_failure", 22.9), ("infarction", 18.2), ("pneumonia", 17.5), ("copd", 18.4)):
        of = old.filter(pl.col("kind") == kind)
        name = kind.replace("_", " ")
        yield Figure(
            f"Back within 30 days after {name}, 65 and over, %",
            published,
            100 * float(of["returns"].mean()),
            "v",
            "CMS",
            count=of.height,
        )


def _after_stays(census: Census, world: World) -> Iterator[Figure]:
    """Death within a year of discharge, among people who were still in the region."""
    deaths = (
        census.events.filter(pl.col("what").str.starts_with("death"))
        .group_by("person")
        .agg(death=pl.col("month").min())
    )
    moves = census.events.filter(pl.col("what") == "move").group_by("person").agg(move=pl.col("month").min())
    last = int(census.survey["month"].max())
    stays = (
        census.stays.filter((~pl.col("died")) & (pl.col("month") <= last - 12))
        .join(deaths, on="person", how="left")
        .join(moves, on="person", how="left")
        .filter(pl.col("move").is_null() | (pl.col("move") > pl.col("month") + 12))
        .with_columns(dead=(pl.col("death") <= pl.col("month") + 12).fill_null(False))
    )
    old = stays.filter(pl.col("age") >= 65)
    for kind, published in (("heart_failure", 35.8), ("infarction", 25.1), ("pneumonia", 31.1), ("hip_fracture", 23.7)):
        of = old.filter(pl.col("kind") == kind)
        yield Figure(
            f"Died within a year of a stay for {kind.replace('_', ' ')}, 65 and over, %",
            published,
            100 * float(of["dead"].mean()),
            "v",
            "Medicare 2008-10; hip: Olmsted",
            within=0.3,
            count=of.height,
        )
    yield Figure(
        "Died within a year of any medical stay, 65 and over, %",
        13.3,
        100 * float(old.filter(~pl.col("kind").str.contains("surgery"))["dead"].mean()),
        "v",
        "Medicare",
        within=0.3,
    )


def _hazard_of_diabetes(census: Census, world: World) -> Iterator[Figure]:
    """Onset within a year of a survey, by the HbA1c measured in it."""
    onset = census.events.filter(pl.col("what") == "onset of type_2_diabetes").select("person", onset="month")
    clear = census.survey.filter(~pl.col("has_type_2_diabetes")).select("person", "month", "measured_hba1c")
    followed = clear.join(onset, on="person", how="left").with_columns(
        new=((pl.col("onset") > pl.col("month")) & (pl.col("onset") <= pl.col("month") + 12)).fill_null(False)
    )
    rate = {}
    for low, high in ((4.5, 5.5), (5.5, 6.0), (6.0, 6.5)):
        rate[low] = followed.filter((pl.col("measured_hba1c") >= low) & (pl.col("measured_hba1c") < high))["new"].mean()
    yield Figure(
        "Diabetes onset, HbA1c 5.5-6 against below",
        4.0,
        rate[5.5] / rate[4.5],
        "v",
        "cohorts (1.9, 7.8, 25.8 per 1,000)",
        within=0.35,
    )
    yield Figure(
        "Diabetes onset, HbA1c 6-6.5 against below 5.5", 13.5, rate[6.0] / rate[4.5], "v", "cohorts", within=0.35
    )


def _doubling(census: Census, world: World) -> Iterator[Figure]:
    """Years of age in which a rate doubles, by log-linear regression over bands."""
    survey = census.survey
    for name, of, low, published, tag, source in (
        ("Death doubles in so many years of age, 45 to 90", "death", 45, 8.0, "v", "SSA life table"),
        (
            "Alzheimer's onset doubles in so many years, 65 to 90",
            "onset of alzheimers_disease",
            65,
            5.0,
            "v",
            "meta-analyses",
        ),
    ):
        events = census.events.filter(
            pl.col("what").str.starts_with("death") if of == "death" else pl.col("what") == of
        )
        ages = np.arange(low, 90, 5)
        under = [survey.filter((pl.col("age") >= a) & (pl.col("age") < a + 5)).height for a in ages]
        counts = [events.filter((pl.col("age") >= a) & (pl.col("age") < a + 5)).height for a in ages]
        slope = np.polyfit(
            ages, np.log((np.array(counts) + 0.5) / np.array(under)), 1, w=np.sqrt(np.array(counts) + 1)
        )[0]
        yield Figure(name, published, float(np.log(2) / slope), tag, source, within=0.25, count=sum(counts))


def _delay(census: Census, world: World) -> Iterator[Figure]:
    """From the onset of diabetes to its diagnosis, among onsets in the first years; who is not diagnosed waits on."""
    onset = census.events.filter(pl.col("what") == "onset of type_2_diabetes").select("person", onset="month")
    found = (
        census.events.filter(pl.col("what") == "found type_2_diabetes")
        .group_by("person")
        .agg(found=pl.col("month").min())
    )
    early = onset.filter(pl.col("onset") < 72).join(found, on="person", how="left")
    wait = (pl.col("found") - pl.col("onset")) / 12
    median = early.select(wait.clip(0, None).fill_null(99).median()).item()
    yield Figure(
        "Diabetes, median delay to diagnosis (years)", 2.4, float(median), "v", "ARIC", within=0.35, count=early.height
    )


def _correlations(census: Census, world: World) -> Iterator[Figure]:
    """Correlations of what a survey measures, holding age and sex."""
    survey = census.survey.filter(pl.col("month") == census.survey["month"].max())
    age, sex = survey["age"].to_numpy(), survey["is_male"].to_numpy()
    held = np.stack([np.ones(len(age)), age, age**2, age**3, sex, sex * age], axis=1)

    def rest(column: str) -> np.ndarray:
        values = survey[f"measured_{column}"].to_numpy().astype(float)
        if column == "hba1c":
            values = np.log(values)
        return values - held @ np.linalg.lstsq(held, values, rcond=None)[0]

    for one, other, published in (
        ("bmi", "hba1c", 0.23),
        ("bmi", "hdl", -0.33),
        ("bmi", "lntg", 0.27),
        ("bmi", "albumin", -0.27),
        ("bmi", "lnalt", 0.21),
        ("bmi", "egfr", -0.03),
        ("hba1c", "hdl", -0.25),
        ("hba1c", "lntg", 0.23),
        ("hba1c", "egfr", 0.07),
        ("hdl", "lntg", -0.50),
        ("sodium", "potassium", 0.19),
    ):
        r = float(np.corrcoef(rest(one), rest(other))[0, 1])
        yield Figure(
            f"Correlation of {one} and {other}, holding age and sex", published, r, "c", "NHANES", absolute=0.08
        )
    sbp, dbp = (survey[f"measured_{name}"].to_numpy() for name in ("sbp", "dbp"))
    yield Figure(
        "Correlation of age and systolic pressure",
        0.40,
        float(np.corrcoef(age, sbp)[0, 1]),
        "c",
        "NHANES",
        absolute=0.08,
    )
    yield Figure(
        "Correlation of systolic and diastolic pressure",
        0.49,
        float(np.corrcoef(sbp, dbp)[0, 1]),
        "c",
        "NHANES",
        absolute=0.08,
    )
    yield Figure(
        "Correlation of age and eGFR",
        -0.69,
        float(np.corrcoef(age, survey["measured_egfr"].to_numpy())[0, 1]),
        "c",
        "NHANES",
        absolute=0.08,
    )


def _testing(census: Census, world: World) -> Iterator[Figure]:
    """How often people with known diabetes, or of an age for screening, are tested."""
    last = int(census.survey["month"].max())
    surveyed = census.survey.filter(pl.col("month") == last)
    known = surveyed.filter(pl.col("known_type_2_diabetes")).select("person")

    def tests(order: str, people: pl.DataFrame, months: int) -> pl.DataFrame:
        within = census.events.filter(
            (pl.col("what") == f"order of {order}") & (pl.col("month") <= last) & (pl.col("month") > last - months)
        )
        return people.join(within.group_by("person").len(), on="person", how="left").with_columns(
            pl.col("len").fill_null(0)
        )

    for name, order, people, months, least, published, source in (
        ("Eye examined within a year, in diabetes, %", "eye_exam", known, 12, 1, 61.6, "CDC 2014-15"),
        ("HbA1c at least twice within a year, in diabetes, %", "hba1c", known, 12, 2, 69.5, "quality measures"),
        ("Urine albumin within a year, in diabetes, %", "urine_albumin", known, 12, 1, 45.0, "memory"),
        (
            "Mammogram within two years, women of 50 to 74, %",
            "mammogram",
            surveyed.filter((pl.col("is_male") == 0) & (pl.col("age") >= 50) & (pl.col("age") < 75)).select("person"),
            24,
            1,
            75.7,
            "NHIS",
        ),
    ):
        share = float((tests(order, people, months)["len"] >= least).mean())
        tag = "m" if source == "memory" else "v2" if "CDC" in source else "v"
        yield Figure(name, published, 100 * share, tag, source, count=people.height)
