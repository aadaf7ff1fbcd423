import re
from pathlib import Path

import pytest

from features.errors import TaskError
from features.tasks.schema import load_tasks

GOOD = """\
name: new_hypertension
title: New high blood pressure
description: Will it be diagnosed within a year?
predicates:
  hypertension:
    groups: [hypertension]
prediction_time:
  at: encounter_end
eligibility:
  age_at_least: 18
  none_before:
    - predicate: hypertension
      from_days_before: 3650
outcome:
  any_of: [hypertension]
  starts_after_days: 0
  first: of_any
horizons_days: [365]
"""


def load(folder: Path, text: str):
    (folder / "mine.yaml").write_text(text)
    return load_tasks(folder)


def test_a_good_task_passes(tmp_path):
    (task,) = load(tmp_path, GOOD)
    assert task.name == "new_hypertension"
    assert task.eligibility.windows()[0].from_days_before == 3_650


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("starts_after_days: 0", "starts_after_days: -30", 16, "30 days before the prediction time"),
        ("starts_after_days: 0", "starts_after_days: 365", 16, "after its end"),
        ("from_days_before: 3650", "until_days_before: -1", 13, "after the prediction time"),
        ("from_days_before: 3650", "from_days_before: -1", 13, "after the prediction time"),
        ("[365]", "[0]", 18, "must lie after the prediction time"),
        ("[365]", "[-365]", 18, "must lie after the prediction time"),
        ("[365]", "[5000]", 18, "longer than the longest observable"),
        ("groups: [hypertension]", "groups: [hypertenson]", 6, "no code group hypertenson"),
        ("any_of: [hypertension]", "any_of: [stroke]", 15, "no predicate stroke"),
        ("- predicate: hypertension", "- predicate: stroke", 12, "no predicate stroke"),
        ("groups: [hypertension]", "groups: []", 5, "holds no code"),
        ("groups: [hypertension]", "codes: [SEX//female]", 15, "cannot be an outcome"),
        ("at: encounter_end", "at: encounter_start", 8, "encounter_end"),
        ("age_at_least: 18", "age_at_leest: 18", 10, "unknown here"),
        ("first: of_any", "until: death", 17, "unknown here"),
        ("title: New", "name: New", 2, "written twice"),
        ("[365]", "[soon]", 18, "integer"),
        ("outcome:", "outcome: [", 18, "not YAML"),
    ],
)
def test_a_task_that_looks_the_wrong_way_is_refused_with_file_and_line(tmp_path, old, new, line, reason):
    assert GOOD.count(old) == 1
    with pytest.raises(TaskError, match=re.escape(reason)) as refused:
        load(tmp_path, GOOD.replace(old, new))
    assert re.match(r"mine\.yaml:\d+: ", str(refused.value))
    if reason != "not YAML":  # where YAML itself gives up is the parser's business
        assert str(refused.value).startswith(f"mine.yaml:{line}: ")


def test_an_unused_predicate_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"mine.yaml:7: .*stroke is never used"):
        load(tmp_path, GOOD.replace("prediction_time:", "  stroke: {groups: [stroke]}\nprediction_time:"))


def test_two_files_cannot_define_one_task(tmp_path):
    (tmp_path / "also.yaml").write_text(GOOD)
    with pytest.raises(TaskError, match=r"also.yaml already defines"):
        load(tmp_path, GOOD)


def test_the_shipped_tasks():
    tasks = {task.name: task for task in load_tasks()}
    assert {name: task.horizons_days for name, task in tasks.items()} == {
        "acute_care": (365,),
        "alzheimers_disease": (365, 1_095, 1_825),
        "breast_cancer": (365, 1_095),
        "cardiovascular": (365, 1_095, 1_825, 3_650),
        "ckd_progression": (730, 1_825),
        "dementia": (365, 1_095, 1_825),
        "dementia_after_a_year": (1_095, 1_825),
        "diabetic_retinopathy": (365, 730, 1_825),
        "inpatient_admission": (365,),
        "inpatient_mortality": (45,),
        "long_stay": (6,),
        "mortality": (365,),
        "new_chronic_condition": (730,),
        "pneumonia": (365, 1_095),
        "readmission": (30,),
        "type_2_diabetes": (365, 1_095, 1_825),
    }
    assert all((task.eligibility.age_at_least or 0) >= 18 for task in tasks.values())
    assert len(tasks["new_chronic_condition"].predicates["chronic_condition"].units()) > 35


