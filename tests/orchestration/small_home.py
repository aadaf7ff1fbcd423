"""A home small enough to read: three events of one patient, two labels, the other tables empty."""

from datetime import date, datetime
from pathlib import Path

import polars as pl

from features import result_tables, tables
from features.home import Home
from orchestration.warehouse import PUBLISHED

BORN = datetime(1950, 3, 1)
SEEN = datetime(2015, 6, 1, 9, 30)
SUBJECT = 42


def write_small_home(path: Path) -> Home:
    """Write the tables that the warehouse and the command line read."""
    home = Home(path)
    shard = home.meds / "data" / "train" / "0.parquet"
    shard.parent.mkdir(parents=True)
    events().write_parquet(shard)
    home.tables.mkdir()
    for name, contract in PUBLISHED.items():
        if name not in ("events", "risk_scores"):
            tables.empty(contract).write_parquet(home.tables / f"{name}.parquet")
    pl.DataFrame({"subject_id": [SUBJECT], "split": ["train"]}).write_parquet(home.tables / "subject_splits.parquet")
    labels().write_parquet(home.tables / "labels.parquet")
    features = {"subject_id": [SUBJECT], "prediction_time": [SEEN], "age_years": [65.25]}
    pl.DataFrame(features, schema_overrides={"age_years": pl.Float32}).write_parquet(home.tables / "features.parquet")
    definition = {"feature": "age_years", "description": "Age's years", "unit": "a", "kind": "demographic"}
    pl.DataFrame(
        [definition | {"statistic": "last", "codes": [], "window_days": None}],
        schema=tables.empty(tables.FeatureDefinitions).schema,
    ).write_parquet(home.tables / "feature_definitions.parquet")
    days = {"first_day": [date(2011, 4, 1)], "last_day": [date(2021, 4, 1)]}
    pl.DataFrame(days).write_parquet(home.tables / "study_days.parquet")
    return home


def events() -> pl.DataFrame:
    """Sex, birth and one blood pressure."""
    rows = [("SEX//female", None, None), ("MEDS_BIRTH", BORN, None), ("LOINC//8480-6", SEEN, 131.0)]
    return pl.DataFrame(
        [
            {
                "subject_id": SUBJECT,
                "time": time,
                "known_time": time,
                "code": code,
                "numeric_value": value,
                "record_id": number,
            }
            for number, (code, time, value) in enumerate(rows)
        ],
        schema=tables.empty(tables.Events).schema,
    )


def labels() -> pl.DataFrame:
    """The same moment for two tasks: one outcome after 12.5 days, one death after 30."""
    row = {"subject_id": SUBJECT, "prediction_time": SEEN, "horizon_days": 365, "split": "train"}
    return pl.DataFrame(
        [
            row | {"task": "acute_care", "state": "event", "time_to_event_days": 12.5},
            row | {"task": "inpatient_admission", "state": "died_first", "time_to_event_days": 30.0},
        ],
        schema=tables.empty(tables.Labels).schema,
    )


def scores(as_of: date, subjects: list[int]) -> pl.DataFrame:
    """A risk for each of `subjects` on one day."""
    row = {"as_of": as_of, "task": "acute_care", "horizon_days": 365, "risk": 0.2, "risk_low": 0.1, "risk_high": 0.3}
    row |= {
        "is_unlike": False,
        "unlike_because": None,
        "model": "age_sex",
        "model_version": "m",
        "data_version": "d",
        "reasons": [],
    }
    return pl.DataFrame(
        [row | {"subject_id": subject} for subject in subjects], schema=tables.empty(result_tables.RiskScores).schema
    )


def write_scores(home: Home, as_of: date, subjects: list[int]) -> Path:
    """Write `scores` where the day's risk scores lie."""
    file = home.tables / "risk_scores" / f"{as_of}.parquet"
    file.parent.mkdir(exist_ok=True)
    scores(as_of, subjects).write_parquet(file)
    return file
