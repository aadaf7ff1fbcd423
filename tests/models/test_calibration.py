import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.calibration import (
    Recalibration,
    calibration_in_the_large,
    calibration_slope,
    fit_lines,
    fit_recalibration,
    logit,
    members_distance,
    newton_lines,
    recalibrated,
    risk_interval,
    sigmoid,
    slope_interval,
)
from models.discrimination import draw_resamples


def draw(rows: int, intercept: float, slope: float, seed: int = 3):
    random = np.random.default_rng(seed)
    scores = random.normal(-1, 1.5, rows)
    return scores, random.random(rows) < sigmoid(intercept + slope * scores)


def test_a_known_miscalibration_is_found():
    scores, events = draw(200_000, intercept=-0.7, slope=0.6)
    fitted = fit_recalibration(scores, events)
    assert fitted.slope == pytest.approx(0.6, abs=0.02)
    assert fitted.intercept == pytest.approx(-0.7, abs=0.03)
    assert recalibrated(fitted, scores).mean() == pytest.approx(events.mean(), abs=1e-4)


def test_newton_agrees_with_scikit_learn_on_weighted_rows():
    scores, events = draw(500, intercept=0.4, slope=1.5)
    weights = np.random.default_rng(1).integers(0, 4, (3, 500)).astype(float)
    lines, has_converged = newton_lines(scores, events, weights, (0.0, 1.0), (0.0, 0.0))
    assert has_converged.all()
    for line, weight in zip(lines, weights, strict=True):
        other = LogisticRegression(C=np.inf, tol=1e-10).fit(scores[:, None], events, sample_weight=weight)
        assert line == pytest.approx([other.intercept_[0], other.coef_[0, 0]], abs=1e-4)


def test_refits_are_the_lines_of_the_resampled_rows():
    scores, events = draw(400, intercept=0.2, slope=1.1)
    subjects = np.random.default_rng(8).integers(0, 80, 400)
    resamples = draw_resamples(subjects, 5, [1])
    refits = fit_recalibration(scores, events, resamples).refits
    for line, times in zip(refits, resamples.times, strict=True):
        rows = np.repeat(np.arange(400), times[resamples.patient].astype(int))
        written_out = Recalibration(**dict(zip(("intercept", "slope"), line, strict=True)))
        again = fit_recalibration(scores[rows], events[rows])
        assert recalibrated(written_out, scores) == pytest.approx(recalibrated(again, scores), abs=3e-3)


def test_scores_that_rank_backwards_give_everybody_the_same_risk():
    scores, events = draw(2_000, intercept=0, slope=-1)
    fitted = fit_recalibration(scores, events)
    assert fitted.slope == 0
    assert recalibrated(fitted, scores[:1]).item() == pytest.approx(events.mean(), abs=1e-3)


def test_resamples_without_any_outcome_stay_finite():
    scores, events = draw(50, intercept=-3, slope=1)
    lines = fit_lines(scores, np.zeros_like(events), np.ones((2, 50)))
    assert np.isfinite(lines).all()
    assert (sigmoid(lines[:, 0]) < 0.05).all()


def test_the_interval_holds_the_risk_and_covers_the_true_one():
    covered = []
    for seed in range(60):
        scores, events = draw(300, intercept=-0.5, slope=0.8, seed=seed)
        fitted = fit_recalibration(scores, events, draw_resamples(np.arange(300), 200, [seed]))
        low, high = risk_interval(fitted, np.array([-1.0]))
        risk = recalibrated(fitted, np.array([-1.0]))
        assert low <= risk <= high
        covered.append(bool(low <= sigmoid(np.array(-0.5 - 0.8)) <= high))
    assert 0.85 <= np.mean(covered) <= 1  # 95 % wanted; 60 draws leave a few either way


def test_interval_by_hand():
    # Slopes 0 and intercepts 0, 1, …, 100: the percentiles 2.5 and 97.5 are 2.5 and 97.5.
    lines = [(float(step), 0.0) for step in range(101)]
    recalibration = Recalibration(intercept=50, slope=0, refits=lines)
    low, high = risk_interval(recalibration, np.array([0.3]))
    assert low.item() == pytest.approx(1 / (1 + np.exp(-2.5)))
    assert high.item() == pytest.approx(1)


