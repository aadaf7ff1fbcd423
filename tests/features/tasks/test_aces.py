"""Our tasks and events in the words of ACES; whether it then draws our cohorts is asked by test_aces_agreement.py."""

import re

import polars as pl
import pytest
import yaml

from features.settings import StudySettings
from features.tasks.aces import aces_events, aces_task, said_afterwards, without_answers, without_rows, write_aces_tasks
from features.tasks.aces_answers import aces_answers
from features.tasks.predicates import matched_units
from features.tasks.schema import load_tasks
from orchestration.cli import main
from tests.features.small_events import day, events_table, period, person

TASKS = {task.name: task for task in load_tasks()}
NOTHING = events_table(*person())


def test_every_horizon_is_a_file_or_told_why_not(tmp_path):
    reasons = write_aces_tasks(TASKS.values(), tmp_path)
    assert set(reasons) == {"ckd_progression", "readmission"}
    assert "none_in_stay" in reasons["readmission"]
    assert "fixed bounds" in reasons["ckd_progression"]
    written = {(file.parent.name, file.stem) for file in tmp_path.glob("*/*.yaml")}
    drawn = [task for task in TASKS.values() if task.name != "readmission"]
    assert written == {(task.name, f"{days}d") for task in drawn for days in task.horizons_days}
    labelled = [yaml.safe_load(file.read_text())["windows"] for file in (tmp_path / "ckd_progression").iterdir()]
    assert labelled == [{"record": window["record"], "born": window["born"]} for window in labelled]


def test_the_command_writes_them(tmp_path, capsys):
    assert main(["tasks", "--aces", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert all(task.title in told for task in TASKS.values())
    assert "Not in ACES: readmission" in told
    assert (tmp_path / "mortality" / "365d.yaml").exists()


def test_type_2_diabetes_as_a_reader_sees_it():
    written = aces_task(TASKS["type_2_diabetes"], 1095)
    predicates, windows = written["predicates"], written["windows"]
    hba1c = {"unit": "%", "value_min": 6.5, "value_min_inclusive": True}
    assert predicates["raised_hba1c"] == {"code": predicates["raised_hba1c"]["code"]} | hba1c
    assert predicates["outcome"] == {"expr": "or(diagnosis, drug, raised_hba1c, raised_glucose)"}
    # 18 years of 365.25 days are 6,574.5 days.
    assert windows["born"]["end"] == "trigger - 6574 days 12 hours"
    assert windows["record"]["has"]["any_diabetes_known"] == "(None, 0)"  # leaves out
    assert windows["record"]["has"]["diagnosis"] == "(0, None)"  # counts only
    assert (windows["target"]["start"], windows["target"]["end"]) == ("trigger", "start + 1095 days")
    assert (windows["before_5"]["start"], windows["before_5"]["has"]) == (
        "end - 280 days",
        {"pregnancy_known": "(None, 0)"},
    )


def test_nobody_is_left_out_for_what_comes_later():
    for task in TASKS.values():
        windows = aces_task(task, task.horizons_days[0])["windows"]
        later = [windows[name]["has"] for name in ("gap", "target", "stay") if name in windows]
        assert {bounds for has in later for bounds in has.values()} <= {"(0, None)"}


def test_patterns_match_the_codes_that_the_tasks_match():
    spelled = sorted(
        {
            code.removesuffix("*")
            for task in TASKS.values()
            for one in task.predicates.values()
            for patterns in one.units().values()
            for code in patterns
        }
    )
    suffixes = ("", "1", ".9", "//administered", "//stated", "//other")
    codes = pl.DataFrame({"code": [code + suffix for code in spelled for suffix in suffixes]})
    for task in TASKS.values():
        if without_rows(task) or without_answers(task):
            continue
        written = aces_task(task, task.horizons_days[0])["predicates"]
        for name, predicate in task.predicates.items():
            ours = set(matched_units(codes, [predicate])["code"])
            for theirs, clock, other in ((name, "", "KNOWN//"), (f"{name}_known", "KNOWN//", "")):
                if theirs in written:
                    matches = written[theirs]["code"]["regex"]
                    assert set(codes.filter((clock + pl.col("code")).str.contains(matches))["code"]) == ours
                    assert codes.filter((other + pl.col("code")).str.contains(matches)).is_empty()


def test_events_stand_at_both_of_their_times():
    late = {"time": day(0), "known_time": day(40), "code": "LOINC//4548-4", "numeric_value": 6.5, "unit": "%"}
    creatinine = {"time": day(5), "code": "LOINC//2160-0", "numeric_value": 0.7, "unit": "mg/dL"}
    view = aces_events(events_table(*person(born=day(-50 * 365.25)), late, creatinine)).collect()
    timed = view.filter(pl.col("code") != "MEDS_BIRTH", pl.col("code") != "KNOWN//MEDS_BIRTH")
    assert timed.select("time", "code", pl.col("numeric_value").cast(pl.Float64).round(1)).rows() == [
        (None, "SEX//female", None),
        (day(0), "LOINC//4548-4", 6.5),
        (day(5), "LOINC//2160-0", 0.7),
        (day(5), "DERIVED//EGFR", 105.3),  # 142 x 0.9938**50 x 1.012
        (day(5), "KNOWN//LOINC//2160-0", 0.7),
        (day(5), "KNOWN//DERIVED//EGFR", 105.3),
        (day(40), "KNOWN//LOINC//4548-4", 6.5),
        (day(405), "RECORD_END", None),
    ]


@pytest.mark.parametrize(
    ("record", "gap", "target", "answer"),
    [
        (0, 0, 1, [True]),
        (0, 0, 0, [False]),
        (1, 0, 1, [False]),  # the first had come before, and was not known
        (0, 1, 1, []),  # it comes in the gap: not asked
        (1, 1, 1, [False]),  # what comes in the gap is not the first
    ],
)
def test_answers_are_put_together_from_counts(record, gap, target, answer):
    task = TASKS["dementia_after_a_year"]
    windows = {"record.start_summary": record, "gap.end_summary": gap, "target.end_summary": target}
    row = {"subject_id": 1, "prediction_time": day(0)}
    row |= {window: {"dementia": count, "dementia_drug": 0} for window, count in windows.items()}
    assert (
        aces_answers(pl.DataFrame([row]), NOTHING, period(), task, 1095, StudySettings())["is_event"].to_list()
        == answer
    )


def test_moments_are_spaced_and_covered_as_ours():
    rows = [
        {"subject_id": 1, "prediction_time": day(days), "target.end_summary": {"acute_visit": 1}}
        for days in (-4_000, 0, 29, 30, 1_800)  # before the record begins; taken; too soon; taken; the end comes first
    ]
    answers = aces_answers(pl.DataFrame(rows), NOTHING, period(), TASKS["acute_care"], 365, StudySettings())
    assert answers.rows() == [(1, day(0), True), (1, day(30), True)]


def test_what_is_left_to_do_stands_in_the_file():
    said = " ".join(said_afterwards(TASKS["dementia_after_a_year"]))
    assert re.search(r"90 days later.*gap.*first outcome", said)
