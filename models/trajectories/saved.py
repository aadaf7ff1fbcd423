"""What are saved trajectory models? A sealed folder of plain numbers and text; nothing is executed on loading.

settings.json (the study's), for each setting <setting>.json (scales, simple models, margins, which model forecasts
which measure, the network's settings and the names its data set is built from), <setting>.<quantile>.txt (LightGBM's
own text) and <setting>.safetensors (the network's weights).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError

from features.errors import ModelError
from features.settings import StudySettings
from models.sealed_folder import open_sealed, write_json, write_sealed
from models.trajectories.measures import QUANTILES, SETTINGS, Setting
from models.trajectories.network import NetworkSettings, build_network, forecast_network
from models.trajectories.scales import Scales
from models.trajectories.simple import (
    LastValue,
    MixedTrend,
    forecast_last_value,
    forecast_mixed_trend,
    forecast_trees,
)
from models.trajectories.windows import Floats, Windows

if TYPE_CHECKING:
    from pytorch_forecasting import TemporalFusionTransformer

SIMPLE = ("last_value", "mixed_trend", "lightgbm")
MODELS = (*SIMPLE, "temporal_fusion_transformer", "average")
HOW_TO_MAKE = "Run `sequela trajectories` to make it."
_LIBRARIES = ("lightgbm", "numpy", "polars", "pytorch-forecasting", "torch")


class SettingModels(BaseModel, frozen=True, extra="forbid"):
    """All about the models of a setting but LightGBM's text and the network's weights.

    margins: of each model, (M, H). released: who forecasts each answered measure. inputs: what the data set of
    pytorch-forecasting is built from, so that weights of other inputs are refused.
    """

    scales: Scales
    last_value: LastValue
    trend: MixedTrend
    network: NetworkSettings
    inputs: dict[str, list[str] | int]
    margins: dict[str, list[list[float]]]
    released: dict[str, str]


@dataclass(frozen=True)
class SavedSetting:
    """The models of a setting, in memory; trees: LightGBM's text by quantile."""

    setting: Setting
    models: SettingModels
    trees: dict[str, str]
    network: "TemporalFusionTransformer"


@dataclass(frozen=True)
class SavedTrajectories:
    """The models of each setting that had people enough, by its name."""

    study: StudySettings
    settings: dict[str, SavedSetting]
    version: str


def inputs_of(setting: Setting) -> dict[str, list[str] | int]:
    """Names, order and lengths of what the models of a setting read."""
    return {
        "measures": setting.names,
        "conditions": list(setting.conditions),
        "drugs": list(setting.drugs),
        "cell_seconds": int(setting.cell.total_seconds()),
        "look_back": setting.look_back,
        "ahead": setting.ahead,
        "quantiles": [str(quantile) for quantile in QUANTILES],
    }


def forecasts(saved: SavedSetting, windows: Windows, names: tuple[str, ...] = MODELS) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of some of the models; "average" is the mean of those of LightGBM and the network."""
    models = saved.models
    made: dict[str, Floats] = {}
    if "last_value" in names:
        made["last_value"] = forecast_last_value(models.last_value, windows, models.scales)
    if "mixed_trend" in names:
        made["mixed_trend"] = forecast_mixed_trend(models.trend, windows, models.scales)
    if {"lightgbm", "average"} & set(names):
        made["lightgbm"] = forecast_trees(saved.trees, windows, models.scales, models.trend)
    if {"temporal_fusion_transformer", "average"} & set(names):
        made["temporal_fusion_transformer"] = forecast_network(saved.network, windows, models.scales, models.trend)
    if "average" in names:
        made["average"] = np.asarray((made["lightgbm"] + made["temporal_fusion_transformer"]) / 2)
    return {name: windows.possible(made[name]) for name in names}


def save_trajectories(study: StudySettings, settings: dict[str, SavedSetting], folder: Path) -> str:
    """Write the folder whole, or leave the one before; returns the version."""

    def write(place: Path) -> None:
        write_json(place / "settings.json", study.model_dump(mode="json"))
        for name, saved in settings.items():
            write_json(place / f"{name}.json", saved.models.model_dump(mode="json"))
            for quantile, text in saved.trees.items():
                (place / f"{name}.{quantile}.txt").write_text(text)
            # Weights that layers share are written once for each: it costs little, and the file is always the same.
            weights = {key: tensor.clone().contiguous() for key, tensor in saved.network.state_dict().items()}
            safetensors.torch.save_file(weights, place / f"{name}.safetensors")

    return write_sealed(folder, write, _LIBRARIES)


def load_trajectories(folder: Path) -> SavedTrajectories:
    """Read saved models after checking every file against its hash.

    Raises ModelError when they are missing, were changed, or were made for other inputs.
    """
    place, version = open_sealed(folder, HOW_TO_MAKE)
    try:
        study = StudySettings.model_validate_json((place / "settings.json").read_text())
        settings = {
            setting.name: _read(place, setting) for setting in SETTINGS if (place / f"{setting.name}.json").exists()
        }
    except (ValidationError, ValueError, OSError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"The saved models in {folder.name}/ cannot be read ({type(error).__name__}); probably written by another "
            f"version of this program. {HOW_TO_MAKE}"
        ) from error
    return SavedTrajectories(study, settings, version)


def _read(place: Path, setting: Setting) -> SavedSetting:
    models = SettingModels.model_validate_json((place / f"{setting.name}.json").read_text())
    if models.inputs != inputs_of(setting):
        raise ModelError(f"The saved {setting.name} models read other inputs than this version has. {HOW_TO_MAKE}")
    with torch.random.fork_rng(devices=[]):  # building draws first weights, which are then replaced
        network = build_network(setting, models.network)
    network.load_state_dict(safetensors.torch.load_file(place / f"{setting.name}.safetensors"))
    trees = {str(one): (place / f"{setting.name}.{one}.txt").read_text() for one in QUANTILES}
    return SavedSetting(setting, models, trees, network.eval())
