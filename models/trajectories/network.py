"""A Temporal Fusion Transformer for the courses of a setting. The only file that knows pytorch-forecasting.

Source: Lim and others, Temporal Fusion Transformers for interpretable multi-horizon time series forecasting,
International Journal of Forecasting 2021;37:1748-64.
All numbers are scaled here (models.trajectories.scales), so the library's data set keeps none of its own: what it
needs to be built again are names, lengths and settings, which is what a saved model holds beside the weights.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import NaNLabelEncoder
from pytorch_forecasting.metrics import QuantileLoss
from torch import Tensor, nn
from tqdm import tqdm

from models.training_loop import copied, learning_pace, steady_threads
from models.trajectories.measures import QUANTILES, Setting
from models.trajectories.scales import Scales
from models.trajectories.simple import MixedTrend, forecast_mixed_trend, own_trends
from models.trajectories.windows import Floats, Windows, carried_forward

SEXES = ("female", "male", "unknown")
_AGE_CENTRE, _AGE_SPREAD = 60.0, 20.0  # years
_AT_ONCE = 4096  # courses


class NetworkSettings(BaseModel, frozen=True, extra="forbid"):
    """Size of the network, and how it is trained."""

    hidden: int = Field(16, gt=0, description="Width of each layer.")
    hidden_continuous: int = Field(8, gt=0, description="Width of each number's own layer.")
    heads: int = Field(2, gt=0, description="Heads of attention.")
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(256, gt=0, description="Courses in a step.")
    epochs: int = Field(10, gt=0)
    most_courses: int = Field(24_000, gt=0, description="Train courses in an epoch at most.")
    most_passes: int = Field(6, gt=0, description="How often an epoch goes over the train courses at most.")


def build_network(setting: Setting, settings: NetworkSettings) -> TemporalFusionTransformer:
    """A network without knowledge; its weights are drawn from torch's random state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what a checkpoint would hold; none is written
        return TemporalFusionTransformer.from_dataset(
            _dataset(_blank(setting), setting),
            hidden_size=settings.hidden,
            hidden_continuous_size=settings.hidden_continuous,
            attention_head_size=settings.heads,
            dropout=settings.dropout,
            output_size=len(QUANTILES),
            loss=QuantileLoss(list(QUANTILES)),
            log_interval=0,
            logging_metrics=nn.ModuleList(),
        )


