from datetime import datetime, timedelta

import hypothesis
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.settings import StudySettings
from features.tasks.labels import build_labels, eligible_at, label, prediction_times
from features.tasks.schema import load_tasks
from tests.features.small_events import NOON, day, events_table, period, person, times, visit

TASKS = {task.name: task for task in load_tasks()}
HYPERTENSION, STROKE, DIABETES = "SNOMED//38341003", "SNOMED//230690007", "SNOMED//44054006"
SETTINGS = StudySettings()


def outcome(task: str, *rows: dict[str, object], **bounds: datetime) -> tuple[str, float]:
    """State and days of `task` at noon for one person with these events."""
    labelled = label(times(NOON), events_table(*person(), *rows), period(**bounds), TASKS[task])
    longest = labelled.filter(horizon_days=TASKS[task].horizons_days[-1])
    return longest.select("state", "time_to_event_days").row(0)


def dies(on: datetime) -> dict[str, object]:
    return {"time": on, "code": "MEDS_DEATH"}


def diagnosed(on: datetime, code: str, known: datetime | None = None) -> dict[str, object]:
    return {"time": on, "known_time": known or on, "code": code}


def test_four_states_by_hand():
    # Horizon 365 days after noon of 15 June 2015.
    admitted = visit(day(100), day(103), "IMP")
    assert outcome("acute_care", *admitted) == ("event", 100)
    assert outcome("acute_care") == ("none", 365)
    assert outcome("acute_care", dies(day(50)), end=day(50)) == ("died_first", 50)
    assert outcome("acute_care", end=day(200)) == ("censored", 200)
    # Moved away on day 200; that they died on day 300 is known by chance, of others who moved it would not be.
    assert outcome("acute_care", dies(day(300)), end=day(200)) == ("censored", 200)
    assert outcome("mortality", dies(day(300)), end=day(200)) == ("censored", 200)
    # The earliest of several things decides.
    assert outcome("acute_care", *admitted, dies(day(103)), end=day(103)) == ("event", 100)
    assert outcome("acute_care", *visit(day(40), visit_class="EMER"), *admitted) == ("event", 40)
    # For mortality death is the event.
    assert outcome("mortality", dies(day(50.5)), end=day(50.5)) == ("event", 50.5)


@pytest.mark.parametrize(
    ("days", "state"),
    [
        (0, "none"),  # at the prediction time: not strictly after
        (1 / 1440, "event"),  # a minute later
        (365, "event"),  # the end of the horizon is inside
        (365 + 1 / 1440, "none"),
        (-1, "none"),
    ],
)
def test_the_outcome_window_is_open_at_the_start_and_closed_at_the_end(days, state):
    assert outcome("inpatient_admission", *visit(day(days), day(days + 2), "IMP"))[0] == state


def test_an_ambulatory_visit_is_no_acute_care_and_an_emergency_is_no_admission():
    assert outcome("acute_care", *visit(day(10)))[0] == "none"
    assert outcome("inpatient_admission", *visit(day(10), visit_class="EMER"))[0] == "none"


def test_only_the_first_record_of_each_chronic_condition_is_new():
    # Hypertension was known two years ago; its second record is not new, the stroke is.
    old = diagnosed(day(-700), HYPERTENSION)
    assert outcome("new_chronic_condition", old, diagnosed(day(100), HYPERTENSION)) == ("none", 730)
    assert outcome("new_chronic_condition", old, diagnosed(day(300), STROKE)) == ("event", 300)


def test_a_condition_that_began_before_and_is_recorded_later_is_not_new():
    # Began 10 days before, known 50 days after: nobody could know, so the person is asked about; but it is not new.
    hidden = diagnosed(day(-10), DIABETES, known=day(50))
    again = diagnosed(day(400), DIABETES)
    asked = eligible_at(
        events_table(*person(), *visit(day(-30)), hidden, again), period(), times(NOON), [TASKS["type_2_diabetes"]]
    )
    assert asked["horizon_days"].to_list() == [365, 1_095, 1_825]
    assert outcome("type_2_diabetes", hidden, again) == ("none", 1_825)


def test_known_diabetes_or_its_complication_is_left_out():
    for code in (DIABETES, "ICD10CM//E10.9", "SNOMED//127013003"):
        events = events_table(*person(), *visit(day(-30)), diagnosed(day(-20), code))
        assert eligible_at(events, period(), times(NOON), [TASKS["type_2_diabetes"]]).is_empty()
        assert eligible_at(events, period(), times(NOON), [TASKS["acute_care"]]).height == 1


def test_adults_only():
    # 18 x 365.25 = 6,574.5 days of age are needed.
    events = [*visit(day(-30))]
    for age_days, is_asked in ((6_574, False), (6_575, True)):
        table = events_table(*person(born=day(-age_days)), *events)
        assert eligible_at(table, period(), times(NOON), [TASKS["mortality"]]).height == is_asked
    assert eligible_at(events_table(*events), period(), times(NOON), [TASKS["mortality"]]).is_empty()


