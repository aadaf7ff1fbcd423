"""The planted population as the sequence models read it."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.hazard_labels import HazardLabels, HazardTask, hazard_labels
from models.hazards import interval_edges
from models.questions import KEYS
from models.sequences import Sequences, ages_years, build_sequences, seen_events
from models.vocabulary import SequenceVocabulary, chronic_groups, fit_vocabulary
from tests.models.planted_population import HORIZON_DAYS, RARE_TASK, SETTINGS, TASK, draw_population


@dataclass(frozen=True)
class PlantedSequences:
    """Sequences, answers to the planted and then the rare task, rows by split, and Labels of the planted task."""

    vocabulary: SequenceVocabulary
    sequences: Sequences
    answers: HazardLabels
    tasks: list[HazardTask]
    rows: dict[str, NDArray[np.int64]]
    labels: pl.DataFrame


def planted_sequences(subjects: int = 300) -> PlantedSequences:
    """Draw the population and build its sequences."""
    population = draw_population(subjects)
    events = population.events.lazy()
    keys = population.labels.select(*KEYS, "split").unique().sort(KEYS)
    splits = ("train", "tuning", "held_out")
    rows = {split: np.flatnonzero((keys["split"] == split).to_numpy()) for split in splits}
    train_keys = keys[rows["train"]].select(KEYS)
    recent = seen_events(events, train_keys, SETTINGS.lookback_days)
    vocabulary = fit_vocabulary(recent, ages_years(events, train_keys), chronic_groups(), SETTINGS)
    tasks = [HazardTask(task, interval_edges([HORIZON_DAYS])) for task in (TASK, RARE_TASK)]
    return PlantedSequences(
        vocabulary,
        build_sequences(events, keys, vocabulary),
        hazard_labels(population.labels, keys, tasks),
        tasks,
        rows,
        population.labels.filter(pl.col("task") == TASK),
    )
