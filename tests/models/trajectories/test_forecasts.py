"""The simple models, the correction of bands and the measures, by hand; the network on a planted effect of a drug."""

import json

import numpy as np
import polars as pl
import pytest
import torch

import models.trajectories.saved
from features.errors import ModelError
from features.result_tables import TrajectoryEvaluations
from features.settings import StudySettings
from features.tables import empty
from models.trajectories.conformal import conformal_band, fit_margins
from models.trajectories.evaluation import crps, uncovered
from models.trajectories.forecasting import forecast_latest
from models.trajectories.measurements import measurements, people
from models.trajectories.measures import AMBULATORY, QUANTILES
from models.trajectories.network import NetworkSettings, train_network
from models.trajectories.saved import MODELS, forecasts, load_trajectories
from models.trajectories.scales import Scales
from models.trajectories.simple import (
    MixedTrend,
    fit_last_value,
    fit_mixed_trend,
    forecast_last_value,
    forecast_mixed_trend,
    own_trends,
)
from models.trajectories.training import train_trajectories
from models.trajectories.windows import build_windows
from tests.models.trajectories.small_courses import DAY, HBA1C, ORIGIN, events, origins, person, population, row

MEASURES = len(AMBULATORY.measures)
SMALL = NetworkSettings(hidden=8, hidden_continuous=4, heads=1, epochs=5, most_passes=1, batch=64, learning_rate=0.02)


def courses(*rows, at=(ORIGIN,)):
    seen = events(*person(), *rows)
    return build_windows(seen, measurements(seen, AMBULATORY), people(seen), origins(*at), AMBULATORY)


