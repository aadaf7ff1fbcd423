"""How is any network with hazard heads fitted? One loop over stretches, once for all tasks, stopped by tuning rows."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.batches import PLACES_PER_FORECAST, SequenceBatch, batch_of, batches_of, shuffled_batches, stretches_of
from models.hazards import DIED, EVENT, hazard_loss, incidence_log_odds
from models.recurrent import RecurrentRisk, RecurrentSettings
from models.retain import Retain
from models.risk_transformer import RiskTransformer, TransformerSettings
from models.sequences import Sequences
from models.training import HazardLabels, copied, learning_pace, steady_threads


AnyNetwork = RiskTransformer | RecurrentRisk | Retain
Network = TypeVar("Network", bound=AnyNetwork)


def fit_network(
    network: Network,
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    settings: TransformerSettings | RecurrentSettings,
    seed: int,
    name: str,
) -> Network:
    """Fit a fresh network on `train_rows`, and keep the weights of the epoch that is best on `tuning_rows`.

    The same network, inputs and seed give the same weights on one machine. The global random state is left as it was.
    """
    shuffler = np.random.default_rng(seed)
    stretches = stretches_of(sequences, train_rows)
    with torch.random.fork_rng(devices=[]), steady_threads():
        torch.manual_seed(seed)
        _start_at_train_hazards(network, labels, torch.from_numpy(np.asarray(train_rows, dtype=np.int64)))
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        epochs = [
            shuffled_batches(stretches.lengths(), settings.places_per_batch, shuffler) for _ in range(settings.epochs)
        ]
        steps = sum(len(batches) for batches in epochs)
        pace = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_pace(step / steps))
        best_loss, best_weights = mean_loss(network, sequences, labels, tuning_rows), copied(network)
        without_gain = 0
        progress = tqdm(epochs, desc=f"training {name}", disable=None)
        for batches in progress:
            network.train()
            for chosen in batches:
                optimiser.zero_grad()
                loss = batch_loss(network, batch_of(sequences, stretches, chosen), labels).mean()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                pace.step()
            tuning_loss = mean_loss(network, sequences, labels, tuning_rows)
            progress.set_postfix(tuning_loss=f"{tuning_loss:.4f}")
            without_gain += 1
            if tuning_loss < best_loss:
                best_loss, best_weights, without_gain = tuning_loss, copied(network), 0
            if without_gain == settings.patience:
                break
    network.load_state_dict(best_weights)
    network.eval()
    return network


def batch_loss(network: AnyNetwork, batch: SequenceBatch, labels: HazardLabels) -> Tensor:
    """Negative log-likelihood of every answered question of the batch's rows, one after the other."""
    rows = batch.rows
    loss = hazard_loss(network(batch), labels.survived[rows], labels.outcome[rows])  # (N, Q)
    return loss[labels.is_answered[rows]]


def mean_loss(network: AnyNetwork, sequences: Sequences, labels: HazardLabels, rows: NDArray[np.integer]) -> float:
    """Mean negative log-likelihood over the answered questions of `rows`, without dropout."""
    network.eval()
    stretches = stretches_of(sequences, rows)
    with torch.inference_mode():
        losses = [
            batch_loss(network, batch_of(sequences, stretches, chosen), labels)
            for chosen in batches_of(stretches.lengths(), PLACES_PER_FORECAST)
        ]
    return float(torch.cat(losses).double().mean())


def network_log_odds(
    network: AnyNetwork, sequences: Sequences, rows: NDArray[np.integer], places: list[tuple[int, int]]
) -> NDArray[np.float64]:
    """Log-odds of each outcome by its horizon, for `rows` (each once) in their order.

    places: (task, intervals up to the horizon) of each answer wanted. Shapes: (len(rows), len(places)).
    """
    network.eval()
    stretches = stretches_of(sequences, rows)
    place_of_row = np.zeros(sequences.keys.height, dtype=np.int64)
    place_of_row[rows] = np.arange(len(rows))
    answers = np.zeros((len(rows), len(places)))
    with torch.inference_mode(), steady_threads():
        for chosen in batches_of(stretches.lengths(), PLACES_PER_FORECAST):
            batch = batch_of(sequences, stretches, chosen)
            logits = network(batch)
            columns = [incidence_log_odds(logits[:, task], intervals) for task, intervals in places]
            answers[place_of_row[batch.rows.numpy()]] = torch.stack(columns, dim=1).numpy()
    return answers


def _start_at_train_hazards(network: AnyNetwork, labels: HazardLabels, rows: Tensor) -> None:
    """Set the last bias so that everybody starts with the hazards counted among train patients."""
    survived, outcome = labels.survived[rows], labels.outcome[rows]  # (R, Q)
    answered = labels.is_answered[rows]
    bias = network.to_hazards.bias.view(network.tasks, -1, 3)
    interval = torch.arange(bias.shape[1])
    passed = ((interval < survived[..., None]) & answered[..., None]).sum(dim=0)  # (Q, K)
    ends = (interval == survived[..., None]) & answered[..., None]  # (R, Q, K)
    counts = [passed, *(((outcome[..., None] == kind) & ends).sum(dim=0) for kind in (EVENT, DIED))]
    with torch.no_grad():
        # Half a patient more in every cell keeps a hazard that never occurred finite.
        bias.copy_((torch.stack(counts, dim=-1) + 0.5).log())
