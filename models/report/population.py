"""Who stands behind the numbers? Patients by part of the study, age and sex, and outcomes by part."""

from dataclasses import dataclass

import polars as pl

from features.tables import SPLITS
from models.report.small_cells import is_small, share, shown, shown_together

AGE_BANDS = {"under 18": 18, "18 to 39": 40, "40 to 64": 65, "65 to 79": 80, "80 or more": 200}  # years, below
UNKNOWN = "not recorded"
SEXES = ("female", "male or other")


@dataclass(frozen=True)
class PopulationRow:
    """A line of the population table: a count for each part of the study, as text; none for a heading."""

    name: str
    cells: list[str]


@dataclass(frozen=True)
class PartRow:
    """One part of the study for one task, as text."""

    part: str
    patients: str
    times: str
    events: str
    patients_with_event: str
    event_share: str


def population_table(labels: pl.DataFrame, features: pl.DataFrame | None, smallest: int) -> list[PopulationRow]:
    """Patients of each part of the study; with `features` (keys, age_years, is_female) by age and sex too.

    Reads Labels. Age and sex are those at a patient's first prediction time. A count below `smallest` is not shown,
    and those beside it are rounded.
    """
    parts = [labels.filter(pl.col("split") == split) for split in SPLITS]
    people = [part["subject_id"].n_unique() for part in parts]
    times = [part.select("subject_id", "prediction_time").n_unique() for part in parts]
    rows = [
        PopulationRow("Patients", [shown(count, count, smallest) for count in people]),
        PopulationRow("Prediction times", [shown(*pair, smallest) for pair in zip(times, people, strict=True)]),
    ]
    if features is None:
        return rows
    described = _described(labels, features)
    for heading, column, names in (
        ("Age at the first prediction time, years", "age", (*AGE_BANDS, UNKNOWN)),
        ("Sex", "sex", (*SEXES, UNKNOWN)),
    ):
        rows += [PopulationRow(heading, []), *_group(described, column, names, smallest)]
    return rows


def part_rows(labels: pl.DataFrame, smallest: int) -> list[PartRow]:
    """Patients, prediction times with known outcome, and outcomes of one task, by part of the study.

    Reads Labels of one task and horizon. Where a part's outcomes are too few to be shown, no part's are: the cohort
    report tells those of all parts together, from which the hidden ones could be worked out.
    """
    known = labels.filter(pl.col("state") != "censored").with_columns(is_event=pl.col("state") == "event")
    parts = [known.filter(pl.col("split") == split) for split in SPLITS]
    counts = [
        [part.filter(pl.col("is_event") == is_event)["subject_id"].n_unique() for is_event in (True, False)]
        for part in parts
    ]
    is_hidden = any(is_small(count, smallest) for of_part in counts for count in of_part)
    rows = []
    for split, part, (with_event, _) in zip(SPLITS, parts, counts, strict=True):
        people, events = part["subject_id"].n_unique(), int(part["is_event"].sum())
        rows.append(
            PartRow(
                part=split.replace("_", "-"),
                patients=shown(people, people, smallest),
                times=shown(part.height, people, smallest),
                events="not shown" if is_hidden else f"{events:,}",
                patients_with_event="not shown" if is_hidden else f"{with_event:,}",
                event_share="not shown" if is_hidden else share(events / part.height if part.height else None, False),
            )
        )
    return rows


def left_out(labels: pl.DataFrame, smallest: int) -> tuple[str, str]:
    """Prediction times that were followed too short, and those that death followed, in words. Reads a task's Labels."""
    censored, died = (labels.filter(pl.col("state") == state) for state in ("censored", "died_first"))
    return _times_in_words(censored, smallest), _times_in_words(died, smallest)


def _times_in_words(rows: pl.DataFrame, smallest: int) -> str:
    if is_small(rows["subject_id"].n_unique(), smallest):
        return f"prediction times of fewer than {smallest} patients"
    return f"{rows.height:,} prediction times" if rows.height else "none"


def _described(labels: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """One row a patient: split, age (band), sex."""
    first = labels.group_by("subject_id").agg(pl.col("prediction_time").min(), pl.col("split").first())
    age, is_female = pl.col("age_years"), pl.col("is_female")
    bands = [pl.when(age < below).then(pl.lit(band)) for band, below in AGE_BANDS.items()]
    return first.join(
        features.select("subject_id", "prediction_time", "age_years", "is_female"),
        on=["subject_id", "prediction_time"],
        how="left",
    ).select(
        "split",
        age=pl.coalesce(*bands, pl.lit(UNKNOWN)),
        sex=pl.coalesce(
            pl.when(is_female == 1).then(pl.lit(SEXES[0])),
            pl.when(is_female == 0).then(pl.lit(SEXES[1])),
            pl.lit(UNKNOWN),
        ),
    )


def _group(described: pl.DataFrame, column: str, names: tuple[str, ...], smallest: int) -> list[PopulationRow]:
    """A line for each name that anybody has."""
    counts = {
        name: [described.filter((pl.col("split") == split) & (pl.col(column) == name)).height for split in SPLITS]
        for name in names
    }
    counts = {name: of_name for name, of_name in counts.items() if any(of_name)}
    by_part = [
        shown_together([of_name[place] for of_name in counts.values()], smallest) for place in range(len(SPLITS))
    ]
    return [PopulationRow(name, [part[row] for part in by_part]) for row, name in enumerate(counts)]
