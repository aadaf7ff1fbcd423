"""Questions about hospital stays: death in them, their length, and what follows them."""

from datetime import datetime

import polars as pl
import pytest

from features.settings import StudySettings
from features.tasks.labels import build_labels, eligible_at
from features.tasks.schema import load_tasks
from tests.features.small_events import NOON, day, events_table, period, person, times, visit

TASKS = {task.name: task for task in load_tasks()}
SPLITS = pl.DataFrame({"subject_id": [1], "split": ["train"]})
DIED, LEFT, TRANSFERRED = "DISCHARGE//NUBC//20", "DISCHARGE//NUBC//07", "DISCHARGE//NUBC//02"
ELECTIVE = "ENCOUNTER_PRIORITY//ACTPRIORITY//EL"


def answers(task: str, *rows: dict[str, object], **bounds: datetime) -> list[tuple[float, str, float]]:
    """Days from noon to each moment of the task, state, days to the event."""
    labels = build_labels(events_table(*person(), *rows), period(**bounds), SPLITS, [TASKS[task]], StudySettings())
    after = (pl.col("prediction_time") - NOON).dt.total_seconds() / 86_400
    return labels.select(after, "state", "time_to_event_days").rows()


def stay(start: float, end: float, encounter_id: int = 1) -> list[dict[str, object]]:
    return visit(day(start), day(end), "IMP", encounter_id=encounter_id)


def at(days: float, code: str, encounter_id: int | None = None) -> dict[str, object]:
    return {"time": day(days), "code": code, "encounter_id": encounter_id}


def test_death_in_hospital_by_hand():
    # Admitted at noon, asked at day 1.
    assert answers("inpatient_mortality", *stay(0, 5), at(5, "MEDS_DEATH"), end=day(5)) == [(1, "event", 4)]
    assert answers("inpatient_mortality", *stay(0, 5)) == [(1, "none", 45)]
    # Dies at home the day after: the question was about the stay.
    assert answers("inpatient_mortality", *stay(0, 5), at(6, "MEDS_DEATH"), end=day(6)) == [(1, "none", 45)]
    # The death is dated to the end of the day, the discharge says that it ended the stay.
    died = [at(5, DIED, 1), at(5.4, "MEDS_DEATH")]
    assert answers("inpatient_mortality", *stay(0, 5), *died, end=day(5.4)) == [(1, "event", 4)]
    # Gone, or dead, within 24 hours: not asked.
    assert answers("inpatient_mortality", *stay(0, 0.9)) == []
    assert answers("inpatient_mortality", *stay(0, 1)) == []
    # The end of the stay is not on record.
    assert answers("inpatient_mortality", stay(0, 1)[0], end=day(20)) == [(1, "censored", 19)]


def test_a_long_stay_by_hand():
    assert answers("long_stay", *stay(0, 7)) == [(1, "event", 6)]
    assert answers("long_stay", *stay(0, 6.9)) == [(1, "none", 6)]
    assert answers("long_stay", *stay(0, 3), at(3, "MEDS_DEATH"), end=day(3)) == [(1, "died_first", 2)]
    assert answers("long_stay", *stay(0, 9), at(9, "MEDS_DEATH"), end=day(9)) == [(1, "event", 6)]
    assert answers("long_stay", stay(0, 1)[0]) == [(1, "censored", 0)]  # no end: nobody knows


def test_readmission_by_hand():
    assert answers("readmission", *stay(-5, 0), *stay(30, 33, 2)) == [(0, "event", 30), (33, "none", 30)]
    assert answers("readmission", *stay(-5, 0), *stay(30.01, 33, 2))[0] == (0, "none", 30)
    assert answers("readmission", *stay(-5, 0), at(12, "MEDS_DEATH"), end=day(12)) == [(0, "died_first", 12)]
    # An elective stay, and one that holds chemotherapy given on its second day, are planned.
    assert answers("readmission", *stay(-5, 0), *stay(10, 12, 2), at(10, ELECTIVE, 2))[0] == (0, "none", 30)
    chemotherapy = at(11, "CPT//96413", 2)
    assert answers("readmission", *stay(-5, 0), *stay(10, 12, 2), chemotherapy)[0] == (0, "none", 30)
    # The same treatment in another visit does not make the stay a planned one.
    elsewhere = at(11, "CPT//96413", 3)
    assert answers("readmission", *stay(-5, 0), *stay(10, 12, 2), elsewhere)[0] == (0, "event", 10)


@pytest.mark.parametrize("code", [DIED, LEFT, TRANSFERRED, "CPT//96413", "ENCOUNTER_REASON//ICD10CM//F32.9"])
def test_stays_that_no_readmission_is_asked_of(code):
    assert answers("readmission", *stay(-5, 0), at(0, code, 1)) == []
    assert answers("readmission", *stay(-5, 0), at(0, code, 9)) == [(0, "none", 30)]  # of another visit


def test_an_elective_stay_may_be_followed_by_an_unplanned_one():
    assert answers("readmission", *stay(-5, 0), at(-5, ELECTIVE, 1), *stay(9, 12, 2))[0] == (0, "event", 9)


def asked_on(when: float, task: str, *rows: dict[str, object]) -> bool:
    return eligible_at(events_table(*person(), *rows), period(), times(day(when)), [TASKS[task]]).height == 1


def test_a_stay_is_scored_on_the_day_on_which_its_question_arises():
    assert [asked_on(when, "inpatient_mortality", *stay(0, 9)) for when in (0.9, 1, 1.9, 2)] == [
        False,
        True,
        True,
        False,
    ]
    assert not asked_on(1.5, "inpatient_mortality", *stay(0, 1.2))  # gone by then
    assert [asked_on(when, "readmission", *stay(-5, 0)) for when in (-0.5, 0, 0.9, 1)] == [False, True, True, False]


def test_a_discharge_that_becomes_known_late_is_asked_about_late():
    late = {**stay(-5, 0)[1], "known_time": day(2)}
    assert answers("readmission", stay(-5, 0)[0], late) == [(2, "none", 30)]


def test_who_is_in_another_stay_is_not_asked():
    within = stay(2, 4, 2)  # in the midst of a stay of ten days
    assert [when for when, _, _ in answers("readmission", *stay(0, 10), *within)] == [10]
    assert [when for when, _, _ in answers("long_stay", *stay(0, 10), *within)] == [1]
    # Two that overlap end once; a new one that begins at the very discharge goes on.
    assert [when for when, _, _ in answers("readmission", *stay(0, 5), *stay(3, 8, 2))] == [8]
    assert [when for when, _, _ in answers("readmission", *stay(0, 5), *stay(5, 8, 2))] == [8]
    # A minute later is a return, as far as anybody could know; a visit amid a stay is no moment.
    assert answers("readmission", *stay(0, 5), *stay(5.001, 8, 2))[0][:2] == (5, "event")
    contact = visit(day(3), day(3.1), encounter_id=7)
    assert [when for when, _, _ in answers("inpatient_admission", *stay(0, 5), *contact)] == [5]


def test_two_stays_that_begin_together_are_asked_about_once():
    assert [when for when, _, _ in answers("inpatient_mortality", *stay(0, 5), *stay(0, 9, 2))] == [1]


@pytest.mark.parametrize("code", ["ICD10CM//O80", "ICD10PCS//0FY00Z0", "ICD10PCS//30243G1"])
def test_childbirth_and_transplants_are_planned(code):
    assert answers("readmission", *stay(-5, 0), *stay(20, 22, 2), at(20, code, 2))[0] == (0, "none", 30)
