"""A small invented population in which one code, and only it, raises the risk."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.settings import StudySettings
from features.tables import Events, FeatureDefinitions, Labels, checked, empty
from models.recurrent import RecurrentSettings
from models.risk_transformer import TransformerSettings

PLANTED = "SNOMED//500"
GLUCOSE = "LOINC//2339-0"
TASK = "planted_outcome"
RARE_TASK = "rare_outcome"
HORIZON_DAYS = 365
SETTINGS = StudySettings(bootstrap_resamples=100, lookback_days=730)
SMALL = TransformerSettings(
    width=16,
    heads=2,
    lookback_shares=(1.0,),
    value_knots=4,
    pretraining_epochs=0,
    epochs=12,
    patience=12,
    places_per_batch=256,
    learning_rate=8e-3,
    mean_share=0.9,
)
SMALL_RECURRENT = RecurrentSettings(
    width=16, epochs=12, patience=12, places_per_batch=256, learning_rate=8e-3, dropout=0.1, event_dropout=0.1
)
DEFINITIONS = checked(
    pl.DataFrame(
        [
            ("age_years", "Age", "years", "demographic", "value", [], None),
            ("is_female", "Female", None, "demographic", "is_present", [], None),
            ("planted_count", "Planted findings in the last 730 days", None, "count", "count", [PLANTED], 730),
            ("glucose_last", "Last glucose in the last 730 days", "mg/dL", "value", "last", [GLUCOSE], 730),
        ],
        schema=empty(FeatureDefinitions).schema,
        orient="row",
    ),
    FeatureDefinitions,
)


@dataclass(frozen=True)
class Population:
    """Events, labels and features of the invented patients."""

    events: pl.DataFrame
    labels: pl.DataFrame
    features: pl.DataFrame


def events_table(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Events from the columns that matter; the rest is null, known_time is time, record ids count up."""
    full = [{"known_time": row.get("time"), "record_id": place, **row} for place, row in enumerate(rows, start=1)]
    return checked(pl.DataFrame(full, schema=empty(Events).schema), Events)


def draw_population(subjects: int = 300, seed: int = 7) -> Population:
    """Three prediction times a patient; the outcome follows the planted code in 80 %, else in 4 %."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    labels = []
    for subject in range(1, subjects + 1):
        split = ("train", "train", "train", "tuning", "held_out")[subject % 5]
        birth = datetime(1940, 1, 1) + timedelta(days=int(random.integers(0, 20_000)))
        rows.append({"subject_id": subject, "time": birth, "code": "MEDS_BIRTH"})
        rows.append({"subject_id": subject, "code": f"SEX//{random.choice(['female', 'male'])}"})
        days = np.sort(random.choice(2_000, size=9, replace=False))
        visits = [datetime(2010, 3, 1, 9) + timedelta(days=int(day)) for day in days]
        ill = random.random() < 0.35
        planted = {int(place) for place in random.choice(9, size=4, replace=False)} if ill else set()
        for place, visit in enumerate(visits):
            rows.append({"subject_id": subject, "time": visit, "code": "ENCOUNTER//AMB//start"})
            if random.random() < 0.7:
                value = float(random.normal(100, 15))
                rows.append(
                    {"subject_id": subject, "time": visit, "code": GLUCOSE, "numeric_value": value, "unit": "mg/dL"}
                )
            if random.random() < 0.4:
                rows.append({"subject_id": subject, "time": visit, "code": "SNOMED//49727002"})
            if place in planted:
                rows.append({"subject_id": subject, "time": visit, "code": PLANTED})
        for place in (4, 6, 8):
            now = visits[place]
            seen = any(now - timedelta(days=730) < visits[other] <= now for other in planted)
            state = "event" if random.random() < (0.8 if seen else 0.04) else "none"
            days_to = float(random.integers(1, HORIZON_DAYS)) if state == "event" else HORIZON_DAYS
            if random.random() < 0.1:
                state, days_to = str(random.choice(["censored", "died_first"])), float(random.integers(1, 365))
            labels.append((subject, now, TASK, HORIZON_DAYS, split, state, days_to))
            rare = "event" if subject in (5, 6, 7) and place == 8 else "none"
            labels.append((subject, now, RARE_TASK, HORIZON_DAYS, split, rare, HORIZON_DAYS))
    events = events_table(rows)
    table = checked(pl.DataFrame(labels, schema=empty(Labels).schema, orient="row"), Labels)
    return Population(events, table, build_features(events, table.select("subject_id", "prediction_time").unique()))


def build_features(events: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The four features of DEFINITIONS at each of `keys`."""
    keys = keys.sort("subject_id", "prediction_time")
    seen = keys.join(events, on="subject_id").filter(
        pl.col("known_time") <= pl.col("prediction_time"),
        pl.col("known_time") > pl.col("prediction_time") - pl.duration(days=730),
    )
    by_row = ["subject_id", "prediction_time"]
    counts = seen.group_by(by_row).agg(
        planted_count=(pl.col("code") == PLANTED).sum(),
        glucose_last=pl.col("numeric_value")
        .filter(pl.col("code") == GLUCOSE)
        .sort_by(pl.col("known_time").filter(pl.col("code") == GLUCOSE))
        .last(),
    )
    births = events.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", birth="time")
    sexes = events.filter(pl.col("code").str.starts_with("SEX//")).select("subject_id", sex="code")
    return (
        keys.join(births, on="subject_id", how="left")
        .join(sexes, on="subject_id", how="left")
        .join(counts, on=by_row, how="left")
        .select(
            *by_row,
            age_years=(pl.col("prediction_time") - pl.col("birth")).dt.total_days() / 365.25,
            is_female=pl.col("sex") == "SEX//female",
            planted_count=pl.col("planted_count").fill_null(0),
            glucose_last="glucose_last",
        )
        .cast(dict.fromkeys(DEFINITIONS["feature"], pl.Float32))
        .sort(by_row)
    )
