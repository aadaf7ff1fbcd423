"""What does the cohort report say? For each task who is asked, who is left out by which rule, and what followed."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.settings import StudySettings
from features.tasks.schema import Task
from models.report.page import fill_page, is_synthetic
from models.report.small_cells import ROUNDED_TO, is_small, shown
from models.report.task_words import horizon_words, task_facts

_YEAR_DAYS = 365.25


@dataclass(frozen=True)
class CohortRow:
    """A line of a table, as text."""

    name: str
    times: str
    patients: str
    events: str = ""
    patients_with_event: str = ""
    followed_years: str = ""
    median_days: str = ""


@dataclass(frozen=True)
class HorizonPart:
    """What followed within one horizon, as text; `refused` says why nothing is told."""

    days: str
    title: str
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
    no_code: str
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
        facts=[
            (heading, sentence)
            for heading, sentence in task_facts(task, task.horizons_days[-1])
            if heading != "Within" or len(task.horizons_days) == 1
        ],
        no_code=", ".join(counts.filter(pl.col("part") == "no_code").sort("place")["name"]),
        steps=_step_rows(steps, smallest),
        horizons=[
            _horizon(task, days, counts.filter(pl.col("horizon_days") == days), smallest) for days in task.horizons_days
        ],
    )


def _horizon(task: Task, days: int, counts: pl.DataFrame, smallest: int) -> HorizonPart:
    def of_parts(*parts: str) -> list[dict[str, int]]:
        found = counts.filter(pl.col("part").is_in(parts))
        return found.sort(pl.col("part") == "left_out", "place").rows(named=True)

    # Where a state is hidden, so are the outcomes of sites and years, of which the states' sum would be known.
    followed = of_parts("state", "left_out")
    is_hidden = any(is_small(part["subjects"], smallest) for part in followed)
    refused = counts.filter(pl.col("part") == "refused")["name"].to_list()
    states = counts.filter(pl.col("part") == "state")
    years, times = float(states["followed_years"].sum()), int(states["prediction_times"].sum())
    people = states["subjects"].max()
    few = isinstance(people, int) and is_small(people, smallest)
    return HorizonPart(
        days=f"{days:,}",
        title=horizon_words(task, days).capitalize(),
        refused=refused[0] if refused else "",
        follow_up="" if few or not times else f"{years:,.0f} years, {years / times * _YEAR_DAYS:,.0f} days on average",
        states=_rows(followed, smallest, is_hidden),
        sites=_rows(of_parts("site"), smallest, is_hidden),
        years=_rows(of_parts("calendar_year"), smallest, is_hidden),
    )


def _step_rows(steps: list[dict[str, int]], smallest: int) -> list[CohortRow]:
    """Steps one after the other: what a step leaves out must not be told either when it is few people.

    Both sides of such a step are rounded, for another table or page may tell either of them exactly.
    """
    counts, rows = [step["subjects"] for step in steps], []
    for step in steps:
        people, times = step["subjects"], step["prediction_times"]
        is_near = people >= smallest and any(is_small(abs(people - other), smallest) for other in counts)
        rows.append(
            CohortRow(
                name=str(step["name"]),
                times=_about(times) if is_near else shown(times, people, smallest),
                patients=_about(people) if is_near else shown(people, people, smallest),
            )
        )
    return rows


def _rows(parts: list[dict[str, int]], smallest: int, hide_events: bool) -> list[CohortRow]:
    """Parts that add up to a total: when one is too small, the others are rounded.

    Outcomes add up to a total that the states tell, exact ones of the others would give a hidden one away: all are
    shown, or none.
    """
    is_rounded = any(is_small(part["subjects"], smallest) for part in parts)
    hide_events = hide_events or is_rounded or any(_has_few(part, smallest) for part in parts)
    rows = []
    for part in parts:
        people = part["subjects"]
        is_few = is_small(people, smallest)
        exact = not is_rounded or is_few
        rows.append(
            CohortRow(
                name=str(part["name"]).replace("_", " "),
                times=shown(part["prediction_times"], people, smallest) if exact else _about(part["prediction_times"]),
                patients=shown(people, people, smallest) if exact else _about(people),
                events=_number(part["events"], hide_events),
                patients_with_event=_number(part["subjects_with_event"], hide_events),
                followed_years=_number(part["followed_years"], is_rounded),
                median_days=_number(part["median_followed_days"], is_few),
            )
        )
    return rows


def _has_few(part: dict[str, int], smallest: int) -> bool:
    """Whether few people of a part have the outcome, or few have not."""
    with_event = part["subjects_with_event"] or 0
    return is_small(with_event, smallest) or is_small(part["subjects"] - with_event, smallest)


def _number(number: float | None, is_hidden: bool) -> str:
    if number is None:
        return ""
    return "not shown" if is_hidden else f"{number:,.0f}"


def _about(count: int) -> str:
    return f"about {round(count / ROUNDED_TO) * ROUNDED_TO:,}"
