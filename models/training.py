"""How is the timeline transformer fitted? One loop, once for all tasks, stopped by the tuning likelihood."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.batches import batch_of, parts_of, shuffled_batches
from models.hazards import DIED, EVENT, hazard_loss, hazard_targets, incidence_log_odds
from models.questions import KEYS
from models.risk_transformer import RiskTransformer, TransformerSettings
from models.sequences import Sequences

# One: a second thread saves little on so small a network, and on a busy machine costs five times as much in waiting.
THREADS = 1


@dataclass(frozen=True)
class HazardTask:
    """A task as the hazard heads see it: the edges of its follow-up intervals, in days."""

    task: str
    edges_days: list[float]


@dataclass(frozen=True)
class HazardLabels:
    """What happened to R rows in each of Q tasks; shapes (R, Q). Rows not asked for a task are not answered."""

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
        is_answered[rows, place] = True
    return HazardLabels(survived, outcome, is_answered)


def train_transformer(
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    tokens: int,
    intervals: int,
    settings: TransformerSettings,
    seed: int,
) -> RiskTransformer:
    """Fit the network on `train_rows`, and keep the weights of the epoch that is best on some `tuning_rows`.

    The same inputs and seed give the same weights on one machine. The global random state is left as it was.
    """
    shuffler = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]), steady_threads():
        torch.manual_seed(seed)
        model = RiskTransformer(tokens, labels.outcome.shape[1], intervals, settings)
        _start_at_train_hazards(model, labels, torch.from_numpy(np.asarray(train_rows)))
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        epochs = rows_by_epoch(train_rows, settings, shuffler)
        steps = sum(-(-len(rows) // settings.rows_per_batch) for rows in epochs)
        pace = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_pace(step / steps))
        looked_at = shuffler.permutation(tuning_rows)[: settings.rows_per_epoch]
        best_loss, best_weights = mean_loss(model, sequences, labels, looked_at), copied(model)
        progress = tqdm(epochs, desc="training timeline transformer", disable=None)
        for of_epoch in progress:
            model.train()
            for rows in shuffled_batches(sequences, of_epoch, settings.rows_per_batch, shuffler):
                optimiser.zero_grad()
                loss = batch_loss(model, sequences, labels, rows).mean()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                pace.step()
            tuning_loss = mean_loss(model, sequences, labels, looked_at)
            progress.set_postfix(tuning_loss=f"{tuning_loss:.4f}")
            if tuning_loss < best_loss:
                best_loss, best_weights = tuning_loss, copied(model)
    model.load_state_dict(best_weights)
    return model.eval()


def rows_by_epoch(
    rows: NDArray[np.integer], settings: TransformerSettings, shuffler: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The rows of each epoch: all of them, or, where they are too many, stretches of one pass after another."""
    size = min(settings.rows_per_epoch, len(rows))
    passes = -(-settings.epochs * size // len(rows))
    order = np.concatenate([shuffler.permutation(np.asarray(rows, dtype=np.int64)) for _ in range(passes)])
    return [order[epoch * size : (epoch + 1) * size] for epoch in range(settings.epochs)]


def learning_pace(progress: float) -> float:
    """The share of the highest learning rate after a share of all steps: up during the first tenth, then down."""
    return min(1.0, 10 * progress + 0.01) * (1 + np.cos(np.pi * progress)) / 2


def batch_loss(model: RiskTransformer, sequences: Sequences, labels: HazardLabels, rows: NDArray[np.integer]) -> Tensor:
    """Negative log-likelihood of every answered question of `rows`, one after the other."""
    logits = model.at_prediction_time(batch_of(sequences, rows))  # (B, Q, K, 3)
    loss = hazard_loss(logits, labels.survived[rows], labels.outcome[rows])  # (B, Q)
    return loss[labels.is_answered[rows]]


def mean_loss(model: RiskTransformer, sequences: Sequences, labels: HazardLabels, rows: NDArray[np.integer]) -> float:
    """Mean negative log-likelihood over the answered questions of `rows`, without dropout."""
    model.eval()
    with torch.inference_mode():
        losses = [batch_loss(model, sequences, labels, rows[part]) for part in parts_of(sequences, rows)]
    return float(torch.cat(losses).double().mean())


def forecast_log_odds(
    model: RiskTransformer,
    sequences: Sequences,
    rows: NDArray[np.integer],
    places: list[tuple[int, int]],
) -> NDArray[np.float64]:
    """Log-odds of each outcome by its horizon, for `rows` in their order.

    places: (task, intervals up to the horizon) of each answer wanted. Shapes: (len(rows), len(places)).
    """
    model.eval()
    answers = np.zeros((len(rows), len(places)))
    with torch.inference_mode(), steady_threads():
        for part in parts_of(sequences, rows):
            logits = model.at_prediction_time(batch_of(sequences, rows[part]))
            columns = [incidence_log_odds(logits[:, task], intervals) for task, intervals in places]
            answers[part] = torch.stack(columns, dim=1).numpy()
    return answers


@contextmanager
def steady_threads() -> Iterator[None]:
    """Run torch on a fixed number of threads, because sums in another order differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: weights.detach().clone() for name, weights in model.state_dict().items()}


def _start_at_train_hazards(model: RiskTransformer, labels: HazardLabels, rows: Tensor) -> None:
    """Set the last bias so that everybody starts with the hazards counted among train patients."""
    survived, outcome = labels.survived[rows], labels.outcome[rows]  # (R, Q)
    answered = labels.is_answered[rows]
    bias = model.to_hazards.bias.view(model.tasks, -1, 3)
    interval = torch.arange(bias.shape[1])
    passed = ((interval < survived[..., None]) & answered[..., None]).sum(dim=0)  # (Q, K)
    ends = (interval == survived[..., None]) & answered[..., None]  # (R, Q, K)
    counts = [passed, *(((outcome[..., None] == kind) & ends).sum(dim=0) for kind in (EVENT, DIED))]
    with torch.no_grad():
        # Half a patient more in every cell keeps a hazard that never occurred finite.
        bias.copy_((torch.stack(counts, dim=-1) + 0.5).log())
