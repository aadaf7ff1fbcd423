from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.errors import ModelError, ScoringError
from features.result_tables import RiskScores
from features.tables import checked
from models.ladder import STACK
from models.prediction import score_patients
from tests.models.planted_ladder import (
    DAY,
    QUESTION,
    RUNGS,
    eligible,
    released_as,
    score,
    with_canaries,
)
from tests.models.planted_population import (
    PLANTED,
    RARE_TASK,
    Population,
)


@pytest.mark.parametrize("name", RUNGS)
def test_what_becomes_known_later_changes_no_score(saved, population, name):
    model = released_as(saved, name)
    assert_frame_equal(score(model, population), score(model, population, with_canaries(population)), check_exact=True)


@pytest.mark.parametrize("name", RUNGS)
def test_moving_every_date_by_weeks_changes_no_score(saved, population, name):
    model, weeks = released_as(saved, name), pl.duration(weeks=57)
    moved = Population(
        population.events.with_columns(pl.col("time") + weeks, pl.col("known_time") + weeks),
        population.labels.with_columns(pl.col("prediction_time") + weeks),
        population.features,
    )
    assert_frame_equal(score(model, population), score(model, moved), check_exact=True)


@pytest.mark.parametrize("name", RUNGS)
def test_saved_and_loaded_models_give_the_risks_of_training(saved, ladder, population, name):
    """A prediction of training and a score of the loaded model, of the same patient at the same time, agree."""
    scores = score(released_as(saved, name), population)
    # A tuning row's score by the stack comes from one fitted without that patient.
    told = pl.col("split") == "held_out" if name == STACK else True
    predicted = ladder.predictions.filter(pl.col("model") == name, told).join(
        eligible(population), on=["subject_id", "prediction_time"]
    )
    both = scores.filter(~pl.col("is_unlike")).select("subject_id", scored="risk").join(predicted, on="subject_id")
    assert both.height > 50
    assert both["scored"].to_list() == pytest.approx(both["risk"].to_list(), abs=1e-6)


def test_scores_say_who_how_likely_how_sure_and_why(saved, population):
    scores = checked(score(saved, population), RiskScores)
    assert scores.height == population.labels["subject_id"].n_unique()
    assert scores.filter(pl.col("risk_low") > pl.col("risk")).is_empty()
    assert scores.filter(pl.col("risk_high") < pl.col("risk")).is_empty()
    told = scores.filter(~pl.col("is_unlike"))
    assert told.height > 0.9 * scores.height
    assert told["risk_low"].ne(told["risk_high"]).all()
    assert set(scores["model_version"]) == {saved.version}
    assert scores["reasons"].list.len().max() <= 5
    assert not any(dtype == pl.Datetime for dtype in scores.dtypes)
    highest = scores.sort("risk", nulls_last=False).tail(1)["reasons"].item().to_list()
    assert highest[0]["label"].startswith("Planted findings in 2 years: ")
    assert highest[0]["contribution"] > 0
    planted = population.events.filter(pl.col("code") == PLANTED)["record_id"].to_list()
    assert highest[0]["record_ids"]
    assert set(highest[0]["record_ids"]) <= set(planted)


def test_the_transformer_names_the_events_behind_a_risk(saved, population):
    codes = pl.DataFrame({"code": [PLANTED], "description": ["Planted finding"]})
    rows = eligible(population)
    scores = score_patients(
        released_as(saved, "timeline_transformer"),
        population.events.lazy(),
        population.features,
        rows,
        DAY,
        "data-1",
        codes=codes,
    )
    top = scores.sort("risk", nulls_last=False).tail(1)["reasons"].item().to_list()[0]
    assert top["label"] == "Planted finding"
    assert top["contribution"] > 0
    who = scores.sort("risk", nulls_last=False).tail(1)["subject_id"].item()
    of_patient = population.events.filter(pl.col("subject_id") == who, pl.col("code") == PLANTED)
    assert set(top["record_ids"]) <= set(of_patient["record_id"])


