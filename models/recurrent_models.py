"""Which recurrent network is asked for, how is it fitted, and how does it stand in the folder of a saved model?

recurrent.json says what is needed to build the network, recurrent.safetensors holds its weights.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from models.hazard_training import fit_network
from models.recurrent import RecurrentRisk, RecurrentSettings, commonest_measured
from models.retain import Retain
from models.sequences import Sequences
from models.training import HazardLabels
from models.visit_encoder import EncoderShape


class RecurrentShape(BaseModel, frozen=True, extra="forbid"):
    """What is needed to build the network before its weights are put in."""

    settings: RecurrentSettings
    encoder: EncoderShape
    measured: list[int]
    tasks: int
    intervals: int


def built(shape: RecurrentShape) -> RecurrentRisk | Retain:
    """A network with first weights, drawn from torch's global random state."""
    if shape.settings.kind == "retain":
        return Retain(shape.encoder.tokens, shape.tasks, shape.intervals, shape.settings)
    return RecurrentRisk(shape.encoder, shape.measured, shape.tasks, shape.intervals, shape.settings)


def fit_recurrent(
    sequences: Sequences,
    labels: HazardLabels,
    train_rows: NDArray[np.integer],
    tuning_rows: NDArray[np.integer],
    encoder: EncoderShape,
    intervals: int,
    settings: RecurrentSettings,
    seed: int,
) -> tuple[RecurrentShape, RecurrentRisk | Retain]:
    """Fit the network on the rows of the transformer. The global random state is left as it was."""
    shape = RecurrentShape(
        settings=settings,
        encoder=encoder,
        measured=commonest_measured(sequences, train_rows, settings.most_measured),
        tasks=labels.outcome.shape[1],
        intervals=intervals,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = built(shape)
    name = "RETAIN" if settings.kind == "retain" else "GRU-D"
    return shape, fit_network(network, sequences, labels, train_rows, tuning_rows, settings, seed, name)


def write_recurrent(folder: Path, shape: RecurrentShape, network: RecurrentRisk | Retain) -> None:
    """Write both files."""
    (folder / "recurrent.json").write_text(shape.model_dump_json(indent=1) + "\n")
    safetensors.torch.save_file(network.state_dict(), folder / "recurrent.safetensors")


def read_recurrent(folder: Path) -> tuple[RecurrentShape, RecurrentRisk | Retain]:
    """Read both files. Raises OSError, ValueError (a wrong shape) or RuntimeError (weights that do not fit)."""
    shape = RecurrentShape.model_validate_json((folder / "recurrent.json").read_text())
    with torch.random.fork_rng(devices=[]):  # building draws first weights, which are then replaced
        network = built(shape)
    network.load_state_dict(safetensors.torch.load_file(folder / "recurrent.safetensors"))
    return shape, network.eval()
