from datetime import datetime

import polars as pl

from features.settings import StudySettings
from features.tasks.cohorts import IN_GAP, NOT_COVERED, UNVERIFIED, cohort_counts
from features.tasks.labels import build_labels
from features.tasks.schema import load_tasks
from tests.features.small_events import NOON, day, events_table, period, person, visit

TASKS = {task.name: task for task in load_tasks()}
SETTINGS = StudySettings()
A_YEAR_US = 365 * 86_400_000_000
DEMENTIA = "SNOMED//26929004"
DIABETES, RETINOPATHY = "SNOMED//44054006", "ICD10CM//E11.319"


def counts(name: str, *rows: dict[str, object]) -> pl.DataFrame:
    """Three adults, seen at noon; the third is a child. Their times are moved a year ahead of the true ones."""
    people = [
        *[row for who in (1, 2) for row in person(who)],
        *person(3, born=datetime(2010, 1, 1)),
        *[row for who in (1, 2, 3) for row in visit(day(-1), NOON, subject_id=who, encounter_id=who)],
    ]
    events = events_table(*people, *rows)
    periods = pl.concat([period(who) for who in (1, 2, 3)])
    splits = pl.DataFrame({"subject_id": [1, 2, 3], "split": ["train"] * 3})
    labels = build_labels(events, periods, splits, [TASKS[name]], SETTINGS)
    shifts = pl.DataFrame({"subject_id": [1, 2, 3], "shift_us": [A_YEAR_US] * 3})
    codes = events.select("code").unique().collect()
    return cohort_counts(events, periods, labels, codes, [TASKS[name]], SETTINGS, shifts)


def part(table: pl.DataFrame, name: str, *columns: str) -> list[tuple]:
    return table.filter(part=name).select("name", "prediction_times", "subjects", *columns).rows()


def test_steps_and_states_by_hand():
    admitted = visit(day(100), day(103), "IMP", subject_id=1, encounter_id=9)
    table = counts("acute_care", *admitted)
    assert part(table, "step") == [
        ("every moment of the kind", 4, 3),
        ("observed for the 730 days before, alive and not moved away", 4, 3),
        ("18 years or older", 3, 2),
        ("at most one in 30 days", 3, 2),
        ("the 365 days after are covered by the source", 3, 2),
    ]
    # At noon person 1 is admitted after 100 days; after the discharge of day 103 nothing more comes.
    assert part(table, "state", "events", "subjects_with_event", "followed_years") == [
        ("event", 1, 1, 1, 1, 100 / 365.25),
        ("none", 2, 2, 0, 0, 730 / 365.25),
    ]
    assert part(table, "calendar_year") == [("2014", 3, 2)]  # 2015, less a year


def test_a_site_is_the_one_last_known_by_then():
    seen = [
        {"subject_id": 1, "time": day(at), "code": "LOINC//4548-4", "site_id": site} for at, site in ((-9, 7), (1, 8))
    ]
    assert sorted(part(counts("acute_care", *seen), "site", "place")) == [
        ("7", 1, 1, 1),
        ("no site on record", 1, 1, 2),
    ]


def test_who_was_never_examined_is_told_apart_and_what_cannot_be_answered_is_said():
    diabetic = [{"subject_id": who, "time": day(-400), "code": DIABETES} for who in (1, 2)]
    ill = {"subject_id": 1, "time": day(20), "code": RETINOPATHY}
    unanswerable = counts("diabetic_retinopathy", *diabetic, ill)
    assert [name for name, _, _ in part(unanswerable, "refused")] == [
        "diabetic_retinopathy.yaml:28: these records hold no code of eye examination"
    ] * 3
    assert [name for name, _, _ in part(unanswerable, "no_code")] == ["eye examination"]
    examined = {"subject_id": 1, "time": day(-90), "code": "CPT//92250"}
    of_a_year = counts("diabetic_retinopathy", *diabetic, ill, examined).filter(horizon_days=365)
    assert part(of_a_year, "state") == [("event", 1, 1), (UNVERIFIED, 1, 1)]


def test_every_row_of_the_last_step_is_a_state_or_told_to_be_left_out():
    # Person 1 has dementia in the year before the window opens. Of person 2 the source covers 1,095 days, not 1,825.
    ill = {"subject_id": 1, "time": day(100), "code": DEMENTIA}
    people = [row for who in (1, 2) for row in person(who, born=datetime(1940, 1, 1))]
    seen = [row for who in (1, 2) for row in visit(day(-1), NOON, subject_id=who, encounter_id=who)]
    events = events_table(*people, *seen, ill)
    periods = pl.concat([period(1), period(2, end=day(1_500), covered_until=day(1_500))])
    splits = pl.DataFrame({"subject_id": [1, 2], "split": ["train"] * 2})
    task = TASKS["dementia_after_a_year"]
    labels = build_labels(events, periods, splits, [task], SETTINGS)
    shifts = pl.DataFrame({"subject_id": [1, 2], "shift_us": [0] * 2})
    table = cohort_counts(events, periods, labels, events.select("code").unique().collect(), [task], SETTINGS, shifts)
    asked = table.filter(part="step").sort("place")["prediction_times"][-1]
    assert asked == 2
    for days, left_out in ((1095, [(IN_GAP, 1, 1)]), (1825, [(NOT_COVERED, 1, 1), (IN_GAP, 1, 1)])):
        of_horizon = table.filter(horizon_days=days)
        assert part(of_horizon, "left_out") == left_out
        told = of_horizon.filter(pl.col("part").is_in(["state", "left_out"]))
        assert told["prediction_times"].sum() == asked
