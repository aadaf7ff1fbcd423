"""The check of the transformer's input finds a look ahead of any kind, and nothing in good sequences."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
import torch

import models.sequence_integrity
import models.training
from features.points import DAY_US, DAYS_PER_YEAR
from models.batches import batch_of
from models.hazard_labels import HazardTask
from models.hazards import interval_edges
from models.sequence_integrity import count_forecasts_that_see_later_rows, count_sequences_that_see_the_future
from models.sequence_models import SequenceModels, SequenceShape, built
from models.sequences import build_sequences
from models.visit_encoder import encoder_shape
from tests.models.planted_population import SMALL, events_table
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


@pytest.mark.parametrize("age", [60, 95])
def test_a_forecast_that_feels_how_long_the_record_goes_on_is_found(monkeypatch, age):
    """Ages cut at 90 at the newest prediction time and counted back from there would tell the time to it."""
    events = record().filter(pl.col("code") != "MEDS_BIRTH")
    birth = events_table([{"subject_id": 1, "time": NOON - timedelta(days=age * 365.25), "code": "MEDS_BIRTH"}])
    events = pl.concat([events, birth.lazy()])
    keys = pl.concat([KEYS.with_columns(pl.col("prediction_time") - pl.duration(days=days)) for days in (1200, 600, 0)])
    tasks = [HazardTask("outcome", interval_edges([365], 4))]
    shape = SequenceShape(
        tasks=tasks,
        lookback_days=730,
        encoder=encoder_shape(VOCABULARY),
        transformer=SMALL,
        recurrent=None,
        measured=[],
    )
    networks = SequenceModels(shape, built(shape))
    with torch.no_grad():
        head = networks.networks["timeline_transformer"].to_hazards
        head.straight.weight.fill_(0.05)
        head.bias[..., 0] = 3  # most have no outcome

    def found() -> int:
        sequences = build_sequences(events, keys, VOCABULARY)
        return count_forecasts_that_see_later_rows(networks, sequences, patients=5, seed=1)

    assert found() == 0

    def cut_at_the_newest(sequences, stretches, chosen):
        batch = batch_of(sequences, stretches, chosen)
        back = batch.moments_us / (DAY_US * DAYS_PER_YEAR) / 100
        return replace(batch, ages=(batch.ages.amax(dim=1, keepdim=True) + back).float())

    monkeypatch.setattr(models.training, "batch_of", cut_at_the_newest)
    assert found() == (2 if age > 90 else 0)  # but for the newest
