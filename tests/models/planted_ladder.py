"""A ladder trained on the planted population, and how its tests train and score."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from features.integrity import CANARIES_AFTER
from features.tasks.schema import Comparator
from models.ladder import LADDER, ladder_of
from models.prediction import score_patients
from models.questions import Question
from models.saved_model import SavedModel
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
