"""Fit the whole ladder for every task that the records can answer, judge it, release one model a task."""

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from features.errors import ModelError
from features.settings import StudySettings
from features.tables import Evaluations, Predictions, checked, empty
from models.baselines import (
    LinearModel,
    fit_age_sex,
    fit_lightgbm,
    fit_logistic_regression,
    lightgbm_log_odds,
    linear_log_odds,
)
from models.calibration import fit_recalibration, recalibrated
from models.discrimination import patient_weights
from models.evaluation import LADDER, bootstrap_seed, choose_released, evaluate, tuning_threshold
from models.hazards import interval_edges
from models.questions import KEYS, Question, answerable_questions, feature_matrix, question_rows
from models.risk_transformer import TransformerSettings
from models.saved_model import ReleasedModel, SavedModel, TransformerShape, save_model, transformer_place
from models.sequences import Sequences, ages_years, build_sequences, recent_events
from models.training import HazardTask, forecast_log_odds, hazard_labels, train_transformer
from models.vocabulary import chronic_groups, fit_vocabulary


@dataclass(frozen=True)
class TrainedLadder:
    """What training found: Predictions, Evaluations and SkippedTasks tables, the digest of the saved model, and
    the model released for each question."""

    predictions: pl.DataFrame
    evaluations: pl.DataFrame
    skipped: pl.DataFrame
    version: str
    released: dict[Question, str]


@dataclass(frozen=True)
class _Timelines:
    """The trained transformer with the sequences that it was trained on."""

    saved: SavedModel
    sequences: Sequences


def train_ladder(
    events: pl.LazyFrame,
    labels: pl.DataFrame,
    features: pl.DataFrame,
    definitions: pl.DataFrame,
    settings: StudySettings,
    folder: Path,
    *,
    task_names: tuple[str, ...] = (),
    transformer: TransformerSettings | None = None,
) -> TrainedLadder:
    """Train age and sex, logistic regression, LightGBM and the timeline transformer; save them under `folder`.

    Reads Events, Labels, the feature table (FeatureKeys and the columns of `definitions`) and FeatureDefinitions.
    Censored rows are left out of fitting and judging, except that the transformer learns from their follow-up;
    who died first had no outcome. For each task the model with the best tuning log-likelihood after recalibration
    is released, so a simple model wins wherever it is better. Tasks with too few patients are skipped with a
    reason (`task_names`: the tasks that were asked); when all are, the saved ladder has no question.
    The same inputs and seed give the same version. Raises ModelError when a labelled row has no features.
    """
    answerable, skipped = answerable_questions(labels, settings, task_names)
    blank = SavedModel(settings, definitions, {}, {}, None, None, None, "")
    if not answerable:
        version = save_model(blank, folder)
        return TrainedLadder(empty(Predictions), empty(Evaluations), skipped, version, {})
    chosen = pl.DataFrame(answerable, schema=labels.select("task", "horizon_days").schema, orient="row")
    asked = labels.join(chosen, on=["task", "horizon_days"], how="semi")
    timelines = _train_timelines(events, asked, blank, transformer or TransformerSettings())
    predictions, questions, trees = [], {}, {}
    for question in tqdm(answerable, desc="fitting and judging each task", disable=None):
        rows = question_rows(asked, question)
        linear, trees[question] = _fit_simple(rows, features, definitions, settings)
        scores = _scores(rows, question, features, linear, trees[question], timelines)
        judged, questions[question] = _judged(rows, question, scores, linear, settings)
        predictions.append(judged)
    table = checked(pl.concat(predictions).sort("task", "horizon_days", "model", *KEYS), Predictions)
    released = {question: entry.released for question, entry in questions.items()}
    thresholds = {
        (question, model): entry.thresholds[model] for question, entry in questions.items() for model in LADDER
    }
    version = save_model(replace(timelines.saved, questions=questions, trees=trees), folder)
    return TrainedLadder(table, evaluate(table, released, thresholds, settings), skipped, version, released)


def _train_timelines(
    events: pl.LazyFrame, labels: pl.DataFrame, blank: SavedModel, shape: TransformerSettings
) -> _Timelines:
    """Fit vocabulary and transformer for all tasks at once: one sequence for each distinct prediction time."""
    settings = blank.settings
    keys = labels.select(*KEYS, "split").unique().sort(KEYS)
    train_keys = keys.filter(pl.col("split") == "train").select(KEYS)
    vocabulary = fit_vocabulary(
        recent_events(events, train_keys, settings.lookback_days),
        ages_years(events, train_keys),
        chronic_groups(),
        settings,
        shape.most_visits,
    )
    tasks = [
        HazardTask(task, interval_edges([horizon for _, horizon in pairs], shape.intervals_per_horizon))
        for task, pairs in groupby(sorted(labels.select("task", "horizon_days").unique().rows()), lambda row: row[0])
    ]
    sequences = build_sequences(events, keys, vocabulary)
    intervals = max(len(task.edges_days) - 1 for task in tasks)
    network = train_transformer(
        sequences,
        hazard_labels(labels, keys, tasks),
        _places(keys, "train"),
        _places(keys, "tuning"),
        len(vocabulary.tokens),
        intervals,
        shape,
        settings.seed,
    )
    saved = replace(
        blank,
        vocabulary=vocabulary,
        transformer=network,
        transformer_shape=TransformerShape(
            settings=shape, tokens=len(vocabulary.tokens), intervals=intervals, tasks=tasks
        ),
    )
    return _Timelines(saved, sequences)


