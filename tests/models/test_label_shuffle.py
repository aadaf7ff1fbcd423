from datetime import datetime, timedelta

import polars as pl
from polars.testing import assert_frame_equal

from features.tables import Labels, checked, empty
from models.label_shuffle import shuffled_by_patient

NOON = datetime(2015, 6, 1, 12)
SAME = ["subject_id", "prediction_time", "task", "horizon_days", "split"]


def labels(patients: int = 60) -> pl.DataFrame:
    """Patient n has 1 to 4 rows, all of one state, with times to the event that name the patient."""
    rows = [
        (
            who,
            NOON + timedelta(days=row),
            task,
            365,
            ("train", "held_out")[who % 2],
            ("event", "none")[who % 3 > 0],
            who,
        )
        for who in range(patients)
        for row in range(1 + who % 4)
        for task in ("one", "other")
    ]
    return checked(pl.DataFrame(rows, schema=empty(Labels).schema, orient="row").sort("task", *SAME[:2]), Labels)


def test_rows_stay_and_answers_change_hands_within_a_part_of_the_study():
    before, after = labels(), shuffled_by_patient(labels(), seed=1)
    assert_frame_equal(before.select(SAME), after.select(SAME))
    donors = after.select(*SAME, "state", donor="time_to_event_days")
    # All rows of a patient come from one other patient, of the same part of the study, in each task apart.
    assert donors.group_by("task", "subject_id").agg(pl.col("donor").n_unique())["donor"].to_list() == [1] * 120
    assert (donors["donor"] % 2 == donors["subject_id"] % 2).all()
    assert ((donors["donor"] % 3 == 0) == (donors["state"] == "event")).all()
    assert (donors["donor"] != donors["subject_id"]).mean() > 0.9
    of_tasks = donors.unique(["task", "subject_id"]).sort("subject_id")
    first, second = (of_tasks.filter(task=task)["donor"].to_list() for task in ("one", "other"))
    assert first != second
    # Everybody gives once.
    assert sorted(first) == sorted(second) == list(range(60))


def test_the_seed_decides_and_the_order_of_rows_does_not():
    again = shuffled_by_patient(labels().sample(fraction=1, shuffle=True, seed=4), seed=1)
    assert_frame_equal(shuffled_by_patient(labels(), seed=1), again)
    assert not shuffled_by_patient(labels(), seed=2).equals(again)
