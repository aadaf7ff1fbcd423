"""Events of made-up people for the tests of trajectories."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features import tables

ORIGIN = datetime(2015, 6, 1, 12)
BORN = datetime(1955, 1, 1)
HBA1C, SYSTOLIC = "LOINC//4548-4", "LOINC//8480-6"
METFORMIN, DIABETES = "RXNORM//860975", "SNOMED//44054006"
UNITS = {HBA1C: "%", SYSTOLIC: "mm[Hg]"}
DAY = timedelta(days=1)

Row = tuple[int, str, datetime | None, datetime | None, float | None, int | None]


def row(
    code: str,
    time: datetime | None,
    value: float | None = None,
    known: datetime | None = None,
    visit: int | None = None,
    subject: int = 1,
) -> Row:
    """An event; known when it happened unless said otherwise."""
    return subject, code, time, known or time, value, visit


def events(*rows: Row) -> pl.LazyFrame:
    """Events of these rows."""
    frame = pl.DataFrame(
        [
            {
                "subject_id": subject,
                "code": code,
                "time": time,
                "known_time": known,
                "numeric_value": value,
                "unit": UNITS.get(code),
                "encounter_id": visit,
                "record_id": place,
            }
            for place, (subject, code, time, known, value, visit) in enumerate(rows)
        ],
        schema=tables.empty(tables.Events).schema,
    )
    return frame.sort("subject_id", "time", "known_time", "code", "numeric_value").lazy()


def person(subject: int = 1, sex: str = "female") -> list[Row]:
    """Birth and sex."""
    return [row("MEDS_BIRTH", BORN, subject=subject), row(f"SEX//{sex}", None, subject=subject)]


def origins(*times: datetime) -> pl.DataFrame:
    """Moments of subject 1."""
    return pl.DataFrame({"subject_id": 1, "prediction_time": list(times)}, schema_overrides={"subject_id": pl.Int64})


def population(people: int = 100, seed: int = 3) -> tuple[pl.LazyFrame, pl.DataFrame, pl.DataFrame]:
    """Events, observation periods and splits: HbA1c every 80 days for four years; metformin at two takes 1.5 %."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for subject in range(people):
        rows += person(subject, "female" if subject % 2 else "male")
        level, treated = random.normal(8, 1), subject % 3 == 0
        for visit in range(18):
            time = ORIGIN + visit * 80 * DAY
            effect = -1.5 if treated and visit > 9 else 0.0
            rows.append(row(HBA1C, time, level + effect + random.normal(0, 0.2), subject=subject))
        if treated:
            rows += [row(METFORMIN, ORIGIN + (730 + 200 * again) * DAY, subject=subject) for again in range(4)]
    start, end = ORIGIN - 10 * DAY, ORIGIN + 1_500 * DAY
    who = pl.DataFrame({"subject_id": range(people)}, schema_overrides={"subject_id": pl.Int64})
    splits = ["train"] * 6 + ["tuning"] * 2 + ["held_out"] * 2
    return (
        events(*rows),
        who.with_columns(start=pl.lit(start), end=pl.lit(end)),
        who.with_columns(split=pl.Series([splits[subject % 10] for subject in range(people)])),
    )
