"""What does the cohort report say? For each task who is asked, who is left out by which rule, and what followed."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.settings import StudySettings
from features.tasks.schema import Task
from models.report.page import fill_page, is_synthetic
from models.report.small_cells import ROUNDED_TO, is_small, shown
from models.report.task_words import task_facts

_YEAR_DAYS = 365.25


@dataclass(frozen=True)
class CohortRow:
    """A line of a table, as text."""

    name: str
    times: str
    patients: str
    events: str
    patients_with_event: str


@dataclass(frozen=True)
class HorizonPart:
    """What followed within one horizon, as text; `refused` says why nothing is told."""

    days: str
    refused: str
    follow_up: str
    states: list[CohortRow]
    sites: list[CohortRow]
    years: list[CohortRow]


@dataclass(frozen=True)
class CohortSection:
    """One task."""

    task: str
    title: str
    description: str
    facts: list[tuple[str, str]]
    steps: list[CohortRow]
    horizons: list[HorizonPart]


def write_cohort_page(
    folder: Path, counts: pl.DataFrame, tasks: list[Task], source_label: str, settings: StudySettings
) -> Path:
    """Write folder/cohorts.html and return its path.

    Reads CohortCounts. A count that stands for fewer than `settings.smallest_cell` patients is not shown, and counts
    beside it that would give it away are rounded.
    """
    smallest = settings.smallest_cell
    return fill_page(
        folder / "cohorts.html",
        "cohorts.html",
        is_synthetic=is_synthetic(source_label),
        source_label=source_label,
        smallest_cell=smallest,
        sections=[_section(task, counts.filter(pl.col("task") == task.name), smallest) for task in tasks],
    )


def _section(task: Task, counts: pl.DataFrame, smallest: int) -> CohortSection:
    steps = counts.filter(pl.col("part") == "step").sort("place").rows(named=True)
    return CohortSection(
        task=task.name,
        title=task.title,
        description=task.description,
        facts=[fact for fact in task_facts(task, task.horizons_days[-1]) if fact[0] != "Within"],
        steps=_step_rows(steps, smallest),
        horizons=[
            _horizon(days, counts.filter(pl.col("horizon_days") == days), smallest) for days in task.horizons_days
        ],
    )


def _horizon(days: int, counts: pl.DataFrame, smallest: int) -> HorizonPart:
    def rows(part: str) -> list[CohortRow]:
        return _rows(counts.filter(pl.col("part") == part).sort("place").rows(named=True), smallest)

    refused = counts.filter(pl.col("part") == "refused")["name"].to_list()
    states = counts.filter(pl.col("part") == "state")
    years, times = float(states["followed_years"].sum()), int(states["prediction_times"].sum())
    people = states["subjects"].max()
    few = isinstance(people, int) and is_small(people, smallest)
    return HorizonPart(
        days=f"{days:,}",
        refused=refused[0] if refused else "",
        follow_up="" if few or not times else f"{years:,.0f} years, {years / times * _YEAR_DAYS:,.0f} days on average",
        states=rows("state"),
        sites=rows("site"),
        years=rows("calendar_year"),
    )


def _step_rows(steps: list[dict[str, int]], smallest: int) -> list[CohortRow]:
    """Steps one after the other: what a step leaves out must not be told either when it is few people."""
    rows, last_exact = [], None
    for step in steps:
        people, times = step["subjects"], step["prediction_times"]
        is_near = last_exact is not None and is_small(last_exact - people, smallest) and people >= smallest
        last_exact = last_exact if is_near else people
        rows.append(
            CohortRow(
                name=str(step["name"]),
                times=_about(times) if is_near else shown(times, people, smallest),
                patients=_about(people) if is_near else shown(people, people, smallest),
                events="",
                patients_with_event="",
            )
        )
    return rows


def _rows(parts: list[dict[str, int]], smallest: int) -> list[CohortRow]:
    """Parts that add up to a total: when one is too small, the others are rounded."""
    is_rounded = any(is_small(part["subjects"], smallest) for part in parts)
    rows = []
    for part in parts:
        people, with_event = part["subjects"], part["subjects_with_event"]
        is_hidden = is_small(with_event, smallest) or is_small(people - with_event, smallest)
        exact = not is_rounded or is_small(people, smallest)
        rows.append(
            CohortRow(
                name=str(part["name"]).replace("_", " "),
                times=shown(part["prediction_times"], people, smallest) if exact else _about(part["prediction_times"]),
                patients=shown(people, people, smallest) if exact else _about(people),
                events="not shown" if is_hidden or is_rounded else f"{part['events']:,}",
                patients_with_event="not shown" if is_hidden or is_rounded else f"{with_event:,}",
            )
        )
    return rows


def _about(count: int) -> str:
    return f"about {round(count / ROUNDED_TO) * ROUNDED_TO:,}"
