import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.discrimination import (
    Resamples,
    auroc_difference,
    draw_resamples,
    interval,
    resampled_auroc,
    resampled_shares,
    youden_threshold,
)


def test_resampled_auroc_agrees_with_scikit_learn_ties_included():
    random = np.random.default_rng(2)
    scores = random.integers(0, 12, 300) / 3  # many ties
    events = random.random(300) < 0.3
    resamples = draw_resamples(random.integers(0, 60, 300), 40, [1])
    areas = resampled_auroc(scores, events, resamples)
    for area, times in zip(areas, resamples.times, strict=True):
        assert area == pytest.approx(roc_auc_score(events, scores, sample_weight=times[resamples.patient]))


def test_patients_in_several_parts_count_as_in_one(monkeypatch):
    random = np.random.default_rng(2)
    scores, events = random.integers(0, 12, 300), random.random(300) < 0.3
    resamples = draw_resamples(random.integers(0, 60, 300), 40, [1])
    at_once = resampled_auroc(scores, events, resamples)
    monkeypatch.setattr("models.discrimination.NUMBERS_AT_ONCE", 301 * 7)
    assert (resampled_auroc(scores, events, resamples) == at_once).all()


def test_auroc_by_hand():
    # Pairs (outcome, none): 3>1, 3>2, 2>1 are right and 2=2 is half: 3.5 of 4.
    scores, events = np.array([3.0, 2, 2, 1]), np.array([True, True, False, False])
    once = Resamples(np.ones((1, 4)), np.arange(4))
    assert resampled_auroc(scores, events, once).item() == 3.5 / 4
    # The second patient has rows 2 and 3 and comes twice: 3>2 counts 2, 3>1 once, 2=2 four times half, 2>1 twice; of
    # (1 + 2) outcomes x (2 + 1) others.
    some = Resamples(np.array([[1.0, 2, 1]]), np.array([0, 1, 1, 2]))
    assert resampled_auroc(scores, events, some).item() == pytest.approx((2 + 1 + 2 + 2) / 9)


def test_patients_are_drawn_whole():
    subjects = np.array([5, 5, 9, 7, 9, 9])
    resamples = draw_resamples(subjects, 50, [0])
    assert resamples.patient.tolist() == [0, 0, 2, 1, 2, 2]
    assert (resamples.times.sum(axis=1) == 3).all()  # three patients are drawn three times
    assert (resamples.times != 1).any()
    assert (draw_resamples(subjects, 50, [0]).times == resamples.times).all()
    assert (resamples.sums(np.ones(6)) == resamples.times @ [2, 1, 3]).all()


def test_resamples_with_one_kind_of_outcome_are_left_out():
    resamples = Resamples(np.array([[1.0, 1], [2, 0]]), np.arange(2))
    areas = resampled_auroc(np.array([1.0, 2]), np.array([False, True]), resamples)
    assert np.isnan(areas[1])
    assert interval(areas) == (1, 1)


def test_a_model_against_itself_differs_by_nothing():
    random = np.random.default_rng(4)
    scores, events = random.normal(size=100), random.random(100) < 0.4
    assert auroc_difference(scores, scores, events, draw_resamples(np.arange(100), 50, [3])) == (0, 0, 0)


def test_youden_by_hand():
    # At 0.6 all outcomes are found with one false alarm of three: 1 - 1/3, more than 0.7 (1/2 - 0) or 0.2 (1 - 1).
    risk = np.array([0.9, 0.7, 0.6, 0.2, 0.1])
    events = np.array([True, False, True, False, False])
    assert youden_threshold(risk, events) == 0.6


def test_where_no_risk_finds_more_than_it_alarms_nobody_is_flagged():
    events = np.array([True, False, False, False])
    assert youden_threshold(np.full(4, 0.25), events) == 1  # one risk for everybody
    assert youden_threshold(np.array([0.1, 0.2, 0.3, 0.4]), events) == 1  # the wrong way round


def test_share_by_hand():
    flagged, events = np.array([True, False, True]), np.array([True, True, False])
    # Weights 3, 1, 5: three of the four outcomes are flagged.
    assert resampled_shares(flagged, events, Resamples(np.array([[3.0, 1, 5]]), np.arange(3))).item() == 0.75