def test_eligible_only_while_observed_alive_and_recently_known():
    events = events_table(*person(), *visit(day(-30)))
    task = [TASKS["mortality"]]

    def asked(at: datetime = NOON, **bounds: datetime) -> int:
        return eligible_at(events, period(**bounds), times(at), task).height

    assert asked() == 1
    assert asked(start=day(-730)) == 1
    assert asked(start=day(-729)) == 0  # observed for less than the look-back
    assert asked(end=day(-1)) == 0  # dead or gone
    assert asked(end=NOON) == 0  # dies at that moment
    assert asked(end=NOON, covered_until=NOON) == 1  # the last moment of the source: the usual scoring day
    assert asked(at=day(700)) == 1  # the visit ended 730 - 1/24 days earlier
    assert asked(at=day(701)) == 0  # nothing known within 730 days


def test_prediction_times_are_spaced_distinct_and_followed_to_the_horizon():
    # Ends at days 0 (two visits), 10, 30, 45, 61; at most one per 30 days: 0, 30, 61. The period starts 730 days
    # before day 0, so the visit of day -5 is out; the source covers day 61 + 365, so day 61 is followed to its
    # horizon, day 62 is too near to it, and day 100 is not followed.
    ends = [-5, 0, 0, 10, 30, 45, 61, 62, 100]
    rows = [row for n, at in enumerate(ends) for row in visit(day(at - 1), day(at), encounter_id=n)]
    covered = day(61 + 365)
    bounds = {"start": day(-730), "end": covered, "covered_until": covered}
    moments = prediction_times(events_table(*person(), *rows), period(**bounds), TASKS["acute_care"], SETTINGS)
    assert moments["prediction_time"].to_list() == [day(0), day(30), day(61)]


def test_who_dies_is_asked_at_the_same_times_as_who_lives():
    # Dead 10 days after the visit; what counts is what the source covers, not how long the person lived.
    died = day(10)
    events = events_table(*person(), *visit(day(-1), NOON), dies(died))
    covered = {"end": died, "covered_until": day(365)}
    assert prediction_times(events, period(**covered), TASKS["acute_care"], SETTINGS).height == 1
    too_late = {"end": died, "covered_until": day(364)}
    assert prediction_times(events, period(**too_late), TASKS["acute_care"], SETTINGS).is_empty()


def test_build_labels_has_one_row_for_each_task_horizon_and_moment():
    events = events_table(*person(), *visit(day(-1), NOON), *visit(day(100), day(101), "IMP", encounter_id=2))
    splits = pl.DataFrame({"subject_id": [1], "split": ["train"]})
    labels = build_labels(events, period(), splits, list(TASKS.values()), SETTINGS)
    first = labels.filter(prediction_time=NOON).select("task", "horizon_days", "state").rows()
    assert first == [  # a woman of 45: not asked about dementia; her eyes and kidneys are not either
        ("acute_care", 365, "event"),
        ("breast_cancer", 365, "none"),
        ("breast_cancer", 1_095, "none"),
        ("cardiovascular", 365, "none"),
        ("cardiovascular", 1_095, "none"),
        ("cardiovascular", 1_825, "none"),  # ten years are not covered
        ("inpatient_admission", 365, "event"),
        ("mortality", 365, "none"),
        ("new_chronic_condition", 730, "none"),
        ("pneumonia", 365, "none"),
        ("pneumonia", 1_095, "none"),
        ("type_2_diabetes", 365, "none"),
        ("type_2_diabetes", 1_095, "none"),
        ("type_2_diabetes", 1_825, "none"),
    ]
    stay = labels.filter(pl.col("prediction_time") != NOON, pl.col("task").is_in(["long_stay", "readmission"]))
    assert stay.select("task", "prediction_time", "state").rows() == [("readmission", day(101), "none")]


def test_no_rows_is_a_table_too():
    splits = pl.DataFrame(schema={"subject_id": pl.Int64, "split": pl.String})
    nobody = build_labels(events_table(*person()), period().clear(), splits, list(TASKS.values()), SETTINGS)
    assert nobody.is_empty()


codes = st.sampled_from(
    [DIABETES, HYPERTENSION, STROKE, "ENCOUNTER//IMP//start", "ENCOUNTER//AMB//end", "LOINC//4548-4"]
)
later = st.tuples(codes, st.integers(-2_000, 2_000), st.integers(1, 2_000))


@hypothesis.settings(max_examples=30)
@given(future=st.lists(later, max_size=8))
def test_what_becomes_known_later_changes_no_eligibility(future):
    known = [*person(), *visit(day(-30)), diagnosed(day(-300), STROKE)]
    unknown = [diagnosed(day(min(at, known_after)), code, known=day(known_after)) for code, at, known_after in future]
    asked = times(NOON)
    before = eligible_at(events_table(*known), period(), asked, list(TASKS.values()))
    assert set(before["task"]) >= {"acute_care", "mortality", "type_2_diabetes", "pneumonia"}
    assert_frame_equal(before, eligible_at(events_table(*known, *unknown), period(), asked, list(TASKS.values())))


@given(future=st.lists(later, max_size=8))
def test_what_becomes_known_later_changes_no_earlier_prediction_time(future):
    known = [*person(), *[row for n in range(4) for row in visit(day(20 * n - 60), encounter_id=n)]]
    unknown = [diagnosed(day(min(at, after)), code, known=day(after)) for code, at, after in future]

    def moments(rows: list[dict[str, object]]) -> list[datetime]:
        taken = prediction_times(events_table(*rows), period(), TASKS["acute_care"], SETTINGS)["prediction_time"]
        return [moment for moment in taken if moment <= day(0.5)]

    assert (
        moments(known) == moments([*known, *unknown]) == [day(-60) + timedelta(hours=1), day(-20) + timedelta(hours=1)]
    )
