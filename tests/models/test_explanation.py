import numpy as np
import polars as pl

from models.explanation import event_reasons
from models.sequences import Sequences, Spans
from models.vocabulary import SequenceVocabulary

NAMES = {"LOINC//4548-4": "HbA1c"}


def test_events_of_one_code_are_one_reason_with_the_newest_value_and_records():
    vocabulary = SequenceVocabulary(
        tokens=["(nothing known)", "LOINC//4548-4", "A//1"],
        scales={},
        chronic_groups=[],
        lookback_days=730,
        median_age_years=50,
    )
    keys = pl.DataFrame({"subject_id": [7, 8], "prediction_time": [0, 0]}).cast({"prediction_time": pl.Datetime("us")})
    events = pl.DataFrame(
        {
            "token": [1, 1, 2, 2],
            "value": [0.0] * 4,
            "number": [6.5, 8.25, None, None],
            "unit": ["%", "%", None, None],
            "record_id": [11, 12, 13, 14],
        },
        schema_overrides={"token": pl.Int32, "value": pl.Float32, "number": pl.Float32},
    )
    # Row 0 sees two visits with one event each, row 1 one visit with two; nobody has a state.
    sequences = Sequences(
        keys=keys,
        prediction_us=np.zeros(2, np.int64),
        ages_years=np.full(2, 50.0),
        lookback_days=730,
        events=events,
        known_us=np.zeros(4, np.int64),
        visit_ends=np.array([0, 1, 2, 4]),
        median_age_years=50.0,
        past=Spans(np.array([0, 2]), np.array([2, 1])),
        today=Spans(np.array([0, 0]), np.array([0, 0])),
        states=Spans(np.array([4, 4]), np.array([0, 0])),
    )
    reasons = event_reasons(np.array([0.5, 0.25, -2.0, 1.0]), sequences, np.array([0, 1]), vocabulary, NAMES)
    expected = [
        (7, "HbA1c: 8.25 %", 0.75, [12, 11]),
        (8, "A//1", -1.0, [14, 13]),
    ]
    assert reasons.select("subject_id", "label", "contribution", "record_ids").rows() == expected
    turned = event_reasons(np.array([-2.0, 1.0, 0.5, 0.25]), sequences, np.array([1, 0]), vocabulary, NAMES)
    assert turned.select("subject_id", "label", "contribution", "record_ids").rows() == expected[::-1]
