from datetime import datetime

import numpy as np
import polars as pl
import pytest

from features.errors import ModelError
from features.settings import StudySettings
from features.tables import Labels, empty
from models.questions import Question, answerable_questions, feature_matrix, question_rows

NOON = datetime(2015, 6, 1, 12)


def labels(**states: list[str]) -> pl.DataFrame:
    rows, subject = [], 0
    for split, of_split in states.items():
        for state in of_split:
            subject += 1
            rows.append((subject, NOON, "onset", 365, split, state, 100.0))
    return pl.DataFrame(rows, schema=empty(Labels).schema, orient="row")


SETTINGS = StudySettings(fewest_subjects_with_event=3, fewest_judging_subjects_with_event=2, smallest_cell=2)


def test_who_died_first_had_no_outcome_and_censored_is_left_out():
    rows = question_rows(labels(train=["event", "none", "died_first", "censored"]), Question("onset", 365))
    assert rows["is_event"].to_list() == [True, False, False]


def test_enough_patients_are_answerable():
    judging = ["event", "none"] * 2
    table = labels(train=["event", "none"] * 3, tuning=judging, held_out=judging)
    answerable, skipped = answerable_questions(table, SETTINGS)
    assert answerable == [Question("onset", 365)]
    assert skipped.is_empty()


def test_too_few_patients_are_told_with_numbers_above_the_smallest_cell_only():
    table = labels(train=["event"] * 2 + ["none"] * 5, tuning=["event", "none", "none"], held_out=["event", "none"] * 2)
    answerable, skipped = answerable_questions(table, SETTINGS, ("onset", "absent"))
    assert answerable == []
    assert dict(skipped.iter_rows()) == {
        "onset": "within 365 days 2 train patients had the outcome (3 are needed), "
        "fewer than 2 tuning patients had the outcome (2 are needed)",
        "absent": "no prediction time was eligible",
    }


def test_features_follow_the_rows_and_missing_ones_are_told():
    keys = {"subject_id": [1, 2], "prediction_time": [NOON, NOON]}
    features = pl.DataFrame(keys | {"a": [1.0, None], "b": [3.0, 4.0]})
    rows = pl.DataFrame(keys)[[1, 0]]
    matrix = feature_matrix(features, rows, ["b", "a"])
    assert matrix[:, 0].tolist() == [4, 3]
    assert np.isnan(matrix[0, 1])
    with pytest.raises(ModelError, match="1 of 2 prediction times"):
        feature_matrix(features[:1], rows, ["a"])
    with pytest.raises(ModelError, match="lacks 1 column that"):
        feature_matrix(features, rows, ["c"])


def test_what_the_records_cannot_answer_is_told_once_and_not_asked():
    judging = ["event", "none"] * 2
    table = labels(train=["event", "none"] * 3, tuning=judging, held_out=judging)
    refused = {("onset", 365): "onset.yaml:3: no code of it", ("rare", 365): "no code", ("rare", 730): "no code"}
    answerable, skipped = answerable_questions(table, SETTINGS, ("onset", "rare"), refused)
    assert answerable == []
    assert dict(skipped.iter_rows()) == {"onset": "onset.yaml:3: no code of it", "rare": "no code"}
