"""What do models find in labels that tell nothing? Labels changed among patients, on which every AUROC must be 0.5.

A model that does better on them was helped by something that has no business in its input, or judged wrongly.
"""

import numpy as np
import polars as pl

from features.tables import Labels, checked

_GROUP = ["task", "horizon_days", "split"]


def shuffled_by_patient(labels: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give every patient the answers of another one of the same part of the study, task and horizon.

    Reads and returns Labels: all rows stay, with another state and time_to_event_days. A patient's answers stay
    together and in their order, because they resemble each other; who has more rows than the other patient takes
    them again from the first. Some patients keep their own by chance.
    """
    order = [*_GROUP, "subject_id", "prediction_time"]
    numbered = labels.sort(order).with_columns(place=pl.int_range(pl.len()).over(*_GROUP, "subject_id"))
    patients = numbered.group_by(*_GROUP, "subject_id").agg(rows=pl.len()).sort(*_GROUP, "subject_id")
    random = np.random.default_rng(seed)
    drawn = patients.with_columns(draw=pl.Series(random.random(patients.height)))
    donors = drawn.sort(*_GROUP, "draw").select(donor="subject_id", donor_rows="rows")
    given = patients.select(*_GROUP, "subject_id").hstack(donors)
    answers = numbered.select(*_GROUP, "place", "state", "time_to_event_days", donor="subject_id")
    shuffled = (
        numbered.drop("state", "time_to_event_days")
        .join(given, on=[*_GROUP, "subject_id"])
        .with_columns(place=pl.col("place") % pl.col("donor_rows"))
        .join(answers, on=[*_GROUP, "donor", "place"])
    )
    return checked(shuffled.select(Labels.column_names()).sort("task", "horizon_days", *order[-2:]), Labels)
