"""A home small enough to read: three events of one patient, one label of each kind, the other tables empty."""

from datetime import date, datetime
from pathlib import Path

import polars as pl

from features import tables
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
    """The same moment for two tasks: one answered, one whose follow-up ended after 30 days."""
    row = {"subject_id": SUBJECT, "prediction_time": SEEN, "horizon_days": 365, "split": "train"}
    return pl.DataFrame(
        [
            row | {"task": "acute_care", "state": "event", "time_to_event_days": 12.5},
            row | {"task": "mortality", "state": "censored", "time_to_event_days": 30.0},
        ],
        schema=tables.empty(tables.Labels).schema,
    )
