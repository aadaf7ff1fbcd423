"""How is any network fitted? One loop over batches of stretches, stopped by the tuning rows.

It runs on the processor, where it is deterministic, or on GPUs, in half precision there, by Lightning Fabric. After
each epoch it leaves a checkpoint, from which a run that was killed goes on.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from features.errors import ModelError
from models.batches import PLACES_PER_FORECAST, SequenceBatch, Stretches, batch_of, batches_of, shuffled_batches
from models.network_settings import NetworkSettings
from models.sequences import Sequences

if TYPE_CHECKING:  # its import takes seconds, and only training needs it
    from lightning.fabric import Fabric

# One: a second thread saves little on so small a network, and on a busy machine costs five times as much in waiting.
THREADS = 1


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


@dataclass(frozen=True)
class Learnt:
    """What is learnt: stretches of train and tuning rows, the loss of a batch (its sum, and over how many answers),
    what changes a batch in training, and the digest of the labels, by which a checkpoint knows them."""

    sequences: Sequences
    train: Stretches
    tuning: Stretches
    loss_of: Callable[[SequenceBatch], tuple[Tensor, Tensor]]
    change: Callable[[SequenceBatch], SequenceBatch]
    labels_digest: str


def fit(module: nn.Module, learnt: Learnt, settings: NetworkSettings, epochs: int, run: Run) -> None:
    """Leave `module` with the best weights: a moving mean over the steps, judged after each epoch.

    Raises ModelError where the machine lacks what `run` asks for.
    """
    fabric = fabric_of(run.accelerator, run.devices)
    with tempfile.TemporaryDirectory() as folder:
        # Through a file: what a process of several returns goes through a pipe, in which more than a little gets stuck.
        best = Path(folder) / "best.safetensors"
        fabric.launch(lambda each: _loop(each, module, learnt, settings, epochs, run, best))
        module.to("cpu").load_state_dict(safetensors.torch.load_file(best))
    module.eval()


def fabric_of(accelerator: str, devices: int) -> "Fabric":
    """What runs on the devices. Raises ModelError where the machine lacks them."""
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
        )
    except (RuntimeError, MisconfigurationException) as error:
        raise ModelError(
            f"This machine does not have the {devices} x {accelerator} that the study wants. Change "
            "accelerator and devices under [models] in study.toml; cpu and 1 run everywhere."
        ) from error


def _loop(
    fabric: "Fabric",
    module: nn.Module,
    learnt: Learnt,
    settings: NetworkSettings,
    epochs: int,
    run: Run,
    best: Path,
) -> None:
    """The loop, in each of the processes that share it. The first one leaves the best weights in the file `best`."""
    mark = _fingerprint(learnt, settings, run, module)
    shuffler = np.random.default_rng(run.seed)
    plans = [shuffled_batches(learnt.train, settings.places_per_batch, shuffler) for _ in range(epochs)]
    steps = sum(len(batches) for batches in plans)
    with torch.random.fork_rng(devices=None if fabric.device.type == "cuda" else []), steady_threads():
        module.to(fabric.device)
        optimiser = torch.optim.AdamW(
            module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        state = _State(mean=copied(module), best=copied(module), best_loss=_tuning_loss(fabric, module, learnt))
        state.resume(run.checkpoint, mark, module, optimiser, fabric.device)
        progress = tqdm(
            range(state.epoch, epochs), f"training {run.name}", disable=None if fabric.is_global_zero else True
        )
        for epoch in progress:
            if state.without_gain >= settings.patience:
                break
            module.train()
            # Anew in each epoch and each process, so that a run that goes on from a checkpoint draws the same.
            torch.manual_seed(int(np.random.SeedSequence([run.seed, epoch, fabric.global_rank]).generate_state(1)[0]))
            for chosen in _share(plans[epoch], fabric.global_rank, fabric.world_size):
                for group in optimiser.param_groups:
                    group["lr"] = settings.learning_rate * learning_pace(state.step / steps)
                optimiser.zero_grad()
                batch = learnt.change(batch_of(learnt.sequences, learnt.train, chosen))
                with half_precision(fabric.device):
                    loss, answers = learnt.loss_of(batch.to(fabric.device))
                (loss / answers.clamp(min=1)).backward()
                if fabric.world_size > 1:
                    _mean_gradients(fabric, module)
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimiser.step()
                state.step += fabric.world_size
                state.move_mean(module, settings.mean_share)
            training = copied(module)
            module.load_state_dict(state.mean)
            loss_now = _tuning_loss(fabric, module, learnt)
            module.load_state_dict(training)
            progress.set_postfix(tuning_loss=f"{loss_now:.4f}")
            state.judge(loss_now, epoch)
            if fabric.is_global_zero:
                state.write(run.checkpoint, mark, module, optimiser)
        if fabric.is_global_zero:
            safetensors.torch.save_file(state.best, best)


def _tuning_loss(fabric: "Fabric", module: nn.Module, learnt: Learnt) -> float:
    """The mean loss over all answers of the tuning rows, without dropout; infinite when there is none."""
    module.eval()
    total, answers = 0.0, 0
    with torch.inference_mode(), half_precision(fabric.device):
        for chosen in batches_of(learnt.tuning, PLACES_PER_FORECAST):
            loss, count = learnt.loss_of(batch_of(learnt.sequences, learnt.tuning, chosen).to(fabric.device))
            total, answers = total + float(loss), answers + int(count)
    return total / answers if answers else np.inf


def _share(batches: list[NDArray[np.int64]], rank: int, processes: int) -> list[NDArray[np.int64]]:
    """The batches of one process; all get the same number, for they wait for each other at each step."""
    even = len(batches) // processes * processes
    return batches[:even][rank::processes] or batches[:1]


def _mean_gradients(fabric: "Fabric", module: nn.Module) -> None:
    """Give every process the mean of their gradients; weights without one count as nought."""
    for weights in module.parameters():
        if weights.grad is None:
            weights.grad = torch.zeros_like(weights)
        mean = fabric.all_reduce(weights.grad, reduce_op="mean")
        assert isinstance(mean, Tensor)
        weights.grad.copy_(mean)


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
        """Keep the mean weights if they are the best so far, or if no tuning row can tell."""
        self.epoch, self.without_gain = epoch + 1, self.without_gain + 1
        if loss <= self.best_loss:
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
                    **vars(self),
                },
                file,
            )
        os.replace(beside, path)

    def resume(
        self,
        path: Path | None,
        mark: str,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        """Go on from a checkpoint of the same run; any other is left alone, and overwritten later."""
        if path is None or not is_zipfile(path):  # not there, or cut off: then the run starts anew
            return
        kept = torch.load(path, weights_only=True, map_location=device)
        if kept.pop("mark", None) != mark:
            return
        module.load_state_dict(kept.pop("module"))
        optimiser.load_state_dict(kept.pop("optimiser"))
        for name, value in kept.items():
            setattr(self, name, value)


def half_precision(device: torch.device) -> torch.autocast:
    """Matrix work in bf16 on a GPU; on the processor, where it would be slower and no longer exact, nothing changes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


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


def _fingerprint(learnt: Learnt, settings: NetworkSettings, run: Run, module: nn.Module) -> str:
    """What a checkpoint must agree with: data, labels, settings, seed and first weights."""
    said = (settings.model_dump_json(), run.seed, run.name, run.accelerator, run.devices, learnt.labels_digest)
    events = learnt.sequences.events
    seen = [events["token"].to_numpy(), events["value"].to_numpy()]
    seen += [learnt.sequences.prediction_us[stretches.rows] for stretches in (learnt.train, learnt.tuning)]
    return digest_of(*(torch.from_numpy(numbers.copy()) for numbers in seen), *module.state_dict().values(), said=said)


def digest_of(*tensors: Tensor, said: object = "") -> str:
    """The SHA-256 of `said` as it prints and of the numbers, in their order."""
    digest = hashlib.sha256(repr(said).encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
