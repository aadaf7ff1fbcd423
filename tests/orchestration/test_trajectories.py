"""Forecast courses in the warehouse, and the picture of one patient."""

import os

import polars as pl
import pytest

from features import result_tables, tables
from features.dataset import STATE
from orchestration.cli import main
from orchestration.source_labels import source_label
from orchestration.trajectory_plot import plot_trajectories
from orchestration.warehouse import open_warehouse, publish_warehouse
from tests.orchestration.small_home import SEEN, SUBJECT, events, write_small_home

PNG = b"\x89PNG"


@pytest.fixture
def home(tmp_path):
    home = write_small_home(tmp_path / "home")
    forecasts().write_parquet(home.tables / "trajectories.parquet")
    measures().write_parquet(home.tables / "trajectory_measures.parquet")
    judged().write_parquet(home.tables / "trajectory_evaluations.parquet")
    row = {"source": "a simulated population", "source_kind": "simulated", "is_windowed": False, "covers_until": None}
    row |= {"data_version": "d", "subjects": 1, "events": 3, "records": 3}
    pl.DataFrame([row], schema=tables.empty(tables.Dataset).schema).write_parquet(home.tables / "dataset.parquet")
    return home


def forecasts() -> pl.DataFrame:
    """Systolic pressure of the small home's patient, two steps ahead."""
    row = {"subject_id": SUBJECT, "prediction_time": SEEN, "setting": "ambulatory", "measure": "systolic_pressure"}
    row |= {"unit": "mm[Hg]", "time_unit": "days", "last_value": 131.0, "model": "mixed_trend", "model_version": "m"}
    row |= {"q10": 115.0, "q25": 122.0, "q50": 130.0, "q75": 138.0, "q90": 146.0, "low": 114.0, "high": 147.0}
    steps = [row | {"step": step, "ahead_from": 90.0 * (step - 1), "ahead_to": 90.0 * step} for step in (1, 2)]
    return pl.DataFrame(steps, schema=tables.empty(result_tables.Trajectories).schema)


def measures() -> pl.DataFrame:
    """The one measure that is forecast."""
    row = {"setting": "ambulatory", "measure": "systolic_pressure", "words": "Systolic blood pressure"}
    row |= {"unit": "mm[Hg]", "step_length": 90.0, "time_unit": "days", "model": "mixed_trend", "reason": None}
    return pl.DataFrame([row], schema=tables.empty(result_tables.TrajectoryMeasures).schema)


def judged() -> pl.DataFrame:
    """How the bands of that measure did on held-out patients."""
    schema = tables.empty(result_tables.TrajectoryEvaluations).schema
    row = {name: 0 if of.is_numeric() else of == pl.Boolean or "" for name, of in schema.items()}
    row |= {"setting": "ambulatory", "measure": "systolic_pressure", "model": "mixed_trend", "coverage": 0.734}
    return pl.DataFrame([row], schema=schema)


@pytest.mark.parametrize(("seconds_after", "shown"), [(60, [(2,)]), (-60, [(0,)])])
def test_courses_forecast_before_the_last_reading_are_not_published(home, seconds_after, shown):
    (home.meds / STATE).parent.mkdir(parents=True, exist_ok=True)
    (home.meds / STATE).touch()
    read = (home.meds / STATE).stat().st_mtime
    os.utime(home.tables / "trajectories.parquet", (0, read + seconds_after))
    publish_warehouse(home)
    with open_warehouse(home.warehouse) as connection:
        assert connection.sql("SELECT count(*) FROM trajectories").fetchall() == shown


def test_a_home_without_courses_is_published_all_the_same(home):
    for file in home.tables.glob("traject*.parquet"):
        file.unlink()
    assert publish_warehouse(home) == 0
    with open_warehouse(home.warehouse) as connection:
        assert connection.sql("SELECT count(*) FROM trajectory_evaluations").fetchall() == [(0,)]


def test_one_patient_is_drawn(home, tmp_path, capsys):
    file = tmp_path / "one.png"
    assert main(["trajectories", "--plot", str(SUBJECT), "--out", str(file), "--home", str(home.path)]) == 0
    assert file.read_bytes().startswith(PNG)
    assert str(SUBJECT) in capsys.readouterr().out


def test_the_picture_says_what_when_and_whose(tmp_path, monkeypatch):
    """Told by the figure itself: words, units, time from the forecast, the source; and no date."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    of_unit = events().lazy().with_columns(unit=pl.lit("mm[Hg]"))
    plot_trajectories(forecasts(), measures(), judged(), of_unit, source_label("simulated"), tmp_path / "one.png")
    (figure,) = drawn
    panel = figure.axes[0]
    assert panel.get_title().splitlines() == [
        "Systolic blood pressure, by mixed trend",
        "such 80 % bands held 73% of held-out values; the last value is 0 months old",
    ]
    assert panel.get_ylabel() == "mmHg"
    assert panel.get_xlabel() == "Months from the forecast"
    assert panel.lines[0].get_xydata().tolist() == [[0.0, 131.0]]
    assert "not real people" in figure.get_suptitle()
    assert "2015" not in figure.get_suptitle() + panel.get_xlabel()


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (["--plot", "7"], "Nothing is forecast for this subject"),
        (["--plot", str(SUBJECT), "--out", "one.pdf"], "name a file that ends in .png"),
    ],
)
def test_a_picture_that_cannot_be_drawn_says_why(home, arguments, next_step, capsys):
    assert main(["trajectories", *arguments, "--home", str(home.path)]) != 0
    assert next_step in capsys.readouterr().err


def test_without_forecasts_there_is_nothing_to_draw(home, capsys):
    (home.tables / "trajectories.parquet").unlink()
    assert main(["trajectories", "--plot", str(SUBJECT), "--home", str(home.path)]) != 0
    assert "sequela trajectories` first" in capsys.readouterr().err