def test_calibration_of_right_risks_and_of_risks_twice_too_extreme():
    scores, events = draw(200_000, intercept=0, slope=1)
    assert calibration_slope(sigmoid(scores), events) == pytest.approx(1, abs=0.03)
    assert calibration_in_the_large(sigmoid(scores), events) == pytest.approx(0, abs=0.03)
    assert calibration_slope(sigmoid(2 * scores), events) == pytest.approx(0.5, abs=0.02)
    assert calibration_in_the_large(sigmoid(scores - 1), events) == pytest.approx(1, abs=0.03)


def test_the_interval_of_a_slope_is_that_of_a_bootstrap_of_patients():
    """Each patient's rows have one risk and mostly one outcome, so that they are worth little more than one row."""
    random = np.random.default_rng(3)
    sizes = random.integers(1, 9, size=400)
    patient = np.repeat(np.arange(400), sizes)
    scores = np.repeat(random.normal(size=400), sizes)
    nature = np.repeat(random.normal(scale=2, size=400), sizes)
    events = random.random(len(scores)) < sigmoid(scores + nature)
    low, high = slope_interval(sigmoid(scores), events, patient)
    resamples = draw_resamples(patient, 400, [1])
    weights = resamples.times[:, resamples.patient]
    lines, _ = newton_lines(scores, events, weights, (0.0, 1.0), (0.0, 0.0))
    assert (high - low) / (2 * 1.96) == pytest.approx(lines[:, 1].std(), rel=0.1)
    assert (low + high) / 2 == pytest.approx(calibration_slope(sigmoid(scores), events))
    alone_low, alone_high = slope_interval(sigmoid(scores), events, np.arange(len(scores)))
    assert alone_high - alone_low < 0.8 * (high - low)


def test_the_interval_of_a_slope_holds_the_truth_19_times_in_20():
    covered = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        scores = random.normal(size=300)
        events = random.random(300) < sigmoid(0.7 * scores - 1)
        low, high = slope_interval(sigmoid(scores), events, np.arange(300))
        covered.append(low <= 0.7 <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_calibration_is_absent_where_it_cannot_be_fitted():
    assert calibration_slope(np.array([0.2, 0.2]), np.array([True, False])) is None
    assert calibration_slope(np.array([0.2, 0.4]), np.array([False, False])) is None
    assert calibration_in_the_large(np.array([0.2, 0.4]), np.array([True, True])) is None
    separated = calibration_slope(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert separated is None
    assert slope_interval(np.array([0.2, 0.2]), np.array([True, False]), np.arange(2)) == (None, None)
    of_one_patient = slope_interval(np.array([0.2, 0.4, 0.3]), np.array([True, False, True]), np.zeros(3, dtype=int))
    assert of_one_patient == (None, None)


def test_the_interval_of_a_stack_is_wider_where_its_members_disagree():
    alike, apart = np.array([0.4, 0.4]), np.array([0.4, 2.4])
    own = Recalibration(intercept=0.0, slope=1.0)
    fits = {"a": own, "b": own, "stack": Recalibration(intercept=0.0, slope=1.0, refits=[(-0.1, 1.0), (0.1, 1.0)])}
    stack = (alike + apart) / 2
    distance = members_distance(fits, {"a": alike, "b": apart}, stack, "stack")
    assert distance == pytest.approx([0, 1])  # both members are 1 away from 1.4
    low, high = risk_interval(fits["stack"], stack, distance)
    # Of two refits the 2.5th percentile lies 0.095 below the middle; hypot(0.095, 1.96 x 1) = 1.962.
    assert logit(low) == pytest.approx([0.4 - 0.095, 1.4 - 1.962], abs=1e-3)
    assert logit(high) == pytest.approx([0.4 + 0.095, 1.4 + 1.962], abs=1e-3)
