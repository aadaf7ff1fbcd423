import re
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.result_tables import Audits, Predictions, SkippedTasks
from features.settings import StudySettings
from features.tables import DataProfile, Labels, RecordCounts, empty
from features.tasks.schema import Comparator, load_tasks
from models.discrimination import draw_resamples
from models.evaluation import evaluate, tuning_threshold
from models.ladder import LADDER
from models.league import league_table
from models.questions import Question
from models.report import write_report
from models.report.calibration_groups import risk_groups, wilson_interval
from models.report.population import part_rows, population_table
from models.report.task_words import horizon_words, task_facts

SETTINGS = StudySettings(bootstrap_resamples=50)
QUESTION = Question("acute_care", 365)


def table(schema, rows):
    return pl.DataFrame(rows, schema=empty(schema).schema, orient="row")


def described(people: int) -> pl.DataFrame:
    """Everybody is 50, all but each fortieth: they are 85; every second is female."""
    start = datetime(2015, 1, 1)
    return pl.DataFrame(
        {
            "subject_id": [10**15 + subject for subject in range(people)],
            "prediction_time": [start + timedelta(days=subject) for subject in range(people)],
            "age_years": [85.0 if subject % 40 == 0 else 50.0 for subject in range(people)],
            "is_female": [float(subject % 2) for subject in range(people)],
        },
        schema_overrides={"prediction_time": pl.Datetime("us")},
    )


def report(
    tmp_path,
    people: int = 400,
    source: str = "Synthea R4",
    released: str | None = "logistic_regression",
    knows: bool = True,
    rungs: tuple[str, ...] = LADDER,
    audits: pl.DataFrame | None = None,
    with_league: bool = False,
):
    random = np.random.default_rng(0)
    start = datetime(2015, 1, 1)
    labels, predictions = [], []
    for subject in range(people):
        split = ("train", "tuning", "held_out")[subject % 3]
        risk = float(random.uniform(0.02, 0.6))
        is_event = bool(random.random() < risk)
        now = start + timedelta(days=subject)
        state = ("event" if is_event else "none") if subject % 50 else "died_first"
        labels.append((10**15 + subject, now, "acute_care", 365, split, state, 100.0))
        if split != "train":
            told = risk if knows else float(random.uniform(0.02, 0.6))
            score = float(np.log(told / (1 - told)))
            predictions += [
                (10**15 + subject, now, "acute_care", 365, split, model, score, told, is_event) for model in rungs
            ]
    judged = table(Predictions, predictions)
    thresholds = {
        (QUESTION, model): tuning_threshold(judged.filter(pl.col("split") == "tuning", pl.col("model") == model))
        for model in rungs
    }
    evaluations = evaluate(judged, {QUESTION: released} if released else {}, thresholds, SETTINGS)
    path = write_report(
        tmp_path / "report",
        table(Labels, labels),
        judged,
        evaluations,
        table(SkippedTasks, [("breast_cancer", "breast_cancer.yaml:19: no code"), ("mortality", "too <few> patients")]),
        table(DataProfile, [("codes with several wordings", 3, "codes", "kept"), ("no dates", 4, "patients", "kept")]),
        table(RecordCounts, [("Patient", "used", "", 400), ("Device", "quarantined", "no subject", 2)]),
        source,
        SETTINGS,
        model_version="abc123",
        tasks=load_tasks(),
        features=described(people),
        audits=audits,
        league=league_table(judged, evaluations, SETTINGS) if with_league else None,
    )
    return path.read_text()


def test_what_the_other_models_gain_over_the_best_simpler_one_is_told(tmp_path):
    page = report(tmp_path, with_league=True)
    start = page.index("Is a model better than every simpler one?")
    told = page[start : page.index("</table>", start)]
    # Every rung forecasts the same here, so of a tie age and sex is the best, and the transformer gains nothing.
    assert "<td>Age and sex, 0." in told
    assert "Timeline transformer</th>" in told
    assert "+0.00 (+0.00 to +0.00)" in told
    assert "<strong>better" not in told
    assert "every simpler one" not in report(tmp_path)


def test_the_page_stands_alone_and_says_what_matters(tmp_path):
    page = report(tmp_path)
    assert "Synthetic data." in page
    assert "What this must not be used for" in page
    assert "Hospital admission or emergency visit within 365 days" in page
    assert "<dt>Who is asked</dt><dd>Patients aged 18 years or more.</dd>" in page
    assert "<dt>Outcome</dt><dd>Hospital stay or emergency visit.</dd>" in page
    assert "patients decide nothing" in page
    assert "No better than guessing" not in page
    assert "Logistic regression<br>(released)" in page
    assert "Too &lt;few&gt; patients." in page
    assert "<td>breast_cancer.yaml:19: no code.</td>" in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "<script" not in page
    assert 'src="http' not in page
    assert page == report(tmp_path)


