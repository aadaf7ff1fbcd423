"""Each count finds what it is for, planted by hand, and nothing in good tables."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from features import integrity
from features.feature_tables import build_features
from features.tables import Events, FeatureDefinitions, RecordCounts, empty

NOON = datetime(2015, 6, 1, 12)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PRESSURE = "LOINC//8480-6"


def events(*rows):
    """(subject, code, time, known_time, value) in order; each its own record."""
    return pl.LazyFrame(
        [
            {
                "subject_id": subject,
                "code": code,
                "time": time,
                "known_time": known,
                "numeric_value": value,
                "unit": None if value is None else "mm[Hg]",
                "record_id": number,
            }
            for number, (subject, code, time, known, value) in enumerate(rows)
        ],
        schema=empty(Events).schema,
    )


GOOD = (
    (1, "SEX//female", None, None, None),
    (1, "MEDS_BIRTH", NOON - 9_000 * DAY, NOON - 9_000 * DAY, None),
    (1, PRESSURE, NOON - DAY, NOON - DAY, 120.0),
    (1, "MEDS_DEATH", NOON, NOON + DAY, None),  # known a day later, which is no fault
)


def test_good_events_pass():
    good = events(*GOOD)
    assert integrity.count_events_after_death(good) == 0
    assert integrity.count_known_before_time(good) == 0
    assert integrity.count_contract_breaks(good) == 0


def test_events_after_death_are_counted():
    late = (1, PRESSURE, NOON + HOUR, NOON + HOUR, 90.0)
    of_another = (2, PRESSURE, NOON + HOUR, NOON + HOUR, 90.0)
    assert integrity.count_events_after_death(events(*GOOD, late, of_another)) == 1


def test_known_before_it_happened_is_counted():
    early = (1, PRESSURE, NOON, NOON - HOUR, 120.0)
    half = (1, PRESSURE, NOON, None, 120.0)
    assert integrity.count_known_before_time(events(*GOOD, early, half)) == 2


@pytest.mark.parametrize(
    "broken",
    [
        events(*GOOD).drop("unit"),
        events(*GOOD).with_columns(name=pl.lit("x")),
        events(*GOOD).with_columns(pl.col("record_id").cast(pl.Int32)),
        events(*GOOD).with_columns(code=pl.lit(None, pl.String)).head(1),
    ],
)
def test_a_broken_contract_is_counted(broken):
    assert integrity.count_contract_breaks(broken) == 1


def test_records_balance():
    """4 sources of events + 2 ignored + 1 quarantined = 7."""
    counts = pl.DataFrame(
        [("Observation", "used", "", 4), ("Claim", "ignored", "not read", 2), ("unknown", "quarantined", "x", 1)],
        schema=empty(RecordCounts).schema,
        orient="row",
    )
    quarantine = pl.LazyFrame({"file": ["f"]})
    balance = integrity.balance_records(7, events(*GOOD), counts, quarantine)
    assert balance.is_balanced
    lost = integrity.balance_records(8, events(*GOOD), counts, quarantine)
    assert lost.unexplained == 1
    assert not lost.is_balanced
    assert not integrity.balance_records(7, events(*GOOD), counts, quarantine.head(0)).is_balanced


def test_merged_patients_are_counted():
    counts = pl.LazyFrame([("Patient", "used", "", 2)], schema=empty(RecordCounts).schema, orient="row")
    assert integrity.count_merged_patients(events(*GOOD), counts) == 1
    assert integrity.count_merged_patients(events(*GOOD, (2, *GOOD[0][1:])), counts) == 0


def test_misplaced_subjects_are_counted(tmp_path):
    """1 is in place; 2 lies in two files; 3 in the folder of another split; 4 in no split at all."""
    for place, subjects in {"train/0": [1, 1, 2], "train/1": [2, 3], "held_out/0": [4]}.items():
        path = tmp_path / "meds" / "data" / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"subject_id": subjects}).write_parquet(path)
    splits = pl.LazyFrame({"subject_id": [1, 2, 3], "split": ["train", "train", "tuning"]})
    assert integrity.count_misplaced_subjects(tmp_path / "meds", splits) == 3


LAST_PRESSURE = pl.DataFrame(
    [
        {
            "feature": "systolic_last",
            "description": "Last systolic blood pressure",
            "unit": "mm[Hg]",
            "kind": "value",
            "statistic": "last",
            "codes": [PRESSURE],
            "window_days": 365,
        }
    ],
    schema=empty(FeatureDefinitions).schema,
)
TIMES = pl.DataFrame(
    {"subject_id": [1], "prediction_time": [NOON]}, schema_overrides={"prediction_time": pl.Datetime("us")}
)


def rows_that_see_the_future(timeline, table):
    return integrity.count_rows_that_see_the_future(timeline, table.lazy(), LAST_PRESSURE, rows=10, seed=1)


def test_features_from_the_past_pass():
    timeline = events(*GOOD[:3], (1, PRESSURE, NOON + DAY, NOON + DAY, 200.0))
    table = build_features(timeline, TIMES, LAST_PRESSURE)
    assert table["systolic_last"].item() == 120.0
    assert rows_that_see_the_future(timeline, table) == 0


def test_a_feature_that_looks_at_clinical_time_is_found():
    """180 was measured before the prediction time and known after it."""
    timeline = events(*GOOD[:3], (1, PRESSURE, NOON - HOUR, NOON + HOUR, 180.0))
    cheating = timeline.with_columns(known_time=pl.col("time"))
    table = build_features(cheating, TIMES, LAST_PRESSURE)
    assert table["systolic_last"].item() == 180.0
    assert rows_that_see_the_future(timeline, table) == 1


def test_canaries_are_planted_before_and_after_at_every_distance():
    stand_ins, timeline = integrity.past_with_canaries(
        events(*GOOD[:3], (1, PRESSURE, NOON - HOUR, NOON + HOUR, 180.0)), TIMES, pl.DataFrame({"code": [PRESSURE]})
    )
    assert stand_ins.rows() == [(0, NOON)]
    assert timeline.filter(pl.col("record_id") >= 0)["code"].to_list() == ["SEX//female", "MEDS_BIRTH", PRESSURE]
    planted = timeline.filter(pl.col("record_id") == -1)
    late = [timedelta(microseconds=1), timedelta(minutes=1), DAY, 30 * DAY]
    assert sorted(planted["known_time"]) == sorted(NOON + after for after in late * 2)
    assert planted.filter(pl.col("time") == NOON - DAY).height == len(late)
    assert planted.filter(pl.col("time") == pl.col("known_time")).height == len(late)


@pytest.mark.parametrize("after", integrity.CANARIES_AFTER)
def test_a_feature_that_sees_a_little_ahead_is_found(after):
    """As if the table had been built with everything known so much later."""
    timeline = events(*GOOD[:3], (1, PRESSURE, NOON - HOUR, NOON + after, 180.0))
    early = timeline.with_columns(known_time=pl.min_horizontal("known_time", pl.lit(NOON)))
    assert rows_that_see_the_future(timeline, build_features(timeline, TIMES, LAST_PRESSURE)) == 0
    assert rows_that_see_the_future(timeline, build_features(early, TIMES, LAST_PRESSURE)) == 1