def unscaled() -> Scales:
    return Scales(mean=[0.0] * MEASURES, spread=[1.0] * MEASURES, change=[1.0] * MEASURES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    seen, periods, splits = population()
    folder = tmp_path_factory.mktemp("home") / "trajectory_models"
    study = StudySettings(bootstrap_resamples=50)
    return seen, folder, train_trajectories(seen, periods, splits, study, folder, SMALL)


def test_a_line_is_drawn_towards_the_usual_one_by_as_much_as_is_unknown():
    # Prior level 0 with variance 3, no slope; one value of 8 with noise 1: 8 x 3 / (3 + 1) = 6.
    trend = MixedTrend(
        line=[[0.0, 0.0]] * MEASURES, covariance=[[[3.0, 0.0], [0.0, 0.0]]] * MEASURES, noise=[1.0] * MEASURES
    )
    course = courses(row(HBA1C, ORIGIN, 8.0))
    centre, width = own_trends(trend, course, unscaled())
    assert centre[0] == pytest.approx(6.0, abs=1e-6)
    assert width[0] == pytest.approx(np.sqrt(3 / 4 + 1), abs=1e-6)  # what is left of the level's variance, and noise
    assert forecast_mixed_trend(trend, course, unscaled())[0, 0, -1] == pytest.approx(6 + 1.2816 * np.sqrt(1.75), 1e-4)


def test_the_mixed_trend_finds_the_slope_of_a_population():
    # Everybody rises by 0.5 a cell.
    rising = [row(HBA1C, ORIGIN + 90 * k * DAY, 5 + 0.5 * k) for k in range(12)]
    course = courses(*rising, at=[ORIGIN + 90 * k * DAY for k in range(3, 11)])
    found = forecast_mixed_trend(fit_mixed_trend(course, unscaled()), course, unscaled())[4, :, 2]
    assert found == pytest.approx([9.0, 9.5, 10.0, 10.5, 11.0], abs=0.1)


def test_the_last_value_carries_the_quantiles_of_train_changes():
    ups = (0.0, 1.0, 2.0, 3.0, 4.0)
    rows = [row(HBA1C, ORIGIN + 1_000 * k * DAY, 5.0) for k in range(5)]
    rows += [row(HBA1C, ORIGIN + (1_000 * k + 30) * DAY, 5 + up) for k, up in enumerate(ups)]
    course = courses(*rows, at=[ORIGIN + 1_000 * k * DAY for k in range(5)])
    model = fit_last_value(course, unscaled())
    assert forecast_last_value(model, course, unscaled())[0, 0] == pytest.approx([5.4, 6.0, 7.0, 8.0, 8.6])


def test_crps_of_a_certain_forecast_is_the_absolute_error():
    course = courses(row(HBA1C, ORIGIN, 7.0), row(HBA1C, ORIGIN + DAY, 8.0))
    certain = np.full((1, AMBULATORY.ahead, len(QUANTILES)), 7.0)
    # 2 x the mean of q x 1 over quantiles whose mean is a half.
    assert crps(course, certain)[0, 0] == pytest.approx(1.0)
    assert np.isnan(crps(course, certain)[0, 1])


def test_a_band_is_widened_until_it_would_have_covered():
    # Values 1 to 9 against a band of 0 to 1: they lie 0 to 8 beyond; (9 + 1) x 0.8 = the 8th: 7.
    rows = [row(HBA1C, ORIGIN + 1_000 * k * DAY, 5.0) for k in range(9)]
    rows += [row(HBA1C, ORIGIN + (1_000 * k + 30) * DAY, 4.0 + k) for k in range(9)]
    course = courses(*rows, at=[ORIGIN + 1_000 * k * DAY for k in range(9)])
    band = np.tile([3.0, 3.2, 3.5, 3.8, 4.0], (9, AMBULATORY.ahead, 1))
    margins = fit_margins(course, band)
    assert margins[0][0] == 7.0
    low, high = conformal_band(margins, course, band)
    assert (low[0, 0], high[0, 0]) == (3.0, 11.0)  # 3 - 7 is below what an HbA1c can be


def test_a_band_that_covers_too_much_is_narrowed_but_keeps_its_median():
    rows = [row(HBA1C, ORIGIN, 5.0), row(HBA1C, ORIGIN + DAY, 5.0)]
    course = courses(*rows)
    band = np.tile([0.0, 4.0, 5.0, 6.0, 9.0], (1, AMBULATORY.ahead, 1))
    low, high = conformal_band(fit_margins(course, band), course, band)  # 4 too wide on the nearer side
    assert (low[0, 0], high[0, 0]) == (4.0, 5.0)


def test_nothing_impossible_is_forecast():
    course = courses(row(HBA1C, ORIGIN, 5.0), row(HBA1C, ORIGIN + DAY, 5.0))
    band = np.tile([-9.0, 4.0, 5.0, 19.0, 30.0], (1, AMBULATORY.ahead, 1))
    assert course.possible(band)[0, 0].tolist() == [3, 4, 5, 19, 20]  # HbA1c is read from 3 to 20 %
    low, high = conformal_band([[5.0] * AMBULATORY.ahead] * MEASURES, course, band)
    assert (low[0, 0], high[0, 0]) == (3, 20)


def test_models_beat_the_last_value_where_there_is_something_to_know(trained):
    _, _, found = trained
    by_model = dict(found.evaluations.filter(pl.col("step") == 0).select("model", "crps").iter_rows())
    assert set(by_model) == set(MODELS)
    # Noise of 0.2 in both values: the last value errs by 0.2 x sqrt(2) = 0.28, knowing the level by little above 0.2.
    assert by_model["lightgbm"] < 0.9 * by_model["last_value"]
    assert by_model["temporal_fusion_transformer"] < 0.9 * by_model["mixed_trend"]  # from which it starts
    released = found.evaluations.filter("is_released")
    assert released["model"].n_unique() == 1
    assert released.filter(pl.col("step") == 0)["coverage"].item() == pytest.approx(0.8, abs=0.12)


def test_the_network_is_the_same_again_with_the_same_seed():
    rows = [row(HBA1C, ORIGIN + 60 * k * DAY, 5 + k % 3) for k in range(30)]
    course = courses(*rows, at=[ORIGIN + 60 * k * DAY for k in range(5, 20)])
    trend, small = fit_mixed_trend(course, unscaled()), SMALL.model_copy(update={"epochs": 1, "most_passes": 1})
    first, second, other = (
        train_network(course, course, unscaled(), trend, small, seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(weights, second[name]) for name, weights in first.items())
    assert not all(torch.equal(weights, other[name]) for name, weights in first.items())


def test_measures_without_patients_enough_are_named(trained):
    measures = trained[2].measures
    assert measures.height == 11
    assert measures.filter(pl.col("model").is_not_null())["measure"].to_list() == ["hba1c"]
    reasons = measures.filter(pl.col("model").is_null())["reason"]
    assert reasons.str.starts_with("fewer than 40 train patients").all()


def test_what_the_network_looked_at_sums_to_one(trained):
    parts = trained[2].importance.group_by("part").agg(pl.col("weight").sum())
    assert parts.height == 4
    assert parts["weight"].to_list() == pytest.approx([1.0] * 4, abs=1e-3)


def test_saved_models_forecast_the_same_again_and_alter_no_random_state(trained):
    seen, folder, found = trained
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (forecast_latest(load_trajectories(folder), seen) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.equals(second)
    assert first["model_version"].unique().to_list() == [found.version]
    assert first.height == 100 * AMBULATORY.ahead
    ordered = first.select("low", "q50", "high").to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()


def test_loaded_models_forecast_as_the_fitted_ones_did(trained):
    """The held-out CRPS on record comes again from the files alone."""
    seen, folder, _ = trained
    saved = load_trajectories(folder).settings["ambulatory"]
    measured, who = measurements(seen, AMBULATORY), people(seen)
    of_one = measured.filter(pl.col("subject_id") == 8).select("subject_id", prediction_time="known_time").unique()
    windows = build_windows(seen, measured, who, of_one, AMBULATORY)
    alone = build_windows(seen, measured, who, of_one.sort("prediction_time").head(3), AMBULATORY)
    everything, some = forecasts(saved, windows), forecasts(saved, alone)
    for model in MODELS:
        np.testing.assert_allclose(everything[model][:3], some[model], rtol=1e-4)


@pytest.mark.parametrize("file", ["ambulatory.json", "ambulatory.safetensors", "ambulatory.0.5.txt"])
def test_a_changed_file_is_refused(trained, tmp_path, file):
    folder = tmp_path / "trajectory_models"
    folder.mkdir()
    for path in trained[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert load_trajectories(folder).version == trained[2].version
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")
    with pytest.raises(ModelError, match=rf"was changed after it was written: {file}\. .*sequela trajectories"):
        load_trajectories(folder)


def test_no_file_is_code(trained):
    kinds = {path.suffix for path in trained[1].iterdir()}
    assert kinds == {".json", ".txt", ".safetensors"}
    assert json.loads((trained[1] / "ambulatory.json").read_text())["inputs"]["measures"] == AMBULATORY.names


def test_missing_models_say_how_to_make_them(tmp_path):
    with pytest.raises(ModelError, match="Run `sequela trajectories`"):
        load_trajectories(tmp_path / "trajectory_models")


def test_only_a_miss_beyond_chance_is_told():
    rows = [
        {"measure": name, "coverage": share, "coverage_low": share - 0.04, "coverage_high": share + 0.04}
        for name, share in (("hba1c", 0.70), ("ldl", 0.77), ("weight", 0.84))
    ]
    shared = {"setting": "ambulatory", "step": 0, "is_released": True}
    table = pl.DataFrame([shared | one for one in rows], schema_overrides={"step": pl.Int32})
    blank = empty(TrajectoryEvaluations).clear()
    assert uncovered(pl.concat([blank, table], how="diagonal")) == ["hba1c (ambulatory) 70%"]


def test_forecasts_that_see_what_came_after_them_are_not_saved(tmp_path, monkeypatch):
    seen, periods, splits = population()

    def peeking(line, windows, scales):
        return forecast_last_value(line, windows, scales) + np.nan_to_num(windows.future)[:, :, None]

    monkeypatch.setattr(models.trajectories.saved, "forecast_last_value", peeking)
    folder = tmp_path / "trajectory_models"
    with pytest.raises(ModelError, match="forecasts of last_value change"):
        train_trajectories(seen, periods, splits, StudySettings(bootstrap_resamples=50), folder, SMALL)
    assert not folder.exists()