def test_comparators_stand_between_age_and_sex_and_the_rest_and_missing_ones_are_named(tmp_path):
    page = report(tmp_path, rungs=(*LADDER, "charlson", "prior_use"))
    names = re.findall(
        r'<tr(?: class="released")?><td class="whole">([A-Z][^<]+)', page[page.index("The models, on") :]
    )
    assert names[:4] == ["Age and sex", "Charlson index", "Visits of the year before", "Logistic regression"]
    assert "Not compared" not in page
    assert "train patients:\nVisits of the year before." in report(tmp_path)  # acute_care names it


def test_how_often_a_comparator_has_a_value_is_told(tmp_path, monkeypatch):
    features = described(400).with_columns(score_charlson=pl.when(pl.int_range(400) % 4 > 0).then(2.0))
    monkeypatch.setattr("tests.models.report.test_page.described", lambda people: features)
    (acute_care,) = [task for task in load_tasks() if task.name == "acute_care"]
    charlson = Comparator(name="charlson", features=("score_charlson",))
    asked = acute_care.model_copy(update={"comparators": (charlson,)})
    monkeypatch.setattr("tests.models.report.test_page.load_tasks", lambda: [asked])
    page = report(tmp_path, rungs=(*LADDER, "charlson"))
    # Every third of 400 is held out, 133 of them, and of those every fourth has no value: 100 of 133 are 75 %. A cell
    # of the threshold's table is hidden here, so that shares are rounded to tens.
    assert 'Charlson index<br><span class="small">has a value for about 80 %</span>' in page
    assert page.count("has a value for") == 1


@pytest.mark.parametrize(("verdict", "told"), [("gives away", True), ("silent", False)])
def test_the_audit_says_whether_the_shape_gives_the_outcome_away(tmp_path, verdict, told):
    numbers = (600, 400, 120, 0.985, 0.714, 0.271, 0.215, 0.321, 0.001)
    page = report(tmp_path, audits=table(Audits, [(*QUESTION, *numbers, verdict, "years_observed")]))
    assert ("The shape of the records gives this outcome away." in page) == told
    assert ("nothing beyond chance" in page) != told
    assert "+0.27 (+0.21 to +0.32)" in page or "+0.27 (+0.22 to +0.32)" in page
    assert ("years from the start of the observation" in page) == told
    assert "gives this outcome away" not in report(tmp_path)


def test_real_sources_have_no_synthetic_banner(tmp_path):
    assert "Synthetic data." not in report(tmp_path, source="FHIR records")


def test_no_identifier_and_no_small_count_reaches_the_page(tmp_path):
    page = report(tmp_path)
    assert "100000000000" not in page
    assert '<td>Device</td><td>quarantined</td><td>no subject</td><td class="number">fewer than 11</td>' in page
    assert '<td>no dates</td><td class="number">fewer than 11</td>' in page
    assert '<td>codes with several wordings</td><td class="number">3</td>' in page
    assert "without the outcome: prediction times of fewer than 11 patients of all parts" in page
    # Ten of 400 are 85 years old, three or four in each part: the others are rounded.
    assert '<tr><td>40 to 64</td><td class="number">about 120</td>' in page
    assert '<tr><td>80 or more</td><td class="number">fewer than 11</td>' in page


def test_few_held_out_outcomes_hide_curves_and_cells(tmp_path):
    page = report(tmp_path, people=60)
    assert "data:image" not in page
    assert "No ROC curves are drawn" in page
    assert "has a cell of fewer than 11 people" in page
    assert "Flagged</td>" not in page
    assert '<td class="number">not shown</td>' in page
    # AUPRC and Brier beside hidden cells have two digits.
    assert not re.search(r'<td class="number">0\.\d{3,}', page)


def test_a_task_without_a_released_model_says_so(tmp_path):
    page = report(tmp_path, released=None)
    assert "No model is released, so no scores are given for this task." in page
    assert "none: no scores are given" in page
    assert "(released)" not in page
    assert "were flagged" not in page


def test_a_released_model_that_guesses_on_held_out_patients_is_marked(tmp_path):
    page = report(tmp_path, knows=False)
    assert "No better than guessing on these held-out patients." in page
    assert "no better than guessing here" in page


def test_each_group_of_like_risk_may_be_shown():
    random = np.random.default_rng(1)
    people = np.repeat(np.arange(100), 5)
    risk = random.random(500) ** 2
    events = random.random(500) < risk
    resamples = draw_resamples(people, 200, [1])
    groups = risk_groups(risk, events, people, 11, resamples)
    assert 3 <= len(groups) <= 10
    assert sum(group.times for group in groups) == 500
    assert all(group.patients >= 11 for group in groups)
    assert [group.forecast for group in groups] == sorted(group.forecast for group in groups)
    assert all(group.low <= group.observed <= group.high for group in groups)
    # Three people with the outcome: any group that holds some of them would tell on them.
    assert risk_groups(risk, people < 3, people, 11, resamples) == []
    assert risk_groups(risk[:9], events[:9], np.arange(9), 11, draw_resamples(np.arange(9), 20, [1])) == []


