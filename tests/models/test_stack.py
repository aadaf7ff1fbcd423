import numpy as np
import pytest

from models.calibration import logit
from models.discrimination import auroc
from models.stack import Stack, _fitted, fit_stack, stacked

SEED = [1]


def two_halves(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Two models that each know another half of the truth, one that knows nothing; two rows a patient."""
    random = np.random.default_rng(seed)
    left, right, noise = random.normal(size=(3, rows))
    events = random.random(rows) < 1 / (1 + np.exp(-(left + right)))
    return {"left": left, "right": right, "noise": noise}, events, np.arange(rows) // 2


def test_a_stack_by_hand():
    stack = Stack(intercept=1.0, weights={"a": 0.5, "b": 2.0, "unused": 0.0})
    # 1 + 0.5 x 2 + 2 x (-1) = 0
    assert stacked(stack, {"a": np.array([2.0]), "b": np.array([-1.0])}).tolist() == [0.0]


def test_halves_of_the_truth_are_put_together_and_noise_is_left():
    scores, events, subjects = two_halves(4_000)
    stack, unseen = fit_stack(scores, events, subjects, SEED)
    # The truth weighs each half by 1; the penalty keeps weights a little shorter.
    assert stack.weights["left"] == pytest.approx(1, abs=0.3)
    assert stack.weights["right"] == pytest.approx(1, abs=0.3)
    assert stack.weights["noise"] < 0.1
    assert auroc(unseen, events) > max(auroc(found, events) for found in scores.values()) + 0.05


def test_with_few_outcomes_the_stack_stays_near_the_mean():
    scores, events, subjects = two_halves(60)
    # The right half looks useless in this handful of rows, yet keeps a weight.
    scores["right"] = np.random.default_rng(5).permutation(scores["right"])
    weights = fit_stack(scores, events, subjects, SEED)[0].weights
    mean = _fitted(scores, events, may_move=False).weights
    assert mean["right"] > 0.2
    assert weights == pytest.approx(mean, abs=0.03)


def test_models_that_tell_nearly_nothing_do_not_grow():
    random = np.random.default_rng(0)
    faint = {name: random.normal(size=60) * 0.02 for name in ("first", "second")}
    stack, _ = fit_stack(faint, random.random(60) < 0.5, np.arange(60) // 2, SEED)
    assert stacked(stack, faint).std() < 0.1


def test_where_fitted_weights_rank_the_wrong_way_the_mean_is_taken():
    random = np.random.default_rng(3)
    events = random.random(60) < 0.15
    first, second = random.normal(size=(2, 60)) * 0.3
    scores = {"first": first + 0.075 * events, "second": second}
    stack, unseen = fit_stack(scores, events, np.arange(60) // 2, SEED)
    assert stack == _fitted(scores, events, may_move=False)
    assert min(stack.weights.values()) > 0.1
    assert np.array_equal(unseen, stacked(stack, scores))


def test_no_model_is_turned_round():
    scores, events, subjects = two_halves(1_000)
    weights = fit_stack({"left": scores["left"], "wrong": -scores["right"]}, events, subjects, SEED)[0].weights
    assert weights["wrong"] == 0


def test_a_patients_own_rows_do_not_shape_the_score_that_judges_them():
    scores, events, subjects = two_halves(200)
    _, unseen = fit_stack(scores, events, subjects, SEED)
    of_first = subjects == 0
    turned = np.where(of_first, ~events, events)
    had_event = np.bincount(subjects, events) > 0
    still_had = np.bincount(subjects, turned) > 0
    assert had_event[0] == still_had[0], "choose a patient whose place among the folds stays"
    _, again = fit_stack(scores, turned, subjects, SEED)
    # Only the level, which all rows share, may move.
    moved = again - unseen
    assert moved[of_first][0] == pytest.approx(moved[of_first][1], abs=1e-12)
    assert np.ptp(moved[~of_first]) > 1e-4


def test_the_order_of_models_and_a_model_without_any_opinion_change_nothing():
    scores, events, subjects = two_halves(500)
    first, unseen = fit_stack(scores, events, subjects, SEED)
    again, same = fit_stack(dict(reversed(scores.items())), events, subjects, SEED)
    assert first == again
    assert unseen.tolist() == same.tolist()
    flat = fit_stack(scores | {"flat": np.full(500, float(logit(np.array([0.1]))[0]))}, events, subjects, SEED)[0]
    assert flat.weights["flat"] == 0


def test_one_outcome_only_still_gives_finite_weights():
    scores, _, subjects = two_halves(50)
    stack, unseen = fit_stack(scores, np.zeros(50, dtype=bool), subjects, SEED)
    assert np.isfinite([stack.intercept, *stack.weights.values()]).all()
    assert np.isfinite(unseen).all()
