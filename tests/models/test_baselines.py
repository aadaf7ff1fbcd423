import numpy as np
import pytest

from models.baselines import (
    LinearModel,
    fit_age_sex,
    fit_comparator,
    fit_lightgbm,
    fit_logistic_regression,
    lightgbm_log_odds,
    lightgbm_terms,
    linear_log_odds,
    linear_terms,
)

COLUMNS = ["age_years", "is_female", "count"]


def draw(rows: int, seed: int = 1):
    random = np.random.default_rng(seed)
    features = np.stack(
        [random.uniform(20, 90, rows), random.integers(0, 2, rows), random.poisson(1.0, rows)], axis=1
    ).astype(np.float32)
    events = random.random(rows) < 1 / (1 + np.exp(2 - features[:, 2] - 0.02 * (features[:, 0] - 55)))
    features[random.random(rows) < 0.2, 2] = np.nan
    return features, events


def test_linear_log_odds_by_hand():
    model = LinearModel(
        features=["count", "age_years"],
        medians=[2, 50],
        centres=[1, 40],
        scales=[0.5, 10],
        squared=["age_years"],
        missing_flags=["count"],
        coefficients=[0.3, 0.2, 0.1, -0.7],
        intercept=-1,
    )
    rows = np.array([[60.0, 1, 2], [1e6, 0, np.nan]])
    # Row 1: count (2-1)/0.5 = 2 gives 0.6; age (60-40)/10 = 2 gives 0.4, its square 0.1 x (4-1) = 0.3.
    # Row 2: count missing, so the median 2 gives 0.6, and -0.7; age is cut at 5: 1.0 and 0.1 x (25-1) = 2.4.
    assert linear_log_odds(model, rows, COLUMNS) == pytest.approx([0.3, 2.3])
    assert linear_terms(model, rows, COLUMNS) == pytest.approx(np.array([[0.6, 0.7], [-0.1, 3.4]]))


def test_medians_and_scales_come_from_train_rows_alone():
    train, train_events = draw(400)
    tuning, tuning_events = draw(200, seed=2)
    fitted = fit_logistic_regression(train, train_events, tuning, tuning_events, COLUMNS)
    assert fitted.medians == pytest.approx(np.nanmedian(train, axis=0))
    assert fitted.missing_flags == ["count"]
    assert np.isfinite(linear_log_odds(fitted, np.full((1, 3), np.nan), COLUMNS)).all()


def test_age_and_sex_reads_nothing_else():
    train, events = draw(400)
    fitted = fit_age_sex(train, events, COLUMNS, ["age_years", "is_female"])
    other = train.copy()
    other[:, 2] = 99
    assert (linear_log_odds(fitted, train, COLUMNS) == linear_log_odds(fitted, other, COLUMNS)).all()
    assert fitted.squared == ["age_years"]


def test_a_probability_counts_by_its_log_odds():
    model = LinearModel(
        features=["score_pce"],
        medians=[0],
        centres=[-1],
        scales=[2],
        squared=[],
        missing_flags=["score_pce"],
        coefficients=[0.8, -0.5],
        intercept=0.1,
        logits=["score_pce"],
    )
    # 0.75 is log 3 = 1.0986: (1.0986 + 1) / 2 x 0.8 + 0.1. Missing: the median 0, so 1 / 2 x 0.8 - 0.5 + 0.1.
    found = linear_log_odds(model, np.array([[0.75], [np.nan]]), ["score_pce"])
    assert found == pytest.approx([0.93944, 0.0], abs=1e-5)


def test_a_score_ranks_as_it_was_published_and_answers_for_everybody():
    train, events = draw(2_000)
    fitted = fit_comparator(train, events, COLUMNS, ["count"], COLUMNS[:2])
    assert fitted.missing_flags == ["count"]
    assert fitted.logits == []
    points = np.array([[50, 1, count] for count in (0, 1, 2, 3, np.nan)])
    log_odds = linear_log_odds(fitted, points, COLUMNS)
    assert (np.diff(log_odds[:4]) > 0).all()
    # Who has no score is told by age and sex; who has one, by the score alone.
    aged = np.array([[age, sex, count] for count in (np.nan, 1) for age in (20, 50, 80) for sex in (0, 1)])
    without, with_score = linear_log_odds(fitted, aged, COLUMNS).reshape(2, 6)
    assert without[4] - without[0] > 0.6
    assert np.ptp(with_score) == 0
    # One more point adds 1 to the log-odds of the drawn outcome; age, which is not told, makes it a little less.
    assert np.diff(log_odds[:3]) == pytest.approx([0.9, 0.9], abs=0.15)


@pytest.mark.parametrize("gaps", [0, 3])
def test_a_score_that_train_patients_nearly_always_have_falls_back_on_age_and_sex_too(gaps):
    train, events = draw(2_000)
    train[:, 2] = np.nan_to_num(train[:, 2])
    train[:gaps, 2] = np.nan
    fitted = fit_comparator(train, events, COLUMNS, ["count"], COLUMNS[:2])
    without = np.array([[age, sex, np.nan] for age in (20, 50, 80) for sex in (0, 1)])
    age_sex = fit_age_sex(train, events, COLUMNS, COLUMNS[:2])
    assert linear_log_odds(fitted, without, COLUMNS) == pytest.approx(linear_log_odds(age_sex, without, COLUMNS))
    # Where there is a value it answers alone, as a regression of the score alone says.
    known = train[gaps:]
    alone = fit_comparator(known, events[gaps:], COLUMNS, ["count"], [])
    assert linear_log_odds(fitted, known, COLUMNS) == pytest.approx(linear_log_odds(alone, known, COLUMNS), abs=0.01)


def test_published_probabilities_are_taken_as_log_odds():
    random = np.random.default_rng(1)
    risk = random.uniform(0.01, 0.6, (4_000, 1))
    events = random.random(4_000) < risk[:, 0]
    fitted = fit_comparator(risk, events, ["score_pce"], ["score_pce"], [])
    assert fitted.logits == ["score_pce"]
    # The probability is right, so the fitted one is the same.
    told = 1 / (1 + np.exp(-linear_log_odds(fitted, np.array([[0.05], [0.3]]), ["score_pce"])))
    assert told == pytest.approx([0.05, 0.3], abs=0.03)


@pytest.mark.parametrize("values", [np.full(400, 3.0), np.full(400, np.nan), np.where(np.arange(400) < 9, 3, np.nan)])
def test_a_score_that_is_the_same_for_everybody_is_no_comparator(values):
    _, events = draw(400)
    assert fit_comparator(values[:, None], events, ["score_lace"], ["score_lace"], []) is None
    assert fit_comparator(values[:, None], events, ["score_lace"], ["score_hospital"], []) is None


def test_a_comparator_of_several_columns_uses_those_that_tell():
    train, events = draw(400)
    train[:, 1] = 1
    fitted = fit_comparator(train, events, COLUMNS, ["count", "is_female", "age_years", "not_there"], COLUMNS[:2])
    assert fitted.features == ["count", "age_years"]


def test_lightgbm_is_the_same_twice_and_its_terms_sum_to_the_log_odds():
    train, train_events = draw(600)
    tuning, tuning_events = draw(300, seed=2)
    text = fit_lightgbm(train, train_events, tuning, tuning_events, seed=5)
    assert text == fit_lightgbm(train, train_events, tuning, tuning_events, seed=5)
    terms, log_odds = lightgbm_terms(text, tuning), lightgbm_log_odds(text, tuning)
    assert terms.shape == tuning.shape
    common_start = log_odds - terms.sum(axis=1)
    assert common_start == pytest.approx(np.full(300, common_start[0]))
