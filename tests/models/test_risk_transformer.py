import numpy as np
import pytest
import torch

from models.batches import batch_of, stretches_of
from models.risk_transformer import HazardHead, RiskTransformer
from models.sequences import Sequences, build_sequences
from models.training import forecast_log_odds
from models.visit_encoder import VisitEncoder, encoder_shape
from models.vocabulary import SequenceVocabulary
from tests.models.planted_population import GLUCOSE, PLANTED, SMALL, draw_population

TOKENS = ["(nothing known)", PLANTED, GLUCOSE, "ENCOUNTER//AMB//start", "SEX//female", "SEX//male"]
VOCABULARY = SequenceVocabulary(
    tokens=TOKENS, scales={}, chronic_groups=[], lookback_days=730, median_age_years=50, counted=[1, 2, 3]
)


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    population = draw_population(20)
    keys = population.features.select("subject_id", "prediction_time")
    return build_sequences(population.events.lazy(), keys, VOCABULARY)


@pytest.fixture
def network() -> RiskTransformer:
    torch.manual_seed(5)
    settings = SMALL.model_copy(update={"lookback_shares": (0.25, 0.75)})
    encoder = VisitEncoder(encoder_shape(VOCABULARY), settings.width, settings.value_knots, settings.event_dropout)
    network = RiskTransformer(encoder, 730, tasks=2, intervals=3, settings=settings).eval()
    torch.nn.init.normal_(network.to_hazards.who.weight)
    return network


def test_a_row_is_answered_alike_alone_and_among_others(sequences, network):
    rows = np.arange(sequences.keys.height)
    together = forecast_log_odds(network, sequences, rows, [(1, 2)])
    for row in rows[:6]:
        alone = forecast_log_odds(network, sequences, np.array([row]), [(1, 2)])
        assert alone[0, 0] == pytest.approx(together[row, 0], abs=1e-4)
    backward = forecast_log_odds(network, sequences, rows[::-1], [(1, 2)])
    assert together[:, 0] == pytest.approx(backward[::-1, 0], abs=1e-4)
    assert len(np.unique(together.round(6))) > 10


def test_stretches_hold_every_row_once_and_only_one_patient(sequences):
    rows = np.arange(sequences.keys.height)
    stretches = stretches_of(sequences, rows, most=2)
    assert sorted(stretches.rows) == rows.tolist()
    assert stretches.spans.sizes.max() == 2
    batch = batch_of(sequences, stretches, np.arange(len(stretches)))
    assert sorted(batch.rows.tolist()) == rows.tolist()


def test_a_hazard_is_its_bias_and_what_the_summary_says():
    head = HazardHead(width=1, wide=1, tasks=1, intervals=3)
    with torch.no_grad():
        head.who.weight.copy_(torch.tensor([[2.0], [0.0], [1.0], [0.0]]))  # level of event, of death; slopes likewise
        head.straight.weight.copy_(torch.tensor([[3.0], [0.0]]))
        found = head(torch.tensor([[1.0]]), torch.tensor([[10.0]]))[0, 0, :, 1]
    # level 2 x 1 + 3 x 10 = 32, slope 1 x 1 over the places -1, 0, 1
    assert found.tolist() == pytest.approx([31.0, 32.0, 33.0])
