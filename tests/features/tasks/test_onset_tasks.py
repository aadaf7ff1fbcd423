"""Questions about diseases: what counts as their beginning, and whose absence is believed."""

from datetime import datetime

import polars as pl
import pytest

from features.settings import StudySettings
from features.tasks.in_records import unanswerable
from features.tasks.labels import build_labels, eligible_at
from features.tasks.schema import load_tasks
from tests.features.small_events import NOON, day, events_table, period, person, times, visit

TASKS = {task.name: task for task in load_tasks()}
SPLITS = pl.DataFrame({"subject_id": [1], "split": ["train"]})
DIABETES, RETINOPATHY, EXAMINED = "SNOMED//44054006", "ICD10CM//E11.319", "CPT//92250"
DEMENTIA, DONEPEZIL = "ICD10CM//F03.90", "RXNORM//997223"
BORN = datetime(1950, 6, 15)  # 65 years old at noon


def answers(task: str, *rows: dict[str, object], **bounds: datetime) -> dict[int, tuple[str, float]]:
    """State and days by horizon, at noon."""
    events = events_table(*person(born=BORN), *visit(day(-1 / 24), NOON), *rows)
    labels = build_labels(events, period(**bounds), SPLITS, [TASKS[task]], StudySettings())
    at_noon = labels.filter(prediction_time=NOON)
    return {
        days: (state, time)
        for days, state, time in at_noon.select("horizon_days", "state", "time_to_event_days").rows()
    }


def is_asked(task: str, *rows: dict[str, object], sex: str = "female", born: datetime = BORN) -> bool:
    events = events_table(*person(born=born, sex=sex), *visit(day(-9)), *rows)
    return eligible_at(events, period(), times(NOON), [TASKS[task]]).height > 0


def at(days: float, code: str, value: float | None = None, unit: str | None = None) -> dict[str, object]:
    return {"time": day(days), "code": code, "numeric_value": value, "unit": unit}


def test_each_horizon_has_its_own_answer():
    assert answers("type_2_diabetes", at(700, DIABETES)) == {
        365: ("none", 365),
        1_095: ("event", 700),
        1_825: ("event", 700),
    }


@pytest.mark.parametrize(
    ("sign", "counts"),
    [
        (at(100, DIABETES), True),
        (at(100, "ATC//A10BB12"), True),  # glimepiride
        (at(100, "RXNORM//4821"), True),  # glipizide
        (at(100, "RXNORM//106892"), False),  # insulin treats type 1 and pregnancy too
        (at(100, "LOINC//1558-6", 126, "mg/dL"), True),
        (at(100, "LOINC//1558-6", 125, "mg/dL"), False),
        (at(100, "RXNORM//860975"), False),  # metformin has other uses
        (at(100, "LOINC//4548-4", 6.5, "%"), True),
        (at(100, "LOINC//4548-4", 6.4, "%"), False),
        (at(100, "LOINC//4548-4", 48, "mmol/mol"), False),  # another unit: the bound says nothing of it
    ],
)
def test_type_2_diabetes_begins_with_a_diagnosis_a_drug_or_a_value(sign, counts):
    assert answers("type_2_diabetes", sign)[365][0] == ("event" if counts else "none")


def test_the_first_sign_of_any_kind_is_the_beginning():
    # The HbA1c dates from before, was known later only: the diagnosis that follows is not new.
    hidden = {**at(-10, "LOINC//4548-4", 7, "%"), "known_time": day(20)}
    assert answers("type_2_diabetes", hidden, at(200, DIABETES))[365] == ("none", 365)


@pytest.mark.parametrize(
    "known",
    [at(-100, DIABETES), at(-100, "LOINC//4548-4", 6.5, "%"), at(-100, "RXNORM//860975"), at(-100, "ICD10CM//Z34.0")],
)
def test_who_has_a_sign_of_diabetes_or_is_pregnant_is_not_asked(known):
    assert is_asked("type_2_diabetes")
    assert not is_asked("type_2_diabetes", known)
    assert is_asked("type_2_diabetes", at(-281, "ICD10CM//Z34.0"))


