"""The check of the transformer's input finds a look ahead of any kind, and nothing in good sequences."""

from datetime import timedelta

import polars as pl
import pytest

import models.sequence_integrity
from models.sequence_integrity import count_sequences_that_see_the_future
from models.sequences import build_sequences
from tests.models.planted_population import events_table
from tests.models.test_sequences import GLUCOSE, KEYS, NOON, VOCABULARY, days_ago, one_patient

DIABETES = "SNOMED//44054006"


def changed(events: pl.LazyFrame, keys: pl.DataFrame = KEYS) -> int:
    return count_sequences_that_see_the_future(events, keys, VOCABULARY, rows=10, seed=1)


def record(*rows: dict[str, object]) -> pl.LazyFrame:
    return one_patient({"time": days_ago(900), "code": DIABETES}, {"time": days_ago(9), "code": "A//1"}, *rows)


def test_sequences_from_the_past_pass():
    glucose = {"code": GLUCOSE, "numeric_value": 90.0, "unit": "mg/dL"}
    events = record(
        glucose | {"time": days_ago(3)},
        glucose | {"time": days_ago(3), "known_time": NOON + timedelta(minutes=1)},
        {"time": NOON + timedelta(days=2), "code": "A//never_met"},
        {"time": NOON + timedelta(days=3), "code": "MEDS_DEATH"},
    )
    later = KEYS.with_columns(pl.col("prediction_time") + pl.duration(days=60))
    assert changed(events) == 0
    assert changed(events, pl.concat([KEYS, later])) == 0
    assert changed(events, KEYS.clear()) == 0


@pytest.mark.parametrize(
    "late", [timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1), timedelta(days=30)]
)
@pytest.mark.parametrize("happened", [days_ago(2), None])
def test_sequences_that_look_ahead_are_found(monkeypatch, late, happened):
    """Something becomes known later; the sequences are built as if it were known at the prediction time."""
    events = record({"time": happened or NOON + late, "known_time": NOON + late, "code": "A//1"})
    assert changed(events) == 0

    def looks_ahead(events, keys, vocabulary):
        return build_sequences(events.with_columns(pl.col("known_time") - late), keys, vocabulary)

    monkeypatch.setattr(models.sequence_integrity, "build_sequences", looks_ahead)
    assert changed(events) == 1


def test_a_state_that_looks_at_clinical_time_is_found(monkeypatch):
    """A diabetes of long ago that becomes known only later is no state yet."""
    events = events_table(
        [
            {"subject_id": 1, "time": days_ago(9), "code": "A//1"},
            {"subject_id": 1, "time": days_ago(900), "known_time": NOON + timedelta(days=1), "code": DIABETES},
        ]
    ).lazy()
    assert changed(events) == 0

    def by_clinical_time(events, keys, vocabulary):
        return build_sequences(events.with_columns(known_time="time"), keys, vocabulary)

    monkeypatch.setattr(models.sequence_integrity, "build_sequences", by_clinical_time)
    assert changed(events) == 1