def test_many_rows_of_one_patient_do_not_narrow_a_groups_interval():
    """100 patients of one risk, half with the outcome: 50 rows of each give the interval that one row of each gives."""
    outcome = np.arange(100) % 2 == 0

    def width(rows_each: int) -> float:
        people = np.repeat(np.arange(100), rows_each)
        risk, events = np.full(len(people), 0.5) + people * 1e-9, np.repeat(outcome, rows_each)
        group = risk_groups(risk, events, people, 45, draw_resamples(people, 500, [1]))[0]
        return group.high - group.low

    # With fewest 45 all hundred are one group; 2 x 1.96 x sqrt(0.25 / 100) = 0.196
    assert width(1) == pytest.approx(0.196, abs=0.03)
    assert width(50) == pytest.approx(width(1), abs=1e-9)


def test_wilson_interval_by_hand():
    # 10 of 100: (0.1 + 0.0192) / 1.0384 = 0.1148, half 1.96 * sqrt(0.0009 + 0.000096) / 1.0384 = 0.0596
    assert wilson_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert wilson_interval(0, 20)[0] == 0


def test_parts_count_times_patients_and_outcomes():
    now = datetime(2020, 1, 1)
    rows = [
        (subject, now + timedelta(days=day), "acute_care", 365, "train", "event" if subject < 20 else "none", 9.0)
        for subject in range(50)
        for day in (0, 90)
    ]
    rows += [(60, now, "acute_care", 365, "train", "censored", 9.0)]
    rows += [
        (100 + subject, now, "acute_care", 365, "tuning", "event" if subject < 3 else "none", 9.0)
        for subject in range(30)
    ]
    train, tuning, held_out = part_rows(table(Labels, rows), 11)
    # Three tuning patients had the outcome. The cohort report tells those of all parts, so none may be told here.
    assert (train.patients, train.times, train.events, train.event_share) == ("50", "100", "not shown", "not shown")
    assert (tuning.times, tuning.patients_with_event) == ("30", "not shown")
    assert (held_out.patients, held_out.events) == ("0", "not shown")
    alone, *_ = part_rows(table(Labels, rows[:101]), 11)
    assert (alone.events, alone.patients_with_event, alone.event_share) == ("40", "20", "40 %")


def test_the_population_by_age_and_sex_at_the_first_prediction_time():
    first, later = datetime(2020, 1, 1), datetime(2021, 1, 1)
    nan = float("nan")
    ages = {1: (39.9, 41.0), 2: (40.0, 41.0), 3: (nan, 70.0), 4: (90.0, 90.0)}
    labels = [(who, now, "acute_care", 365, "train", "none", 9.0) for who in ages for now in (first, later)]
    features = pl.DataFrame(
        [
            (who, now, age, {3: nan, 4: 0.0}.get(who, 1.0))
            for who, both in ages.items()
            for now, age in zip((first, later), both, strict=True)
        ],
        schema={
            "subject_id": pl.Int64,
            "prediction_time": pl.Datetime("us"),
            "age_years": pl.Float32,
            "is_female": pl.Float32,
        },
        orient="row",
    )
    rows = {row.name: row.cells[:1] for row in population_table(table(Labels, labels), features, smallest=1)}
    assert rows["Patients"] == ["4"]
    assert rows["Prediction times"] == ["8"]
    assert rows["18 to 39"] == rows["40 to 64"] == rows["80 or more"] == ["1 (25 %)"]
    assert rows["female"] == ["2 (50 %)"]
    assert rows["male or other"] == ["1 (25 %)"]


def test_without_features_the_population_has_no_age_and_sex():
    labels = table(Labels, [(1, datetime(2020, 1, 1), "acute_care", 365, "train", "none", 9.0)])
    assert [row.name for row in population_table(labels, None, 11)] == ["Patients", "Prediction times"]


def test_tasks_in_words():
    facts = {task.name: dict(task_facts(task, task.horizons_days[-1])) for task in load_tasks()}
    assert facts["mortality"]["Outcome"] == "Death."
    assert facts["mortality"]["Within"] == "365 days."
    assert facts["long_stay"]["Within"].startswith("6 days after the question, which is 7 days after the admission.")
    tasks = {task.name: task for task in load_tasks()}
    assert horizon_words(tasks["long_stay"], 6) == "decided 6 days after the question"
    assert horizon_words(tasks["mortality"], 365) == "within 365 days"
    assert "confirmed 28 days later or more" in facts["ckd_progression"]["Outcome"]
    assert facts["type_2_diabetes"]["Who is asked"].startswith(
        "Patients aged 18 years or more; nothing known of Type 2 diabetes mellitus, "
    )
    assert facts["type_2_diabetes"]["Outcome"] == (
        "Type 2 diabetes mellitus, A sulfonylurea, a glinide or a DPP-4 inhibitor, HbA1c from 6.5 % "
        "or Fasting blood glucose from 126 mg/dL. "
        "Only the first record ever of any of them counts."
    )
    assert "at most once in 30 days" in facts["acute_care"]["When"]


def test_every_part_of_the_page_has_a_name_of_its_own(tmp_path):
    names = re.findall(r'id="([^"]+)"', report(tmp_path))
    assert len(names) == len(set(names)) > 0
    assert f"{QUESTION[0]}-{QUESTION[1]}" in names
