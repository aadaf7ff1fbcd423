from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.errors import ModelError, ScoringError
from features.integrity import CANARIES_AFTER
from features.result_tables import Evaluations, Predictions, RiskScores
from features.scores.columns import BY_RACE
from features.tables import checked
from features.tasks.schema import Comparator
from models.evaluation import choose_released
from models.label_shuffle import shuffled_by_patient
from models.ladder import LADDER, STACK, comparators_of, ladder_of, words_of
from models.prediction import score_patients
from models.questions import Question
from models.saved_model import SavedModel, load_model
from models.train import TrainedLadder, train_ladder
from tests.models.planted_population import (
    DEFINITIONS,
    GLUCOSE,
    HORIZON_DAYS,
    PLANTED,
    RARE_TASK,
    SETTINGS,
    SMALL,
    SMALL_RECURRENT,
    TASK,
    Population,
    build_features,
    draw_population,
)

QUESTION = Question(TASK, HORIZON_DAYS)
DAY = date(2024, 5, 1)
SCORE = Comparator(name="planted_score", title="Planted score", features=("planted_count",))
NO_COLUMN = Comparator(name="lace", features=("score_lace",))
RUNGS = ladder_of([*(set(LADDER) - {"retain"}), SCORE.name])


def train(
    population: Population,
    folder: Path,
    labels: pl.DataFrame | None = None,
    definitions: pl.DataFrame = DEFINITIONS,
) -> TrainedLadder:
    return train_ladder(
        population.events.lazy(),
        population.labels if labels is None else labels,
        population.features,
        definitions,
        SETTINGS,
        folder,
        task_names=(TASK, RARE_TASK, "never_eligible"),
        comparators={TASK: (SCORE, NO_COLUMN), RARE_TASK: (SCORE,)},
        transformer=SMALL,
        recurrent=SMALL_RECURRENT,
    )


def eligible(population: Population, task: str = TASK) -> pl.DataFrame:
    """The last prediction time of each patient."""
    return (
        population.labels.filter(pl.col("task") == task)
        .sort("prediction_time")
        .unique("subject_id", keep="last", maintain_order=True)
        .select("subject_id", "prediction_time", "task", "horizon_days")
    )


def score(model: SavedModel, population: Population, events: pl.DataFrame | None = None) -> pl.DataFrame:
    events = population.events if events is None else events
    rows = eligible(population)
    features = build_features(events, rows.select("subject_id", "prediction_time"))
    return score_patients(model, events.lazy(), features, rows, DAY, "data-1")


def released_as(model: SavedModel, name: str) -> SavedModel:
    """The same ladder with another rung released."""
    return replace(model, questions={QUESTION: model.questions[QUESTION].model_copy(update={"released": name})})


@pytest.fixture(scope="module")
def population() -> Population:
    return draw_population()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home") / "models"


@pytest.fixture(scope="module")
def ladder(population, folder) -> TrainedLadder:
    return train(population, folder)


@pytest.fixture(scope="module")
def saved(ladder, folder) -> SavedModel:
    return load_model(folder)


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


def with_canaries(population: Population) -> pl.DataFrame:
    """The events, and after each patient's last prediction time a canary, a planted code, a value and a death: known an
    instant to a month later, and having happened then, or the day before."""
    last = population.labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    template = population.events.filter(pl.col("code") == GLUCOSE).head(1).drop("subject_id", "time", "known_time")
    known = [last.with_columns(known_time=pl.col("prediction_time") + after) for after in CANARIES_AFTER]
    later = [
        part.select("subject_id", "known_time", time=time).join(template.with_columns(code=pl.lit(code)), how="cross")
        for part in known
        for time in (pl.col("known_time"), pl.col("prediction_time") - timedelta(days=1))
        for code in ("CANARY//1", PLANTED, GLUCOSE, "MEDS_DEATH")
    ]
    return pl.concat([population.events, *[part.select(population.events.columns) for part in later]])


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
    assert scores[young]["unlike_because"].startswith("Age outside ")
    assert scores[foreign]["risk"] is None
    assert scores[foreign]["unlike_because"] == "100% of the codes are not known to the model"
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
