"""What does the report say? Gathers the parts, hides small counts, and fills the page."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from features.settings import StudySettings
from features.tables import SPLITS
from features.tasks.schema import Task
from models.questions import Question
from models.report.league_rows import league_rows
from models.report.population import population_table
from models.report.sections import task_section, title_of
from models.report.small_cells import shown

SYNTHETIC_SOURCES = ("synthea", "example", "simulat", "synthetic")
COUNTED_AS_PEOPLE = ("patients", "events", "records")


def write_report(
    folder: Path,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    evaluations: pl.DataFrame,
    skipped: pl.DataFrame,
    profile: pl.DataFrame,
    record_counts: pl.DataFrame,
    source_label: str,
    settings: StudySettings,
    *,
    model_version: str = "",
    data_version: str = "",
    tasks: Sequence[Task] = (),
    features: pl.DataFrame | None = None,
    audits: pl.DataFrame | None = None,
    league: pl.DataFrame | None = None,
) -> Path:
    """Write folder/index.html and return its path.

    Reads Labels, Predictions, Evaluations, SkippedTasks, DataProfile and RecordCounts. `tasks` puts the tasks into
    words; `features` (keys, age_years, is_female and the columns of comparators) describes the patients by age and sex
    and tells how often a clinical score had a value; `audits` (Audits) says whether the shape of the records gives an
    outcome away, `league` (League) whether a model beats the simpler ones. A count that stands for fewer than
    `settings.smallest_cell` people is not shown. `source_label` says where the records came from; one that names
    Synthea, the example or a simulation puts a banner over the page: nothing in it is about real people.
    """
    smallest = settings.smallest_cell
    defined = {task.name: task for task in tasks}
    league_models, league_lines = ([], []) if league is None else league_rows(league, tasks)
    return fill_page(
        folder / "index.html",
        "page.html",
        is_synthetic=is_synthetic(source_label),
        source_label=source_label,
        model_version=model_version,
        data_version=data_version,
        smallest_cell=smallest,
        settings=settings,
        parts=[split.replace("_", "-") for split in SPLITS],
        population=population_table(labels, features, smallest),
        sections=[
            task_section(
                Question(task, horizon),
                defined.get(task),
                labels,
                predictions,
                evaluations,
                settings,
                audits,
                features,
            )
            for task, horizon in evaluations.select("task", "horizon_days").unique().sort(pl.all()).iter_rows()
        ],
        league_models=league_models,
        league=league_lines,
        skipped=[row | {"title": title_of(row["task"], tasks)} for row in skipped.sort("task").rows(named=True)],
        records=[
            row | {"records": shown(row["records"], row["records"], smallest)}
            for row in record_counts.sort("resource_type", "outcome", "reason").rows(named=True)
        ],
        findings=[
            row
            | {"count": shown(row["count"], row["count"] if row["unit"] in COUNTED_AS_PEOPLE else smallest, smallest)}
            for row in profile.sort("finding").rows(named=True)
        ],
    )


def is_synthetic(source_label: str) -> bool:
    """Whether the records are of people who do not exist."""
    return any(word in source_label.lower() for word in SYNTHETIC_SOURCES)


def fill_page(file: Path, template: str, **values: object) -> Path:
    """Write `file` from a template of this folder, whole or not at all; return its path."""
    surroundings = Environment(
        loader=PackageLoader("models.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = surroundings.get_template(template).render(**values)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.partial")
    unfinished.write_text(page, encoding="utf-8")
    return unfinished.replace(file)
