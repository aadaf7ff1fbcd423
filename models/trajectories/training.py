"""Fit all models of each setting on train patients, correct and choose on tuning patients, judge on held-out ones."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.errors import ModelError
from features.result_tables import TrajectoryEvaluations, TrajectoryImportance, TrajectoryMeasures
from features.settings import StudySettings
from features.tables import SPLITS, checked, empty
from models.questions import KEYS
from models.trajectories.conformal import fit_margins
from models.trajectories.evaluation import evaluate, mean_crps
from models.trajectories.measurements import draw_origins, measurements, people
from models.trajectories.measures import SETTINGS, Setting
from models.trajectories.network import NetworkSettings, train_network, variable_weights
from models.trajectories.saved import (
    MODELS,
    SIMPLE,
    SavedSetting,
    SettingModels,
    forecasts,
    inputs_of,
    save_trajectories,
)
from models.trajectories.scales import fit_scales
from models.trajectories.simple import fit_last_value, fit_mixed_trend, fit_trees
from models.trajectories.windows import Windows, build_windows

FEWEST_SUBJECTS = {"train": 40, "tuning": 20, "held_out": 20}  # with a measured value ahead, for a measure to be asked
_ORIGINS_OF_EACH = {"train": 24, "tuning": 6, "held_out": 6}  # of each patient, in each setting
_MOST = {"train": 120_000, "tuning": 20_000, "held_out": 200_000}  # courses of a setting


@dataclass(frozen=True)
class TrainedTrajectories:
    """The tables of what was fitted (TrajectoryMeasures, -Evaluations, -Importance), and the models' version."""

    measures: pl.DataFrame
    evaluations: pl.DataFrame
    importance: pl.DataFrame
    version: str


def train_trajectories(
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    splits: pl.DataFrame,
    study: StudySettings,
    folder: Path,
    network: NetworkSettings | None = None,
) -> TrainedTrajectories:
    """Fit, judge and save the models of all settings.

    Reads Events, ObservationPeriods, SubjectSplits. A measure with too few patients is left out, with the reason; a
    setting without any measure left has no model. Raises ModelError when a forecast changes with what lies ahead of it.
    """
    saved: dict[str, SavedSetting] = {}
    measures, evaluations, importance = [], [empty(TrajectoryEvaluations)], [empty(TrajectoryImportance)]
    with threadpool_limits(limits=1):
        who = people(events)
        for setting in SETTINGS:
            of_splits, reasons = _courses(events, who, periods, splits, setting, study.seed)
            if of_splits["train"].keys.height:
                fitted = _fit(of_splits, study.seed, network or NetworkSettings())
                saved[setting.name] = fitted
                evaluations.append(_judge(fitted, of_splits["held_out"], study))
                importance.append(_importance(fitted, of_splits["held_out"]))
            measures += _measures(setting, saved.get(setting.name), reasons)
    types = {name: of.dtype for name, of in TrajectoryMeasures.columns().items()}
    return TrainedTrajectories(
        checked(pl.DataFrame(measures, schema=types), TrajectoryMeasures),
        pl.concat(evaluations),
        pl.concat(importance),
        save_trajectories(study, saved, folder),
    )


def _courses(
    events: pl.LazyFrame, who: pl.DataFrame, periods: pl.DataFrame, splits: pl.DataFrame, setting: Setting, seed: int
) -> tuple[dict[str, Windows], dict[str, str]]:
    """The courses of each split with a value ahead, of measures with patients enough; of the others the reason."""
    measured = measurements(events, setting)
    random = np.random.default_rng(seed)
    courses, subjects = {}, {}
    for split in SPLITS:
        of_split = measured.join(splits.filter(pl.col("split") == split), on="subject_id", how="semi")
        origins = draw_origins(of_split, who, periods, setting, _ORIGINS_OF_EACH[split], seed)
        # Cut before the courses are built too: of each origin there is at least one.
        origins = origins.sample(min(_MOST[split], origins.height), seed=seed).sort(KEYS)
        windows = build_windows(events, of_split, who, origins, setting)
        courses[split] = windows.take(np.flatnonzero(windows.is_measured_ahead.any(axis=1)))
        keys = courses[split].keys
        subjects[split] = dict(keys.group_by("measure").agg(pl.col("subject_id").n_unique()).iter_rows())
    reasons = {}
    for place, name in enumerate(setting.names):
        short = [
            f"fewer than {fewest} {split.replace('_', '-')} patients"
            for split, fewest in FEWEST_SUBJECTS.items()
            if subjects[split].get(place, 0) < fewest
        ]
        if short:
            reasons[name] = f"{' and '.join(short)} with a value before the forecast and one after it"
    left_out = [setting.names.index(name) for name in reasons]
    asked = {
        split: _some(windows, np.isin(windows.measure, left_out, invert=True), _MOST[split], random)
        for split, windows in courses.items()
    }
    return asked, reasons


