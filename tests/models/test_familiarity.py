from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.tables import FeatureDefinitions, checked, empty
from models.familiarity import QUANTILE, fit_familiarity, most_unknown, unknown_shares, unlike_because
from models.vocabulary import SequenceVocabulary

COLUMNS = ["age_years", "is_female", "visits", "glucose_last", "hba1c_last", "has_diabetes"]
DEFINITIONS = checked(
    pl.DataFrame(
        [
            ("age_years", "Age", "a", "demographic", "age", [], None),
            ("is_female", "Female", None, "demographic", "is_female", [], None),
            ("visits", "Visits", None, "utilisation", "count", [], 730),
            ("glucose_last", "Glucose", "mg/dL", "value", "last", ["A"], 730),
            ("hba1c_last", "HbA1c", "%", "value", "last", ["B"], 730),
            ("has_diabetes", "Diabetes", None, "state", "is_present", ["C"], None),
        ],
        schema=empty(FeatureDefinitions).schema,
        orient="row",
    ),
    FeatureDefinitions,
)
WORDS = {"age_years": "Age", "glucose_last": "Glucose", "hba1c_last": "HbA1c"}


def old_people(rows: int, seed: int) -> np.ndarray:
    """People of 60 to 95 years in whom HbA1c follows glucose."""
    random = np.random.default_rng(seed)
    glucose = random.normal(110, 20, rows)
    people = np.column_stack(
        [
            random.uniform(60, 95, rows),
            random.random(rows) < 0.5,
            random.poisson(6, rows),
            glucose,
            glucose / 20 + random.normal(0, 0.2, rows),
            glucose > 130,
        ]
    )
    people[random.random(rows) < 0.2, 4] = np.nan
    return people.astype(np.float32)


FITTED = fit_familiarity(old_people(3_000, 1), old_people(1_000, 2), COLUMNS, DEFINITIONS)


def because(**changed: float) -> str | None:
    usual = {"age_years": 75, "is_female": 1, "visits": 6, "glucose_last": 110, "hba1c_last": 5.5, "has_diabetes": 0}
    row = np.array([[{**usual, **changed}[name] for name in COLUMNS]], dtype=np.float32)
    return unlike_because(FITTED, row, COLUMNS, WORDS)[0]


def test_someone_as_usual_is_not_strange():
    assert because() is None
    assert because(hba1c_last=np.nan) is None


def test_an_age_that_was_not_learnt_from_is_named():
    assert because(age_years=20) == "Age: 20 is outside 60 to 95, the range learnt from"


def test_values_that_do_not_go_together_are_strange():
    # Each alone is common: glucose 150 lies two deviations up, HbA1c 4.0 one and a half down. Together nobody has them.
    found = because(glucose_last=150, hba1c_last=4.0, has_diabetes=1)
    assert found is not None
    assert found.startswith("unlike the patients learnt from, above all: ")


def test_about_one_in_a_hundred_alike_is_strange():
    found = unlike_because(FITTED, old_people(5_000, 3), COLUMNS, WORDS)
    assert sum(one is not None for one in found) / 5_000 == pytest.approx(1 - QUANTILE, abs=0.01)


def test_the_share_of_unknown_codes_by_hand():
    now = datetime(2024, 1, 1)
    rows = [
        (1, now - timedelta(days=1), "SNOMED//1"),
        (1, now - timedelta(days=2), "LOCAL//x"),
        (1, now - timedelta(days=3), "LOCAL//y"),
        (1, now - timedelta(days=4), "LOINC//smoking"),  # the answer makes it a token
        (1, now + timedelta(days=1), "LOCAL//later"),
        (1, now - timedelta(days=900), "LOCAL//long-ago"),
        (1, None, "SEX//female"),
    ]
    events = pl.DataFrame(rows, schema=["subject_id", "known_time", "code"], orient="row").lazy()
    vocabulary = SequenceVocabulary(
        tokens=["(nothing known)", "LOINC//smoking=never", "SNOMED//1"],
        scales={},
        chronic_groups=[],
        lookback_days=730,
        median_age_years=50,
    )
    keys = pl.DataFrame({"subject_id": [2, 1], "prediction_time": [now, now]})
    # 2 of 4 within the look-back; whoever has no event has no unknown one.
    assert unknown_shares(events, keys, vocabulary)["unknown"].to_list() == [0.0, 0.5]


def test_few_unknown_codes_are_never_strange():
    assert most_unknown(pl.DataFrame({"unknown": [0.0] * 100})) == 0.2
    assert most_unknown(pl.DataFrame({"unknown": [0.5] * 100})) == 0.5
