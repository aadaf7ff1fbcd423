"""Each model beside the best simpler one, on rows small enough to count by hand."""

from datetime import datetime

import polars as pl
import pytest

from features.result_tables import Predictions
from features.settings import StudySettings
from features.tables import checked, empty
from models.costs import FIT, Cost, listening, timed
from models.evaluation import evaluate, tuning_threshold
from models.league import best_simple, holm, league_table
from models.questions import Question

SETTINGS = StudySettings(bootstrap_resamples=200)
QUESTION = Question("mortality", 365)
EVENTS = [True, True, False, False] * 10
# Of the four people the truth is known of, in pairs of one with the outcome and one without:
ORDERS = {
    "age_sex": [0.0, 0.0, 0.0, 0.0],  # all tied: 0.5
    "lightgbm": [2.0, 0.0, 1.0, -1.0],  # 0.0 stands below 1.0: three pairs of four, 0.75
    "timeline_transformer": [2.0, 1.0, 0.0, -1.0],  # all four: 1
    "stack": [2.0, 0.0, 1.0, -1.0],  # as LightGBM
}


def predictions(orders: dict[str, list[float]]) -> pl.DataFrame:
    parts = [
        pl.DataFrame(
            {
                "subject_id": [person + 100 * (split == "tuning") for person in range(40)],
                "prediction_time": [datetime(2020, 1, 1)] * 40,
                "task": [QUESTION.task] * 40,
                "horizon_days": pl.Series([QUESTION.horizon_days] * 40, dtype=pl.Int32),
                "split": [split] * 40,
                "model": [model] * 40,
                "score": order * 10,
                "risk": [0.5 + score / 10 for score in order] * 10,
                "is_event": EVENTS,
            }
        )
        for model, order in orders.items()
        for split in ("tuning", "held_out")
    ]
    return checked(pl.concat(parts), Predictions)


def league(orders: dict[str, list[float]]) -> pl.DataFrame:
    table = predictions(orders)
    tuning = table.filter(split="tuning")
    thresholds = {(QUESTION, model): tuning_threshold(tuning.filter(model=model)) for model in orders}
    return league_table(table, evaluate(table, {}, thresholds, SETTINGS), SETTINGS)


def row(table: pl.DataFrame, model: str) -> dict[str, object]:
    return table.filter(model=model).row(0, named=True)


def test_differences_by_hand():
    table = league(ORDERS)
    transformer = row(table, "timeline_transformer")
    assert transformer["best_simple"] == "lightgbm"
    assert transformer["difference"] == pytest.approx(0.25)
    # In every resample the transformer orders all pairs, LightGBM not: the interval lies above 0.
    assert 0 < transformer["difference_low"] < 0.25 < transformer["difference_high"]
    assert transformer["verdict"] == "better"


def test_the_same_order_is_no_difference():
    stack = row(league(ORDERS), "stack")
    assert (stack["difference"], stack["difference_low"], stack["difference_high"]) == (0, 0, 0)
    assert (stack["p_value"], stack["verdict"]) == (1, "no difference shown")


def test_simple_models_are_not_compared():
    table = league(ORDERS)
    assert table["is_simple"].to_list() == [model in ("age_sex", "lightgbm") for model in table["model"]]
    assert table.filter("is_simple")["difference"].is_null().all()
    assert row(table, "age_sex")["auroc"] == 0.5


def test_of_a_tie_the_simplest_is_the_best():
    same = {"age_sex": ORDERS["lightgbm"], "lightgbm": ORDERS["lightgbm"]}
    table = league(same)
    assert row(table, "lightgbm")["best_simple"] == "age_sex"
    assert table["difference"].is_null().all()


def test_without_simple_models_nothing_is_compared():
    table = league({"stack": ORDERS["stack"]})
    assert table.height == 1
    assert table.select("best_simple", "difference", "verdict").row(0) == (None, None, None)


def test_without_predictions_there_is_no_league():
    judged = evaluate(empty(Predictions), {}, {}, SETTINGS)
    assert best_simple(judged) == {}
    assert league_table(empty(Predictions), judged, SETTINGS).is_empty()


def test_holm_by_hand():
    # In rising order 0.01 x 3, 0.02 x 2, 0.04 x 1, none below the one before: 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


def test_costs_are_told_to_who_listens():
    with timed("lightgbm", FIT, 10):
        pass
    with listening() as heard, timed("stack", FIT, 20):
        pass
    [cost] = heard
    assert isinstance(cost, Cost)
    assert (cost.model, cost.step, cost.rows) == ("stack", FIT, 20)
    assert cost.began <= cost.ended
