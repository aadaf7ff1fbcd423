from dataclasses import replace

import numpy as np
import pytest
import torch

from models.batches import batch_of, event_counts, event_places
from models.explanation import event_contributions
from models.hazards import incidence_log_odds
from models.risk_transformer import RiskTransformer
from models.sequences import Sequences, build_sequences
from models.training import forecast_log_odds
from models.vocabulary import SequenceVocabulary
from tests.models.planted_population import GLUCOSE, PLANTED, SMALL, draw_population


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    population = draw_population(20)
    vocabulary = SequenceVocabulary(
        tokens=["(nothing known)", PLANTED, GLUCOSE, "ENCOUNTER//AMB//start", "SEX//female", "SEX//male"],
        scales={},
        chronic_groups=[],
        lookback_days=730,
        most_visits=64,
        median_age_years=50,
    )
    keys = population.features.select("subject_id", "prediction_time")
    return build_sequences(population.events.lazy(), keys, vocabulary)


@pytest.fixture
def network() -> RiskTransformer:
    torch.manual_seed(5)
    network = RiskTransformer(tokens=6, tasks=2, intervals=3, settings=SMALL).eval()
    torch.nn.init.normal_(network.to_hazards.weight)
    return network


def test_later_visits_do_not_change_earlier_answers(sequences, network):
    batch = batch_of(sequences, np.array([0, 1, 2]))
    changed = batch.visits.clone()
    changed[:, 3:, :3] += 1.7
    with torch.inference_mode():
        before, after = network(batch), network(replace(batch, visits=changed))
    assert before.shape == (3, batch.visits.shape[1], 2, 3, 3)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_padding_does_not_change_the_answer(sequences, network):
    lengths = sequences.lengths()
    shortest, longest = int(lengths.argmin()), int(lengths.argmax())
    assert lengths[shortest] < lengths[longest]
    with torch.inference_mode():
        alone = network.at_prediction_time(batch_of(sequences, np.array([shortest])))
        padded = network.at_prediction_time(batch_of(sequences, np.array([shortest, longest])))
    assert torch.allclose(alone[0], padded[0], atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_answer_at_the_prediction_time_is_the_one_of_the_last_visit(sequences, layers):
    torch.manual_seed(6)
    network = RiskTransformer(6, tasks=2, intervals=3, settings=SMALL.model_copy(update={"layers": layers})).eval()
    torch.nn.init.normal_(network.to_hazards.weight)
    batch = batch_of(sequences, np.arange(12))
    assert batch.last_visit.unique().numel() > 1
    with torch.inference_mode():
        everywhere, at_the_end = network(batch), network.at_prediction_time(batch)
    assert torch.allclose(everywhere[torch.arange(12), batch.last_visit], at_the_end, atol=1e-5)


def test_only_differences_of_time_matter(sequences, network):
    batch = batch_of(sequences, np.array([0, 1]))
    later = batch.visits.clone()
    later[:, :, 2] += 365
    with torch.inference_mode():
        here, there = network(batch), network(replace(batch, visits=later))
    assert torch.allclose(here, there, atol=1e-3)


def test_forecasts_keep_the_order_of_the_rows(sequences, network):
    rows = np.arange(sequences.keys.height)
    forward = forecast_log_odds(network, sequences, rows, [(1, 2)])
    backward = forecast_log_odds(network, sequences, rows[::-1], [(1, 2)])
    assert forward[:, 0] == pytest.approx(backward[::-1, 0], abs=1e-5)


def test_contributions_of_dated_events_sum_to_the_answer_less_that_of_the_same_person_without_them(sequences, network):
    rows = np.array([3, 0, 7])
    contributions = event_contributions(network, sequences, rows, task=0, intervals=3)
    batch = batch_of(sequences, rows)
    is_sex = batch.tokens >= 4
    assert is_sex.sum() == 3
    with torch.inference_mode():
        answers = [
            incidence_log_odds(network.at_prediction_time(batch, strength)[:, 0], 3)
            for strength in (torch.ones_like(batch.values), is_sex.to(batch.values))
        ]
    row_of_event = np.repeat(np.arange(len(rows)), event_counts(sequences, rows))
    summed = np.bincount(row_of_event, weights=contributions)
    assert summed == pytest.approx((answers[0] - answers[1]).numpy(), abs=5e-3)
    tokens = sequences.events["token"].to_numpy()[event_places(sequences, rows)]
    assert contributions[tokens < 4].any()
    assert not contributions[tokens >= 4].any()  # a sex has no absence to compare with
