"""What do the sequence models learn? First, without labels, what follows each visit; then the hazards of every task."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.augmentation import augmented, siblings_of
from models.batches import PLACES_PER_FORECAST, ROWS_PER_STRETCH, SequenceBatch, batch_of, batches_of, stretches_of
from models.hazard_labels import HazardLabels
from models.hazards import DIED, EVENT, hazard_loss, incidence_log_odds
from models.network_settings import NetworkSettings
from models.pretraining import PretrainingHeads, foreseen_codes, next_events, pretraining_loss
from models.recurrent import RecurrentRisk
from models.retain import Retain
from models.risk_transformer import HazardHead, RiskTransformer, TransformerSettings
from models.sequences import Sequences
from models.training_loop import Learnt, Run, digest_of, fit, steady_threads

WHOLE_TIMELINE = 1_000_000  # rows of a stretch in pretraining: all of a patient

HazardNetwork = RiskTransformer | RecurrentRisk | Retain
Network = TypeVar("Network", bound=HazardNetwork)


def fit_network(
    network: Network,
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    settings: NetworkSettings,
    run: Run,
) -> Network:
    """Fit a network on `train_rows`, and keep the weights of the epoch that is best on `tuning_rows`.

    Every answered task of every row counts; rows without any answer are left out. Each task weighs by a power of its
    outcomes (`rare_task_power`), so that common ones do not drown the others. The same network, inputs and seed give
    the same weights on one machine, on the processor. The global random state is left as it was.
    """
    answered = labels.is_answered.any(dim=1).numpy()
    train_rows, tuning_rows = (np.asarray(rows)[answered[rows]] for rows in (train_rows, tuning_rows))
    _start_at_train_hazards(network, labels, torch.from_numpy(train_rows))
    weights = _task_weights(labels, torch.from_numpy(train_rows), settings.rare_task_power)
    change = _augmentation(network, settings)
    answers = int(labels.is_answered[torch.from_numpy(train_rows)].sum())

    def loss_of(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        rows = batch.rows.cpu()
        survived, outcome, is_answered = (
            of[rows].to(batch.ages.device) for of in (labels.survived, labels.outcome, labels.is_answered)
        )
        loss = hazard_loss(network(batch).float(), survived, outcome) * is_answered * weights.to(batch.ages.device)
        prior = settings.plain_precision / 2 * plain_weights_squared(network) if network.training else 0.0
        return loss.sum() + prior * is_answered.sum() / answers, is_answered.sum()

    train, tuning = stretches_of(sequences, train_rows), stretches_of(sequences, tuning_rows)
    learnt = Learnt(sequences, train, tuning, loss_of, change, digest_of(labels.survived, labels.outcome))
    fit(network, learnt, settings, settings.epochs, run)
    return network


def pretrain_network(
    network: RiskTransformer,
    sequences: Sequences,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    settings: TransformerSettings,
    run: Run,
) -> RiskTransformer:
    """Fit the network on what followed each visit of the patients of `train_rows`, without any label."""
    timelines = stretches_of(sequences, train_rows, WHOLE_TIMELINE)
    foreseen = foreseen_codes(sequences, timelines.visits.places(), len(network.encoder.code.weight))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        heads = PretrainingHeads(settings.width, len(foreseen.has_values))

    def loss_of(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        summaries, _ = network.summaries(batch)
        following = next_events(batch, foreseen)
        losses = pretraining_loss(heads, summaries[:, : batch.is_seen.shape[-1]], following, foreseen)
        return losses.sum(), following.is_asked.sum()

    tuning = stretches_of(sequences, tuning_rows, WHOLE_TIMELINE)
    learnt = Learnt(sequences, timelines, tuning, loss_of, lambda batch: batch, labels_digest="")
    fit(nn.ModuleList([network, heads]), learnt, settings, settings.pretraining_epochs, run)
    return network


def forecast_log_odds(
    network: HazardNetwork,
    sequences: Sequences,
    rows: NDArray[np.integer],
    places: list[tuple[int, int]],
    rows_together: int = ROWS_PER_STRETCH,
) -> NDArray[np.float64]:
    """Log-odds of each outcome by its horizon, for `rows` (each once) in their order.

    places: (task, intervals up to the horizon) of each answer wanted. Shapes: (len(rows), len(places)). At most
    `rows_together` of a patient are worked out at once; that saves time and changes no answer.
    """
    network.eval()
    stretches = stretches_of(sequences, rows, rows_together)
    place_of_row = np.zeros(sequences.keys.height, dtype=np.int64)
    place_of_row[rows] = np.arange(len(rows))
    answers = np.zeros((len(rows), len(places)))
    with torch.inference_mode(), steady_threads():
        for chosen in batches_of(stretches, PLACES_PER_FORECAST):
            batch = batch_of(sequences, stretches, chosen)
            logits = network(batch)
            columns = [incidence_log_odds(logits[:, task], intervals) for task, intervals in places]
            answers[place_of_row[batch.rows.numpy()]] = torch.stack(columns, dim=1).numpy()
    return answers


def _start_at_train_hazards(network: HazardNetwork, labels: HazardLabels, rows: Tensor) -> None:
    """Set the last bias so that everybody starts with the hazards counted among train patients."""
    survived, outcome = labels.survived[rows], labels.outcome[rows]  # (R, Q)
    answered = labels.is_answered[rows]
    bias = network.to_hazards.bias
    interval = torch.arange(bias.shape[1])
    passed = ((interval < survived[..., None]) & answered[..., None]).sum(dim=0)  # (Q, K)
    ends = (interval == survived[..., None]) & answered[..., None]  # (R, Q, K)
    counts = [passed, *(((outcome[..., None] == kind) & ends).sum(dim=0) for kind in (EVENT, DIED))]
    with torch.no_grad():
        # Half a patient more in every cell keeps a hazard that never occurred finite.
        bias.copy_((torch.stack(counts, dim=-1) + 0.5).log())


def _augmentation(network: HazardNetwork, settings: NetworkSettings) -> Callable[[SequenceBatch], SequenceBatch]:
    """What changes a batch in training: nothing unless the settings of a transformer say so."""
    if not isinstance(network, RiskTransformer) or not isinstance(settings, TransformerSettings):
        return lambda batch: batch
    shape = network.encoder.shape
    return partial(
        augmented,
        siblings=siblings_of(shape.headings, shape.with_values),
        time_jitter_days=settings.time_jitter_days,
        crop_share=settings.crop_share,
        swap_share=settings.swap_share,
    )


def plain_weights_squared(network: HazardNetwork) -> Tensor:
    """The sum of squares of the weights that read plain numbers straight away; 0 for a network without such."""
    head = network.to_hazards
    return head.straight.weight.square().sum() if isinstance(head, HazardHead) else torch.zeros(())


def _task_weights(labels: HazardLabels, rows: Tensor, power: float) -> Tensor:
    """(events + 20) ** -power of each task, with a mean of 1 over the answers. Shapes: (Q,)."""
    answered = labels.is_answered[rows]
    events = ((labels.outcome[rows] == EVENT) & answered).sum(dim=0)
    weights = (events + 20.0) ** -power
    answers = answered.sum(dim=0)
    return weights * answers.sum() / (weights * answers).sum()