def train_network(
    train: Windows, tuning: Windows, scales: Scales, trend: MixedTrend, settings: NetworkSettings, seed: int
) -> TemporalFusionTransformer:
    """Fit on the measured cells ahead of train courses; keep the weights of the epoch best on tuning courses.

    The same inputs and seed give the same weights on one machine. The global random state is left as it was.
    """
    shuffler = np.random.default_rng(seed)
    inputs, judged = _inputs(train, scales, trend), _inputs(tuning, scales, trend)
    size = min(settings.most_courses, settings.most_passes * len(train))
    steps_of_epoch = -(-size // settings.batch)
    with torch.random.fork_rng(devices=[]), steady_threads():
        torch.manual_seed(seed)
        network = build_network(train.setting, settings)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        pace = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_pace(step / (settings.epochs * steps_of_epoch))
        )
        best_loss, best_weights = float("inf"), copied(network)
        progress = tqdm(range(settings.epochs), desc=f"training {train.setting.name} trajectories", disable=None)
        for _ in progress:
            network.train()
            passes = [shuffler.permutation(len(train)) for _ in range(-(-size // len(train)))]
            for rows in np.array_split(np.concatenate(passes)[:size], steps_of_epoch):
                optimiser.zero_grad()
                _mean_pinball(network, inputs, rows).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                pace.step()
            network.eval()
            with torch.inference_mode():
                parts = list(_parts(len(tuning)))
                losses = [float(_mean_pinball(network, judged, part)) * _weight(judged, part) for part in parts]
            loss = sum(losses) / max(sum(_weight(judged, part) for part in parts), 1)
            progress.set_postfix(tuning_pinball=f"{loss:.4f}")
            if loss < best_loss:
                best_loss, best_weights = loss, copied(network)
    network.load_state_dict(best_weights)
    return network.eval()


def forecast_network(network: TemporalFusionTransformer, windows: Windows, scales: Scales, trend: MixedTrend) -> Floats:
    """Quantiles (N, H, Q) by the network, in ascending order and in the unit of each course."""
    found = np.zeros((len(windows), windows.setting.ahead, len(QUANTILES)))
    network.eval()
    with torch.inference_mode(), steady_threads():
        for part in _parts(len(windows)):
            inputs = _inputs(windows.take(part), scales, trend)
            changes = _quantiles(network, inputs).double().sort(dim=-1).values
            found[part] = changes.numpy()
    return scales.values(windows, found)


def variable_weights(
    network: TemporalFusionTransformer, windows: Windows, scales: Scales, trend: MixedTrend
) -> dict[str, dict[str, Floats]]:
    """How much the network looked at what, for each course: by part, then by variable, (N,); a part sums to 1.

    Parts: of the whole course, of each cell of the look-back, of each cell ahead (its variable selection, averaged
    over the cells), and attention: of the first cell ahead, to cells of the look-back, counted back from the forecast.
    """
    names = {
        "of the whole course": ("static_variables", network.static_variables),
        "of each cell before": ("encoder_variables", network.encoder_variables),
        "of each cell ahead": ("decoder_variables", network.decoder_variables),
        "attention to earlier cells": (
            "attention",
            [str(windows.setting.look_back - k) for k in range(windows.setting.look_back)],
        ),
    }
    pieces: dict[str, list[Floats]] = {part: [] for part in names}
    with torch.inference_mode(), steady_threads():
        for rows in _parts(len(windows)):
            told = network.interpret_output(network(_inputs(windows.take(rows), scales, trend)), reduction="none")
            for part, (key, _) in names.items():
                pieces[part].append(told[key].double().numpy())
    return {
        part: dict(zip(variables, np.concatenate(pieces[part]).T, strict=True))
        for part, (_, variables) in names.items()
        if pieces[part]
    }


def _mean_pinball(network: TemporalFusionTransformer, inputs: dict[str, Tensor], rows: NDArray[np.int64]) -> Tensor:
    """Mean over the measured cells of the pinball loss, averaged over quantiles."""
    batch = {name: tensor[rows] for name, tensor in inputs.items()}
    each = network.loss.loss(_quantiles(network, batch), batch["decoder_target"]).mean(dim=-1)  # (B, H)
    weight = batch["weight"]
    return (each * weight).sum() / weight.sum().clamp(min=1)


def _quantiles(network: TemporalFusionTransformer, inputs: dict[str, Tensor]) -> Tensor:
    """Changes from the last value (B, H, Q): what the network adds to the quantiles of the mixed trend."""
    return network(inputs)["prediction"] + inputs["start"]


def _weight(inputs: dict[str, Tensor], rows: NDArray[np.int64]) -> float:
    return float(inputs["weight"][rows].sum())


def _parts(count: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, count, _AT_ONCE):
        yield np.arange(first, min(first + _AT_ONCE, count))


def _inputs(windows: Windows, scales: Scales, trend: MixedTrend) -> dict[str, Tensor]:
    """All courses as the network's inputs, in their order; made once, since the library makes them one by one."""
    dataset = _dataset(_long(windows, scales, trend), windows.setting)
    loader = dataset.to_dataloader(train=False, batch_size=len(windows), num_workers=0)
    inputs, (_, weight) = next(iter(loader))
    start = scales.changes(windows, forecast_mixed_trend(trend, windows, scales))
    return {**inputs, "weight": weight, "start": torch.from_numpy(start.astype(np.float32))}


def _dataset(long: pd.DataFrame, setting: Setting) -> TimeSeriesDataSet:
    """One sample for each course: the cells from its first value on, and those ahead."""
    known, static = (
        ["age", "own_trend", *setting.drugs],
        ["level", "cells_since_last", *_latest(setting), *setting.conditions],
    )
    unknown = ["change", "is_measured", "cells_since"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TimeSeriesDataSet(
            long,
            time_idx="cell",
            target="change",
            weight="weight",
            group_ids=["course"],
            min_encoder_length=1,
            max_encoder_length=setting.look_back,
            min_prediction_length=setting.ahead,
            max_prediction_length=setting.ahead,
            static_categoricals=["measure", "sex"],
            static_reals=static,
            time_varying_known_reals=known,
            time_varying_unknown_reals=unknown,
            add_relative_time_idx=True,
            add_encoder_length=False,
            target_normalizer=None,
            categorical_encoders={
                "measure": NaNLabelEncoder().fit(pd.Series(sorted(setting.names))),
                "sex": NaNLabelEncoder().fit(pd.Series(SEXES)),
            },
            scalers=dict.fromkeys([*known, *static, *unknown[1:], "relative_time_idx"]),
            predict_mode=True,
        )


def _latest(setting: Setting) -> list[str]:
    return [f"latest_{name}" for name in setting.names]


def _long(windows: Windows, scales: Scales, trend: MixedTrend) -> pd.DataFrame:
    """A row for each course and cell, those before its first value left out.

    Cells ahead without a value carry the last one with weight 0; those of the look-back carry it with cells_since > 0.
    """
    setting, count = windows.setting, len(windows)
    cells = setting.look_back + setting.ahead
    history, since = carried_forward(windows.history)
    values = np.hstack([history, np.where(windows.is_measured_ahead, windows.future, windows.last[:, None])])
    measured = np.hstack([~np.isnan(windows.history), windows.is_measured_ahead])
    years = setting.cell.total_seconds() / 86_400 / 365.25
    ages = windows.age_years[:, None] + (np.arange(cells) - setting.look_back + 1) * years
    ahead = np.zeros((count, setting.ahead))
    at_each = {
        "change": scales.changes(windows, values),
        "is_measured": np.hstack([measured[:, : setting.look_back], ahead]),
        "cells_since": np.hstack([since, ahead]) / setting.look_back,
        "weight": np.hstack([ahead[:, :1].repeat(setting.look_back, axis=1), windows.is_measured_ahead]),
        "age": (np.nan_to_num(ages, nan=_AGE_CENTRE) - _AGE_CENTRE) / _AGE_SPREAD,
    }
    at_each["own_trend"] = scales.changes(windows, own_trends(trend, windows, scales)[0])
    going_on = windows.drugs[:, -1:].repeat(setting.ahead, axis=1)
    drugs = np.concatenate([windows.drugs, going_on], axis=1)
    at_each |= {name: drugs[:, :, place] for place, name in enumerate(setting.drugs)}
    levels = np.nan_to_num(scales.levels(windows.latest).clip(-5, 5), nan=0.0)
    of_all = {
        "level": levels[np.arange(count), windows.measure],
        "cells_since_last": windows.cells_since / setting.look_back,
    }
    of_all |= {name: levels[:, place] for place, name in enumerate(_latest(setting))}
    of_all |= {name: windows.conditions[:, place] for place, name in enumerate(setting.conditions)}
    table = {
        "course": np.arange(count).repeat(cells),
        "cell": np.tile(np.arange(cells), count),
        "measure": np.array(setting.names)[windows.measure].repeat(cells),
        "sex": windows.sex.repeat(cells),
        **{name: array.reshape(-1).astype(np.float32) for name, array in at_each.items()},
        **{name: array.repeat(cells).astype(np.float32) for name, array in of_all.items()},
    }
    is_there = ~np.isnan(at_each["change"].reshape(-1))
    return pd.DataFrame({name: array[is_there] for name, array in table.items()})


def _blank(setting: Setting) -> pd.DataFrame:
    """One made-up course, from which the library learns the names and lengths."""
    course = Windows(
        setting=setting,
        keys=pl.DataFrame({"measure": [0]}),
        history=np.zeros((1, setting.look_back)),
        future=np.zeros((1, setting.ahead)),
        cells_since=np.zeros(1),
        latest=np.zeros((1, len(setting.measures))),
        age_years=np.full(1, _AGE_CENTRE),
        sex=np.array(["unknown"]),
        conditions=np.zeros((1, len(setting.conditions)), dtype=np.bool_),
        drugs=np.zeros((1, setting.look_back, len(setting.drugs)), dtype=np.bool_),
    )
    ones = [1.0] * len(setting.measures)
    flat = MixedTrend(line=[[0.0, 0.0]] * len(ones), covariance=[[[1.0, 0.0], [0.0, 1.0]]] * len(ones), noise=ones)
    return _long(course, Scales(mean=[0.0] * len(ones), spread=ones, change=ones), flat)
