"""What the terminal says at the end: every task with its models, what was left out and why, what to type next."""

from datetime import date, datetime

import polars as pl
import pytest

from features import result_tables, tables
from orchestration.summary import _without_scores_lines, question_name, summarise, summary_lines
from tests.orchestration.small_home import write_scores, write_small_home

DAY = date(2021, 4, 1)
NOT_BETTER = "judged, but no model told more than the base rate, so no scores are given"
LONG = "within 365 days " + ", ".join(
    f"fewer than 10 {split} patients {what} (10 are needed)"
    for split in ("train", "tuning", "held-out")
    for what in ("had the outcome", "were known not to have it")
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home after a run: acute_care judged and released, inpatient_admission judged only, mortality skipped."""
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(tmp_path / "key"))
    home = write_small_home(tmp_path / "home")
    write_scores(home, DAY, [42])
    rows = [
        evaluation("acute_care", "age_sex", is_released=True),
        evaluation("acute_care", "lightgbm", is_released=False),
        evaluation("inpatient_admission", "age_sex", is_released=False),
        evaluation("inpatient_admission", "lightgbm", is_released=False),
    ]
    write(home, "evaluations", rows)
    write(
        home,
        "skipped_tasks",
        [{"task": "inpatient_admission", "reason": NOT_BETTER}, {"task": "mortality", "reason": LONG}],
    )
    write_dataset(home, "fhir")
    write(
        home,
        "record_counts",
        [{"resource_type": "Patient", "outcome": "used", "reason": "", "records": 1}],
    )
    return home


def write(home, name, rows):
    contract = {
        table.__name__: table for table in (result_tables.Evaluations, result_tables.SkippedTasks, tables.Dataset)
    }
    contract |= {table.__name__: table for table in (result_tables.Audits, tables.Labels)}
    contract |= {table.__name__: table for table in (tables.RecordCounts, tables.DataProfile, tables.Quarantine)}
    schema = tables.empty(contract["".join(word.capitalize() for word in name.split("_"))]).schema
    pl.DataFrame(rows, schema=schema).write_parquet(home.tables / f"{name}.parquet")


def write_dataset(home, source_kind):
    row = {"source_kind": source_kind, "data_version": "d", "subjects": 1, "events": 3, "records": 1}
    write(home, "dataset", [row])


def evaluation(task, model, *, is_released, days=365):
    numbers = {
        name: 1
        for name, dtype in tables.empty(result_tables.Evaluations).schema.items()
        if dtype in (pl.Int64, pl.Float64)
    }
    measures = {"auroc": 0.71, "auroc_low": 0.61, "auroc_high": 0.81, "brier": 0.2, "calibration_slope": 0.9}
    return numbers | measures | {"task": task, "horizon_days": days, "model": model, "is_released": is_released}


def test_a_judged_task_without_scores_has_its_row_and_its_reason(home):
    lines = summary_lines(home, DAY, smallest_cell=11)
    (with_scores,) = [line for line in lines if line.startswith("acute_care ")]
    (without,) = [line for line in lines if line.startswith("inpatient_admission ") and "gives" not in line]
    assert with_scores.split()[-5:] == ["0.71", "(0.61-0.81)*", "0.71", "(0.61-0.81)", "0.90"]
    assert without.split()[-4:] == ["0.71", "(0.61-0.81)", "0.71", "(0.61-0.81)"]
    assert f"inpatient_admission gives no scores: {NOT_BETTER}" in lines
    summary = summarise(home, DAY, {})
    assert set(summary["tasks"]) == {"acute_care", "inpatient_admission"}
    assert set(summary["skipped"]) == {"inpatient_admission", "mortality"}


def test_every_horizon_of_a_task_is_told_apart(home):
    days = (365, 1095, 1825)
    rows = [evaluation("type_2_diabetes", "age_sex", is_released=horizon != 365, days=horizon) for horizon in days]
    write(home, "evaluations", [*rows, evaluation("mortality", "age_sex", is_released=True)])
    label = {"subject_id": 42, "task": "type_2_diabetes", "split": "train", "state": "event"}
    write(home, "labels", [label | {"horizon_days": horizon} for horizon in days[1:]])
    summary = summarise(home, DAY, {})
    assert set(summary["tasks"]) == {"mortality", *(f"type_2_diabetes@{horizon}" for horizon in days)}
    assert [summary["tasks"][f"type_2_diabetes@{horizon}"]["rows"] for horizon in days] == [0, 1, 1]
    released = ["mortality", "type_2_diabetes@1095", "type_2_diabetes@1825"]
    assert summary["released"] == dict.fromkeys(released, "age_sex")
    assert any(line.startswith("type_2_diabetes@1095 ") for line in summary_lines(home, DAY, 11))
    assert question_name("type_2_diabetes", 365) == "type_2_diabetes@365"  # by the task, whatever was labelled


def test_of_the_comparators_the_best_stands_in_the_table_with_its_name(home):
    auroc = {"age_sex": 0.6, "charlson": 0.72, "news2": 0.65, "lightgbm": 0.8}
    rows = [evaluation("mortality", model, is_released=False) | {"auroc": found} for model, found in auroc.items()]
    write(home, "evaluations", [*rows, evaluation("acute_care", "age_sex", is_released=False)])
    lines = summary_lines(home, DAY, 11)
    (head,) = [line for line in lines if line.startswith("task ")]
    (mortality,) = [line for line in lines if line.startswith("mortality ") and "0.60" in line]
    assert head.split() == "task patients times events age_sex best comparator LightGBM slope".split()
    assert "0.72 (0.61-0.81) charlson  0.80 (0.61-0.81)" in mortality
    assert "news2" not in mortality
    assert set(summarise(home, DAY, {})["tasks"]["mortality"]["models"]) == set(auroc)


def test_a_comparator_says_at_how_many_prediction_times_it_has_a_value(home):
    label = {"task": "mortality", "horizon_days": 365, "split": "train", "state": "none"}
    times = [datetime(2015, 1, month) for month in range(1, 5)]
    write(home, "labels", [label | {"subject_id": 42, "prediction_time": time} for time in times])
    scores = pl.DataFrame(
        {"subject_id": [42] * 4, "prediction_time": times, "score_charlson_age": [3.0, None, 2.0, 1.0]}
    )
    scores.with_columns(age_years=70.0).cast({"prediction_time": pl.Datetime("us")}).write_parquet(
        home.tables / "features.parquet"
    )
    write(
        home, "evaluations", [evaluation("mortality", name, is_released=False) for name in ("age_sex", "charlson_age")]
    )
    models = summarise(home, DAY, {})["tasks"]["mortality"]["models"]
    assert models["charlson_age"]["share_with_value"] == 0.75
    assert "share_with_value" not in models["age_sex"]


def test_an_outcome_that_the_records_give_away_is_told_loudly(home):
    assert summarise(home, DAY, {})["tasks"]["acute_care"]["audit"] is None
    numbers = {name: 0.5 for name, dtype in tables.empty(result_tables.Audits).schema.items() if dtype == pl.Float64}
    numbers |= {"rows": 90, "subjects": 40, "events": 20, "horizon_days": 365, "most_used": "years_observed"}
    found = [("acute_care", "gives away", 0.9), ("inpatient_admission", "silent", 0.5)]
    write(home, "audits", [numbers | {"task": task, "verdict": said, "auroc": auroc} for task, said, auroc in found])
    warned = [line for line in summary_lines(home, DAY, 11) if line.startswith("WARNING")]
    assert warned == ["WARNING: the way these records were kept gives acute_care away: FROM audits"]
    audit = summarise(home, DAY, {})["tasks"]["acute_care"]["audit"]
    assert audit == {"auroc": 0.9, "age_sex_auroc": 0.5, "verdict": "gives away"}


def test_a_long_reason_ends_with_a_whole_part_and_says_where_the_rest_is(home):
    (line,) = [line for line in summary_lines(home, DAY, smallest_cell=11) if line.startswith("mortality")]
    assert line.startswith("mortality was skipped: within 365 days fewer than 10 train patients had the outcome (10")
    assert line.endswith("(10 are needed), … (all of it: FROM skipped_tasks)")


def test_what_was_left_out_is_told(home):
    assert not [line for line in summary_lines(home, DAY, 11) if "left alone" in line or "quarantine" in line]
    write(home, "data_profile", [{"finding": "files_without_fhir", "count": 3, "unit": "files", "handling": ""}])
    refused = {"file": "f", "offset": 0, "resource_type": None}
    write(home, "quarantine", [refused | {"reason": reason} for reason in ("no id", "no id", "no subject")])
    lines = summary_lines(home, DAY, 11)
    assert "3 other files left alone: no FHIR inside" in lines
    assert "quarantined for 2 reasons: FROM quarantine" in lines
    assert any(line.endswith('"FROM quarantine"') for line in lines)


def test_patients_without_a_risk_are_told_but_not_how_few(home):
    assert not [line for line in summary_lines(home, DAY, 11) if "no risk" in line]
    file = home.tables / "risk_scores" / f"{DAY}.parquet"
    one = pl.read_parquet(file)
    unlike = {"risk": None, "is_unlike": True, "unlike_because": "Age outside 60 to 95, the range learnt from"}
    for patients, told in ((2, "fewer than 11 patients"), (12, "12 patients")):
        rows = [one.row(0, named=True) | unlike | {"subject_id": 100 + subject} for subject in range(patients)]
        pl.concat([one, pl.DataFrame(rows, schema=one.schema)]).write_parquet(file)
        lines = summary_lines(home, DAY, 11)
        assert [line for line in lines if line.startswith(f"  no risk    {told} unlike those learnt from")]
        assert [line for line in lines if line.startswith("  scores     1 risk as of")]


def test_a_file_that_ends_too_early_is_told_loudly(home):
    refused = {"file": "Condition.ndjson.gz", "offset": 9, "resource_type": "Condition"}
    write(home, "quarantine", [refused | {"reason": "compressed file ends too early"}])
    assert any(
        line.startswith("WARNING: Condition.ndjson.gz") and "Copy it again" in line
        for line in summary_lines(home, DAY, 11)
    )
    assert len(summarise(home, DAY, {})["warnings"]) == 1


@pytest.mark.parametrize(
    ("source_kind", "offered", "not_offered"),
    [
        ("example", "make run FROM=", "--as-of"),
        ("simulated", "make run FROM=", "no such thing"),
        ("simulated", "--as-of 2021-03-25", "no such thing"),
        ("fhir", "--as-of 2021-03-25", "make run"),
    ],
)
def test_what_to_type_next(home, source_kind, offered, not_offered):
    write_dataset(home, source_kind)
    lines = summary_lines(home, DAY, 11)
    further = "\n".join(lines[lines.index("Type next:") :])
    assert offered in further
    assert not_offered not in further


def test_what_holds_of_several_tasks_is_told_once():
    few = "within 365 days fewer than 10 train patients had the outcome (10 are needed)"
    skipped = {"a": few, "b": few, "c": "c.yaml:3: these records hold no code of it", "d": NOT_BETTER}
    table = pl.DataFrame({"task": list(skipped), "reason": list(skipped.values())})
    assert _without_scores_lines(table, judged={"d"}) == [
        "Too few patients had the outcome, or did not: a, b (in full: FROM skipped_tasks)",
        "c was skipped: c.yaml:3: these records hold no code of it",
        f"d gives no scores: {NOT_BETTER}",
    ]
