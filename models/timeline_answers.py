"""What does a sequence model say of each timeline, and why? All questions of a patient share one reading of it."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.explanation import event_contributions, event_reasons
from models.questions import Question
from models.sequence_models import SequenceShape, place_of
from models.sequences import Sequences
from models.training import HazardNetwork, forecast_log_odds
from models.vocabulary import SequenceVocabulary

ROWS_AT_ONCE = 1024  # what each event adds to each answer is kept for so many rows


class TimelineAnswers(NamedTuple):
    """Log-odds of a question's rows, in their order, and the reasons: keys, label, contribution, record_ids."""

    log_odds: NDArray[np.float64]
    reasons: pl.DataFrame


def answers_of(
    network: HazardNetwork,
    shape: SequenceShape,
    timelines: Sequences,
    asked: Mapping[Question, NDArray[np.integer]],
    vocabulary: SequenceVocabulary,
    code_names: dict[str, str],
) -> dict[Question, TimelineAnswers]:
    """Answer each question for its rows of the timelines, at least one. `code_names`: see event_reasons."""
    questions = sorted(asked)
    is_asked = np.zeros((timelines.keys.height, len(questions)), dtype=bool)
    for column, question in enumerate(questions):
        is_asked[asked[question], column] = True
    log_odds = np.zeros(is_asked.shape)
    reasons: list[list[pl.DataFrame]] = [[] for _ in questions]
    for start in range(0, len(is_asked), ROWS_AT_ONCE):
        rows: list[list[NDArray[np.int64]]] = [[] for _ in questions]
        added: list[list[NDArray[np.float64]]] = [[] for _ in questions]
        for own_rows, columns in _asked_alike(is_asked, start):
            places = [place_of(shape, questions[column]) for column in columns]
            log_odds[own_rows[:, None], columns] = forecast_log_odds(network, timelines, own_rows, places)
            contributions = event_contributions(network, timelines, own_rows, places)
            for column, of_question in zip(columns, contributions.T, strict=True):
                rows[column].append(own_rows)
                added[column].append(of_question)
        for column in range(len(questions)):
            if rows[column]:
                of_events, of_rows = np.concatenate(added[column]), np.concatenate(rows[column])
                reasons[column].append(event_reasons(of_events, timelines, of_rows, vocabulary, code_names))
    return {
        question: TimelineAnswers(log_odds[asked[question], column], pl.concat(reasons[column]))
        for column, question in enumerate(questions)
    }


def _asked_alike(is_asked: NDArray[np.bool_], start: int) -> Iterator[tuple[NDArray[np.int64], list[int]]]:
    """Of the rows from `start` on, those that are asked the same questions: the rows, and the questions' columns."""
    kinds, kind_of_row = np.unique(is_asked[start : start + ROWS_AT_ONCE], axis=0, return_inverse=True)
    for kind, columns in enumerate(kinds):
        if columns.any():
            yield start + np.flatnonzero(kind_of_row.ravel() == kind), np.flatnonzero(columns).tolist()
