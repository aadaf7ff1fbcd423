from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import models.training
from features.errors import ModelError
from features.points import DAY_US
from features.result_tables import Evaluations, Predictions
from features.scores.columns import BY_RACE
from features.tables import checked
from models.batches import batch_of
from models.evaluation import choose_released
from models.label_shuffle import shuffled_by_patient
from models.ladder import comparators_of, words_of
from models.questions import Question
from models.saved_model import load_model
from models.train import _with_unreleased
from tests.models.planted_ladder import (
    NO_COLUMN,
    QUESTION,
    RUNGS,
    SCORE,
    score,
    train,
    with_canaries,
)
from tests.models.planted_population import (
    DEFINITIONS,
    PLANTED,
    RARE_TASK,
    SETTINGS,
    TASK,
)


def test_a_planted_effect_is_found(ladder):
    auroc = dict(ladder.evaluations.select("model", "auroc").iter_rows())
    assert set(auroc) == set(RUNGS)
    assert 0.3 < auroc["age_sex"] < 0.7
    assert all(auroc[model] > 0.8 for model in RUNGS[1:])
    assert ladder.released[QUESTION] != "age_sex"
    checked(ladder.evaluations, Evaluations)
    checked(ladder.predictions, Predictions)


def test_a_clinical_score_is_a_rung_after_age_and_sex(ladder):
    sequence_models = ("gru_d", "timeline_transformer")
    assert ("age_sex", "planted_score", "logistic_regression", "lightgbm", *sequence_models, "stack") == RUNGS
    assert tuple(ladder.evaluations["model"]) == RUNGS
    assert comparators_of(RUNGS) == ("planted_score",)


def test_a_comparator_without_a_column_is_left_out_and_named(ladder):
    assert ladder.left_out == {QUESTION: ("lace",)}
    assert "lace" not in set(ladder.predictions["model"])


def test_a_score_by_race_is_compared_with_and_never_released(population, tmp_path):
    statistic = pl.when(feature="planted_count").then(pl.lit(BY_RACE)).otherwise("statistic")
    unseen = replace(population, events=population.events.filter(pl.col("code") != PLANTED))  # by the transformer
    result = train(unseen, tmp_path / "models", definitions=DEFINITIONS.with_columns(statistic=statistic))
    assert "planted_score" in set(result.evaluations["model"])
    tuning = result.predictions.filter(split="tuning")
    assert choose_released(tuning, SETTINGS) == "planted_score"  # it would be, were it another score
    assert result.released.get(QUESTION) == choose_released(tuning.filter(pl.col("model") != SCORE.name), SETTINGS)


def test_models_have_names_that_people_read():
    assert words_of("planted_score", [SCORE]) == "Planted score"
    assert words_of("lace", [NO_COLUMN]) == "LACE index"
    assert words_of("some_new_score") == "Some new score"


def test_shuffled_labels_teach_nothing(population, tmp_path):
    """Of every rung the interval holds 0.5; it is one of 95 %, so the seed is one of those that are not unlucky."""
    shuffled = shuffled_by_patient(population.labels.filter(pl.col("task") == TASK), seed=3)
    result = train(population, tmp_path / "models", shuffled)
    assert tuple(result.evaluations["model"]) == RUNGS
    assert (result.evaluations["auroc_low"] <= 0.5).all()
    assert (result.evaluations["auroc_high"] >= 0.5).all()
    # 60 held-out patients: a standard error of about 0.05, so 0.15 is three of them.
    assert result.evaluations["auroc"].to_list() == pytest.approx([0.5] * len(RUNGS), abs=0.15)
    # So no model is released: judged, but no score is given, and the reason stands where readers look.
    assert result.released == {}
    assert set(result.unreleased) == {QUESTION}
    assert not result.evaluations["is_released"].any()
    reasons = dict(result.skipped.iter_rows())
    assert reasons[TASK].startswith("judged, but no model told more than the base rate")
    model = load_model(tmp_path / "models")
    assert model.version == result.version
    assert score(model, population).is_empty()


def test_tasks_with_too_few_patients_are_skipped_with_a_reason(ladder):
    reasons = dict(ladder.skipped.iter_rows())
    assert set(reasons) == {RARE_TASK, "never_eligible"}
    assert "fewer than 10 train patients had the outcome (10 are needed)" in reasons[RARE_TASK]
    assert set(ladder.predictions["task"]) == {TASK}


def test_predictions_are_the_uncensored_tuning_and_held_out_rows(ladder, population):
    expected = population.labels.filter(
        pl.col("task") == TASK, pl.col("split") != "train", pl.col("state") != "censored"
    )
    for model in RUNGS:
        of_model = ladder.predictions.filter(pl.col("model") == model)
        assert of_model.height == expected.height
        assert of_model["is_event"].sum() == (expected["state"] == "event").sum()


def test_the_same_inputs_give_the_same_model(ladder, population, tmp_path):
    again = train(population, tmp_path / "models")
    assert again.version == ladder.version
    assert_frame_equal(again.predictions, ladder.predictions, check_exact=True)
    assert_frame_equal(again.evaluations, ladder.evaluations, check_exact=True)


def test_what_becomes_known_after_every_prediction_time_changes_no_model(ladder, population, tmp_path):
    """A canary in everybody's future, in the train patients' too, gives the same bytes on disk."""
    assert train(replace(population, events=with_canaries(population)), tmp_path / "models").version == ladder.version


def test_when_every_task_is_skipped_an_empty_ladder_is_saved(population, tmp_path):
    rare = population.labels.filter(pl.col("task") == RARE_TASK)
    result = train(population, tmp_path / "models", rare)
    assert result.predictions.is_empty()
    assert result.evaluations.is_empty()
    model = load_model(tmp_path / "models")
    assert model.version == result.version
    assert model.questions == {}
    assert score(model, population).is_empty()


def test_a_labelled_row_without_features_is_told(population, tmp_path):
    with pytest.raises(ModelError, match="have no row in the feature table"):
        train(replace(population, features=population.features[10:]), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_networks_that_see_later_rows_are_not_saved(population, tmp_path, monkeypatch):
    def turned_by_the_newest_row(sequences, stretches, chosen):
        batch = batch_of(sequences, stretches, chosen)
        return replace(batch, ages=batch.ages + batch.moments_us / (365 * DAY_US))

    monkeypatch.setattr(models.training, "batch_of", turned_by_the_newest_row)
    with pytest.raises(ModelError, match="Nothing is saved"):
        train(population, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_horizons_without_scores_for_one_reason_are_told_together():
    labels = pl.DataFrame({"task": ["gout", "gout", "gout", "stroke"], "horizon_days": [30, 365, 1095, 365]})
    skipped = pl.DataFrame({"task": ["gout"], "reason": ["within 30 days 2 train patients had the outcome"]})
    unreleased = {Question("gout", 1095): "nobody is told", Question("gout", 365): "nobody is told"}
    unreleased |= {Question("stroke", 365): "nobody is told"}
    assert dict(_with_unreleased(skipped, unreleased, labels).iter_rows()) == {
        "gout": "within 30 days 2 train patients had the outcome; within 365 and 1,095 days nobody is told",
        "stroke": "nobody is told",
    }
