from datetime import datetime

import numpy as np
import polars as pl
import pytest

from features.result_tables import Predictions
from features.settings import StudySettings
from features.tables import checked, empty
from models.calibration import logit, sigmoid
from models.evaluation import choose_released, evaluate, tuning_threshold
from models.ladder import LADDER
from models.questions import Question

SETTINGS = StudySettings(bootstrap_resamples=200)
QUESTION = Question("acute_care", 365)


def predictions(risks: dict[str, np.ndarray], events: np.ndarray, split: str = "tuning") -> pl.DataFrame:
    """One row a patient; models that are not named give everybody the share of events."""
    flat = np.full(len(events), events.mean())
    rows = [
        (subject, datetime(2020, 1, 1), *QUESTION, split, model, logit(risks.get(model, flat))[subject], risk, event)
        for model in LADDER
        for subject, (risk, event) in enumerate(zip(risks.get(model, flat), events, strict=True))
    ]
    return checked(pl.DataFrame(rows, schema=empty(Predictions).schema, orient="row"), Predictions)


def draw(patients: int, effect: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Right risks of patients whose log-odds spread by `effect`, and their outcomes."""
    random = np.random.default_rng(seed)
    risk = sigmoid(-1.5 + effect * random.normal(size=patients))
    return risk, random.random(patients) < risk


def test_the_best_model_is_released_when_it_tells_more_than_the_base_rate():
    risk, events = draw(400, effect=2)
    weaker = sigmoid(logit(risk) * 0.3)
    assert choose_released(predictions({"lightgbm": risk, "age_sex": weaker}, events), SETTINGS) == "lightgbm"
    assert choose_released(predictions({"lightgbm": risk, "age_sex": risk}, events), SETTINGS) == "age_sex"


def test_the_stack_goes_before_a_model_that_is_hardly_better():
    risk, events = draw(400, effect=2)
    nearly, far = (sigmoid(logit(risk) * factor) for factor in (0.9, 0.2))
    assert choose_released(predictions({"lightgbm": risk, "stack": nearly}, events), SETTINGS) == "stack"
    assert choose_released(predictions({"lightgbm": risk, "stack": far}, events), SETTINGS) == "lightgbm"


def test_a_model_that_knows_nothing_is_not_released():
    risk, events = draw(400, effect=2)
    assert choose_released(predictions({}, events), SETTINGS) is None
    shuffled = np.random.default_rng(1).permutation(risk)
    assert choose_released(predictions({"lightgbm": shuffled}, events), SETTINGS) is None


def test_a_level_alone_releases_nothing():
    """Recalibration sets the level on tuning patients; one risk for everybody gains nothing, whatever its level."""
    _, events = draw(400, effect=2)
    assert choose_released(predictions({"lightgbm": np.full(400, 0.9)}, events), SETTINGS) is None


def test_a_gain_of_few_patients_releases_nothing():
    risk, events = draw(12, effect=1)
    assert choose_released(predictions({"lightgbm": risk}, events), SETTINGS) is None


def test_one_risk_for_everybody_ranks_nobody_and_flags_nobody():
    """A recalibration slope of 0: the scores still differ, but what is given does not."""
    _, events = draw(200, effect=1)
    table = pl.concat([predictions({}, events, split) for split in ("tuning", "held_out")])
    scores = np.random.default_rng(2).normal(size=table.height)
    table = table.with_columns(score=pl.Series(scores))
    tuning = table.filter(pl.col("split") == "tuning")
    thresholds = {(QUESTION, model): tuning_threshold(tuning.filter(pl.col("model") == model)) for model in LADDER}
    judged = evaluate(table, {}, thresholds, SETTINGS)
    row = judged.row(0, named=True)
    assert judged.height == len(LADDER)
    assert not judged["is_released"].any()
    assert (row["auroc"], row["auroc_low"], row["auroc_high"]) == (0.5, 0.5, 0.5)
    assert row["auprc"] == pytest.approx(events.mean())
    assert row["threshold"] == 1
    assert (row["true_positives"], row["false_positives"]) == (0, 0)
    assert (row["sensitivity"], row["specificity"], row["positive_predictive_value"]) == (0, 1, None)
    assert row["calibration_slope"] is None
