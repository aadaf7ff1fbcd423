"""How is a sequence model fitted? One loop over stretches, for labels and for pretraining, stopped by tuning rows.

It runs on the processor, where it is deterministic, or on GPUs, in half precision there, by Lightning Fabric. After
each epoch it leaves a checkpoint, from which a run that was killed goes on.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.augmentation import augmented, siblings_of
from models.batches import (
    PLACES_PER_FORECAST,
    SequenceBatch,
    Stretches,
    batch_of,
    batches_of,
    shuffled_batches,
    stretches_of,
)
from models.hazard_labels import HazardLabels
from models.hazards import DIED, EVENT, hazard_loss, incidence_log_odds
from models.pretraining import PretrainingHeads, foreseen_codes, next_events, pretraining_loss
from models.recurrent import RecurrentRisk, RecurrentSettings
from models.retain import Retain
from models.risk_transformer import RiskTransformer, TransformerSettings
from models.sequences import Sequences

# One: a second thread saves little on so small a network, and on a busy machine costs five times as much in waiting.
THREADS = 1
WHOLE_TIMELINE = 1_000_000  # rows of a stretch in pretraining: all of a patient

HazardNetwork = RiskTransformer | RecurrentRisk | Retain
Network = TypeVar("Network", bound=HazardNetwork)
Batches = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Run:
    """Where and how a network is fitted, apart from its settings.

    accelerator and devices as Lightning Fabric understands them: "cpu" is deterministic; on "cuda" half precision
    (bf16) is used where it helps. checkpoint: a file that is written after each epoch; a run with the same inputs goes
    on from it.
    """

    seed: int
    name: str
    accelerator: str = "cpu"
    devices: int = 1
    checkpoint: Path | None = None


def fit_network(
    network: Network,
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    settings: TransformerSettings | RecurrentSettings,
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

    def loss_of(batch: SequenceBatch) -> Tensor:
        rows = batch.rows.cpu()
        if network.training:
            batch = change(batch)
        survived, outcome, is_answered = (
            of[rows].to(batch.ages.device) for of in (labels.survived, labels.outcome, labels.is_answered)
        )
        loss = hazard_loss(network(batch).float(), survived, outcome) * is_answered * weights.to(batch.ages.device)
        return loss.sum() / is_answered.sum().clamp(min=1)

    _fit(
        network,
        sequences,
        stretches_of(sequences, train_rows),
        stretches_of(sequences, tuning_rows),
        loss_of,
        settings,
        settings.epochs,
        run,
    )
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
    both = nn.ModuleList([network, heads])

    def loss_of(batch: SequenceBatch) -> Tensor:
        summaries, _ = network.summaries(batch)
        return pretraining_loss(heads, summaries[:, : batch.is_seen.shape[-1]], next_events(batch, foreseen), foreseen)

    _fit(
        both,
        sequences,
        timelines,
        stretches_of(sequences, tuning_rows, WHOLE_TIMELINE),
        loss_of,
        settings,
        settings.pretraining_epochs,
        run,
    )
    return network


def _fit(
    module: nn.Module,
    sequences: Sequences,
    train: Stretches,
    tuning: Stretches,
    loss_of: Callable[[SequenceBatch], Tensor],
    settings: TransformerSettings | RecurrentSettings,
    epochs: int,
    run: Run,
) -> None:
    """The loop. Leaves `module` with the best weights: a moving mean over the steps, judged after each epoch."""
    from lightning.fabric import Fabric

    is_cpu = run.accelerator == "cpu"
    fabric = Fabric(accelerator=run.accelerator, devices=run.devices, precision="32-true" if is_cpu else "bf16-mixed")
    fabric.launch()
    shuffler = np.random.default_rng(run.seed)
    plans = [shuffled_batches(train.lengths(), settings.places_per_batch, shuffler) for _ in range(epochs)]
    steps = sum(len(batches) for batches in plans)
    with torch.random.fork_rng(devices=[] if is_cpu else None), steady_threads():
        torch.manual_seed(run.seed)
        optimiser = torch.optim.AdamW(
            module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        wrapped, optimiser = fabric.setup(module, optimiser)
        judged_on = list(batches_of(tuning.lengths(), PLACES_PER_FORECAST))

        def tuning_loss() -> float:
            module.eval()
            with torch.inference_mode(), fabric.autocast():
                losses = [
                    (float(loss_of(batch_of(sequences, tuning, chosen).to(fabric.device))), len(chosen))
                    for chosen in judged_on
                ]
            return sum(loss * size for loss, size in losses) / sum(size for _, size in losses)

        state = _State(mean=copied(module), best=copied(module), best_loss=tuning_loss())
        mark = _fingerprint(sequences, train, settings, run, module)
        state.resume(run.checkpoint, mark, module, optimiser)
        progress = tqdm(range(state.epoch, epochs), desc=f"training {run.name}", disable=None)
        for epoch in progress:
            if state.without_gain >= settings.patience:
                break
            module.train()
            for chosen in plans[epoch][fabric.global_rank :: fabric.world_size]:
                for group in optimiser.param_groups:
                    group["lr"] = settings.learning_rate * learning_pace(state.step / steps)
                optimiser.zero_grad()
                with fabric.autocast():
                    loss = loss_of(batch_of(sequences, train, chosen).to(fabric.device))
                fabric.backward(loss)
                fabric.clip_gradients(wrapped, optimiser, max_norm=1.0)
                optimiser.step()
                state.step += fabric.world_size
                state.move_mean(module, settings.mean_share)
            training = copied(module)
            module.load_state_dict(state.mean)
            loss_now = tuning_loss()
            module.load_state_dict(training)
            progress.set_postfix(tuning_loss=f"{loss_now:.4f}")
            state.judge(loss_now, epoch)
            if fabric.is_global_zero:
                state.write(run.checkpoint, mark, module, optimiser)
        module.load_state_dict(state.best)
        module.to("cpu").eval()


@dataclass
class _State:
    """How far a run has come: the mean weights, the best ones with their tuning loss, steps, epochs."""

    mean: dict[str, Tensor]
    best: dict[str, Tensor]
    best_loss: float
    without_gain: int = 0
    step: int = 0
    epoch: int = 0

    def move_mean(self, module: nn.Module, share: float) -> None:
        """Move the mean a little towards the weights as they are; in the first steps faster."""
        kept = min(share, self.step / (self.step + 10))
        for name, weights in module.state_dict().items():
            self.mean[name].lerp_(weights.detach(), 1 - kept)

    def judge(self, loss: float, epoch: int) -> None:
        """Keep the mean weights if they are the best so far."""
        self.epoch, self.without_gain = epoch + 1, self.without_gain + 1
        if loss < self.best_loss:
            self.best_loss, self.without_gain = loss, 0
            self.best = {name: weights.clone() for name, weights in self.mean.items()}

    def write(self, path: Path | None, mark: str, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Leave everything that is needed to go on, under another name first."""
        if path is None:
            return
        beside = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            torch.save(
                {
                    "mark": mark,
                    "module": module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "random": torch.get_rng_state(),
                    **vars(self),
                },
                file,
            )
        os.replace(beside, path)

    def resume(self, path: Path | None, mark: str, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Go on from a checkpoint of the same run; any other is left alone, and overwritten later."""
        if path is None or not path.exists():
            return
        try:
            kept = torch.load(path, weights_only=True)
        except Exception:  # whatever a file that was cut off raises: then the run starts anew
            return
        if kept.pop("mark", None) != mark:
            return
        module.load_state_dict(kept.pop("module"))
        optimiser.load_state_dict(kept.pop("optimiser"))
        torch.set_rng_state(kept.pop("random"))
        for name, value in kept.items():
            setattr(self, name, value)


def forecast_log_odds(
    network: HazardNetwork, sequences: Sequences, rows: NDArray[np.integer], places: list[tuple[int, int]]
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


@contextmanager
def steady_threads() -> Iterator[None]:
    """Run torch on a fixed number of threads, because sums in another order differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_pace(progress: float) -> float:
    """The share of the highest learning rate after a share of all steps: up during the first tenth, then down."""
    return float(min(1.0, 10 * progress + 0.01) * (1 + np.cos(np.pi * progress)) / 2)


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: weights.detach().clone() for name, weights in model.state_dict().items()}


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


def _augmentation(
    network: HazardNetwork, settings: TransformerSettings | RecurrentSettings
) -> Callable[[SequenceBatch], SequenceBatch]:
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


def _task_weights(labels: HazardLabels, rows: Tensor, power: float) -> Tensor:
    """(events + 20) ** -power of each task, with a mean of 1 over the answers. Shapes: (Q,)."""
    answered = labels.is_answered[rows]
    events = ((labels.outcome[rows] == EVENT) & answered).sum(dim=0)
    weights = (events + 20.0) ** -power
    answers = answered.sum(dim=0)
    return weights * answers.sum() / (weights * answers).sum()


def _fingerprint(
    sequences: Sequences,
    train: Stretches,
    settings: TransformerSettings | RecurrentSettings,
    run: Run,
    module: nn.Module,
) -> str:
    """What a checkpoint must agree with: data, settings, seed and first weights."""
    digest = hashlib.sha256(f"{settings.model_dump_json()} {run.seed} {run.name} {run.accelerator}".encode())
    for column in ("token", "value"):
        digest.update(sequences.events[column].to_numpy().tobytes())
    digest.update(sequences.prediction_us[train.rows].tobytes())
    for weights in module.state_dict().values():
        digest.update(weights.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
