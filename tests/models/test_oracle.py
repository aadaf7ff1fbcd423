"""The models beside the truth, on rows small enough to count by hand."""

from datetime import datetime

import polars as pl
import pytest

from models.oracle import compare_with_oracle

TIME = datetime(2020, 1, 1)
# Twelve rows, each of two people: all pairs are there four times, so shares of pairs are those of the twelve.
EVENTS = ([True] * 6 + [False] * 6) * 2
TRUTH = [0.9, 0.8, 0.7, 0.6, 0.5, 0.15, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01] * 2


def _predictions(scores: list[float], split: str = "held_out") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": range(24),
            "prediction_time": [TIME] * 24,
            "task": ["mortality"] * 24,
            "horizon_days": pl.Series([365] * 24, dtype=pl.Int32),
            "split": [split] * 24,
            "model": ["lightgbm"] * 24,
            "score": scores * 2,
            "risk": [0.5 + score / 10 for score in scores] * 2,
            "is_event": EVENTS,
        }
    )


def _true_risks(treatment: str = "as usual") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": range(24),
            "prediction_time": [TIME] * 24,
            "task": ["mortality"] * 24,
            "horizon_days": pl.Series([365] * 24, dtype=pl.Int32),
            "treatment": [treatment] * 24,
            "risk": TRUTH,
            "standard_error": [0.01] * 24,
            "drawn": EVENTS,
        }
    )


def test_share_of_the_oracle_by_hand():
    # The truth: 33 of 36 pairs in order (0.15 lies below 0.4, 0.3 and 0.2): 0.9167. The model: all rows alike but one
    # with an event, on top: 6 pairs won, 30 tied: (6 + 15) / 36 = 0.5833. Its share: 0.0833 / 0.4167 = 0.2.
    [row] = compare_with_oracle(_predictions([1.0] + [0.0] * 11), _true_risks(), 50, 1).iter_rows(named=True)
    assert row["oracle_auroc"] == pytest.approx(33 / 36)
    assert row["auroc"] == pytest.approx(21 / 36)
    assert row["oracle_share"] == pytest.approx(0.2)
    assert (row["rows"], row["events"]) == (24, 12)
    assert row["oracle_low"] <= row["oracle_auroc"] <= row["oracle_high"]
    assert row["share_low"] < 0.2 < row["share_high"] < 1


def test_who_tells_what_the_truth_tells_has_all_of_it_in_every_resample():
    [row] = compare_with_oracle(_predictions(TRUTH[:12]), _true_risks(), 50, 1).iter_rows(named=True)
    assert (row["oracle_share"], row["share_low"], row["share_high"]) == (1, 1, 1)


def test_only_held_out_rows_as_usual_count():
    assert compare_with_oracle(_predictions([0.0] * 12, split="tuning"), _true_risks(), 50, 1).is_empty()
    assert compare_with_oracle(_predictions([0.0] * 12), _true_risks("with statin"), 50, 1).is_empty()


def test_few_outcomes_are_not_judged():
    predictions = _predictions([0.0] * 12).with_columns(is_event=pl.Series(([True] * 4 + [False] * 8) * 2))
    assert compare_with_oracle(predictions, _true_risks(), 50, 1).is_empty()
