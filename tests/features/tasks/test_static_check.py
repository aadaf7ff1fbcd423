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
  first: true
horizon_days: 365
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
        ("horizon_days: 365", "horizon_days: 0", 18, "must lie after the prediction time"),
        ("horizon_days: 365", "horizon_days: -365", 18, "must lie after the prediction time"),
        ("horizon_days: 365", "horizon_days: 5000", 18, "longer than the longest observable"),
        ("groups: [hypertension]", "groups: [hypertenson]", 6, "no code group hypertenson"),
        ("any_of: [hypertension]", "any_of: [stroke]", 15, "no predicate stroke"),
        ("- predicate: hypertension", "- predicate: stroke", 12, "no predicate stroke"),
        ("groups: [hypertension]", "groups: []", 5, "holds no code"),
        ("groups: [hypertension]", "codes: [SEX//female]", 15, "cannot be an outcome"),
        ("at: encounter_end", "at: encounter_start", 8, "encounter_end"),
        ("age_at_least: 18", "age_at_leest: 18", 10, "unknown here"),
        ("first: true", "until: death", 17, "unknown here"),
        ("title: New", "name: New", 2, "written twice"),
        ("horizon_days: 365", "horizon_days: soon", 18, "integer"),
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
    assert {name: task.horizon_days for name, task in tasks.items()} == {
        "acute_care": 365,
        "inpatient_admission": 365,
        "mortality": 365,
        "new_chronic_condition": 730,
        "type_2_diabetes": 1_095,
    }
    assert all(task.eligibility.age_at_least == 18 for task in tasks.values())
    assert len(tasks["new_chronic_condition"].predicates["chronic_condition"].units()) > 35