def _fit_simple(
    rows: pl.DataFrame, features: pl.DataFrame, definitions: pl.DataFrame, settings: StudySettings
) -> tuple[dict[str, LinearModel], str]:
    columns = definitions["feature"].to_list()
    demographic = definitions.filter(pl.col("kind") == "demographic")["feature"].to_list()
    if not demographic:
        raise ModelError("The feature table has no demographic column, so age + sex cannot be fitted.")
    train, tuning = (rows.filter(pl.col("split") == split) for split in ("train", "tuning"))
    x_train, x_tuning = (feature_matrix(features, part, columns) for part in (train, tuning))
    y_train, y_tuning = train["is_event"].to_numpy(), tuning["is_event"].to_numpy()
    linear = {
        "age_sex": fit_age_sex(x_train, y_train, columns, demographic),
        "logistic_regression": fit_logistic_regression(x_train, y_train, x_tuning, y_tuning, columns),
    }
    return linear, fit_lightgbm(x_train, y_train, x_tuning, y_tuning, settings.seed)


def _scores(
    rows: pl.DataFrame,
    question: Question,
    features: pl.DataFrame,
    linear: dict[str, LinearModel],
    trees: str,
    timelines: _Timelines,
) -> dict[str, NDArray[np.float64]]:
    """Log-odds of every model for the tuning and held-out rows."""
    judged = rows.filter(pl.col("split") != "train")
    columns = timelines.saved.feature_columns
    matrix = feature_matrix(features, judged, columns)
    numbered = judged.join(timelines.sequences.keys.with_row_index("row"), on=KEYS, how="left", maintain_order="left")
    assert timelines.saved.transformer is not None
    assert timelines.saved.transformer_shape is not None
    place = transformer_place(timelines.saved.transformer_shape, question)
    by_timeline = forecast_log_odds(
        timelines.saved.transformer, timelines.sequences, numbered["row"].to_numpy(), [place]
    )
    return {
        **{name: linear_log_odds(model, matrix, columns) for name, model in linear.items()},
        "lightgbm": lightgbm_log_odds(trees, matrix),
        "timeline_transformer": by_timeline[:, 0],
    }


def _judged(
    rows: pl.DataFrame,
    question: Question,
    scores: dict[str, NDArray[np.float64]],
    linear: dict[str, LinearModel],
    settings: StudySettings,
) -> tuple[pl.DataFrame, ReleasedModel]:
    """Recalibrate each model on tuning rows and choose the released one. Returns Predictions of the question."""
    judged = rows.filter(pl.col("split") != "train")
    is_tuning = (judged["split"] == "tuning").to_numpy()
    events = judged["is_event"].to_numpy()
    parts, calibration, thresholds = [], {}, {}
    for model in LADDER:
        calibration[model] = fit_recalibration(scores[model][is_tuning], events[is_tuning])
        part = judged.with_columns(
            task=pl.lit(question.task),
            horizon_days=pl.lit(question.horizon_days, pl.Int32),
            model=pl.lit(model),
            score=pl.Series(scores[model]),
            risk=pl.Series(recalibrated(calibration[model], scores[model])),
        )
        thresholds[model] = tuning_threshold(part.filter(pl.col("split") == "tuning"))
        parts.append(part)
    predictions = pl.concat(parts).select(Predictions.column_names())
    released = choose_released(predictions.filter(pl.col("split") == "tuning"))
    subjects = judged["subject_id"].to_numpy()[is_tuning]
    seed = bootstrap_seed(settings, question, "recalibration resamples")
    weights = patient_weights(subjects, settings.bootstrap_resamples, seed)
    calibration[released] = fit_recalibration(scores[released][is_tuning], events[is_tuning], weights)
    entry = ReleasedModel(
        task=question.task,
        horizon_days=question.horizon_days,
        released=released,
        thresholds=thresholds,
        calibration=calibration,
        linear=linear,
    )
    return predictions, entry


def _places(keys: pl.DataFrame, split: str) -> NDArray[np.int64]:
    return np.flatnonzero((keys["split"] == split).to_numpy())
