"""The hospital stay that ended within the day before: how long it was, how it began, the visits before it; acute care.

A score about a discharge is asked at the discharge in training and at the end of its day in scoring: both find it.
"""

import polars as pl

from features.scores.inputs import Input, history, in_stay
from features.tasks.value_sets import load_value_sets

EMERGENCY_VISITS_DAYS = 183
ADMISSIONS_DAYS = 365
LONGEST_VISIT_DAYS = 365
ASKED_WITHIN_DAYS = 1  # as long as the tasks ask about a discharge; exactly a day later it is over
_STAY_START, _STAY_END, EMERGENCY_START = "ENCOUNTER//IMP//start", "ENCOUNTER//IMP//end", "ENCOUNTER//EMER//start"
_EMERGENCY_END = "ENCOUNTER//EMER//end"
_PRIORITY = "ENCOUNTER_PRIORITY//ACTPRIORITY//"
_ACUTE = [f"{_PRIORITY}{code}" for code in ("EM", "UR", "S", "A")]  # emergency, urgent, stat, as soon as possible
_SECONDS_PER_DAY = 86_400

STAY_DAYS = Input(
    "stay_days",
    "stay",
    (_STAY_START, _STAY_END),
    "Length of the stay that ended within the day before: days between its dates",
    "d",
)
IS_ACUTE = Input(
    "is_acute_admission",
    "stay",
    (_STAY_START, _STAY_END, EMERGENCY_START, f"{_PRIORITY}*"),
    "1 when the stay's priority (v3-ActPriority) is emergency, urgent, stat or as soon as possible; where none is "
    "recorded, when an emergency visit began within the day before the stay",
    when_missing="assume_absent",
    assumed=0.0,
)
EMERGENCY_VISITS = Input(
    "emergency_visits",
    "stay",
    (_STAY_START, _STAY_END, EMERGENCY_START),
    f"Emergency visits that began in the {EMERGENCY_VISITS_DAYS} days before the stay, without those of its last day, "
    "which led to it",
    when_missing="assume_absent",
    assumed=0.0,
)
ADMISSIONS = Input(
    "earlier_admissions",
    "stay",
    (_STAY_START, _STAY_END),
    f"Hospital stays that began in the {ADMISSIONS_DAYS} days before this one",
    when_missing="assume_absent",
    assumed=0.0,
)
IN_ACUTE_CARE = Input(
    "in_acute_care",
    "stay",
    (_STAY_START, _STAY_END, EMERGENCY_START, _EMERGENCY_END),
    f"In an emergency visit or hospital stay, or within the day after it; without an end, over after "
    f"{LONGEST_VISIT_DAYS} days",
    when_missing="assume_absent",
    assumed=0.0,
)
DIED_IN_STAY = in_stay(history("died_in_stay", load_value_sets()["died_in_hospital"].patterns, "Left the stay dead"))
# Discharge dispositions of NUBC (UB-04, form locator 17) and HL7: nursing facility, swing bed, rehabilitation,
# psychiatric and long-term hospital, hospice, other institution; those of NUBC from 83 on with a planned return.
_INSTITUTIONS = (
    *(f"DISCHARGE//NUBC//{code}" for code in "03 04 51 61 62 63 64 65 70 83 84 89 90 91 92 93 95".split()),
    *(f"DISCHARGE//HL7DISPOSITION//{code}" for code in ("snf", "long", "rehab", "psy", "hosp")),
)
LEFT_FOR_CARE = in_stay(
    history(
        "left_for_care",
        (*load_value_sets()["transferred"].patterns, *_INSTITUTIONS),
        "Left for another hospital, a nursing facility or another institution",
    )
)


