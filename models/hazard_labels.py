"""What happened after each prediction time, as hazard heads learn it?"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from models.hazards import NONE, hazard_targets
from models.questions import KEYS


@dataclass(frozen=True)
class HazardTask:
    """A task as the hazard heads see it: the edges of its follow-up intervals, in days."""

    task: str
    edges_days: list[float]


@dataclass(frozen=True)
class HazardLabels:
    """What happened to R rows in each of Q tasks; shapes (R, Q).

    Rows that were not asked for a task are not answered, nor those whose follow-up ended within the first interval.
    """

    survived: Tensor
    outcome: Tensor
    is_answered: Tensor


def hazard_labels(labels: pl.DataFrame, keys: pl.DataFrame, tasks: list[HazardTask]) -> HazardLabels:
    """Lay the labels out as rows of `keys` by task, censored ones included.

    Reads Labels. Where a task has several horizons, the longest one labelled says most and is taken.
    """
    shape = (keys.height, len(tasks))
    survived, outcome = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    is_answered = torch.zeros(shape, dtype=torch.bool)
    for place, task in enumerate(tasks):
        of_task = (
            labels.filter(pl.col("task") == task.task)
            .sort(*KEYS, "horizon_days")
            .unique(KEYS, keep="last", maintain_order=True)
            .join(keys.select(KEYS).with_row_index("row"), on=KEYS)
            .with_columns(
                followed_days=pl.when(pl.col("state") == "none")
                .then("horizon_days")
                .otherwise("time_to_event_days")
                .cast(pl.Float64)
            )
        )
        intervals, happened = hazard_targets(
            of_task["state"].to_numpy(), of_task["followed_days"].to_numpy(), task.edges_days
        )
        rows = torch.from_numpy(of_task["row"].to_numpy().astype(np.int64))
        survived[rows, place] = torch.from_numpy(intervals)
        outcome[rows, place] = torch.from_numpy(happened)
        is_answered[rows, place] = torch.from_numpy((intervals > 0) | (happened != NONE))
    return HazardLabels(survived, outcome, is_answered)