def test_no_retinopathy_is_believed_only_after_an_examination():
    known = at(-500, DIABETES)
    assert answers("diabetic_retinopathy", known, at(300, RETINOPATHY))[365] == ("event", 300)
    assert answers("diabetic_retinopathy", known) == dict.fromkeys((365, 730, 1825), ("censored", 0))
    # Examined after 400 days: that tells nothing of the first year, and in five years it is too long ago.
    assert answers("diabetic_retinopathy", known, at(400, EXAMINED)) == {
        365: ("censored", 0),
        730: ("none", 730),
        1_825: ("censored", 400),
    }
    twice = [at(400, EXAMINED), at(1_096, EXAMINED)]
    assert answers("diabetic_retinopathy", known, *twice)[1_825] == ("none", 1_825)
    assert answers("diabetic_retinopathy", known, at(-5, EXAMINED))[365] == ("censored", 0)
    dies = [at(100, "MEDS_DEATH")]
    assert answers("diabetic_retinopathy", known, *dies, end=day(100))[365] == ("died_first", 100)


def test_only_people_with_diabetes_and_healthy_eyes_are_asked_about_retinopathy():
    assert not is_asked("diabetic_retinopathy")
    assert is_asked("diabetic_retinopathy", at(-500, DIABETES))
    assert not is_asked("diabetic_retinopathy", at(-500, DIABETES), at(-3, RETINOPATHY))


def test_dementia_with_a_gap():
    assert answers("dementia", at(200, DEMENTIA))[365] == ("event", 200)
    assert answers("dementia", at(200, DONEPEZIL))[365] == ("event", 200)
    # Diagnosed within the year between: neither a case nor free of it, so not asked at all.
    assert answers("dementia_after_a_year", at(200, DEMENTIA)) == {}
    assert answers("dementia_after_a_year", at(365, DEMENTIA)) == {}
    assert answers("dementia_after_a_year", at(366, DEMENTIA))[1_095] == ("event", 366)
    assert answers("dementia_after_a_year", at(200, "MEDS_DEATH"), end=day(200))[1_095] == ("died_first", 200)


def test_another_dementia_is_no_alzheimers_disease():
    assert answers("alzheimers_disease", at(200, "ICD10CM//F01.50"))[365] == ("none", 365)
    assert answers("alzheimers_disease", at(200, "ICD10CM//F01.50"), at(300, "ICD10CM//G30.9"))[365] == ("event", 300)
    assert not is_asked("alzheimers_disease", at(-9, "ICD10CM//G31.84"))  # mild cognitive impairment


def test_sex_and_age():
    assert is_asked("breast_cancer")
    assert not is_asked("breast_cancer", sex="male")
    assert not is_asked("breast_cancer", sex="unknown")
    assert not is_asked("cardiovascular", born=datetime(1935, 6, 15))  # 80
    assert is_asked("cardiovascular", born=datetime(1935, 6, 17))
    assert not is_asked("dementia", born=datetime(1960, 6, 17))  # 54
    assert not is_asked("cardiovascular", at(-9, "SNOMED//399957001"))
    assert not is_asked("cardiovascular", at(-9, "ICD10CM//Z95.1"))  # a bypass


def test_a_cataract_is_no_retinopathy_and_diabetes_of_another_type_may_bring_one():
    known = at(-500, DIABETES)
    assert answers("diabetic_retinopathy", known, at(100, "ICD10CM//E11.36"), at(200, EXAMINED))[365] == ("none", 365)
    assert answers("diabetic_retinopathy", known, at(100, "ICD10CM//E13.3299"))[365] == ("event", 100)


def test_a_pneumonia_lately_is_the_same_illness():
    assert not is_asked("pneumonia", at(-89, "ICD10CM//J18.9"))
    assert is_asked("pneumonia", at(-91, "ICD10CM//J18.9"))


# Creatinine of a woman of 65: 1.2 mg/dL gives an eGFR of 50.3, 1.9 of 28.9, 2.0 of 27.2, 3.5 of 13.9 (CKD-EPI 2021:
# 142 x (creatinine / 0.7)^-1.2 x 0.9938^65 x 1.012). 40 % below 50.3 is 30.2.
def creatinine(days: float, value: float) -> dict[str, object]:
    return at(days, "LOINC//2160-0", value, "mg/dL")