def _some(windows: Windows, chosen: NDArray[np.bool_], most: int, random: np.random.Generator) -> Windows:
    places = np.flatnonzero(chosen)
    if len(places) > most:
        places = np.sort(random.permutation(places)[:most])
    return windows.take(places)


def _fit(of_splits: dict[str, Windows], seed: int, network: NetworkSettings) -> SavedSetting:
    """All models of a setting, with the one that is best on tuning patients for each measure."""
    train, tuning = of_splits["train"], of_splits["tuning"]
    setting = train.setting
    scales = fit_scales(train)
    trend = fit_mixed_trend(train, scales)
    fitted = SavedSetting(
        setting,
        SettingModels(
            scales=scales,
            last_value=fit_last_value(train, scales),
            trend=trend,
            network=network,
            inputs=inputs_of(setting),
            margins={},
            released={},
        ),
        fit_trees(train, tuning, scales, trend, seed),
        train_network(train, tuning, scales, trend, network, seed),
    )
    on_tuning = forecasts(fitted, tuning)
    released = {}
    for place in sorted(set(tuning.measure.tolist())):
        loss = {model: mean_crps(tuning, quantiles, place) for model, quantiles in on_tuning.items()}
        released[setting.names[place]] = min(MODELS, key=loss.__getitem__)
    margins = {model: fit_margins(tuning, quantiles) for model, quantiles in on_tuning.items()}
    models = fitted.models.model_copy(update={"margins": margins, "released": released})
    return SavedSetting(setting, models, fitted.trees, fitted.network)


def _judge(fitted: SavedSetting, held_out: Windows, study: StudySettings) -> pl.DataFrame:
    """TrajectoryEvaluations of a setting, beside the simple model that is best on these very courses.

    Raises ModelError when a forecast changes with what lies ahead of it.
    """
    models = fitted.models
    made = forecasts(fitted, held_out)
    blind = forecasts(fitted, replace(held_out, future=np.full_like(held_out.future, np.nan)))
    for model, quantiles in made.items():
        if not np.allclose(quantiles, blind[model], rtol=1e-4, atol=1e-6, equal_nan=True):
            raise ModelError(
                f"The {fitted.setting.name} forecasts of {model} change when what came after them is "
                "hidden. Nothing is saved. This is a fault in Sequela; please report it."
            )
    simple = {}
    for name in models.released:
        place = fitted.setting.names.index(name)
        loss = {model: mean_crps(held_out, made[model], place) for model in SIMPLE}
        simple[name] = min(SIMPLE, key=loss.__getitem__)
    return evaluate(held_out, made, models.margins, models.released, simple, study.bootstrap_resamples, study.seed)


def _importance(fitted: SavedSetting, held_out: Windows) -> pl.DataFrame:
    """TrajectoryImportance of the measures of a setting."""
    weights = variable_weights(fitted.network, held_out, fitted.models.scales, fitted.models.trend)
    rows = [
        (fitted.setting.name, name, part, variable, float(each[rows].mean()))
        for name in fitted.models.released
        for rows in [held_out.measure == fitted.setting.names.index(name)]
        for part, variables in weights.items()
        for variable, each in variables.items()
    ]
    return checked(pl.DataFrame(rows, schema=empty(TrajectoryImportance).schema, orient="row"), TrajectoryImportance)


def _measures(
    setting: Setting, saved: SavedSetting | None, reasons: dict[str, str]
) -> list[dict[str, str | float | None]]:
    return [
        {
            "setting": setting.name,
            "measure": one.name,
            "words": one.words,
            "unit": one.unit,
            "step_length": setting.cell_length,
            "time_unit": setting.time_unit,
            "model": saved.models.released.get(one.name) if saved else None,
            "reason": reasons.get(one.name),
        }
        for one in setting.measures
    ]
