from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.settings import StudySettings
from features.tables import DataProfile, Labels, Predictions, RecordCounts, SkippedTasks, empty
from models.evaluation import LADDER, evaluate, tuning_threshold
from models.questions import Question
from models.report import write_report
from models.report.figures import risk_groups
from models.report.small_cells import people_in_cells, share, shown

SETTINGS = StudySettings(bootstrap_resamples=50)
QUESTION = Question("acute_care", 365)


def table(schema, rows):
    return pl.DataFrame(rows, schema=empty(schema).schema, orient="row")


def report(tmp_path, people: int = 400, source: str = "Synthea R4"):
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
            score = float(np.log(risk / (1 - risk)))
            predictions += [
                (10**15 + subject, now, "acute_care", 365, split, model, score, risk, is_event) for model in LADDER
            ]
    judged = table(Predictions, predictions)
    thresholds = {
        (QUESTION, model): tuning_threshold(judged.filter(pl.col("split") == "tuning", pl.col("model") == model))
        for model in LADDER
    }
    evaluations = evaluate(judged, {QUESTION: "logistic_regression"}, thresholds, SETTINGS)
    path = write_report(
        tmp_path / "report",
        table(Labels, labels),
        judged,
        evaluations,
        table(SkippedTasks, [("mortality", "too <few> patients")]),
        table(DataProfile, [("codes with several wordings", 3, "codes", "kept"), ("no dates", 4, "patients", "kept")]),
        table(RecordCounts, [("Patient", "used", "", 400), ("Device", "quarantined", "no subject", 2)]),
        source,
        SETTINGS,
        model_version="abc123",
    )
    return path.read_text()


def test_the_page_stands_alone_and_says_what_matters(tmp_path):
    page = report(tmp_path)
    assert "Synthetic data." in page
    assert "What this must not be used for" in page
    assert "Acute care within 365 days" in page
    assert "Logistic regression (released)" in page
    assert "too &lt;few&gt; patients" in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "<script" not in page
    assert 'src="http' not in page
    assert page == report(tmp_path)


def test_real_sources_have_no_synthetic_banner(tmp_path):
    assert "Synthetic data." not in report(tmp_path, source="FHIR records")


def test_no_identifier_and_no_small_count_reaches_the_page(tmp_path):
    page = report(tmp_path)
    assert "100000000000" not in page
    assert '<td>Device</td><td>quarantined</td><td>no subject</td><td class="number">fewer than 11</td>' in page
    assert '<td>no dates</td><td class="number">fewer than 11</td>' in page
    assert '<td>codes with several wordings</td><td class="number">3</td>' in page
    # Eight died first; with an exact total their number could be worked out.
    assert "<strong>fewer than 11</strong> died first" in page
    assert "<strong>about 400</strong> prediction times" in page


def test_few_held_out_outcomes_hide_curves_and_cells(tmp_path):
    page = report(tmp_path, people=60)
    assert "data:image" not in page
    assert "No curves are drawn" in page
    assert "has a cell of fewer than 11 people" in page
    assert "Flagged</td>" not in page


@pytest.mark.parametrize(
    ("count", "people", "text"),
    [(0, 0, "0"), (30, 10, "fewer than 11"), (1234, 11, "1,234"), (5, 5, "fewer than 11")],
)
def test_small_counts_are_not_shown(count, people, text):
    assert shown(count, people, 11) == text


def test_shares():
    assert share(0.847, is_rounded=False) == "85 %"
    assert share(0.847, is_rounded=True) == "about 80 %"
    assert share(None, is_rounded=False) == "–"


def test_people_in_cells_counts_each_patient_once_a_cell():
    rows = pl.DataFrame(
        {
            "subject_id": [1, 1, 1, 2, 3],
            "risk": [0.9, 0.8, 0.1, 0.5, 0.2],
            "is_event": [True, True, True, False, False],
        }
    )
    assert people_in_cells(rows, 0.5) == {
        "true_positives": 1,
        "false_positives": 1,
        "true_negatives": 1,
        "false_negatives": 1,
    }


def test_risk_groups_hold_enough_people():
    random = np.random.default_rng(1)
    people = np.repeat(np.arange(40), 5)
    groups = risk_groups(random.random(200), people, fewest=11)
    assert sum(len(group) for group in groups) == 200
    assert all(len(np.unique(people[group])) >= 11 for group in groups)
    assert len(risk_groups(random.random(9), np.arange(9), fewest=11)) == 1
