"""The audit of the records' shape, on invented patients of whom it is known what their records give away."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.record_shape import SHAPE
from features.settings import StudySettings
from features.tables import Labels, checked, empty
from models.calibration import sigmoid
from models.observation_audit import _with_verdicts, audit_observation

SETTINGS = StudySettings(bootstrap_resamples=200)
TIMES = 3
PATIENTS = 400


def drawn(length_counts: float, seed: int = 3) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shape and labels: age raises the log-odds of the outcome, and so does the length of the record, as told."""
    random = np.random.default_rng(seed)
    rows = PATIENTS * TIMES
    subjects = np.repeat(np.arange(PATIENTS), TIMES)
    moments = [datetime(2015, 1, 1) + timedelta(days=int(place)) for place in range(rows)]
    age, length = random.uniform(20, 90, rows), random.uniform(0, 10, rows)
    risk = sigmoid(-1.5 + (age - 55) / 15 + length_counts * (length - 5))
    is_event = random.random(rows) < risk
    noise = {name: random.normal(size=rows) for name in SHAPE}
    keys = {"subject_id": subjects, "prediction_time": pl.Series(moments, dtype=pl.Datetime("us"))}
    shape = pl.DataFrame(
        keys
        | noise
        | {"years_observed": length, "age_years": age, "is_female": random.integers(0, 2, rows).astype(float)}
    )
    labels = pl.DataFrame(keys).select(
        "subject_id",
        "prediction_time",
        task=pl.lit("mortality"),
        horizon_days=pl.lit(365, pl.Int32),
        split=pl.lit("train"),
        state=pl.Series(np.where(is_event, "event", "none")),
        time_to_event_days=pl.lit(100.0, pl.Float32),
    )
    return shape, checked(labels, Labels)


def test_a_shape_that_tells_nothing_is_silent():
    audit = audit_observation(*drawn(length_counts=0), SETTINGS).row(0, named=True)
    assert audit["verdict"] == "silent"
    assert audit["age_sex_auroc"] > 0.75  # age counts
    assert abs(audit["difference"]) < 0.02
    assert (audit["rows"], audit["subjects"]) == (PATIENTS * TIMES, PATIENTS)


def test_a_length_that_tells_the_outcome_is_found_and_named():
    audit = audit_observation(*drawn(length_counts=0.3), SETTINGS).row(0, named=True)
    assert audit["verdict"] == "gives away"
    assert audit["most_used"] == "years_observed"
    assert audit["difference_low"] > 0
    assert audit["auroc"] - audit["age_sex_auroc"] == pytest.approx(audit["difference"])


def test_the_order_of_rows_changes_nothing():
    shape, labels = drawn(length_counts=0.3)
    shuffled = audit_observation(shape.sample(fraction=1, shuffle=True, seed=1), labels.reverse(), SETTINGS)
    assert shuffled.equals(audit_observation(shape, labels, SETTINGS))


def test_each_patient_is_scored_by_models_that_did_not_see_them():
    """A measure that is another number for each patient would tell all of a patient's rows from one of them."""
    shape, labels = drawn(length_counts=0)
    ill = pl.col("subject_id") % 3 == 0
    labels = labels.with_columns(state=pl.when(ill).then(pl.lit("event")).otherwise(pl.lit("none")))
    shape = shape.with_columns(years_observed=(pl.col("subject_id").hash(seed=1) % 100_000).cast(pl.Float64))
    assert abs(audit_observation(shape, labels, SETTINGS)["auroc"].item() - 0.5) < 0.1


def test_age_and_sex_that_rank_worse_than_guessing_count_as_guessing():
    """With an age for everybody, only the level of each fold ranks: where fewer had the outcome it says more."""
    shape, labels = drawn(length_counts=0)
    few_ill = labels.with_columns(
        state=pl.when(pl.col("subject_id") < 12).then(pl.lit("event")).otherwise(pl.lit("none"))
    )
    alike = shape.with_columns(age_years=pl.lit(50.0), is_female=pl.lit(0.0))
    audit = audit_observation(alike, few_ill, SETTINGS).row(0, named=True)
    assert audit["age_sex_auroc"] == 0.5
    assert audit["verdict"] == "silent"


def test_a_question_that_few_answer_is_not_audited():
    shape, labels = drawn(length_counts=0)
    few = labels.with_columns(
        state=pl.when(pl.col("subject_id") < 9).then(pl.lit("event")).otherwise(pl.lit("none")),
    )
    assert audit_observation(shape, few, SETTINGS).is_empty()  # 10 patients are needed
    assert audit_observation(shape, empty(Labels), SETTINGS).is_empty()


def test_one_gain_among_many_questions_must_be_larger_to_be_believed():
    """A gain of 2.3 standard errors (p = 0.011) is believed alone, and not as one of three (0.032)."""
    one = {
        "task": "a",
        "horizon_days": 365,
        "rows": 9,
        "subjects": 9,
        "events": 4,
        "auroc": 0.6,
        "age_sex_auroc": 0.577,
    }
    one |= {"difference": 0.023, "difference_low": 0.0034, "difference_high": 0.0426, "most_used": "years_observed"}
    nothing = {"difference": 0.0, "difference_low": -0.02, "difference_high": 0.02}
    alone = _with_verdicts(pl.DataFrame([one]))
    together = _with_verdicts(pl.DataFrame([one, one | nothing | {"task": "b"}, one | nothing | {"task": "c"}]))
    assert alone["chance"].to_list() == pytest.approx([0.0107], abs=0.0005)
    assert together["chance"].to_list() == pytest.approx([0.0322, 1, 1], abs=0.001)
    assert [alone["verdict"].item(), together["verdict"][0]] == ["gives away", "silent"]
