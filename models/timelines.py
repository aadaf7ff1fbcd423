"""What do the sequence models make of everybody's timeline? Fitted once for all questions, beside the simple models."""

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.costs import FORECAST, timed
from models.hazard_labels import HazardTask, hazard_labels
from models.hazards import interval_edges
from models.questions import KEYS, Question
from models.recurrent import RecurrentSettings
from models.risk_transformer import TransformerSettings
from models.saved_model import SavedModel
from models.sequence_integrity import count_forecasts_that_see_later_rows
from models.sequence_models import fit_sequence_models, place_of
from models.sequences import ages_years, build_sequences, seen_events
from models.training import forecast_log_odds
from models.vocabulary import chronic_groups, fit_vocabulary


@dataclass(frozen=True)
class TrainedTimelines:
    """The trained sequence models, in a ladder without questions, and their log-odds for tuning and held-out rows.

    judged: subject_id, prediction_time; scores: by model, for each question one number for each of `judged`.
    """

    saved: SavedModel
    judged: pl.DataFrame
    scores: dict[str, dict[Question, NDArray[np.float64]]]


def train_timelines(
    events: pl.LazyFrame,
    labels: pl.DataFrame,
    questions: list[Question],
    blank: SavedModel,
    transformer: TransformerSettings,
    recurrent: RecurrentSettings | None,
    checkpoints: Path,
) -> TrainedTimelines:
    """Fit vocabulary and sequence models for all tasks at once: one row for each distinct prediction time.

    Reads Events, and Labels of the `questions`. `blank` is a ladder without models, with the study's settings;
    `checkpoints` a folder from which a run that was killed goes on. Raises ModelError when a forecast changes with the
    later rows of a patient.
    """
    settings = blank.settings
    keys = labels.select(*KEYS, "split").unique().sort(KEYS)
    train_keys = keys.filter(pl.col("split") == "train").select(KEYS)
    vocabulary = fit_vocabulary(
        seen_events(events, train_keys, settings.lookback_days),
        ages_years(events, train_keys),
        chronic_groups(),
        settings,
    )
    tasks = [
        HazardTask(task, interval_edges([horizon for _, horizon in pairs], transformer.intervals_per_horizon))
        for task, pairs in groupby(sorted(questions), lambda question: question.task)
    ]
    sequences = build_sequences(events, keys, vocabulary)
    fitted = fit_sequence_models(
        sequences,
        hazard_labels(labels, keys, tasks),
        _places(keys, "train"),
        _places(keys, "tuning"),
        vocabulary,
        tasks,
        transformer,
        recurrent,
        settings.models,
        settings.seed,
        checkpoints,
    )
    judged = np.flatnonzero((keys["split"] != "train").to_numpy())
    if changed := count_forecasts_that_see_later_rows(fitted, sequences, patients=200, seed=settings.seed):
        raise ModelError(
            f"{changed:,} forecasts of a sample change when later moments of the patient are asked about too: the "
            "network sees who lives on. Nothing is saved. This is a fault in Sequela; please report it."
        )
    places = [place_of(fitted.shape, question) for question in questions]
    scores: dict[str, dict[Question, NDArray[np.float64]]] = {}
    for name, network in fitted.networks.items():
        with timed(name, FORECAST, len(judged)):
            found = forecast_log_odds(network, sequences, judged, places)
        scores[name] = dict(zip(questions, found.T, strict=True))
    saved = replace(blank, vocabulary=vocabulary, sequence_models=fitted)
    return TrainedTimelines(saved, keys.select(KEYS)[judged], scores)


def sequence_scores(
    timelines: TrainedTimelines, question: Question, rows: pl.DataFrame
) -> dict[str, NDArray[np.float64]]:
    """Log-odds for tuning or held-out `rows`, in their order, by sequence model."""
    places = rows.join(timelines.judged.with_row_index("place"), on=KEYS, how="left", maintain_order="left")["place"]
    return {name: of_model[question][places.to_numpy()] for name, of_model in timelines.scores.items()}


def _places(keys: pl.DataFrame, split: str) -> NDArray[np.int64]:
    return np.flatnonzero((keys["split"] == split).to_numpy())
