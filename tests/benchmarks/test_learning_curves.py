"""Learning curves: whose labels are learnt from, and what is told of the repeats."""

from datetime import datetime

import polars as pl
import pytest
from pydantic import ValidationError

from benchmarks.curves import curve_lines, curves_of
from benchmarks.learning_curves import arm_of, with_labels_of
from features.tables import Labels, checked, empty


def labels() -> pl.DataFrame:
    """Ten patients of each part, each with two horizons of one task, all with the outcome."""
    rows = [
        {
            "subject_id": 100 * place + person,
            "prediction_time": datetime(2020, 1, 1),
            "task": "mortality",
            "horizon_days": days,
            "split": split,
            "state": "event",
            "time_to_event_days": 20.0,
        }
        for place, split in enumerate(("train", "tuning", "held_out"))
        for person in range(10)
        for days in (365, 730)
    ]
    return checked(pl.DataFrame(rows, schema=empty(Labels).schema), Labels)


def patients(table: pl.DataFrame, **where: object) -> set[int]:
    return set(table.filter(pl.col("split") != "held_out").filter(**where)["subject_id"])


def test_all_held_out_patients_judge_and_few_are_among_many():
    few, many = (with_labels_of(labels(), size, 1, keeps_timelines=False) for size in (5, 15))
    assert few.filter(split="held_out").equals(labels().filter(split="held_out"))
    assert (len(patients(few)), len(patients(many))) == (5, 15)
    assert patients(few) < patients(many)
    assert patients(few) != patients(with_labels_of(labels(), 5, 2, keeps_timelines=False))
    assert patients(with_labels_of(labels(), None, 1, keeps_timelines=False)) == patients(labels())


def test_timelines_without_labels_tell_nothing():
    kept = checked(with_labels_of(labels(), 5, 1, keeps_timelines=True), Labels)
    assert patients(kept) == patients(labels())
    assert patients(kept, state="event") == patients(with_labels_of(labels(), 5, 1, keeps_timelines=False))
    assert set(kept.filter(state="censored")["time_to_event_days"]) == {0}


def test_an_arm_changes_settings_that_are_there():
    arm = arm_of("without:event_dropout=0,+timelines")
    assert (arm.name, arm.settings.event_dropout, arm.keeps_timelines) == ("without", 0, True)
    assert arm_of("as it is:").settings.event_dropout > 0
    with pytest.raises(ValidationError):
        arm_of("wrong:no_such_field=1")


def test_curves_by_hand():
    fits = {
        "as it is/50/1": {"lightgbm@a@365": 0.6, "timeline_transformer@a@365": 0.5},
        "as it is/50/2": {"lightgbm@a@365": 0.8},
        "other/50/1": {"lightgbm@a@365": 0.1, "timeline_transformer@a@365": 0.7},
    }
    curves = curves_of(fits)
    assert curves["a@365"]["lightgbm"]["50"] == {"mean": 0.7, "low": 0.6, "high": 0.8, "repeats": 2}
    assert curves["a@365"]["timeline_transformer, other"]["50"]["mean"] == 0.7
    assert curve_lines(curves)[2] == "| `a@365` | lightgbm | 0.700 (0.600 to 0.800) |"
    assert curves_of({}) == {}
