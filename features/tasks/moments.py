"""At which moments may a task be asked, before anybody is left out?"""

import polars as pl

from features.tasks.predicates import predicate_events
from features.tasks.schema import Task

KEYS = ["subject_id", "prediction_time"]
STAY_START, STAY_END = "ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end"
_END_CODE = r"^ENCOUNTER//.*//end$"


def moments_of(events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Every moment of the task's kind, as soon as it can be known.

    Returns:  subject_id, prediction_time, encounter_id (of the hospital stay; null where a task is not about stays);
              one row a person and moment, sorted. Of two stays with one moment the one with the smaller id counts.
    """
    found = {
        "encounter_end": _encounter_ends,
        "admission": _hours_after_admission,
        "discharge": _discharges,
        "result": _results,
    }[task.prediction_time.at](events, codes, task)
    outside = outside_other_stays(found, stays(events))
    return outside.sort(*KEYS, "encounter_id").unique(KEYS, keep="first", maintain_order=True)


def outside_other_stays(moments: pl.DataFrame, stayed: pl.DataFrame) -> pl.DataFrame:
    """Leave out moments at which the person is, as far as is known then, in another hospital stay.

    A visit in the midst of a stay, an admission while another stay goes on and a discharge from one of two stays that
    overlap are no moments of their own: the person is in hospital, and so will be.
    Reads:    `moments`: subject_id, prediction_time, encounter_id (null where not about a stay). `stayed`: as `stays`.
    """
    at = pl.col("prediction_time")
    others = stayed.rename({"encounter_id": "other"}).select("subject_id", "other", "began_known", "ended_known")
    is_other = pl.col("other").ne_missing(pl.col("encounter_id"))
    goes_on = (pl.col("ended_known") > at) | pl.col("ended_known").is_null()
    own = stayed.select("subject_id", "encounter_id", own_began="began_known")
    # Of two stays that both go on, the one that began first (or has the smaller id) is the person's stay.
    comes_later = (pl.col("began_known") > pl.col("own_began")) | (
        (pl.col("began_known") == pl.col("own_began")) & (pl.col("other") > pl.col("encounter_id"))
    )
    own_goes_on = (pl.col("own_ended") > at) | pl.col("own_ended").is_null()
    inside = (
        moments.join(own, on=["subject_id", "encounter_id"], how="left")
        .join(
            stayed.select("subject_id", "encounter_id", own_ended="ended_known"),
            on=["subject_id", "encounter_id"],
            how="left",
        )
        .join(others, on="subject_id")
        .filter(is_other, pl.col("began_known") <= at, goes_on)
        .filter(~(pl.col("encounter_id").is_not_null() & own_goes_on & comes_later).fill_null(False))
        .select("subject_id", "prediction_time", "encounter_id")
        .unique()
    )
    return moments.join(inside, on=["subject_id", "prediction_time", "encounter_id"], how="anti", nulls_equal=True)


def stays(events: pl.LazyFrame) -> pl.DataFrame:
    """Hospital stays: subject_id, encounter_id, began, began_known, ended, ended_known (null while nothing tells)."""
    of_stays = events.filter(pl.col("code").is_in([STAY_START, STAY_END]), pl.col("encounter_id").is_not_null())
    is_start = pl.col("code") == STAY_START
    return (
        of_stays.group_by("subject_id", "encounter_id")
        .agg(
            began=pl.col("time").filter(is_start).min(),
            began_known=pl.col("known_time").filter(is_start).min(),
            ended=pl.col("time").filter(~is_start).max(),
            ended_known=pl.col("known_time").filter(~is_start).max(),
        )
        .filter(pl.col("began").is_not_null())
        .collect()
    )


def _encounter_ends(events: pl.LazyFrame, _codes: pl.DataFrame, _task: Task) -> pl.DataFrame:
    return (
        events.filter(pl.col("code").str.contains(_END_CODE) & pl.col("known_time").is_not_null())
        .select("subject_id", prediction_time="known_time", encounter_id=pl.lit(None, pl.Int64))
        .unique()
        .collect()
    )


def _hours_after_admission(events: pl.LazyFrame, _codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Of the stays that, as far as is known then, still go on."""
    moment = pl.col("began") + pl.duration(hours=task.prediction_time.hours_after)
    return (
        stays(events)
        .with_columns(prediction_time=moment)
        .filter(pl.col("began_known") <= moment, ~(pl.col("ended_known") <= moment).fill_null(False))
        .select(*KEYS, "encounter_id")
    )


def _discharges(events: pl.LazyFrame, _codes: pl.DataFrame, _task: Task) -> pl.DataFrame:
    ended = stays(events).filter(pl.col("ended_known").is_not_null())
    return ended.select("subject_id", "encounter_id", prediction_time="ended_known").select(*KEYS, "encounter_id")


def _results(events: pl.LazyFrame, codes: pl.DataFrame, task: Task) -> pl.DataFrame:
    results = predicate_events(events, codes, task.predicates, task.prediction_time.predicate or "")
    return results.select("subject_id", prediction_time="known_time", encounter_id=pl.lit(None, pl.Int64)).unique()