def test_kidney_disease_gets_worse_by_a_confirmed_fall():
    start = creatinine(0, 1.2)
    assert answers("ckd_progression", start, creatinine(200, 1.9), creatinine(230, 2.0))[730] == ("event", 200)
    assert answers("ckd_progression", start, creatinine(200, 1.9), creatinine(230, 1.2))[730] == ("none", 730)
    # Nobody looked again, or only after more than a year: unknown from then on. Ten days later is too early.
    assert answers("ckd_progression", start, creatinine(200, 1.9))[730] == ("censored", 200)
    assert answers("ckd_progression", start, creatinine(200, 1.9), creatinine(600, 1.9))[730] == ("censored", 200)
    assert answers("ckd_progression", start, creatinine(200, 1.9), creatinine(210, 1.9))[730] == ("censored", 200)
    # Confirmed after the horizon: the fall itself came within it.
    assert answers("ckd_progression", start, creatinine(700, 1.9), creatinine(800, 1.9))[730] == ("event", 700)
    assert answers("ckd_progression", start, creatinine(200, 1.8), creatinine(230, 1.8))[730] == ("none", 730)  # 30.9


def test_kidney_failure_counts_at_once():
    start = creatinine(0, 1.2)
    assert answers("ckd_progression", start, creatinine(500, 3.5))[730] == ("event", 500)
    assert answers("ckd_progression", start, at(600, "ICD10CM//N18.6"))[730] == ("event", 600)


def test_kidneys_are_asked_about_when_a_reduced_function_becomes_known():
    assert answers("ckd_progression", creatinine(0, 0.9)) == {}  # 71
    assert answers("ckd_progression", creatinine(0, 3.5)) == {}  # has failed
    assert answers("ckd_progression", creatinine(0, 1.2), at(-9, "CPT//90935")) == {}
    late = {**creatinine(-2, 1.2), "known_time": NOON}
    assert answers("ckd_progression", late)[730] == ("none", 730)
    assert not is_asked("ckd_progression")
    assert is_asked("ckd_progression", creatinine(-700, 1.2))
    assert not is_asked("ckd_progression", creatinine(-700, 1.2), creatinine(-5, 0.9))  # the latest is 71
    # An old result that becomes known late is not the latest.
    old = {**creatinine(-300, 1.4), "known_time": NOON}
    assert answers("ckd_progression", old, creatinine(-20, 0.8)) == {}


def test_a_fall_counts_from_the_latest_value_that_is_known():
    # 1.6 mg/dL (35.6) of last year becomes known today, after 1.2 (50.3) of this spring: 40 % below 50.3 is 30.2.
    late = {**creatinine(-300, 1.6), "known_time": NOON}
    falls = [creatinine(200, 1.9), creatinine(230, 1.9)]  # 28.9
    assert answers("ckd_progression", creatinine(-120, 1.2), late, *falls)[730] == ("event", 200)
    assert answers("ckd_progression", creatinine(-300, 1.2), creatinine(0, 1.6), *falls)[730] == ("none", 730)


def test_what_these_records_cannot_answer_is_said_with_its_place():
    codes = pl.DataFrame({"code": ["ENCOUNTER//AMB//end", "MEDS_DEATH", DIABETES, RETINOPATHY, "LOINC//2160-0"]})
    reasons = unanswerable(list(TASKS.values()), codes, period(), StudySettings())
    assert reasons["breast_cancer", 365].startswith(
        "breast_cancer.yaml:19: these records hold no code of breast cancer"
    )
    assert "no code of eye examination" in reasons["diabetic_retinopathy", 365]
    assert ("mortality", 365) not in reasons
    assert ("ckd_progression", 730) not in reasons  # made from creatinine
    assert ("type_2_diabetes", 365) not in reasons  # by a diagnosis, though no drug and no HbA1c occurs
    assert ("long_stay", 6) not in reasons
    short = unanswerable([TASKS["mortality"]], codes, period(start=NOON, covered_until=day(900)), StudySettings())
    assert "passes the end of observation" in short["mortality", 365]
