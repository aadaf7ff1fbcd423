"""The whole journey on a little population with a planted effect: records in, judged models and scores out."""

import json

import duckdb
import polars as pl
import pytest

import models.train
from features import integrity
from features.home import Home
from features.result_tables import RiskScores
from features.tasks.schema import load_tasks
from models.ladder import LADDER
from models.risk_transformer import TransformerSettings
from orchestration.cli import main
from tests.synthetic_records import write_records

PATIENTS = 70
STUDY = "bootstrap_resamples = 20\nfewest_subjects_with_event = 4\nfewest_judging_subjects_with_event = 2\n"
MEASURES = {"auroc", "auroc_low", "auroc_high", "brier", "calibration_slope"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory):
    """A folder with a key, a study file and the records; the key decides the splits, so it is a fixed one."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "key").write_text("5e" * 32)
    (folder / "key").chmod(0o600)
    (folder / "study.toml").write_text(STUDY)
    write_records(folder / "records", PATIENTS, seed=7, as_synthea=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        environment.setattr(models.train, "TransformerSettings", lambda: TransformerSettings(epochs=2))
        yield folder


@pytest.fixture(scope="module")
def home(study_folder):
    """The home after one run."""
    source, study = str(study_folder / "records"), str(study_folder / "study.toml")
    home = Home(study_folder / "home")
    assert main(["run", "--from", source, "--study", study, "--home", str(home.path), "--processes", "1"]) == 0
    return home


@pytest.fixture(scope="module")
def summary(home):
    return json.loads(home.summary.read_text())


def ask(home, question):
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        return warehouse.sql(question).fetchall()


def test_the_summary_accounts_for_everything(summary, study_folder):
    lines = sum(len(file.read_text().splitlines()) for file in (study_folder / "records").iterdir())
    records = summary["records"]
    assert summary["patients"] == PATIENTS
    assert records["in"] == lines
    assert records["used"] + records["ignored"] + records["quarantined"] == lines
    assert "synthetic" in summary["source"]


def test_every_task_is_judged_or_skipped_with_a_reason(summary):
    assert summary["tasks"]
    judged = {name.partition("@")[0] for name in summary["tasks"]}
    assert judged | summary["skipped"].keys() == {task.name for task in load_tasks()}
    assert all(summary["skipped"].values())
    for task in summary["tasks"].values():
        assert set(task) == {"rows", "events", "models", "audit"}
        assert 0 < task["events"] < task["rows"]
        assert set(LADDER) - {"retain"} <= set(task["models"])
        assert task["audit"]["verdict"] in ("silent", "gives away")
        for model, measures in task["models"].items():
            assert set(measures) == (MEASURES if model in LADDER else MEASURES | {"share_with_value"})
            assert 0 <= measures["auroc_low"] <= measures["auroc"] <= measures["auroc_high"] <= 1
            assert 0 <= measures["brier"] <= 1


def test_the_labels_stand_as_meds_label_files(home):
    known = pl.read_parquet(home.tables / "labels.parquet").filter(pl.col("state") != "censored")
    files = {file: pl.read_parquet(file) for file in home.meds_labels.rglob("*.parquet")}
    assert len(files) == known.select("task", "horizon_days").n_unique()
    assert sum(table.height for table in files.values()) == known.height
    assert sum(table["boolean_value"].sum() for table in files.values()) == (known["state"] == "event").sum()


def test_the_planted_effect_is_learnt(summary):
    """BNP drives admissions; age and sex alone do not know it."""
    judged = summary["tasks"]["acute_care"]["models"]
    assert max(judged[name]["auroc"] for name in ("logistic_regression", "lightgbm")) > 0.65


def test_every_step_is_timed(summary):
    steps = {
        "landed_records",
        "read_records",
        "observe",
        "labels",
        "features",
        "train_models",
        "report",
        "risk_scores",
        "warehouse",
    }
    assert steps <= set(summary["seconds"])


def test_scores_explain_themselves(home, summary):
    assert ask(home, "SELECT DISTINCT CAST(as_of AS VARCHAR) FROM risk_scores") == [(summary["as_of"],)]
    assert ask(home, "SELECT count(*) FROM risk_scores WHERE NOT (risk_low <= risk AND risk <= risk_high)") == [(0,)]
    behind = (
        "(SELECT unnest(flatten(list_transform(reasons, reason -> reason.record_ids))) AS record_id FROM risk_scores)"
    )
    assert ask(home, f"SELECT count(*) FROM {behind}")[0][0] > 0
    assert ask(home, f"SELECT count(*) FROM {behind} ANTI JOIN events USING (record_id)") == [(0,)]


def test_the_same_day_twice_gives_the_same_rows_once(home, summary):
    scores = home.tables / "risk_scores" / f"{summary['as_of']}.parquet"
    before = pl.read_parquet(scores)
    assert before.columns == RiskScores.column_names()
    assert main(["score", "--as-of", summary["as_of"], "--home", str(home.path)]) == 0
    assert pl.read_parquet(scores).equals(before)
    assert ask(home, "SELECT count(*) FROM risk_scores") == [(before.height,)]


def test_another_day_is_added(home):
    assert main(["score", "--as-of", "2022-03-01", "--home", str(home.path)]) == 0
    assert ask(home, "SELECT count(DISTINCT as_of) FROM risk_scores") == [(2,)]


def test_the_features_of_a_day_are_those_that_were_scored(home, summary, tmp_path):
    """Whoever was scored has a row; the same day twice gives the same file."""
    day = summary["as_of"]
    scored = pl.read_parquet(home.tables / "risk_scores" / f"{day}.parquet")
    made = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.parquet"
        assert main(["features", "--as-of", day, "--home", str(home.path), "--out", str(out)]) == 0
        made.append(pl.read_parquet(out))
    assert made[0].equals(made[1])
    assert set(scored["subject_id"]) <= set(made[0]["subject_id"])
    definitions = pl.read_parquet(home.tables / "feature_definitions.parquet")["feature"].to_list()
    assert made[0].columns == ["as_of", "subject_id", *definitions]
    assert not made[0]["age_years"].is_null().any()


def test_the_report_says_that_the_patients_are_synthetic(home):
    assert "ynthetic" in (home.report / "index.html").read_text()


def test_another_key_is_refused_and_the_last_good_state_stands(home, study_folder, monkeypatch, capsys):
    other = study_folder / "other_key"
    other.write_text("00" * 32)
    other.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(other))
    before = home.warehouse.read_bytes()
    assert main(["run", "--from", str(study_folder / "records"), "--home", str(home.path)]) == 2
    assert "SEQUELA_KEY_FILE" in capsys.readouterr().err
    assert home.warehouse.read_bytes() == before


def test_a_folder_without_records_is_refused(home, tmp_path, capsys):
    before = home.warehouse.read_bytes()
    assert main(["run", "--from", str(tmp_path), "--home", str(home.path)]) == 2
    assert "Put FHIR R4 bundles" in capsys.readouterr().err
    assert home.warehouse.read_bytes() == before


def test_a_fact_that_does_not_hold_stops_the_run(study_folder, tmp_path, monkeypatch, capsys):
    """On the shipped example patients, of whom a person is told what they are."""
    assert main(["run", "--from", "examples", "--home", str(tmp_path / "home")]) == 0
    assert "example patients" in capsys.readouterr().out
    home = Home(tmp_path / "home")
    before = home.warehouse.read_bytes()
    monkeypatch.setattr(integrity, "count_events_after_death", lambda events: 3)
    assert main(["run", "--from", "examples", "--home", str(home.path)]) == 2
    message = capsys.readouterr().err
    assert "no event after death" in message
    assert "fewer than 11 events" in message
    assert "Traceback" not in message
    assert home.warehouse.read_bytes() == before