def stay_facts(read: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The inputs above: of the stay whose end became known last within the day before, if one did; and acute care.

    Reads:    `read`: subject_id, time, known_time, code, encounter_id, record_id of the codes above; doubled rows do
              not matter. `rows`: row, subject_id, prediction_time.
    Returns:  row, name, value, age_days, record_id; no row for an input that is not on record. The length carries the
              age of the stay's start; the counts carry the latest of what they count.
    """
    known = read.drop("fact", "value", strict=False).unique().join(rows, on="subject_id")
    known = known.filter(pl.col("known_time") <= pl.col("prediction_time")).with_columns(
        age_days=(pl.col("prediction_time") - pl.col("time")).dt.total_seconds() / _SECONDS_PER_DAY
    )
    ends = known.filter(
        pl.col("code") == _STAY_END,
        pl.col("known_time") > pl.col("prediction_time") - pl.duration(days=ASKED_WITHIN_DAYS),
    )
    starts = known.filter(pl.col("code") == _STAY_START)
    stays = (
        ends.select("row", "encounter_id", "known_time", ended="time")
        .drop_nulls("encounter_id")
        .join(starts.select("row", "encounter_id", "record_id", "age_days", started="time"), on=["row", "encounter_id"])
        .filter(pl.col("started") <= pl.col("ended"))
        .sort(
            *("row", "known_time", "ended", "started", "encounter_id", "record_id"),
            descending=[False, True, True, False, False, False],
        )
        .unique("row", keep="first", maintain_order=True)
    )
    length = (pl.col("ended").dt.date() - pl.col("started").dt.date()).dt.total_days()
    before = known.join(stays.select("row", "started", stay="encounter_id"), on="row").with_columns(
        days_before=(pl.col("started") - pl.col("time")).dt.total_seconds() / _SECONDS_PER_DAY
    )
    emergencies = before.filter(pl.col("code") == EMERGENCY_START)
    led_here = pl.col("days_before").is_between(0, 1)
    priority = before.filter(pl.col("code").str.starts_with(_PRIORITY) & (pl.col("encounter_id") == pl.col("stay")))
    acute = pl.concat(
        [
            priority.with_columns(rank=0, acute=pl.col("code").is_in(_ACUTE)),
            emergencies.filter(led_here).with_columns(rank=1, acute=pl.lit(value=True)),
        ]
    )
    return pl.concat(
        [
            _acute_care(known),
            _fact(stays.with_columns(value=length), STAY_DAYS),
            _fact(
                acute.sort("row", "rank", "acute", "record_id", descending=[False, False, True, False])
                .unique("row", keep="first", maintain_order=True)
                .with_columns(value="acute"),
                IS_ACUTE,
            ),
            _count(
                emergencies.filter(~led_here & pl.col("days_before").is_between(0, EMERGENCY_VISITS_DAYS)),
                EMERGENCY_VISITS,
            ),
            _count(
                before.filter(
                    (pl.col("code") == _STAY_START)
                    & (pl.col("encounter_id").ne_missing(pl.col("stay")))
                    & pl.col("days_before").is_between(0, ADMISSIONS_DAYS)
                ),
                ADMISSIONS,
            ),
        ]
    )


def _acute_care(known: pl.DataFrame) -> pl.DataFrame:
    """The latest visit that has begun and had not ended a day before the prediction time."""
    over = known.filter(pl.col("code").is_in([_STAY_END, _EMERGENCY_END]) & (pl.col("age_days") >= ASKED_WITHIN_DAYS))
    begun = known.filter(
        pl.col("code").is_in([_STAY_START, EMERGENCY_START])
        & pl.col("encounter_id").is_not_null()
        & (pl.col("age_days") < LONGEST_VISIT_DAYS)
    )
    going_on = begun.join(over, on=["row", "encounter_id"], how="anti").sort("row", "age_days", "record_id")
    latest = going_on.unique("row", keep="first", maintain_order=True)
    return _fact(latest.with_columns(value=1), IN_ACUTE_CARE)


def _count(visits: pl.DataFrame, what: Input) -> pl.DataFrame:
    latest_first = visits.sort("row", "age_days", "record_id")
    counted = latest_first.group_by("row", maintain_order=True).agg(
        pl.col("age_days").first(), value=pl.col("record_id").n_unique(), record_id=pl.col("record_id").first()
    )
    return _fact(counted, what)


def _fact(found: pl.DataFrame, what: Input) -> pl.DataFrame:
    return found.select("row", "age_days", "record_id", name=pl.lit(what.name), value=pl.col("value").cast(pl.Float64))