STAYS = """\
name: death_in_hospital
title: Death in hospital
description: Will this patient die before the stay ends?
predicates:
  death:
    codes: [MEDS_DEATH]
  planned:
    codes: [ENCOUNTER_PRIORITY//ACTPRIORITY//EL]
  unplanned_stay:
    codes: [ENCOUNTER//IMP//start]
    unless_same_visit: planned
  high_glucose:
    codes: [LOINC//2345-7]
    unit: mg/dL
    value_at_least: 200
    value_below: 900
prediction_time:
  at: admission
  hours_after: 24
eligibility:
  none_in_stay: [planned]
  any_before: [high_glucose]
outcome:
  any_of: [death, unplanned_stay]
  within_stay: true
horizons_days: [30, 45]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("[30, 45]", "[45, 30]", 26, "the shortest first"),
        ("[30, 45]", "[30, 30]", 26, "the shortest first"),
        ("at: admission", "at: encounter_end", 25, "needs a stay"),
        ("at: admission\n  hours_after: 24", "at: discharge", 24, "nothing can come within it"),
        ("within_stay: true", "stay_lasts_days: 7", 23, "or else by stay_lasts_days"),
        ("any_of: [death, unplanned_stay]", "starts_after_days: 0", 23, "name the outcome"),
        ("value_at_least: 200", "value_at_least: 900", 16, "no value is that high and that low"),
        ("    unit: mg/dL\n", "", 12, "belong together"),
        ("any_before: [high_glucose]", "any_before: [high_glucose, unplanned_stay]", 22, "to its end"),
        ("unless_same_visit: planned", "unless_same_visit: plan", 11, "no predicate plan"),
        ("unless_same_visit: planned", "unless_same_visit: unplanned_stay", 11, "that has none itself"),
        ("LOINC//2345-7", "LOIN//2345-7", 13, "Did you mean LOINC"),
        ("at: admission\n", "at: admission\n  predicate: high_glucose\n", 18, "belong together"),
        ("codes: [MEDS_DEATH]", "value_sets: [deth]", 6, "no value set deth"),
        ("codes: [MEDS_DEATH]", "value_sets: [acute_strok]", 6, "Did you mean acute_stroke?"),
        ("codes: [MEDS_DEATH]", "codes: [SNOMED]", 6, "names a whole system"),
        ("codes: [MEDS_DEATH]", "prefixes: [ICD10CM//]", 6, "names a whole system"),
        ("codes: [MEDS_DEATH]", "codes: ['SNOMED//4405400 6']", 6, "no SNOMED code has this form"),
        ("value_at_least: 200", "value_at_least: .nan", 15, "write a number"),
        ("within_stay: true", "within_stay: true\n  starts_after_days: 9", 26, "not with falls or within_stay"),
        ("within_stay: true", "within_stay: true\n  verified_within_days: 9", 26, "needs verified_by"),
        ("any_before: [high_glucose]", "any_before: [death]\n  none_before: [death]", 20, "nobody is asked"),
        ("hours_after: 24", "hours_after: 9999999", 19, "less than or equal"),
        ("[30, 45]", "30", 26, "write a list"),
        ("[30, 45]", "['30']", 26, "valid integer"),
        ("[30, 45]", "[30, 45]\ncomparators: [lase]", 27, "Did you mean lace?"),
        ("[30, 45]", "[30, 45]\ncomparators: [lace, lace]", 27, "named twice"),
        ("[30, 45]", "[30, 45]\ncomparators: [{name: lightgbm, features: [age_years]}]", 27, "of every ladder"),
    ],
)
def test_what_concerns_stays_and_values_is_checked_too(tmp_path, old, new, line, reason):
    load(tmp_path, STAYS)
    assert STAYS.count(old) == 1
    with pytest.raises(TaskError, match=re.escape(reason)) as refused:
        load(tmp_path, STAYS.replace(old, new))
    assert str(refused.value).startswith(f"mine.yaml:{line}: "), str(refused.value)


def test_a_long_stay_asked_about_at_its_end_or_decided_at_another_time_than_the_horizon_is_refused(tmp_path):
    text = "\n".join(
        [
            "{name: long, title: t, description: d, predicates: {}, outcome: {stay_lasts_days: 7}",
            ", prediction_time: {at: admission, hours_after: 24}",
            ", horizons_days: [6]}",
        ]
    )
    load(tmp_path, text)
    with pytest.raises(TaskError, match=r"mine.yaml:1: .*decided 144 hours after"):
        load(tmp_path, text.replace("[6]", "[7]"))
    with pytest.raises(TaskError, match=r"mine.yaml:1: .*read off the record"):
        load(tmp_path, text.replace("at: admission, hours_after: 24", "at: discharge"))


def test_a_file_that_is_no_utf8_or_refers_to_itself_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(TaskError, match=r"mine.yaml:1: not UTF-8"):
        load_tasks(tmp_path)
    with pytest.raises(TaskError, match=r"mine.yaml:1: .*refers to itself"):
        load(tmp_path, "name: &itself\n  again: *itself\n")


def test_a_file_with_another_ending_is_not_left_out_without_a_word(tmp_path):
    (tmp_path / "mine.yml").write_text(GOOD)
    with pytest.raises(TaskError, match=r"rename it mine.yaml"):
        load_tasks(tmp_path)
