import math

import numpy as np
import pytest
import torch

from models.hazards import (
    DIED,
    EVENT,
    NONE,
    hazard_loss,
    hazard_targets,
    incidence_log_odds,
    interval_edges,
)

EVEN = torch.zeros(2, 3)  # two intervals; none, event and death each have a chance of 1/3


def test_every_horizon_is_an_edge():
    assert interval_edges([365]) == [0, 91.25, 182.5, 273.75, 365]
    assert interval_edges([1095, 365], parts=2) == [0, 182.5, 365, 730, 1095]


@pytest.mark.parametrize(
    ("state", "days", "survived", "outcome"),
    [
        ("event", 5, 0, EVENT),
        ("event", 10, 0, EVENT),  # on an edge: the interval that it ends
        ("event", 10.5, 1, EVENT),
        ("died_first", 15, 1, DIED),
        ("censored", 9.9, 0, NONE),  # the first interval was not completed
        ("censored", 10, 1, NONE),
        ("none", 20, 2, NONE),
    ],
)
def test_targets_of_two_intervals_of_ten_days(state, days, survived, outcome):
    got = hazard_targets(np.array([state]), np.array([days]), [0, 10, 20])
    assert (got[0].item(), got[1].item()) == (survived, outcome)


@pytest.mark.parametrize(
    ("survived", "outcome", "factors"),
    [
        (1, EVENT, 2),  # nothing in interval 0, event in interval 1: 1/3 x 1/3
        (1, DIED, 2),
        (0, EVENT, 1),
        (1, NONE, 1),  # followed through interval 0 only
        (2, NONE, 2),
        (0, NONE, 0),  # nothing is known
    ],
)
def test_loss_by_hand(survived, outcome, factors):
    loss = hazard_loss(EVEN, torch.tensor(survived), torch.tensor(outcome))
    assert loss.item() == pytest.approx(factors * math.log(3))


def test_loss_of_uneven_chances():
    # softmax of (ln 8, 0, 0) is (0.8, 0.1, 0.1), of (0, ln 2, 0) is (0.25, 0.5, 0.25)
    logits = torch.tensor([[math.log(8), 0, 0], [0, math.log(2), 0]])
    loss = hazard_loss(logits, torch.tensor(1), torch.tensor(EVENT))
    assert loss.item() == pytest.approx(-math.log(0.8 * 0.5))


def test_log_odds_of_the_incidence_by_hand():
    # The incidence is 1/3, then 1/3 + 1/3 x 1/3 = 4/9: odds of 1/3 : 2/3 and 4/9 : 5/9
    assert incidence_log_odds(EVEN, 1).item() == pytest.approx(math.log(1 / 2))
    assert incidence_log_odds(EVEN, 2).item() == pytest.approx(math.log(4 / 5))


def test_log_odds_keep_tiny_risks_apart():
    tiny = torch.tensor([[[0.0, -60.0, -60.0]], [[0.0, -61.0, -60.0]]])
    first, second = incidence_log_odds(tiny, 1).tolist()
    assert first == pytest.approx(-60, abs=1e-6)
    assert second == pytest.approx(-61, abs=1e-6)
