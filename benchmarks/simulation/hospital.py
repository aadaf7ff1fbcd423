"""Hospital stays as they were lived: how long, how they end, who comes back, and who dies within a year of one."""

from collections.abc import Iterator

import polars as pl

from benchmarks.simulation.census import Census
from benchmarks.simulation.figures import Figure


def stay_figures(census: Census) -> Iterator[Figure]:
    """All of them."""
    yield from _lengths_and_deaths(census.stays)
    yield from _returns(census.stays.filter(~pl.col("died")))
    yield from _death_within_a_year(census)


def _lengths_and_deaths(stays: pl.DataFrame) -> Iterator[Figure]:
    days, kind = stays["hours"] / 24, pl.col("kind")
    died = {name: stays.filter(kind == name)["died"] for name in ("sepsis", "pneumonia", "infarction")}
    for name, published, simulated, tag, source, within in (
        ("Length of stay, mean (days)", 4.8, float(days.mean()), "v", "HCUP 2007-22, 4.5 to 5.2", 0.20),
        ("Stays of up to 3 days, %", 57, _percent(days < 3.5), "v", "HCUP 2003", 0.20),
        ("Stays of 8 days or more, %", 16, _percent(days >= 7.5), "v", "HCUP 2003", 0.35),
        ("Stays for sepsis, %", 4.3, _percent(stays["kind"] == "sepsis"), "v", "Rhee 2017, clinical criteria", 0.25),
        ("Died in hospital, % of stays", 2.0, _percent(stays["died"]), "v2", "HCUP", 0.35),
        ("Died in hospital of sepsis, %", 15, _percent(died["sepsis"]), "v", "Rhee 2017", 0.20),
        ("Died in hospital of pneumonia, %", 6.5, _percent(died["pneumonia"]), "v", "Louisville", 0.30),
        ("Died in hospital of infarction, %", 8, _percent(died["infarction"]), "v2", "HCUP 2010", 0.35),
    ):
        yield Figure(name=name, published=published, simulated=simulated, tag=tag, source=source, within=within)


def _returns(left: pl.DataFrame) -> Iterator[Figure]:
    name, all_back = "Back within 30 days, %", _percent(left["returns"])
    yield Figure(name=name, published=14, simulated=all_back, source="HCUP 2010-16")
    for kind, published in (("heart_failure", 22.9), ("infarction", 18.2), ("pneumonia", 17.5), ("copd", 18.4)):
        back = left.filter(pl.col("age") >= 65, pl.col("kind") == kind)["returns"]
        name = f"Back within 30 days after {kind.replace('_', ' ')}, 65 and over, %"
        yield Figure(name=name, published=published, simulated=_percent(back), source="CMS")


def _death_within_a_year(census: Census) -> Iterator[Figure]:
    """Of discharge, among people who were still in the region; within a month of the year, as stays are dated."""
    what = pl.col("what")
    died = census.events.filter(what.str.starts_with("death")).group_by("person").agg(death=pl.col("month").min())
    moves = census.events.filter(what == "move").group_by("person").agg(move=pl.col("month").min())
    last = int(census.survey["month"].max())
    stays = (
        census.stays.filter((~pl.col("died")) & (pl.col("month") <= last - 12))
        .join(died, on="person", how="left")
        .join(moves, on="person", how="left")
        .filter(pl.col("move").is_null() | (pl.col("move") > pl.col("month") + 12))
        .with_columns(dead=(pl.col("death") <= pl.col("month") + 12).fill_null(False))
    )
    kind, is_old = pl.col("kind"), pl.col("age") >= 65
    for who, chosen, published, source in (
        ("a stay for heart failure, 65 and over", (kind == "heart_failure") & is_old, 35.8, "Medicare 2008-10"),
        ("a stay for infarction, 65 and over", (kind == "infarction") & is_old, 25.1, "Medicare 2008-10"),
        ("a stay for pneumonia, 65 and over", (kind == "pneumonia") & is_old, 31.1, "Medicare 2008-10"),
        ("a stay for pneumonia, all adults", kind == "pneumonia", 25.8, "Louisville, 30.6 less in hospital"),
        ("a stay for hip fracture, 65 and over", (kind == "hip_fracture") & is_old, 23.7, "Olmsted"),
        ("any medical stay, 65 and over", ~kind.str.contains("surgery") & is_old, 13.3, "Medicare"),
    ):
        name, dead = f"Died within a year of {who}, %", _percent(stays.filter(chosen)["dead"])
        yield Figure(name=name, published=published, simulated=dead, source=source, within=0.3)


def _percent(which: pl.Series) -> float:
    return 100 * float(which.mean()) if len(which) else float("nan")
