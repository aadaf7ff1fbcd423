"""The league from the source to the page: a little simulated population, read, fitted and judged in one go."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import models as benchmark
from benchmarks.league_document import KEPT, document, league_lines, more_lines, write_document
from benchmarks.league_figures import costs_of, tasks_of
from benchmarks.site import moved, prepare, read_site
from features.errors import SequelaError
from features.home import Home
from features.result_tables import League, Oracle
from features.settings import StudySettings
from features.tables import empty
from models.costs import FIT, FORECAST, Cost
from models.risk_transformer import TransformerSettings

PATIENTS = 60
TASK = "inpatient_admission"
SETTINGS = StudySettings(bootstrap_resamples=20, fewest_subjects_with_event=4, fewest_judging_subjects_with_event=2)
SMALL = TransformerSettings(width=16, heads=2, lookback_shares=(1.0,), pretraining_epochs=1, epochs=1)


def league_rows() -> pl.DataFrame:
    """Of one question: age and sex at 0.6, a stack at 0.7; nothing else is known of them."""
    row = dict.fromkeys(League.column_names()) | {"task": TASK, "horizon_days": 365, "rows": 900, "subjects": 90}
    row |= {"events": 10, "best_simple": "age_sex", "brier": 0.2, "accuracy": 0.5, "sensitivity": 0.5}
    row |= {"specificity": 0.5, "auroc_low": 0.5, "auroc_high": float("nan")}
    gain = {"difference": 0.1, "difference_low": 0.05, "difference_high": 0.15, "verdict": "better", "p_value": 0.001}
    return pl.DataFrame(
        [
            row | {"model": "age_sex", "auroc": 0.6, "is_simple": True},
            row | gain | {"model": "stack", "auroc": 0.7, "is_simple": False, "calibration_slope": 1.0},
        ],
        schema=empty(League).schema,
    )


def oracle_rows() -> pl.DataFrame:
    """The truth at 0.8; the stack at 0.74 and age and sex at 0.62 on the rows whose truth is known."""
    row = {"task": TASK, "horizon_days": 365, "rows": 100, "events": 20, "oracle_auroc": 0.8, "oracle_low": 0.7}
    row |= {"oracle_high": 0.9, "share_low": 0.5, "share_high": 1.0}
    return pl.DataFrame(
        [
            row | {"model": "age_sex", "auroc": 0.62, "oracle_share": 0.4},
            row | {"model": "stack", "auroc": 0.74, "oracle_share": 0.8},
        ],
        schema=empty(Oracle).schema,
    )


def run_of(tasks: dict[str, object]) -> dict[str, object]:
    about = {"source": "somewhere", "patients": 90, "seed": 1}
    return {"about": about, "tasks": tasks, "skipped": {}, "costs": {}, "training": {"seconds": 1.0, "peak_mb": None}}


def test_figures_have_the_agreed_form():
    [(name, task)] = tasks_of(league_rows(), oracle_rows(), smallest_cell=11).items()
    assert name == f"{TASK}@365"
    assert task["best_simple"] == {"name": "age_sex", "auroc": 0.6}
    assert task["transformer"] is None
    assert task["stack"] == {"auroc": 0.7, "difference": 0.1, "diff_low": 0.05, "diff_high": 0.15}
    assert (task["oracle_auroc"], task["oracle_share"], task["calibration_slope"]) == (0.8, 0.8, 1)
    assert task["left_to_gain"] == pytest.approx(0.18)  # 0.8 less 0.62
    assert (task["rows"], task["events"]) == (900, None)  # ten are too few to be told
    assert task["models"]["age_sex"]["auroc_high"] is None  # what is no number
    json.dumps(task, allow_nan=False)


def test_without_truth_its_figures_are_null():
    [task] = tasks_of(league_rows(), empty(Oracle), smallest_cell=11).values()
    assert (task["oracle_auroc"], task["oracle_share"], task["left_to_gain"]) == (None, None, None)
    assert "share of the truth" not in "".join(league_lines(run_of({"a@1": task}))).partition("### Every model")[0]


def test_the_page_tells_what_is_better():
    page = "\n".join(league_lines(run_of(tasks_of(league_rows(), oracle_rows(), smallest_cell=11))))
    assert "| Stack | 1 | 0 | 0 | 1 | 0 | 1 of 1 |" in page
    assert "0.700 (+0.100, +0.050 to +0.150) **better**" in page
    assert "| 0.180 | 80 % (50 % to 100 %) |" in page
    assert "no question" in "\n".join(league_lines(run_of({})))


def test_the_page_tells_what_more_patients_would_teach():
    few = {"outcomes": 3, "auroc": 0.6, "gain": None, "auroc_where_known": 0.61}
    many = {"outcomes": 1200, "auroc": 0.7, "gain": [0.1, 0.05, 0.15], "auroc_where_known": 0.71}
    asked = {"rows": 50, "outcomes": 20, "sizes": {"2000": few, "all": many}, "truth": 0.8}
    asked["outcomes_where_known"] = 14
    about = {"source": "somewhere", "patients": 90, "learnt_from": 60_000, "all": 29_000}
    page = "\n".join(more_lines({"about": about, "questions": {"stroke@365": asked, "gout@30": None}}))
    assert "| question | outcomes learnt from | 2,000 patients | all patients |" in page
    assert "| `stroke`, 365 d | few, 1,200 | 0.600 | 0.700 (+0.100, +0.050 to +0.150) | 14 | 0.710 | 0.800 |" in page
    assert "gout" not in page
    assert list(more_lines({"about": about, "questions": {"gout@30": None}})) == []


def test_costs_by_hand():
    # Two fits of 2 and 3 seconds while 150 and 180 MB stood where 100 had been; 500 rows forecast in 2 seconds.
    heard = [Cost("a", FIT, 10, 0, 2), Cost("a", FIT, 10, 5, 8), Cost("a", FORECAST, 500, 8, 10)]
    found = costs_of(heard, [(-1.0, 100.0), (1.0, 150.0), (6.0, 180.0)])
    assert found == {"a": {"fits": 2, "fit_seconds": 5, "forecasts_per_second": 250, "peak_mb": 80}}


def test_the_document_is_that_of_the_kept_figures():
    assert list(KEPT.glob("models_*.json"))
    assert (Path(__file__).parents[2] / "docs" / "models.md").read_text() == document(KEPT)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("league")
    (folder / "key").write_text("5e" * 32)
    (folder / "key").chmod(0o600)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        home = Home(folder / "home")
        prepare(home, "simulated", PATIENTS, processes=1)
        yield home


@pytest.mark.slow
def test_from_the_source_to_the_figures(home, tmp_path, monkeypatch, capsys):
    made = (home.tables / "features.parquet").stat().st_mtime
    monkeypatch.setattr(benchmark, "StudySettings", lambda **_: SETTINGS)
    monkeypatch.setattr("models.train.TransformerSettings", lambda: SMALL)
    figures = tmp_path / "figures" / "models_small.json"
    told = ["--home", str(home.path), "--tasks", f"{TASK},breast_cancer", "--figures", str(figures), "--json"]
    assert benchmark.main(told) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == json.loads(figures.read_text())
    assert (home.tables / "features.parquet").stat().st_mtime == made
    assert not home.models.exists()
    task = found["tasks"][f"{TASK}@365"]
    assert {"age_sex", "logistic_regression", "lightgbm", "timeline_transformer"} <= set(task["models"])
    assert task["transformer"]["diff_low"] <= task["transformer"]["difference"] <= task["transformer"]["diff_high"]
    assert found["about"]["patients"] == PATIENTS
    assert set(found["tasks"]) == {f"{TASK}@365"}
    assert "breast_cancer" in found["skipped"]
    assert found["costs"]["timeline_transformer"]["forecasts_per_second"] > 0
    page = tmp_path / "models.md"
    write_document(page, figures.parent)
    assert f"`{TASK}`, 365 d" in page.read_text()


@pytest.mark.slow
def test_at_another_site_everybody_judges(home):
    site = read_site(home, SETTINGS)
    assert site.true_risks is not None
    with pytest.raises(SequelaError, match="at both sites"):
        moved(site, site, home)