def test_a_stacks_reasons_are_those_of_its_members(saved, population):
    """Each contribution is that of the members, times their weights: the age counts once, over all models."""
    weights = saved.questions[QUESTION].stack.weights
    assert set(weights) == {*RUNGS} - {STACK, "gru_d"}
    alone = score(released_as(saved, "age_sex"), population).sort("subject_id")
    only_that = {name: (2.0 if name == "age_sex" else 0.0) for name in weights}
    entry = saved.questions[QUESTION]
    entry = entry.model_copy(update={"released": STACK, "stack": entry.stack.model_copy(update={"weights": only_that})})
    twice = score(replace(saved, questions={QUESTION: entry}), population).sort("subject_id")
    for of_one, of_stack in zip(alone["reasons"].to_list(), twice["reasons"].to_list(), strict=True):
        assert [reason["label"] for reason in of_one] == [reason["label"] for reason in of_stack]
        assert [2 * reason["contribution"] for reason in of_one] == pytest.approx(
            [reason["contribution"] for reason in of_stack]
        )
    from_all = (
        score(released_as(saved, STACK), population).sort("risk", nulls_last=False).tail(1)["reasons"].item().to_list()
    )
    assert from_all[0]["contribution"] > 0
    assert any("lanted" in reason["label"] for reason in from_all)


def test_a_patient_unlike_those_learnt_from_gets_no_risk_and_is_told_why(saved, population):
    """Ages 20 years lower, and codes that nobody had: the row stands there without a risk."""
    rows = eligible(population)
    young, foreign = rows["subject_id"].to_list()[:2]
    is_birth = (pl.col("code") == "MEDS_BIRTH") & (pl.col("subject_id") == young)
    is_dated = pl.col("known_time").is_not_null() & (pl.col("subject_id") == foreign) & (pl.col("code") != "MEDS_BIRTH")
    later = pl.col("time") + pl.duration(days=365 * 60)
    events = population.events.with_columns(
        time=pl.when(is_birth).then(later).otherwise("time"),
        code=pl.when(is_dated).then(pl.lit("LOCAL//nobody-had-this")).otherwise("code"),
    )
    scores = {row["subject_id"]: row for row in score(saved, population, events).iter_rows(named=True)}
    assert (scores[young]["risk"], scores[young]["risk_low"], scores[young]["reasons"]) == (None, None, [])
    assert scores[young]["is_unlike"]
    assert scores[young]["unlike_because"].startswith("Age: ")
    assert scores[foreign]["risk"] is None
    assert scores[foreign]["unlike_because"].startswith("100% of the codes are not known to the model (more than ")
    assert sum(row["is_unlike"] for row in scores.values()) < 0.1 * len(scores)


def test_scoring_twice_or_in_another_order_gives_the_same_rows(saved, population):
    rows = eligible(population)
    first = score_patients(saved, population.events.lazy(), population.features, rows, DAY, "data-1")
    shuffled = population.events.sample(fraction=1, shuffle=True, seed=1).lazy()
    second = score_patients(saved, shuffled, population.features, rows.reverse(), DAY, "data-1")
    assert_frame_equal(first, second, check_exact=True)


def test_a_question_without_a_released_model_gets_no_score(saved, population):
    rows = eligible(population, RARE_TASK)
    assert score_patients(saved, population.events.lazy(), population.features, rows, DAY, "data-1").is_empty()


def test_a_patient_eligible_twice_is_refused(saved, population):
    rows = eligible(population)
    with pytest.raises(ScoringError, match="eligible twice"):
        score_patients(saved, population.events.lazy(), population.features, pl.concat([rows, rows]), DAY, "d")


def test_a_feature_table_of_another_shape_is_refused(saved, population):
    features = population.features.drop("planted_count")
    with pytest.raises(ModelError, match="1 columns differ"):
        score_patients(saved, population.events.lazy(), features, eligible(population), DAY, "data-1")
