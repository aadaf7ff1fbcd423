"""All questions in one reading of the timelines: each row's answer and reasons are those it has when asked alone."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models import timeline_answers
from models.explanation import event_contributions, event_reasons
from models.hazard_labels import HazardTask
from models.questions import KEYS, Question
from models.sequence_models import SequenceShape
from models.sequences import Sequences, build_sequences
from models.timeline_answers import answers_of
from models.training import forecast_log_odds
from tests.models.planted_population import SMALL, draw_population
from tests.models.test_risk_transformer import LAYERS, SHAPE, VOCABULARY, network_of

TASKS = [
    HazardTask(task="stroke", edges_days=[0, 30, 365, 730]),
    HazardTask(task="death", edges_days=[0, 30, 365, 730]),
]
LADDER = SequenceShape(
    tasks=TASKS,
    lookback_days=730,
    encoder=SHAPE,
    transformer=SMALL.model_copy(update={"lookback_shares": LAYERS[2]}),
    recurrent=None,
    measured=[],
)
PLACES = {Question("stroke", 730): (0, 3), Question("stroke", 30): (0, 1), Question("death", 365): (1, 2)}
NAMES = {"A": "a code"}


@pytest.fixture(scope="module")
def timelines() -> Sequences:
    population = draw_population(20)
    return build_sequences(population.events.lazy(), population.features.select(KEYS), VOCABULARY)


@pytest.mark.parametrize("rows_at_once", [1024, 7])
def test_each_question_is_answered_as_if_asked_alone(timelines, rows_at_once, monkeypatch):
    monkeypatch.setattr(timeline_answers, "ROWS_AT_ONCE", rows_at_once)
    last = timelines.keys.height - 1
    asked = {
        Question("stroke", 730): np.array([last, 0, 3, 8, 9]),
        Question("stroke", 30): np.array([3, 5, 9]),
        Question("death", 365): np.array([9]),
    }
    answers = answers_of(network_of(2), LADDER, timelines, asked, VOCABULARY, NAMES)
    for question, rows in asked.items():
        place = PLACES[question]
        alone = forecast_log_odds(network_of(2), timelines, rows, [place])[:, 0]
        assert answers[question].log_odds == pytest.approx(alone, abs=1e-5)
        of_events = event_contributions(network_of(2), timelines, rows, [place])[:, 0]
        expected = event_reasons(of_events, timelines, rows, VOCABULARY, NAMES)
        assert expected.height > len(rows) / 2
        largest_first = pl.col("contribution").abs()
        found, own = (
            reasons.sort(*KEYS, largest_first, "label", descending=[False, False, True, False])
            for reasons in (answers[question].reasons, expected)
        )
        assert_frame_equal(found, own, abs_tol=1e-4)


def test_no_question_has_no_answer(timelines):
    assert answers_of(network_of(2), LADDER, timelines, {}, VOCABULARY, NAMES) == {}
