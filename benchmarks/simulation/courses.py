"""How risks run: with age, with sugar, until a diagnosis; and how often people are tested."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from benchmarks.simulation.census import Census
from benchmarks.simulation.figures import Figure

_SD_OF_HBA1C = 1.5  # %, in diabetes


def course_figures(census: Census) -> Iterator[Figure]:
    """All of them."""
    yield from _hazard_of_diabetes(census)
    yield from _hazard_of_retinopathy(census)
    yield from _doubling(census)
    yield _delay(census)
    yield from _testing(census)


def _after_surveys(census: Census, what: str, condition: str) -> pl.DataFrame:
    """Surveys of people without a condition, and whether it came within a year (`new`)."""
    onset = census.events.filter(pl.col("what") == what).group_by("person").agg(onset=pl.col("month").min())
    without = census.survey.filter(~pl.col(f"has_{condition}")).join(onset, on="person", how="left")
    is_new = (pl.col("onset") > pl.col("month")) & (pl.col("onset") <= pl.col("month") + 12)
    return without.with_columns(new=is_new.fill_null(False))


def _hazard_of_diabetes(census: Census) -> Iterator[Figure]:
    """Onset within a year of a survey, by the HbA1c measured in it."""
    followed = _after_surveys(census, "onset of type_2_diabetes", "type_2_diabetes")
    hba1c = pl.col("measured_hba1c")
    low, middle, high = (
        followed.filter((hba1c >= least) & (hba1c < most))["new"].mean()
        for least, most in ((4.5, 5.5), (5.5, 6.0), (6.0, 6.5))
    )
    source = "cohorts (1.9, 7.8, 25.8 per 1,000)"
    for hba1c_of, published, ratio in (("5.5-6", 4.0, middle / low), ("6-6.5", 13.5, high / low)):
        name = f"Diabetes onset, HbA1c {hba1c_of} against below 5.5, ratio"
        yield Figure(name=name, published=published, simulated=ratio, source=source, within=0.35)


def _hazard_of_retinopathy(census: Census) -> Iterator[Figure]:
    """Ratio of onsets for one standard deviation of the HbA1c measured in a survey, in diabetes."""
    for condition, needs, published in (
        ("retinopathy", "type_2_diabetes", 1.37),
        ("proliferative_retinopathy", "retinopathy", 2.23),
    ):
        followed = _after_surveys(census, f"onset of {condition}", condition).filter(pl.col(f"has_{needs}"))
        ratio = np.exp(_SD_OF_HBA1C * log_ratio(followed["measured_hba1c"].to_numpy(), followed["new"].to_numpy()))
        name = f"{condition.replace('_', ' ').capitalize()} onset, ratio for 1.5 % more HbA1c"
        yield Figure(name=name, published=published, simulated=float(ratio), source="GoDARTS")


def log_ratio(x: np.ndarray, happens: np.ndarray) -> float:
    """The logarithm of the odds ratio for one unit of `x`: logistic regression by Newton's method."""
    design, beta = np.stack([np.ones(len(x)), x - x.mean()], axis=1), np.zeros(2)
    for _ in range(25):
        p = 1 / (1 + np.exp(-design @ beta))
        beta += np.linalg.solve((design.T * (p * (1 - p))) @ design, design.T @ (happens - p))
    return float(beta[1])


def _doubling(census: Census) -> Iterator[Figure]:
    """Years of age in which a rate doubles, by log-linear regression over bands of five years."""
    for what, condition, low, published, source in (
        ("Death", None, 45, 8.0, "SSA life table"),
        ("Heart failure's onset", "heart_failure", 65, 10.0, "Framingham"),
        ("Alzheimer's onset", "alzheimers_disease", 65, 5.0, "meta-analyses"),
    ):
        survey = census.survey.filter(~pl.col(f"has_{condition}")) if condition else census.survey
        is_death = pl.col("what").str.starts_with("death ")
        events = census.events.filter(pl.col("what") == f"onset of {condition}" if condition else is_death)
        ages = np.arange(low, 90, 5)
        edges = np.append(ages, 90)
        counts, under = (np.histogram(one["age"].to_numpy(), edges)[0] for one in (events, survey))
        slope = np.polyfit(ages, np.log((counts + 0.5) / under), 1, w=np.sqrt(counts + 1))[0]
        name = f"{what} doubles in so many years of age, {low} to 90"
        yield Figure(name=name, published=published, simulated=float(np.log(2) / slope), source=source, within=0.25)


def _delay(census: Census) -> Figure:
    """From the onset of diabetes to its diagnosis, among onsets in the first years; who is not diagnosed waits on."""
    what = pl.col("what")
    onset = census.events.filter(what == "onset of type_2_diabetes").select("person", onset="month")
    found = census.events.filter(what == "found type_2_diabetes").group_by("person").agg(found=pl.col("month").min())
    early = onset.filter(pl.col("onset") < 72).join(found, on="person", how="left")
    wait = (pl.col("found") - pl.col("onset")).clip(0, None).fill_null(1200) / 12
    median = float(early.select(wait.median()).item())
    name = "Diabetes, median delay to diagnosis (years)"
    return Figure(name=name, published=2.4, simulated=median, source="ARIC", within=0.35)


def _testing(census: Census) -> Iterator[Figure]:
    """How often people with known diabetes, or of an age for screening, are tested."""
    last = int(census.survey["month"].max())
    surveyed = census.survey.filter(pl.col("month") == last)
    known = surveyed.filter(pl.col("known_type_2_diabetes"))
    women = surveyed.filter((pl.col("is_male") == 0) & (pl.col("age") >= 50) & (pl.col("age") < 75))
    for name, order, people, months, least, published, tag, source in (
        ("Eye examined within a year, in diabetes, %", "eye_exam", known, 12, 1, 61.6, "v2", "CDC 2014-15"),
        ("HbA1c at least twice within a year, in diabetes, %", "hba1c", known, 12, 2, 69.5, "v", "quality measures"),
        ("Urine albumin within a year, in diabetes, %", "urine_albumin", known, 12, 1, 45.0, "m", "memory"),
        ("Mammogram within two years, women of 50 to 74, %", "mammogram", women, 24, 1, 75.7, "v", "NHIS"),
    ):
        of = (pl.col("what") == f"order of {order}") & pl.col("month").is_between(last - months + 1, last)
        counts = people.join(census.events.filter(of).group_by("person").len(), on="person", how="left")["len"]
        share = 100 * float((counts.fill_null(0) >= least).mean())
        yield Figure(name=name, published=published, simulated=share, tag=tag, source=source)
